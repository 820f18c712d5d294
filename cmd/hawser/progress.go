package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// How often progress is shown: on a terminal in one line that is written over,
// elsewhere, where every line stays, seldom.
const (
	progressOnTerminal = time.Second
	progressElsewhere  = 15 * time.Second
)

// progress shows on standard error how far long work is, once it has taken a
// while. Programs that asked for JSON are not told.
type progress struct {
	w     io.Writer // nil: nobody is told
	what  string
	every time.Duration
	tty   bool
	told  time.Time
	wrote bool
}

func (e *env) progress(what string) *progress {
	if e.json {
		return &progress{}
	}
	p := &progress{w: e.io.err, what: what, every: progressElsewhere, told: time.Now()}
	if f, ok := e.io.err.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			p.tty, p.every = true, progressOnTerminal
		}
	}
	return p
}

// share tells how much of how much is done.
func (p *progress) share(done, total int64) {
	if total > 0 {
		p.say(fmt.Sprintf("%d %%", min(done, total)*100/total))
	}
}

func (p *progress) say(text string) {
	if p.w == nil || time.Since(p.told) < p.every {
		return
	}
	p.told, p.wrote = time.Now(), true
	if p.tty {
		fmt.Fprintf(p.w, "\r\x1b[K%s: %s", p.what, text)
		return
	}
	fmt.Fprintf(p.w, "%s: %s\n", p.what, text)
}

// end leaves the line as if nothing had been there.
func (p *progress) end() {
	if p.tty && p.wrote {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// stoppable is a reader that ends with its context and counts lines.
type stoppable struct {
	ctx   context.Context
	r     io.Reader
	lines int64
	each  func(lines int64)
}

func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	for _, c := range b[:n] {
		if c == '\n' {
			s.lines++
		}
	}
	s.each(s.lines)
	return n, err
}
