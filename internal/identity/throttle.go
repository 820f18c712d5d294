package identity

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Limits of failed enrolments. A code has 135 bits, so these do not keep
// anybody from guessing it; they keep guessers from using the server up.
const (
	sourceBurst   = 20               // failures that one source has at once
	sourceRefill  = 30 * time.Second // time in which it gets one back
	sourceMax     = 1 << 16          // sources remembered
	globalBurst   = 2000             // failures of all sources at once
	globalRefill  = 5 * time.Millisecond
	hotBurst      = 2 // what one source has while the global budget is used up
	issueBurst    = 6 // certificates for one device at once
	issueRefill   = 10 * time.Minute
	retryAtLeast  = time.Second
	ipv4Bits      = 32
	ipv6Bits      = 56 // what one customer usually gets
	unknownSource = "0.0.0.0"
)

// RetryError is a refusal that may pass, with the time after which trying
// again makes sense.
type RetryError struct {
	Refusal *core.Error
	After   time.Duration
}

func (e *RetryError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal.
func (e *RetryError) Unwrap() error { return e.Refusal }

func tooMany(reason, message string, after time.Duration) error {
	return &RetryError{
		Refusal: core.E(core.TooMany, reason, message, "try again later"),
		After:   max(after, retryAtLeast),
	}
}

// throttle counts failures by source: an IPv4 address or an IPv6 /56. Only
// who failed is ever slowed down: neither a device nor its code can be locked
// by strangers (design, section 5), and a source without failures is served
// however many others are guessing. It lives in memory: after a restart a
// source begins anew, which 135 bits can bear.
type throttle struct {
	mu      sync.Mutex
	sources map[netip.Prefix]bucket
	global  bucket
}

// bucket is a token bucket that holds what was taken, and when.
type bucket struct {
	taken float64
	at    time.Time
}

// level is what is taken at now, given the time one token takes to return.
func (b bucket) level(now time.Time, refill time.Duration) float64 {
	return max(0, b.taken-float64(now.Sub(b.at))/float64(refill))
}

func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		a = netip.MustParseAddr(unknownSource)
	}
	bits := ipv6Bits
	if a.Is4() {
		bits = ipv4Bits
	}
	p, _ := a.Prefix(bits) // fails only for a bad length
	return p
}

// admit reports how long a source must wait; zero: it may try.
func (t *throttle) admit(source netip.Addr, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, seen := t.sources[prefixOf(source)]
	if !seen {
		return 0
	}
	burst := float64(sourceBurst)
	if t.global.level(now, globalRefill) >= globalBurst-1 {
		burst = hotBurst
	}
	if over := b.level(now, sourceRefill) - (burst - 1); over > 0 {
		return time.Duration(over * float64(sourceRefill))
	}
	return 0
}

// fail counts one failure of a source.
func (t *throttle) fail(source netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.global = bucket{taken: min(t.global.level(now, globalRefill)+1, globalBurst), at: now}
	p := prefixOf(source)
	if _, seen := t.sources[p]; !seen && len(t.sources) >= sourceMax {
		t.forget(now)
	}
	if t.sources == nil {
		t.sources = map[netip.Prefix]bucket{}
	}
	t.sources[p] = bucket{taken: min(t.sources[p].level(now, sourceRefill)+1, sourceBurst), at: now}
}

// forget makes room: sources whose failures have been forgiven go first, then
// any, so that the table never grows and a full one costs one pass in many.
func (t *throttle) forget(now time.Time) {
	for p, b := range t.sources {
		if b.level(now, sourceRefill) < 1 {
			delete(t.sources, p)
		}
	}
	for p := range t.sources {
		if len(t.sources) <= sourceMax*7/8 {
			return
		}
		delete(t.sources, p)
	}
}
