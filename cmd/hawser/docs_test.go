package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameRealCommands: what the pages tell a reader to type is a command
// line that this program takes.
func TestDocsNameRealCommands(t *testing.T) {
	typed := regexp.MustCompile("(?m)^\\s*(?:bin/)?hawser ([a-z].*)$|`(?:bin/)?hawser ([a-z][^`]*)`")
	cmds := commands()
	seen := 0
	for _, page := range []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/runbook.md"} {
		b, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range typed.FindAllStringSubmatch(string(b), -1) {
			line, _, _ := strings.Cut(m[1]+m[2], "#")
			args := words(regexp.MustCompile(`\$\([^)]*\)`).ReplaceAllString(line, "X"))
			if strings.Contains(line, "|") || strings.Contains(line, "[--") || args[len(args)-1] == "DEVICE" {
				continue // the form of a command, not one
			}
			cmd, rest, _ := find(cmds, args)
			if cmd == nil {
				t.Errorf("%s: there is no command %q", page, line)
				continue
			}
			seen++
			if err := newEnv(stdio{}, cmd).parse(rest); err != nil && len(rest) > 0 {
				t.Errorf("%s: hawser %s: %v", page, line, err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("found %d command lines only", seen)
	}
}
