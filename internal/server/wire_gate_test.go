package server

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestGuessingOverARestart: who guessed is held by the next process, too
// (CC 1.13). An installation from before the gate has no key for it: it gets
// one, and says so; it does not stay closed.
func TestGuessingOverARestart(t *testing.T) {
	home := newHome(t, core.Test, "")
	key := filepath.Join(home, "keys", "gate.key")
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("init made no key for the gate: %v, %v", st, err)
	}
	l := start(t, home)
	l.publish(t, testDeclaration)
	code := l.add(t, "target")
	wrong := l.add(t, "another")
	guess := func(code string) int {
		t.Helper()
		status, _ := l.est(t, estCall{path: "simpleenroll", user: "target", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{}), from: "127.0.0.2"})
		return status
	}
	for range 20 {
		if got := guess(wrong); got != http.StatusUnauthorized {
			t.Fatalf("a wrong code: %d", got)
		}
	}
	again := func() {
		t.Helper()
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		l = start(t, home)
	}
	again()
	if got := guess(code); got != http.StatusTooManyRequests {
		t.Errorf("the right code from the guesser's address after a restart: %d", got)
	}
	if strings.Contains(l.log.String(), "new key for the gate") {
		t.Error("the key was made anew")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	again()
	if !strings.Contains(l.log.String(), "new key for the gate") {
		t.Errorf("nothing is said of the new key:\n%s", l.log)
	}
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("no new key: %v, %v", st, err)
	}
	if got := guess(code); got != http.StatusOK {
		t.Errorf("after the loss of the key: %d", got)
	}
}
