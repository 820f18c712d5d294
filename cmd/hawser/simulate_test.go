package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/simulate"
)

// TestSimulate types the example in a test installation; a live one refuses it.
func TestSimulate(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"test", "live"} {
		t.Run(env, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			t.Setenv("HAWSER_HOME", "")
			if err := os.Symlink(examples, "examples"); err != nil {
				t.Fatal(err)
			}
			if code, _, errs := try(t, "init", "--environment", env); code != exitOK {
				t.Fatal(errs)
			}
			if err := os.WriteFile("hawser/config.yaml", []byte("devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan int, 1)
			var log bytes.Buffer
			go func() { ended <- runWith(ctx, &log, "serve", "--home", "hawser") }()
			defer func() {
				stop()
				if code := <-ended; code != exitOK {
					t.Errorf("serve ended with %d: %s", code, &log)
				}
			}()
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				if code, _, _ := try(t, "status"); code == exitOK {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the server does not answer")
				}
			}
			line := words(simulateCommands()[0].example)[1:]
			if code, _, errs := try(t, line...); code != exitFailed || !strings.Contains(errs, map[string]string{"test": "is not in force", "live": "live installation"}[env]) {
				t.Fatalf("exit %d, %s", code, errs)
			}
			if env == "live" {
				return
			}
			if code, _, errs := try(t, "declaration", "publish", "examples/aria-thermostat.yaml"); code != exitOK {
				t.Fatal(errs)
			}
			code, out, errs := try(t, append(line, "--json")...)
			var r simulate.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || r.Devices != 3 || r.Measured < 3 || r.Taken != r.Measured {
				t.Errorf("exit %d, %v, %s %s", code, err, out, errs)
			}
			if code, out, errs := try(t, line...); code != exitOK || !strings.Contains(out, "lost      0") {
				t.Errorf("again: exit %d, %s %s", code, out, errs)
			}
			for _, bad := range [][]string{{"--devices", "0"}, {"--devices", "x"}, {"--loss", "2"}, {"--for", "soon"}, {"--seed", "-1"}, {"--sleep", "1ms"}} {
				if code, _, errs := try(t, append(line, bad...)...); code != exitFailed || errs == "" {
					t.Errorf("%v: exit %d, %s", bad, code, errs)
				}
			}
		})
	}
}
