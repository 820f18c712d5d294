package check

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Bounds of one observation. What is beyond them is counted and not listed.
const (
	MaxFindings  = 20
	MaxTouched   = 40
	maxTextBytes = 300 // of one text in a finding or a touch
)

// Touch is one thing that a check really looked at, or a deed of a violation.
type Touch struct {
	What string `json:"what"` // "address", "file", "table", "source", "device"
	Name string `json:"name"`
}

// Finding is one thing that was not as it should be, or was left out.
// Subject is a pseudonym, an address or a name from the declaration: never
// what would tell a stranger about a person.
type Finding struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Look is one run of a check. Its methods may be called from many goroutines;
// after the run has timed out they do nothing.
type Look struct {
	// Now is the time of the run.
	Now time.Time

	mu         sync.Mutex // guards what follows
	closed     bool
	source     string
	population int
	passing    int
	failing    int
	excluded   int
	findings   []Finding
	left       []Finding
	touched    []Touch
}

// Touch notes what was looked at: an address dialled, a table read, where the
// population comes from.
func (l *Look) Touch(what, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && len(l.touched) < MaxTouched {
		l.touched = append(l.touched, Touch{What: cut(what), Name: cut(name)})
	}
}

// Expect adds n to how many things there are to look at, as another source
// says than the one looked at: certificates issued against devices seen. A run
// that looked at fewer or more ends as an error.
func (l *Look) Expect(source string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.source == "" {
		l.source = cut(source)
	}
	l.population += n
}

// Pass counts n things that are as they should be.
func (l *Look) Pass(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.passing += n
	}
}

// Fail counts one thing that is not, and says what is wrong with it.
func (l *Look) Fail(subject, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.failing++
	if len(l.findings) < MaxFindings {
		l.findings = append(l.findings, Finding{Subject: cut(subject), Text: cut(fmt.Sprintf(format, args...))})
	}
}

// Exclude counts one thing that the check is not about, and says why.
func (l *Look) Exclude(subject, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.excluded++
	if len(l.left) < MaxFindings {
		l.left = append(l.left, Finding{Subject: cut(subject), Text: cut(why)})
	}
}

// Holds is Pass(1) or Fail, for a thing that is either.
func (l *Look) Holds(ok bool, subject, format string, args ...any) {
	if ok {
		l.Pass(1)
		return
	}
	l.Fail(subject, format, args...)
}

// cut keeps a text short and printable: it may come from a device.
func cut(s string) string {
	out := make([]rune, 0, min(len(s), maxTextBytes))
	n := 0
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			r = '·' // it could move the cursor or turn the line around
		}
		if n += len(string(r)); n > maxTextBytes {
			return string(out) + "…"
		}
		out = append(out, r)
	}
	return string(out)
}

// ErrHung says that a check did not come back in time.
var ErrHung = errors.New("the check did not come back in time")

// Take runs a check once and says what came of it. It never fails: a check
// that panics, hangs or finds nothing makes an observation that says so. A
// hanging Look is left behind; whatever it still notes is not taken.
func Take(ctx context.Context, c *Check, program string, now func() time.Time, most time.Duration) Observation {
	began := now().UTC().Truncate(time.Microsecond)
	l := &Look{Now: began}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("the check panicked: %v at %s", v, place(debug.Stack()))
			}
		}()
		done <- c.Look(ctx, l)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select { // one that obeys its context says more than "hung"
		case err = <-done:
		case <-time.After(250 * time.Millisecond):
			err = ErrHung
		}
	}
	l.mu.Lock()
	l.closed = true
	defer l.mu.Unlock()
	o := Observation{
		Check: c.ID, Version: c.Version, Kind: c.Kind, Program: program, Began: began, Taken: now().UTC().Truncate(time.Microsecond),
		Source: l.source, Population: l.population, Passing: l.passing, Failing: l.failing, Excluded: l.excluded,
		Findings: l.findings, Left: l.left, Touched: l.touched,
	}
	o.Expires = o.Began.Add(c.MaxAge)
	o.Outcome, o.Error = outcome(&o, err)
	return o
}

func outcome(o *Observation, err error) (Outcome, string) {
	switch {
	case err != nil:
		return Error, cut(err.Error())
	case o.Failing > 0:
		return Fail, ""
	case o.Passing+o.Excluded != o.Population:
		return Error, fmt.Sprintf("it looked at %d of %d", o.Passing+o.Excluded, o.Population)
	case o.Passing == 0:
		return Empty, ""
	case len(o.Touched) == 0:
		return Error, "it does not say what it touched"
	}
	return Pass, ""
}

// place is the first line of ours in a stack, below this package.
func place(stack []byte) string {
	for line := range strings.Lines(string(stack)) {
		at := strings.TrimSpace(line)
		if i := strings.Index(at, "internal/"); i >= 0 && strings.Contains(at, ".go:") && !strings.Contains(at, "internal/check/") {
			at, _, _ = strings.Cut(at[i:], " ")
			return at
		}
	}
	return "an unknown place"
}
