package telemetry

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// What undeclared names a stream was seen with is shown to the maker. A name
// may itself say something of a person ("room_of_anna", "52.3702"), so few are
// kept, short and without digits, each sealed for the subject it came from; the
// ledger says only that there were some.
const (
	MaxUndeclaredNames = 16 // kept of a stream
	maxUndeclaredName  = 24 // bytes
)

// UndeclaredStream is a stream whose devices send fields that the declaration
// does not name (CC 5.9).
type UndeclaredStream struct {
	Product core.ProductID
	Policy  core.Hash // the declaration
	Stream  string
	First   time.Time
	Names   []string // the first few, sorted; digits are '#', other than letters '?'. Not of a row of the database
}

// UndeclaredName is one such name as it is kept.
type UndeclaredName struct {
	Policy  core.Hash
	Stream  string
	Subject core.Subject // from whose device it came first
	Name    seal.Sealed[string]
	First   time.Time
}

// findings are of one stream. Looking at the names takes no lock.
type findings struct {
	known atomic.Pointer[[]stray]

	mu    sync.Mutex // for changing known, and for what follows
	since time.Time  // of the first one, whatever became of its name; zero: none
	noted bool       // the database and the ledger have it
}

// stray is one undeclared name.
type stray struct {
	name    string
	subject core.Subject
	first   time.Time
	kept    bool // in the database
}

func (f *findings) names() []stray {
	if p := f.known.Load(); p != nil {
		return *p
	}
	return nil
}

// note adds a raw name from a payload if there is room for it and it is new.
func (f *findings) note(subject core.Subject, raw []byte, now time.Time) {
	known := f.names()
	if len(known) >= MaxUndeclaredNames {
		return
	}
	var buf [maxUndeclaredName]byte
	name := tame(buf[:0], raw)
	if slices.ContainsFunc(known, func(k stray) bool { return k.name == string(name) }) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(stray{name: string(name), subject: subject, first: now})
}

// add adds a name unless it is there or there is no room. f.mu is held.
func (f *findings) add(s stray) {
	known := f.names()
	if f.since.IsZero() || s.first.Before(f.since) {
		f.since = s.first
	}
	if len(known) >= MaxUndeclaredNames || slices.ContainsFunc(known, func(k stray) bool { return k.name == s.name }) {
		return
	}
	grown := append(slices.Clip(known), s)
	f.known.Store(&grown)
}

// change replaces the names by what fn makes of a copy of them. f.mu is held.
func (f *findings) change(fn func([]stray) []stray) {
	next := fn(slices.Clone(f.names()))
	f.known.Store(&next)
}

// tame appends to dst, which has room for it, what may be shown of a name.
func tame(dst, raw []byte) []byte {
	for _, c := range raw[:min(len(raw), maxUndeclaredName)] {
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

// Undeclared lists the streams of the plans in force that had undeclared
// fields, by product and name.
func (in *Intake) Undeclared() []UndeclaredStream {
	var out []UndeclaredStream
	in.plans(func(p *Plan) {
		for _, sp := range p.streams {
			sp.findings.mu.Lock()
			u := UndeclaredStream{Product: p.product, Policy: p.policy, Stream: sp.stream.Name, First: sp.findings.since}
			sp.findings.mu.Unlock()
			if u.First.IsZero() {
				continue
			}
			for _, s := range sp.findings.names() {
				u.Names = append(u.Names, s.name)
			}
			slices.Sort(u.Names)
			out = append(out, u)
		}
	})
	slices.SortFunc(out, func(a, b UndeclaredStream) int {
		return cmp.Or(strings.Compare(string(a.Product), string(b.Product)), strings.Compare(a.Stream, b.Stream))
	})
	return out
}

// Forget takes the names out of memory that came from a subject's device.
func (in *Intake) Forget(s core.Subject) {
	in.plans(func(p *Plan) {
		for _, sp := range p.streams {
			f := &sp.findings
			f.mu.Lock()
			if slices.ContainsFunc(f.names(), func(k stray) bool { return k.subject == s }) {
				f.change(func(known []stray) []stray {
					return slices.DeleteFunc(known, func(k stray) bool { return k.subject == s })
				})
			}
			f.mu.Unlock()
		}
	})
}
