package gate

import "time"

// instant is a moment of the Gate's own time, in Unix microseconds.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixMicro())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(i)).UTC()
}

func (i instant) add(d time.Duration) instant           { return i + instant(d.Microseconds()) }
func (i instant) sub(j instant) time.Duration           { return time.Duration(i-j) * time.Microsecond }
func (i instant) after(d time.Duration, j instant) bool { return i.sub(j) >= d }

// clock is the Gate's own time: it goes on by as much as the machine's goes
// on, and not at all when that is set back, so that nobody has fresh tries by
// it (CC 1.13). It does not stand still until a clock that was wrong comes
// round again, either. While the process lives the machine's monotonic clock
// is what counts, whatever the time is set to.
type clock struct {
	gate    instant
	machine time.Time
}

func (c *clock) tick(now time.Time) instant {
	d := now.Sub(c.machine).Truncate(time.Microsecond)
	if d < 0 {
		c.machine = now
	} else {
		c.gate, c.machine = c.gate.add(d), c.machine.Add(d) // what was cut off counts next time
	}
	return c.gate
}

// wall is a moment of the Gate's as the machine's clock would show it.
func (c *clock) wall(i instant) time.Time {
	return c.machine.Add(-c.gate.sub(i)).Round(0).UTC()
}
