package main

import (
	"os"
	"testing"
)

// TestMain lets this program be the selftest's process when a server in a test
// asks for one: it would run all tests once more, with whatever they start.
func TestMain(m *testing.M) {
	if os.Getenv(cutVar) != "" {
		main()
	}
	os.Exit(m.Run())
}
