package storetest

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Ingest tells what the HTTPS door for readings needs from every engine. open
// gives an empty store that is closed when the test ends.
func Ingest(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	answer := func(key, subject byte, at time.Time) telemetry.KeptAnswer {
		return telemetry.KeptAnswer{Key: [32]byte{key}, Subject: core.Subject{subject}, Body: [32]byte{9, key}, Answer: []byte(`{"accepted":1}`), At: at}
	}
	put := func(a telemetry.KeptAnswer) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.PutAnswer(ctx, a) }))
	}
	kept := func(key byte) (a telemetry.KeptAnswer, ok bool) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) (err error) { a, ok, err = tx.Answer(ctx, [32]byte{key}); return err }))
		return a, ok
	}
	if _, ok := kept(1); ok {
		t.Error("an answer before there is one")
	}
	put(answer(1, 1, at))
	put(answer(2, 0, at.Add(time.Second)))
	put(answer(3, 2, at.Add(2*time.Second)))
	if a, ok := kept(1); !ok || a.Subject != (core.Subject{1}) || a.Body != [32]byte{9, 1} || string(a.Answer) != `{"accepted":1}` || !a.At.Equal(at) {
		t.Errorf("kept %+v, %v", a, ok)
	}
	if a, ok := kept(2); !ok || !a.Subject.IsZero() {
		t.Errorf("nobody's: %+v, %v", a, ok)
	}

	// Erased, a subject takes its answers along, and none comes afterwards.
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		if err := tx.InsertErasure(ctx, telemetry.ErasureRow{Subject: core.Subject{1}, Product: "thermostat", Requested: at, State: telemetry.ErasureAsked}); err != nil {
			return err
		}
		return tx.ForgetCounts(ctx, core.Subject{1})
	}))
	put(answer(4, 1, at))
	for key, want := range map[byte]bool{1: false, 4: false, 3: true} {
		if _, ok := kept(key); ok != want {
			t.Errorf("after an erasure: key %d kept %v, want %v", key, ok, want)
		}
	}

	// Too old, and too many.
	must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.TrimAnswers(ctx, at.Add(2*time.Second), 10) }))
	if _, ok := kept(2); ok {
		t.Error("an answer that is too old is still there")
	}
	put(answer(5, 2, at.Add(3*time.Second)))
	must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.TrimAnswers(ctx, at, 1) }))
	if _, ok := kept(3); ok {
		t.Error("the older of two is still there, where one may be")
	}
	if _, ok := kept(5); !ok {
		t.Error("the newer of two is gone")
	}
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		for i := range telemetry.MaxAnswers + 1 {
			a := answer(0, 7, at.Add(time.Duration(i)*time.Second))
			a.Key[1], a.Key[2], a.Key[3] = byte(i), byte(i>>8), 1
			if err := tx.PutAnswer(ctx, a); err != nil {
				return err
			}
		}
		for i, want := range []bool{false, true} {
			if _, ok, err := tx.Answer(ctx, [32]byte{0, byte(i), 0, 1}); err != nil || ok != want {
				t.Errorf("one subject's answer %d: kept %v, %v, want %v", i, ok, err, want)
			}
		}
		return nil
	}))
}
