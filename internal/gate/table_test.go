package gate

import (
	"crypto/sha256"
	"testing"
	"time"
)

// Networks are counted exactly while they are few, and roughly then.
func TestNetworks(t *testing.T) {
	var s sketch
	for i := range 1000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		for range 3 {
			s.add(Key(sum[:16]))
		}
		n, got := i+1, s.estimate()
		slack := 1 + n/5
		if n > 3 && (got < n-slack || got > n+slack) {
			t.Fatalf("%d networks are counted as %d", n, got)
		}
	}
	var back sketch
	back.fill(s.bytes())
	if back != s {
		t.Error("a sketch read back is another")
	}
	back.fill([]byte{1, 2, 3}) // not ours: left alone
	for i := range s {
		s[i] = ^uint64(0)
	}
	if n := s.estimate(); n != 1420 {
		t.Errorf("a full sketch counts %d", n)
	}
}

// The clock of the gate neither goes back, nor stands still, nor loses the
// time between many looks.
func TestClock(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock{gate: instantOf(at), machine: at}
	for i := range 10_000 {
		c.tick(at.Add(time.Duration(i) * 300 * time.Nanosecond))
	}
	if got := c.gate.sub(instantOf(at)); got < 2999*time.Microsecond || got > 3*time.Millisecond {
		t.Errorf("%s went by in 3 ms", got)
	}
	before := c.gate
	back := at.Add(-time.Hour)
	if c.tick(back) != before || c.tick(back.Add(time.Second)) != before.add(time.Second) {
		t.Error("set back, the clock does not go on from where it was")
	}
	if w := c.wall(before); !w.Equal(back) {
		t.Errorf("a second ago the machine's clock said %s, not %s", back, w)
	}
}
