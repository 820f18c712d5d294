package gateway

import (
	"math"
	"testing"
	"time"
)

func TestBucketHoldsBurstAndRefillsByRate(t *testing.T) {
	r := rate{every: int64(time.Minute), burst: 3}
	now := time.Unix(1_000_000, 0)
	b := fullBucket(r, now)
	n := func() int64 { return now.UnixNano() }
	for i := range 3 {
		if !b.take(r, n()) {
			t.Fatalf("message %d of the burst was refused", i+1)
		}
	}
	if b.take(r, n()) {
		t.Error("a fourth message at once passed a burst of 3")
	}
	now = now.Add(59 * time.Second)
	if b.take(r, n()) {
		t.Error("a message passed before its minute was over")
	}
	now = now.Add(time.Second)
	if !b.take(r, n()) {
		t.Error("no message after a minute")
	}
	now = now.Add(24 * time.Hour)
	passed := 0
	for b.take(r, n()) {
		passed++
	}
	if passed != 3 {
		t.Errorf("after a connected day %d messages at once, want the burst of 3", passed)
	}
}

func TestBucketMakesUpForTimeAway(t *testing.T) {
	for _, c := range []struct {
		name        string
		spent       int
		away        time.Duration
		want        int
		every, week time.Duration
	}{
		{"an hour away", 10, time.Hour, 60, time.Minute, 0},
		{"an hour away with a full bucket", 0, time.Hour, 70, time.Minute, 0},
		{"a month away counts as a week", 10, 30 * 24 * time.Hour, 7 * 24 * 60, time.Minute, 0},
		{"back at once earns nothing", 10, 0, 0, time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rate{every: int64(c.every), burst: 10}
			now := time.Unix(1_000_000, 0)
			b := fullBucket(r, now)
			for range c.spent {
				b.take(r, now.UnixNano())
			}
			now = now.Add(c.away)
			b.makeUp(r, now.UnixNano())
			got := 0
			for b.take(r, now.UnixNano()) {
				got++
			}
			if got != c.want {
				t.Errorf("%d messages at once, want %d", got, c.want)
			}
		})
	}
}

func TestBucketSurvivesClockStepsAndHugeRates(t *testing.T) {
	r := rate{every: math.MaxInt64 / 2, burst: math.MaxInt32}
	b := fullBucket(r, time.Unix(1000, 0))
	for _, at := range []int64{2000, -5, math.MaxInt64 / 4, 0} {
		b.fill(r, at)
		b.makeUp(r, at)
		if b.content < 0 || b.content > math.MaxInt64/2 {
			t.Fatalf("content %d after a step to %d", b.content, at)
		}
	}
	if r := (rate{}); !b.take(r, 0) {
		t.Error("a stream without a rate was held to one")
	}
}

func TestPacerSpreadsAndDropsNothing(t *testing.T) {
	var p pacer
	a := perSecond(1000)
	now := int64(1e18)
	for i := range 1000 {
		if w := p.reserve(a, 1, now); w != 0 {
			t.Fatalf("message %d of the first second waits %v", i, w)
		}
	}
	if got, want := p.reserve(a, 500, now), 500*time.Millisecond; got != want {
		t.Errorf("500 messages ahead wait %v, want %v", got, want)
	}
	if got := p.reserve(a, 1, now+int64(10*time.Second)); got != 0 {
		t.Errorf("after a pause the next waits %v", got)
	}
	if got := p.reserve(perSecond(-1), 1e9, now); got != 0 {
		t.Errorf("an unbounded pace waits %v", got)
	}
}

func TestBackOffGrowsToFiveMinutes(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := backOff(n); got != want {
			t.Errorf("violation %d: %v, want %v", n, got, want)
		}
	}
}

func TestStrikesFade(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	d := &device{patience: fullBucket(patienceRate(), now), connects: fullBucket(connectRate(), now)}
	for range 3 {
		d.strike(now)
	}
	if got := d.admit(now.Add(3 * time.Second)); got != refuseBackOff {
		t.Errorf("3 s after the third violation: %q, want %q", got, refuseBackOff)
	}
	if got := d.admit(now.Add(5 * time.Second)); got != "" {
		t.Errorf("5 s after the third violation: %q, want none", got)
	}
	if got, want := d.strike(now.Add(40*time.Minute)), time.Second; got != want {
		t.Errorf("a violation after a good half-hour costs %v, want %v", got, want)
	}
}

func TestConnectsOfOneDeviceAreBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	d := &device{connects: fullBucket(connectRate(), now)}
	in := 0
	for range 1000 {
		if d.admit(now) == "" {
			in++
		}
	}
	if in != 30 {
		t.Errorf("%d connects at once, want 30", in)
	}
	if got := d.admit(now.Add(2 * time.Second)); got != "" {
		t.Errorf("after two seconds: %q", got)
	}
}

func TestBucketConvertsToAnotherRate(t *testing.T) {
	from, to := rate{every: int64(time.Second), burst: 10}, rate{every: int64(time.Hour), burst: 4}
	for _, c := range []struct{ content, want int64 }{
		{0, 0},
		{3 * from.every, 3 * to.every},
		{10 * from.every, 4 * to.every},
		{10*from.every + int64(2*time.Hour), 4*to.every + int64(2*time.Hour)},
	} {
		if got := (bucket{content: c.content}).convert(from, to).content; got != c.want {
			t.Errorf("%d becomes %d, want %d", c.content, got, c.want)
		}
	}
	if got := (bucket{}).convert(rate{}, to).content; got != to.capacity() {
		t.Errorf("a stream that had no rate begins with %d, want %d", got, to.capacity())
	}
}
