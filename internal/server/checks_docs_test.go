package server

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

// TestDocsChecks holds docs/checks.md to the checks of the program: whoever
// takes one away, or a violation of one, has to say so there.
func TestDocsChecks(t *testing.T) {
	const path = "../../docs/checks.md"
	want := checksPage(t)
	if *rewrite {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: run `make docs`", path)
	}
}

func checksPage(t *testing.T) string {
	t.Helper()
	registry, err := check.NewRegistry((&server{}).checks()...)
	if err != nil {
		t.Fatal(err)
	}
	var built, missing strings.Builder
	n, violations := 0, 0
	rows := map[string]bool{}
	for _, c := range registry.All() {
		if !c.Built() {
			fmt.Fprintf(&missing, "| `%s` | %s | %s | %s |\n", c.ID, strings.Join(c.Rows, ", "), c.Says, c.Missing)
			continue
		}
		n++
		fmt.Fprintf(&built, "\n### %s\n%s\n\nRows %s; kind `%s`; looks every %s, an observation counts for %s.\n\n", c.ID, c.Says, strings.Join(c.Rows, ", "), c.Kind, plainTime(c.Every()), plainTime(c.MaxAge))
		for _, r := range c.Rows {
			rows[r] = true
		}
		for _, v := range c.Violations {
			violations++
			fmt.Fprintf(&built, "- `%s`: %s\n", v.ID, v.Says)
		}
		fmt.Fprintf(&built, "\nWhen it is red: %s\n", c.Do)
	}
	return fmt.Sprintf(`# Checks

What a running server looks at, all the time. This page is written by `+"`make docs`"+` from the program.

%d checks look at %d of the mission's 132 rows. Each is seen to turn red by each of its violations, %d in all, on a twin (a disposable copy of the installation), and green again, before it counts. `+"`hawser check list`"+` says how they stand; a product of higher risk halves or quarters the time that an observation counts.
%s
## What nothing looks at yet
Rows that a check covers in part stay unproven for as long as the rest is here. The rows that stand nowhere on this page have no check at all.

| check | rows | what it would hold | why it is missing |
|---|---|---|---|
%s`, n, len(rows), violations, built.String(), missing.String())
}

// plainTime is a duration in the largest unit that it is a whole number of.
func plainTime(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d%u.of == 0 {
			return fmt.Sprintf("%d %s", d/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// TestCriticalAges: what security stands on from one minute to the next is
// looked at all the time, and everything often enough that a look which failed
// makes nothing stale (CC 5.8).
func TestCriticalAges(t *testing.T) {
	registry, err := check.NewRegistry((&server{}).checks()...)
	if err != nil {
		t.Fatal(err)
	}
	for what, id := range map[string]string{
		"listeners": "doors.cleartext", "the revoked set": "devices.revoked-cut", "the journal": "journal.filed", "the keyring": "keys.apart",
		"the sign-in policy": "signin.second-factor",
	} {
		c := registry.Find(id)
		if c == nil || !c.Built() || c.MaxAge > time.Minute {
			t.Errorf("nothing looks at %s within a minute", what)
		}
	}
	for _, c := range registry.All() {
		if c.Built() && (c.Every() > c.MaxAge/3 || c.Every() < 10*time.Second) {
			t.Errorf("%s looks every %s, and counts for %s", c.ID, c.Every(), c.MaxAge)
		}
	}
}

// TestEveryObservationCounts takes the evidence of a whole installation, in
// which every check passed and was seen red, and leaves out one observation, or
// one proof, after the other: no row of that check may be met without it.
func TestEveryObservationCounts(t *testing.T) {
	w, err := newTwin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	met := 0
	for _, c := range w.s.rounds.registry.All() {
		if !c.Built() {
			continue
		}
		if o, err := w.s.rounds.run(t.Context(), c); err != nil || o.Outcome != check.Pass {
			t.Errorf("%s: %s %s, %v", c.ID, o.Outcome, why(&o), err)
		}
		for _, v := range c.Violations {
			now := w.Now().UTC().Truncate(time.Microsecond)
			p := check.Proof{Check: c.ID, Version: c.Version, Program: "test", Violation: v.ID, Taken: now, Expires: now.Add(check.ProofAge), Before: check.Pass, Red: check.Fail, After: check.Pass, Saw: "it"}
			if err := w.s.assure.Prove(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	input := func() assurance.Input {
		in, err := w.s.assure.Input(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	whole := assurance.Judge(input())
	for _, c := range w.s.rounds.registry.All() {
		if !c.Built() {
			continue
		}
		for what, leave := range map[string]func(in *assurance.Input){
			"observation": func(in *assurance.Input) { delete(in.Latest, c.ID) },
			"last proof": func(in *assurance.Input) {
				in.Proofs[c.ID] = in.Proofs[c.ID][:len(in.Proofs[c.ID])-1]
			},
		} {
			in := input()
			leave(&in)
			without := assurance.Judge(in)
			for _, r := range c.Rows {
				id := assurance.RowID(r)
				if whole.Row(id).Verdict == assurance.Met {
					met++
				}
				if row := without.Row(id); row.Verdict == assurance.Met {
					t.Errorf("row %s is met without the %s of %s", r, what, c.ID)
				} else if !slices.ContainsFunc(row.Checks, func(k assurance.CheckState) bool { return k.ID == c.ID && k.Verdict != assurance.Met }) {
					t.Errorf("row %s does not say that %s lacks its %s", r, c.ID, what)
				}
			}
		}
	}
	if met < 20 {
		t.Errorf("only %d times a row that was met lost something: this test looked at too little", met)
	}
}
