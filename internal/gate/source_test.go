package gate_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"
)

func enrolment(device string, from netip.Addr) gate.Attempt {
	return gate.Attempt{Means: gate.EnrolmentCode, Account: device, Source: from}
}

// Who shows wrong machine-made secrets is slowed down, nobody beside him and
// none whom he guessed at.
func TestSourceIsSlowedDown(t *testing.T) {
	f := newFixture(t)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 20 {
		if f.try(enrolment("A1", a), false) > 0 {
			t.Fatalf("held after %d failures", i)
		}
	}
	if after := f.mustWait(enrolment("A1", a)); after > 30*time.Second {
		t.Errorf("must wait %s", after)
	}
	f.mustWait(enrolment("A1", netip.MustParseAddr("::ffff:192.0.2.1"))) // one address in two forms
	f.mustGetIn(enrolment("A1", b))
	f.mustGetIn(password("ann", a)) // another table
	f.restart()
	f.mustWait(enrolment("A1", a))
	f.advance(31 * time.Second)
	f.mustGetIn(enrolment("A1", a))

	// One customer's IPv6 addresses are one source.
	for i := range 20 {
		f.try(enrolment("A1", netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1%02x::%x", i, i))), false)
	}
	f.mustWait(enrolment("A1", netip.MustParseAddr("2001:db8:0:1ff::77")))
	f.mustGetIn(enrolment("A1", netip.MustParseAddr("2001:db8:0:200::1")))
	f.mustGetIn(enrolment("A1", netip.Addr{}))
	for range 30 {
		f.try(enrolment("A1", netip.MustParseAddr("fe80::1%eth0")), false)
	}
	f.mustWait(enrolment("A1", netip.MustParseAddr("fe80::1%eth1")))
}

// A factory enrols many devices at once from one address, and none is wrong.
func TestManyRightOnesAtOnce(t *testing.T) {
	f := newFixture(t)
	line := netip.MustParseAddr("192.0.2.1")
	open := make([]*gate.Ticket, 200)
	for i := range open {
		open[i] = f.open(enrolment(fmt.Sprint("unit-", i), line))
	}
	together(len(open), func(i int) {
		if err := open[i].Use(gate.EnrolmentCode, fmt.Sprint("unit-", i)); err != nil {
			t.Error(err)
		}
		if err := open[i].Right(t.Context()); err != nil {
			t.Error(err)
		}
	})
	wrong := 0
	for f.try(enrolment("A1", line), false) == 0 {
		wrong++
	}
	if wrong != 20 {
		t.Errorf("%d wrong ones after 200 right ones, want 20", wrong)
	}
	// Wrong ones at once are bounded, and leave a debt.
	eve := netip.MustParseAddr("192.0.2.66")
	var in atomic.Int64
	tickets := make([]*gate.Ticket, 2000)
	together(len(tickets), func(i int) {
		if k, err := f.gate.Open(t.Context(), enrolment("A1", eve)); err == nil {
			in.Add(1)
			tickets[i] = k
		}
	})
	for _, k := range tickets {
		if k != nil {
			if err := k.Wrong(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := in.Load(); n > 20+256 {
		t.Errorf("%d wrong ones at once from one source", n)
	}
	f.advance(10 * time.Minute)
	f.mustWait(enrolment("A1", eve))
	// A crash in the middle of it leaves a factory the burst to pay, not all.
	for i := range 200 {
		f.open(enrolment(fmt.Sprint("unit-", i), line.Next()))
	}
	f.restart()
	f.mustWait(enrolment("A1", line.Next()))
	f.advance(30 * time.Second)
	f.mustGetIn(enrolment("A1", line.Next()))
}

// While many guess, a source without failures is served; who fails is held
// sooner.
func TestSourceUnderManyStrangers(t *testing.T) {
	f := newFixture(t)
	together(2500, func(i int) { f.try(enrolment("A1", net(i)), false) })
	s := netip.MustParseAddr("203.0.113.5")
	for range 2 {
		if f.try(enrolment("A1", s), false) > 0 {
			t.Error("a source without failures is held by strangers")
		}
	}
	f.mustWait(enrolment("A1", s))
	f.advance(time.Minute)
	f.mustGetIn(enrolment("A1", s))
}
