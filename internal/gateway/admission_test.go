package gateway

import (
	"net/netip"
	"testing"
	"time"
)

func TestLobbyBoundsAllAndEachSource(t *testing.T) {
	l := newLobby(3, 2, 4)
	a, b := source(netip.MustParseAddr("192.0.2.1")), source(netip.MustParseAddr("192.0.2.2"))
	for i, c := range []struct {
		from netip.Prefix
		want refusal
	}{{a, ""}, {a, ""}, {a, refuseSource}, {b, ""}, {b, refuseBusy}} {
		if got := l.enter(c.from); got != c.want {
			t.Errorf("connection %d: %q, want %q", i, got, c.want)
		}
	}
	l.authenticated(a)
	if got := l.enter(b); got != "" {
		t.Errorf("after one was authenticated: %q", got)
	}
	l.authenticated(a)
	if got := l.enter(a); got != refuseFull {
		t.Errorf("fifth open connection: %q, want %q", got, refuseFull)
	}
	l.closed()
	if got := l.enter(a); got != "" {
		t.Errorf("after one closed: %q", got)
	}
	if open, waiting := l.counts(); open != 4 || waiting != 3 {
		t.Errorf("open %d, unauthenticated %d; want 4 and 3", open, waiting)
	}
}

func TestSourceIsOneSubscriber(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if got := source(netip.MustParseAddr(c.a)) == source(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s: same source %v, want %v", c.a, c.b, got, c.same)
		}
	}
	if got := shorten(netip.MustParseAddr("192.0.2.77")).String(); got != "192.0.2.0/24" {
		t.Errorf("the log would show %s", got)
	}
}

func TestSlotsWaitNoLongerThanAHandshake(t *testing.T) {
	s := newSlots(1, 20*time.Millisecond)
	if !s.acquire() {
		t.Fatal("the only slot was not free")
	}
	if s.acquire() {
		t.Error("one slot was given twice")
	}
	s.release()
	if !s.acquire() {
		t.Error("a slot given back was not free")
	}
}

func TestDiaryIsBounded(t *testing.T) {
	var d diary
	lines := 0
	for i := range 10_000 {
		if d.note(Refusal{Time: time.Unix(600, 0), Reason: string(refuseNotTLS), Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), 0}), 24)}) {
			lines++
		}
	}
	if lines != logLinesPerMinute || len(d.recent) != recentRefusals {
		t.Errorf("%d lines and %d remembered, want %d and %d", lines, len(d.recent), logLinesPerMinute, recentRefusals)
	}
	if !d.note(Refusal{Time: time.Unix(660, 0), Reason: string(refuseNotTLS)}) {
		t.Error("no line in the next minute")
	}
	if !d.note(Refusal{Time: time.Unix(600, 0), Reason: string(refuseExpired)}) {
		t.Error("one reason silenced another")
	}
}
