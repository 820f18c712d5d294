package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// TestStoredDriftTurnsRed breaks a running server, which is no twin, in two
// ways: its keyring is copied into the data folder, and its control database
// refuses what the projector writes. By nothing but the server's own looking
// the right lines turn red within the checks' age and ten seconds, and green
// again when it is mended (CC 2.9, 3.3).
func TestStoredDriftTurnsRed(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Live, ""))
	l.publish(t, testDeclaration)
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	c.publish(t, "telemetry/climate", `{"temp":21.5,"boot":1,"seq":1}`)
	passing := func(id string) bool {
		st := l.state(t)
		o := checkOf(&st, id).Observation
		return o != nil && o.Outcome == check.Pass
	}
	waitFor(t, time.Minute, "the checks to pass", func() bool { return passing("keys.apart") && passing("journal.filed") })

	keyring, err := os.ReadFile(filepath.Join(l.home, "keys/keyring-a/keyring"))
	if err != nil {
		t.Fatal(err)
	}
	leaked := filepath.Join(l.home, "data/telemetry/old-keyring.bak")
	if err := os.WriteFile(leaked, keyring, 0o600); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(l.home, "data/control.db")
	if _, err := store.Behind(t.Context(), control, `CREATE TRIGGER no BEFORE INSERT ON telemetry_mark BEGIN SELECT RAISE(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	c.publish(t, "telemetry/climate", `{"temp":22.5,"boot":1,"seq":2}`)
	began := time.Now()
	for id, says := range map[string]string{"keys.apart": "old-keyring.bak", "journal.filed": "files nothing"} {
		waitFor(t, check.Critical+10*time.Second-time.Since(began), id+" to turn red", func() bool {
			st := l.state(t)
			k := checkOf(&st, id)
			return k.Verdict == assurance.Failing && strings.Contains(k.Why, says)
		})
		t.Logf("%s red after %s", id, time.Since(began).Round(time.Millisecond))
	}
	if err := os.Remove(leaked); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Behind(t.Context(), control, `DROP TRIGGER no`); err != nil {
		t.Fatal(err)
	}
	waitFor(t, check.Critical+10*time.Second, "both to be green again", func() bool { return passing("keys.apart") && passing("journal.filed") })
	c.close(t)
}

// TestCanaryOutlivesTheServer: there is one canary, whatever restarts; it lies
// sealed in the ledger and nowhere in clear (CC 2.9).
func TestCanaryOutlivesTheServer(t *testing.T) {
	home := newHome(t, core.Live, "")
	var texts []string
	for range 3 {
		l := start(t, home)
		l.publish(t, testDeclaration)
		st := l.look(t, api.RunRequest{Check: "store.canary"})
		if o := checkOf(&st, "store.canary").Observation; o == nil || o.Outcome != check.Pass {
			t.Fatalf("%+v", o)
		}
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		s := opened(t, home)
		text, err := (&canary{s: s}).planted(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.recordsOf(t.Context(), recordCanary, 0, 1<<62)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d canaries, %v", len(all), err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if len(slices.Compact(texts)) != 1 {
		t.Errorf("another canary after a restart: %q", texts)
	}
	if files, hits := found(t, texts[0], home); files < 10 || hits != 0 {
		t.Errorf("%d of %d files hold the canary in clear", hits, files)
	}
}

// opened is a server whose stores are open and which serves nobody.
func opened(t *testing.T, home string) *server {
	t.Helper()
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c, Options{Version: "test"})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCanaryIsLookedForEverywhere: pieces take turns until all were searched,
// new files come first, and a file in which something was found is searched
// each time until it is gone (CC 2.9).
func TestCanaryIsLookedForEverywhere(t *testing.T) {
	s := opened(t, newHome(t, core.Live, ""))
	defer func() { _ = s.close() }() // the test is over
	k := &s.canaryChecks()[0]
	look := func() check.Observation {
		t.Helper()
		return check.Take(t.Context(), k, "test", time.Now, time.Minute)
	}
	text, err := (&canary{s: s}).planted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 100*pieceBytes)
	copy(big[70*pieceBytes-4:], text) // across two pieces
	path := filepath.Join(s.c.Data, "telemetry", "big")
	if err := os.WriteFile(path, make([]byte, len(big)), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		if o := look(); o.Outcome != check.Pass {
			t.Fatalf("look %d at nothing: %s %s %v", n, o.Outcome, o.Error, o.Findings)
		}
	}
	if err := os.WriteFile(path, big, 0o600); err != nil {
		t.Fatal(err)
	}
	red := 0
	for range 8 {
		if look().Outcome == check.Fail {
			red++
		} else if red > 0 {
			t.Error("green again while it is still there")
		}
	}
	if red < 4 {
		t.Errorf("red in %d of 8 looks at 100 MiB", red)
	}
	if err := os.WriteFile(filepath.Join(s.c.Data, "a-new-file"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if o := look(); o.Outcome != check.Fail || o.Findings[0].Subject != "data/a-new-file" {
		t.Errorf("a new file: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
}

// TestReadingsInClear tells the beginning of a reading from JSON that is there
// by right.
func TestReadingsInClear(t *testing.T) {
	for text, want := range map[string]bool{
		`xx{"temp":21.5}`: true, `{"temp":-3}`: true, `{"temp":true`: true, `{"temp":"on"`: true,
		`{"temp":{"class":"personal"`: false, `"temp":21`: false, `{"temp":`: false, `{"temper":1`: false,
	} {
		if got := reads([]byte(text), []byte(`{"temp":`)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for path, want := range map[string]bool{
		"telemetry/k1/x.db": true, "telemetry/late.db-wal": true, "hold/a.db": true, "journal/x/msgs/1.blk": true,
		"journal/x/meta.inf": false, "control.db": false,
	} {
		if got := (piece{path: path}).sealed(); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestKeysAreLookedFor: a key in the data folder is found under any name and
// behind a link, and so is one that others can use (CC 2.9).
func TestKeysAreLookedFor(t *testing.T) {
	s := opened(t, newHome(t, core.Live, ""))
	defer func() { _ = s.close() }() // the test is over
	k := &s.keyChecks()[0]
	look := func() check.Observation {
		t.Helper()
		return check.Take(t.Context(), k, "test", time.Now, time.Minute)
	}
	if o := look(); o.Outcome != check.Pass {
		t.Fatalf("as it was made: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	in := func(name string) string { return filepath.Join(s.c.Data, name) }
	roots, err := filepath.Glob(filepath.Join(s.c.Roots, "*.key"))
	if err != nil || len(roots) != 1 {
		t.Fatal(roots, err)
	}
	write := func(name string, b []byte) (func(), func()) {
		return func() {
				if err := os.WriteFile(in(name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}, func() {
				if err := os.Remove(in(name)); err != nil {
					t.Fatal(err)
				}
			}
	}
	mode := func(path string, to, back os.FileMode) (func(), func()) {
		set := func(m os.FileMode) func() {
			return func() {
				if err := os.Chmod(path, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		return set(to), set(back)
	}
	link := func(path string) (func(), func()) {
		aside := in("telemetry/moved")
		return func() {
				if err := os.Rename(path, aside); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(aside, path); err != nil {
					t.Fatal(err)
				}
			}, func() {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(aside, path); err != nil {
					t.Fatal(err)
				}
			}
	}
	type deed struct{ do, undo func() }
	deeds := map[string]deed{}
	add := func(name string, do, undo func()) { deeds[name] = deed{do, undo} }
	add2 := func(name string) func(do, undo func()) {
		return func(do, undo func()) { add(name, do, undo) }
	}
	add2("a root under another name")(write("notes.txt", read(roots[0])))
	add2("the ledger's key in the middle of something")(write("telemetry/x", append([]byte("see: "), read(s.c.LedgerKey)...)))
	add2("the gate's key")(write("journal/y", read(s.c.GateKey)))
	add2("an old keyring")(write("hold/z", read(s.c.Keyring[1])))
	add2("a root behind a link")(link(roots[0]))
	add2("the gate's key behind a link")(link(s.c.GateKey))
	add2("a keyring's folder for all")(mode(filepath.Dir(s.c.Keyring[1]), 0o755, 0o700))
	add2("a root for the group")(mode(roots[0], 0o640, 0o600))
	add2("the roots' folder for all")(mode(s.c.Roots, 0o711, 0o700))
	for name, d := range deeds {
		d.do()
		if o := look(); o.Outcome != check.Fail {
			t.Errorf("%s: %s %s", name, o.Outcome, o.Error)
		}
		d.undo()
		if o := look(); o.Outcome != check.Pass {
			t.Fatalf("%s, mended: %s %s %v", name, o.Outcome, o.Error, o.Findings)
		}
	}
}

// TestTurn: a turn comes to everything below its end and begins anew.
func TestTurn(t *testing.T) {
	var x turn
	var got []string
	for range 5 {
		from, to := x.next(10, 4)
		got = append(got, fmt.Sprint(from, "-", to))
	}
	if want := "0-4 4-8 8-10 0-4 4-8"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if from, to := x.next(3, 4); from != 0 || to != 3 {
		t.Errorf("of fewer than before: %d to %d", from, to)
	}
}

// TestDays reads every span that a stored declaration may have, and no other.
func TestDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "30d": 30 * 24 * time.Hour, "90m": 90 * time.Minute, "3600s": time.Hour, "3650d": declaration.MaxKeep,
	} {
		if got, ok := days(text); !ok || got != want {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "d", "30", "for ever", "-1d", "1.5d", "99999999999d", "3 d"} {
		if got, ok := days(text); ok {
			t.Errorf("%q: %s", text, got)
		}
	}
}
