package store

import (
	"path/filepath"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestTracesCoverTheSchema: every column of the control database that holds a
// subject which an eraser takes out is one that SubjectTraces looks at (CC 4.8).
func TestTracesCoverTheSchema(t *testing.T) {
	looked := map[string]bool{}
	for _, c := range subjectColumns {
		looked[c.table+"."+c.column] = true
	}
	n := 0
	var all []column
	for name, src := range schemaFiles(t) {
		cols, faults := parseSchema(src)
		if len(faults) > 0 {
			t.Fatalf("%s: %v", name, faults)
		}
		all = append(all, cols...)
	}
	for _, c := range all {
		if c.name != "subject" || c.tag != "pseudonym" || c.eraser == "kept" || c.eraser == "key" {
			continue
		}
		if n++; !looked[c.table+"."+c.name] {
			t.Errorf("%s.%s is emptied by eraser %q, and nobody looks whether it was", c.table, c.name, c.eraser)
		}
	}
	if n != len(subjectColumns) {
		t.Errorf("the schema has %d such columns, SubjectTraces looks at %d", n, len(subjectColumns))
	}
}

// TestSubjectTraces names each table in which somebody still stands.
func TestSubjectTraces(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	ada, bob := core.Subject{1}, core.Subject{2}
	look := func(who core.Subject) (out []string) {
		t.Helper()
		if err := s.View(ctx, func(tx *Tx) (err error) { out, err = tx.SubjectTraces(ctx, who); return err }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := look(ada); len(got) != 0 {
		t.Errorf("nobody stands in %v", got)
	}
	for _, stmt := range []string{
		`INSERT INTO device (id, product, unit, revision, added_us, ownerships, suspicion) VALUES ('A1', 'p', x'01', 1, 1, 1, '')`,
		`INSERT INTO ownership (subject, device, actor_kind, actor_id, opened_us, done) VALUES (x'01000000000000000000000000000000', 'A1', 'job', 'x', 1, 1)`,
		`INSERT INTO telemetry_subject (subject, product, accepted, stored, duplicates, dropped_fields, refused, last_ms) VALUES (x'01000000000000000000000000000000', 'p', 1, 1, 0, 0, 0, 0)`,
		`INSERT INTO telemetry_count (minute, product, subject, kind, reason, n) VALUES (1, 'p', x'01000000000000000000000000000000', 'refused', 'x', 1)`,
		`INSERT INTO undeclared_name (policy, stream, place, subject, name, first_us) VALUES (x'01', 's', 1, x'01000000000000000000000000000000', x'01', 1)`,
	} {
		if _, err := Behind(ctx, filepath.Join(s.Dir(), "control.db"), stmt); err != nil {
			t.Fatal(err)
		}
	}
	if got := look(ada); len(got) != 4 {
		t.Errorf("stands in %v, want four tables", got)
	}
	if got := look(bob); len(got) != 0 {
		t.Errorf("somebody else stands in %v", got)
	}
	var owners []core.Subject
	if err := s.View(ctx, func(tx *Tx) (err error) { owners, err = tx.OwnersAfter(ctx, core.Subject{}, 5); return err }); err != nil || len(owners) != 1 || owners[0] != ada {
		t.Errorf("owners %v, %v", owners, err)
	}
	if err := s.View(ctx, func(tx *Tx) (err error) { owners, err = tx.OwnersAfter(ctx, ada, 5); return err }); err != nil || len(owners) != 0 {
		t.Errorf("owners after the last one: %v, %v", owners, err)
	}
}
