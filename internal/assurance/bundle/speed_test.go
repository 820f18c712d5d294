package bundle

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkVerify verifies a small bundle and one of 10,000 observations.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct{ checks, rounds int }{{4, 4}, {100, 100}} {
		w := newWorld(c.checks)
		k := newKey(b)
		w.live(c.rounds)
		o := w.options()
		o.From = dawn
		f := w.sealed(b, o, k)
		trust := w.trust(k, w.signed(len(w.entries)))
		b.Run(fmt.Sprintf("%d observations", c.checks*c.rounds), func(b *testing.B) {
			for b.Loop() {
				if r := mustVerify(b, f, trust); !r.OK() {
					b.Fatal(r.Faults)
				}
			}
		})
	}
}

// TestVerifyIsFast holds that 10,000 observations take at most two seconds,
// from a folder.
func TestVerifyIsFast(t *testing.T) {
	w, k := newWorld(100), newKey(t)
	w.live(100)
	o := w.options()
	o.From = dawn
	dir := t.TempDir() + "/b"
	if err := Export(t.Context(), dir, o, k); err != nil {
		t.Fatal(err)
	}
	trust := w.trust(k, w.signed(len(w.entries)))
	var took []time.Duration
	for range 5 {
		began := time.Now()
		r, err := VerifyDir(t.Context(), dir, trust)
		took = append(took, time.Since(began))
		if err != nil || r.Standing != Proved || r.Observations != 10_000 {
			t.Fatalf("%v, %s, %d observations, %v", err, r.Standing, r.Observations, r.Faults)
		}
	}
	slices.Sort(took)
	t.Logf("10,000 observations: median %s of %v", took[2], took)
	if took[2] > 2*time.Second {
		t.Errorf("verifying 10,000 observations took %s, want at most 2 s", took[2])
	}
}
