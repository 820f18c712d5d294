package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	e := newEnv(stdio{err: &out}, &command{name: "backup"})
	p := e.progress("backup")
	p.share(1, 4)
	if p.end(); out.Len() != 0 {
		t.Errorf("told at once: %q", &out)
	}
	p.every = 0
	for _, done := range []int64{1, 2, 9} {
		p.share(done, 4)
	}
	p.share(1, 0)
	if got, want := out.String(), "backup: 25 %\nbackup: 50 %\nbackup: 100 %\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	p.tty = true
	p.share(3, 4)
	if p.end(); out.String() != "\r\x1b[Kbackup: 75 %\r\x1b[K" {
		t.Errorf("on a terminal: %q", &out)
	}
	e.json = true
	p = e.progress("backup")
	p.share(1, 4)
	p.end()
}

// TestInterrupted: Ctrl-C ends work on a file as well, says so in one line and
// by the exit code.
func TestInterrupted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	if err := os.WriteFile(file, []byte("{\"export\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"ledger", "verify", "--export", file}, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	if code != exitStopped || out.Len() != 0 || errs.String() != "hawser ledger verify: stopped\n" {
		t.Errorf("exit %d, %q, %q", code, &out, &errs)
	}
	// And without it the file is judged.
	if code, out, _ := try(t, "ledger", "verify", "--export", file); code != exitFailed || !strings.Contains(out, "FAULT") {
		t.Errorf("exit %d, %q", code, out)
	}
}

// TestExportLeavesNoHalf: an export that fails leaves no file that could be
// taken for one.
func TestExportLeavesNoHalf(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "ledger.jsonl")
	if code, _, errs := try(t, "ledger", "export", file, "--home", home); code != exitNoServer {
		t.Fatalf("exit %d, %q", code, errs)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("half an export is there")
	}
}
