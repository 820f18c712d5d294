package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRunCommand: the values reach the program as data and as nothing else; how
// it ended, and the last thing it said, is the outcome.
func TestRunCommand(t *testing.T) {
	dir := t.TempDir()
	program := func(name, text string) []string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{path, "--fixed"}
	}
	out := filepath.Join(dir, "out")
	values := map[string]any{"text": "$(touch " + dir + "/owned); --help", "seconds": int64(7)}
	if err := runCommand(t.Context(), program("good", `echo "$# $1" >`+out+"; cat >>"+out), time.Minute, values); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if want := "1 --fixed\n" + `{"seconds":7,"text":"$(touch ` + dir + `/owned); --help"}` + "\n"; err != nil || string(b) != want {
		t.Errorf("%v, got %s, want %s", err, b, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "owned")); err == nil {
		t.Error("a value was run")
	}
	for name, c := range map[string]struct {
		run  []string
		time time.Duration
		want string
	}{
		"failing": {program("bad", "echo first >&2; echo the lamp is broken >&2; exit 3"), time.Minute, "the lamp is broken"},
		"silent":  {program("quiet", "exit 4"), time.Minute, "exit status 4"},
		"talking": {program("loud", "yes x | head -c 1000000 >&2; echo the end >&2; exit 1"), time.Minute, "the end"},
		"endless": {program("slow", "sleep 60"), 100 * time.Millisecond, "took too long"},
		"missing": {[]string{filepath.Join(dir, "nothing")}, time.Minute, "no such file"},
	} {
		if err := runCommand(t.Context(), c.run, c.time, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommandsOf(t *testing.T) {
	o := options{Commands: map[string]commandOption{"blink": {Run: []string{"/bin/true"}}, "arm": {Run: []string{"/bin/true"}, For: "5s"}}}
	if c, err := o.commandsOf(); err != nil || len(c) != 2 || c[0].Name != "arm" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []commandOption{{}, {Run: []string{"/bin/true"}, For: "soon"}, {Run: []string{"/bin/true"}, For: "-1s"}} {
		o.Commands = map[string]commandOption{"blink": bad}
		if _, err := o.commandsOf(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestSettingsOf: the file of --config says what can be set, and a program puts
// it in force.
func TestSettingsOf(t *testing.T) {
	var o options
	if list, apply, err := o.settingsOf(); list != nil || apply != nil || err != nil {
		t.Errorf("without settings: %v, %v", list, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	file := `{"settings": {"run": ["/bin/sh", "-c", "cat >` + out + `"], "params": [{"name": "level", "type": "integer", "min": 0, "max": 3, "default": 1}]}}`
	if err := json.Unmarshal([]byte(file), &o); err != nil {
		t.Fatal(err)
	}
	list, apply, err := o.settingsOf()
	if err != nil || len(list) != 1 || list[0].Name != "level" || list[0].Max != 3 || list[0].Default != 1.0 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := apply(t.Context(), map[string]any{"level": int64(2)}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "{\"level\":2}\n" {
		t.Errorf("the program read %q, %v", b, err)
	}
	for _, bad := range []settingsOption{{}, {Run: []string{"/bin/true"}, For: "soon"}} {
		o.Settings = &bad
		if _, _, err := o.settingsOf(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
