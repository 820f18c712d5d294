package gateway

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// maxOffline is how much time away from the server a device may make up for.
const maxOffline = 7 * 24 * time.Hour

// rate is a stream's declared rate: one message per every, burst at once.
type rate struct {
	every int64 // nanoseconds; 0: unbounded
	burst int64
}

// bucket is a token bucket whose content is counted in nanoseconds of the
// stream's rate: a message costs every, and a nanosecond that passes brings
// one, up to burst × every.
type bucket struct{ content, at int64 }

func (r rate) capacity() int64 {
	hi, lo := bits.Mul64(uint64(max(r.burst, 1)), uint64(r.every))
	if hi != 0 || lo > math.MaxInt64/4 {
		return math.MaxInt64 / 4
	}
	return int64(lo)
}

// fill brings the bucket up to now. What it holds above its capacity, because
// the device was away, stays until it is used.
func (b *bucket) fill(r rate, now int64) {
	if gain := now - b.at; gain > 0 && b.content < r.capacity() {
		b.content = min(b.content+gain, r.capacity())
	}
	b.at = now
}

// take pays for one message, or says that it is over the rate.
func (b *bucket) take(r rate, now int64) bool {
	if r.every <= 0 {
		return true
	}
	b.fill(r, now)
	if b.content < r.every {
		return false
	}
	b.content -= r.every
	return true
}

// makeUp credits the time away, so that an honest device may send what it
// could have sent: content + time away, at most the capacity + 7 days. What
// it had spent before it left stays spent, so that coming back earns nothing.
func (b *bucket) makeUp(r rate, now int64) {
	if r.every <= 0 {
		return
	}
	gain := min(max(now-b.at, 0), int64(maxOffline))
	b.content = min(b.content+gain, r.capacity()+int64(maxOffline))
	b.at = now
}

// convert keeps what the bucket is worth when its rate becomes another: the
// messages of its burst, and the time that it makes up for.
func (b bucket) convert(from, to rate) bucket {
	if from.every <= 0 {
		b.content = to.capacity()
		return b
	}
	burst := min(b.content, from.capacity())
	away := b.content - burst
	b.content = int64(min(float64(burst)/float64(from.every)*float64(to.every), float64(to.capacity()))) + away
	return b
}

// pacer spreads what arrives: whoever is ahead of its rate is told how long to
// stop reading. Nothing is ever dropped by it. It is safe for concurrent use.
type pacer struct{ due atomic.Int64 }

// pace is what a pacer allows: one unit per every nanoseconds, and as many
// nanoseconds of work at once as slack.
type pace struct{ every, slack int64 }

// perSecond is a pace of n units a second with a burst of a second's worth;
// n of 0 is unbounded.
func perSecond(n int) pace {
	if n <= 0 {
		return pace{}
	}
	return pace{every: max(int64(time.Second)/int64(n), 1), slack: int64(time.Second)}
}

// reserve books units and returns how long to wait before reading on.
func (p *pacer) reserve(a pace, units, now int64) time.Duration {
	if a.every == 0 {
		return 0
	}
	for {
		due := p.due.Load()
		next := max(due, now) + units*a.every
		if p.due.CompareAndSwap(due, next) {
			return time.Duration(max(next-now-a.slack, 0))
		}
	}
}

// patience is how much misbehaviour a device has left. Each refusal that the
// device could have avoided costs points; points come back with time. It is a
// bucket, and like a bucket it starts full.
const (
	patiencePoints     = 240
	patiencePerSecond  = 2
	pointsOverRate     = 1
	pointsWrongPlace   = 1
	pointsForeignTopic = 20 // naming another device (CC 3.6)
)

func patienceRate() rate {
	return rate{every: int64(time.Second) / patiencePerSecond, burst: patiencePoints}
}

// backOff is how long a device is kept out after its n-th violation in a row:
// 1 s, doubled each time, at most 5 min.
func backOff(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	return min(time.Second<<min(n-1, 16), 5*time.Minute)
}
