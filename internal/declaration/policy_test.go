package declaration

import (
	"testing"
	"time"
)

func TestEpochLength(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct{ keep, want time.Duration }{
		{MinKeep, 5 * time.Minute},
		{9*time.Hour + 59*time.Minute, 5 * time.Minute},
		{10 * time.Hour, time.Hour},
		{60 * time.Hour, 6 * time.Hour},
		{10*day - 1, 6 * time.Hour},
		{30 * day, day},
		{70 * day, 7 * day},
		{300 * day, 30 * day},
		{MaxKeep, 30 * day},
	} {
		got := EpochLength(c.keep)
		if got != c.want {
			t.Errorf("keep %v: epoch of %v, want %v", c.keep, got, c.want)
		}
		if got > c.keep/10 {
			t.Errorf("keep %v: epoch of %v is more than a tenth", c.keep, got)
		}
	}
}
