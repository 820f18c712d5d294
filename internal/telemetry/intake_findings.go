package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// What undeclared names a stream was seen with is shown to the maker once. A
// name may itself say something about a person ("room_of_anna", "52.3702"), so
// it is never stored, kept only in memory, short, few, and without digits.
const (
	maxStrayNames = 16 // of a stream
	maxStrayName  = 24 // bytes
)

// Finding is an undeclared field name that a device sent (CC 5.9).
type Finding struct {
	Product core.ProductID
	Stream  string
	Name    string // shortened; digits are '#', other than letters '?'
	First   time.Time
}

// findings is the list of one stream. Looking at it takes no lock.
type findings struct {
	mu    sync.Mutex // for adding
	known atomic.Pointer[[]Finding]
}

// note adds a raw name from a payload if there is room for it and it is new.
func (f *findings) note(sp *StreamPlan, raw []byte, now time.Time) {
	var known []Finding
	if p := f.known.Load(); p != nil {
		known = *p
	}
	if len(known) >= maxStrayNames {
		return
	}
	var buf [maxStrayName]byte
	name := tame(buf[:0], raw)
	same := func(k Finding) bool { return k.Name == string(name) }
	if slices.ContainsFunc(known, same) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.known.Load(); p != nil {
		known = *p
	}
	if len(known) >= maxStrayNames || slices.ContainsFunc(known, same) {
		return
	}
	grown := append(slices.Clip(known), Finding{Product: sp.plan.product, Stream: sp.stream.Name, Name: string(name), First: now})
	f.known.Store(&grown)
}

// tame appends to dst, which has room for it, what may be shown of a name.
func tame(dst, raw []byte) []byte {
	for _, c := range raw[:min(len(raw), maxStrayName)] {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '-':
		case isDigit(c):
			c = '#'
		default:
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}
