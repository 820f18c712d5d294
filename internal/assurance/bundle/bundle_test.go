package bundle

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
)

// TestHonestBundle: what an honest server exports is proved to who knows signer
// and ledger from elsewhere, and less to who does not.
func TestHonestBundle(t *testing.T) {
	w, k := newWorld(40), newKey(t)
	w.live(3)
	earlier := w.signed(len(w.entries))
	w.live(5)
	o := w.options()
	o.Earlier, o.From = [][]byte{earlier}, dawn.Add(5*time.Minute)
	f := w.sealed(t, o, k)

	r := mustVerify(t, f, w.trust(k, earlier))
	if r.Standing != Proved || !r.OK() || r.Signer != Principal || len(r.Because) != 0 || len(r.Notes) != 0 {
		t.Errorf("to an auditor it is %s (%v), by %q; faults %v, notes %v", r.Standing, r.Because, r.Signer, r.Faults, r.Notes)
	}
	if r.First != 5 || r.Last != 8 || r.Rounds != 5 || r.Observations != 4*40 || r.Trials != 40 || !r.At.Equal(w.now) {
		t.Errorf("rounds %d to %d, %d in all, %d observations, %d trials, at %s", r.First, r.Last, r.Rounds, r.Observations, r.Trials, r.At)
	}
	if r.Witnessed() != Unwitnessed {
		t.Errorf("witnessed: %s", r.Witnessed())
	}
	in := o.Input
	in.At = w.now
	if r.State.Headline == (assurance.Headline{}) || r.State.Headline.Failing == 0 {
		t.Errorf("headline %s: the test shows nothing", r.State.Headline)
	}

	for name, c := range map[string]struct {
		change func(*Trust)
		want   Standing
	}{
		"nothing known":         {func(x *Trust) { *x = Trust{} }, SelfConsistent},
		"no signer known":       {func(x *Trust) { x.Signers = nil }, SelfConsistent},
		"no checkpoint known":   {func(x *Trust) { x.Earlier = nil }, SelfConsistent},
		"a size without proof":  {func(x *Trust) { x.Earlier = w.signed(3) }, Refuted},
		"today's checkpoint":    {func(x *Trust) { x.Earlier = w.signed(len(w.entries)) }, Proved},
		"another signer known":  {func(x *Trust) { x.Signers = []byte(newKey(t).Public().AllowedSigner()) }, Refuted},
		"another ledger's key":  {func(x *Trust) { x.LogKeys = []string{newWorld(0).VerifierKey(), otherLog().VerifierKey()}[1:] }, Refuted},
		"a later clock":         {func(x *Trust) { x.Now = w.now.Add(-time.Hour) }, Refuted},
		"other checks, same":    {func(x *Trust) { x.Checks = x.Checks[1:] }, Refuted},
		"other checks, another": {func(x *Trust) { x.Checks, x.Program = x.Checks[1:], "v2" }, Proved},
		"another ledger":        {func(x *Trust) { x.Earlier = otherLog().signed(1) }, Refuted},
	} {
		trust := w.trust(k, earlier)
		c.change(&trust)
		if r := mustVerify(t, f, trust); r.Standing != c.want {
			t.Errorf("%s: %s (%v %v), want %s", name, r.Standing, r.Because, r.Faults, c.want)
		}
	}
}

func otherLog() *world {
	w := newWorld(1)
	w.origin, w.key, w.entries, w.hashes = "elsewhere", seeded(2), nil, nil
	w.noise()
	return w
}
