package gate_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

func (f *fixture) open(a gate.Attempt) *gate.Ticket {
	f.t.Helper()
	t, err := f.gate.Open(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	return t
}

// A ticket is good for one comparison of what it was opened for.
func TestTicket(t *testing.T) {
	f := newFixture(t)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, gate.ErrTicket) || core.KindOf(err) != core.Internal {
			t.Errorf("%s: got %v, want ErrTicket", what, err)
		}
	}
	ctx := t.Context()
	refused("nil", (*gate.Ticket)(nil).Use(gate.Password, "ann"))
	refused("nil right", (*gate.Ticket)(nil).Right(ctx))
	refused("nil wrong", (*gate.Ticket)(nil).Wrong(ctx))
	refused("zero", (&gate.Ticket{}).Use(gate.Password, "ann"))
	refused("zero, of nobody", (&gate.Ticket{}).Use("", ""))
	refused("zero right", (&gate.Ticket{}).Right(ctx))
	refused("zero wrong", (&gate.Ticket{}).Wrong(ctx))

	k := f.open(password("ann", net(1)))
	refused("other means", k.Use(gate.TOTP, "ann"))
	refused("after other means", k.Use(gate.Password, "ann"))
	refused("right after misuse", k.Right(ctx))
	k = f.open(password("ann", net(2)))
	refused("another account", k.Use(gate.Password, "ben"))
	refused("after another account", k.Use(gate.Password, "ann"))

	k = f.open(password("ann", net(3)))
	refused("right before use", k.Right(ctx))
	twin := *k
	if err := k.Use(gate.Password, "ann"); err != nil {
		t.Fatal(err)
	}
	refused("twice", k.Use(gate.Password, "ann"))
	refused("a copy", twin.Use(gate.Password, "ann"))
	if err := k.Right(ctx); err != nil {
		t.Error(err)
	}
	refused("right twice", k.Right(ctx))
	refused("right of the copy", twin.Right(ctx))
	refused("wrong after right", k.Wrong(ctx))
	refused("use after right", k.Use(gate.Password, "ann"))

	k = f.open(password("ann", net(4)))
	if err := k.Wrong(ctx); err != nil { // nothing was worth comparing
		t.Error(err)
	}
	refused("use after wrong", k.Use(gate.Password, "ann"))
	refused("wrong twice", k.Wrong(ctx))

	k = f.open(password("ann", net(5)))
	var in atomic.Int64
	together(100, func(int) {
		if k.Use(gate.Password, "ann") == nil {
			in.Add(1)
		}
	})
	if in.Load() != 1 {
		t.Errorf("one ticket compared %d times", in.Load())
	}
}
