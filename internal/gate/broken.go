package gate

import "context"

// NewBroken is a gate that slows nobody. Only trials on a twin make one, to see
// that the checks of the gate notice it.
func NewBroken(ctx context.Context, d Deps) (*Gate, error) {
	l := Standard()
	const all = 1 << 14
	l.FreeTries, l.GuessesPerDay, l.KnownTries = all, all, all
	for _, b := range []*Budget{&l.Account, &l.Source, &l.All, &l.MadeSource, &l.MadeAll} {
		b.Burst = all
	}
	return newGate(ctx, d, l)
}
