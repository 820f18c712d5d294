package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Undeclared tells what findings of undeclared fields need from every engine.
// open gives an empty store that is closed when the test ends.
func Undeclared(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	stream := telemetry.UndeclaredStream{Product: "thermostat", Policy: core.Hash{1}, Stream: "climate", First: at}
	name := func(subject byte, text string) telemetry.UndeclaredName {
		return telemetry.UndeclaredName{
			Policy: core.Hash{1}, Stream: "climate", Subject: core.Subject{subject}, Name: seal.SealedOf[string]([]byte(text)), First: at.Add(time.Second),
		}
	}
	put := func(n telemetry.UndeclaredName, want bool) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error {
			if kept, err := tx.PutUndeclaredName(ctx, n); err != nil || kept != want {
				t.Errorf("name %q: kept %v, %v, want %v", n.Name.Bytes(), kept, err, want)
			}
			return nil
		}))
	}
	kept := func() (out []string) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			streams, names, err := tx.Undeclared(ctx, core.Hash{1})
			if err != nil || len(streams) != 1 || streams[0].Product != "thermostat" || streams[0].Stream != "climate" || !streams[0].First.Equal(at) {
				t.Errorf("streams %+v, %v", streams, err)
			}
			for _, n := range names {
				if n.Policy != (core.Hash{1}) || n.Stream != "climate" || !n.First.Equal(at.Add(time.Second)) {
					t.Errorf("name %+v", n)
				}
				out = append(out, fmt.Sprintf("%d %s", n.Subject[0], n.Name.Bytes()))
			}
			return err
		}))
		return out
	}
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		if streams, names, err := tx.Undeclared(ctx, core.Hash{1}); err != nil || len(streams)+len(names) != 0 {
			t.Errorf("at first: %v, %v, %v", streams, names, err)
		}
		for i, want := range []bool{true, false} {
			if first, err := tx.NoteUndeclared(ctx, stream); err != nil || first != want {
				t.Errorf("note %d: first %v, %v", i, first, err)
			}
		}
		other := stream
		other.Policy = core.Hash{2}
		if first, err := tx.NoteUndeclared(ctx, other); err != nil || !first {
			t.Errorf("another version: first %v, %v", first, err)
		}
		return nil
	}))
	for i := range telemetry.MaxUndeclaredNames {
		put(name(byte(i%2), fmt.Sprint("name ", i)), true)
	}
	put(name(1, "one too many"), false)
	if got := kept(); len(got) != telemetry.MaxUndeclaredNames || got[3] != "1 name 3" {
		t.Errorf("kept %q", got)
	}

	// Erased, a subject takes its names along and leaves their places; what
	// comes of it afterwards is not kept.
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		if err := tx.InsertErasure(ctx, telemetry.ErasureRow{Subject: core.Subject{1}, Product: "thermostat", Requested: at, State: telemetry.ErasureAsked}); err != nil {
			return err
		}
		return tx.ForgetCounts(ctx, core.Subject{1})
	}))
	put(name(1, "after the erasure"), false)
	put(name(3, "of somebody else"), true)
	got := kept()
	if len(got) != telemetry.MaxUndeclaredNames/2+1 || got[1] != "3 of somebody else" || got[2] != "0 name 2" {
		t.Errorf("kept %q", got)
	}
}
