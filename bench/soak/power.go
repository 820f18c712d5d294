package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
)

// powerless records a server at work, and then lets the power fail.
func powerless(ctx context.Context, o *options) (*result, error) {
	began := time.Now()
	r := &result{Rounds: o.points, Devices: o.devices, Seed: o.seed, Points: o.points}
	dir, err := filepath.EvalSymlinks(o.dir)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, errors.New("strace is missing (Debian: strace)")
	}
	for try := 1; ; try++ {
		err := once(ctx, o, filepath.Join(dir, fmt.Sprint(try)), r)
		if err == nil {
			break
		}
		// Once in some hundred runs the server is killed within a call that strace
		// never told of. No power has failed yet then.
		if !errors.Is(err, errNotFollowed) || try == recordings {
			return nil, err
		}
		o.progress("%v: recording again", err)
	}
	r.Ledger = true // or once had failed
	r.Seconds = time.Since(began).Round(10 * time.Millisecond).Seconds()
	return r, nil
}

// recordings is how often a recording may be of no use.
const recordings = 3

var errNotFollowed = errors.New("the trace was not followed rightly")

// once records a server in dir and lets the power fail.
func once(ctx context.Context, o *options, dir string, r *result) error {
	h, err := rig.Make(ctx, o.hawser, filepath.Join(dir, "home"), "")
	if err != nil {
		return err
	}
	defer func() { _ = h.Kill() }() // after an error
	rec, err := record(ctx, o, h, dir)
	if err != nil {
		return err
	}
	r.Calls = len(rec.calls)
	o.progress("recorded %d system calls, %d acknowledgements", len(rec.calls), rec.book.count())
	return rec.replay(ctx, o, h, r)
}

// recording is what a server did and what was seen of it from outside.
type recording struct {
	before  *disk // as it lay there before
	calls   []call
	torn    []call // under way when it was killed
	book    *book
	devices []*device
	erased  core.DeviceID
	gone    int64 // Unix microseconds of the receipt of its erasure
}

func record(ctx context.Context, o *options, h *rig.Home, dir string) (*recording, error) {
	if err := h.Start(ctx); err != nil {
		return nil, err
	}
	if err := h.Publish(ctx, "soak.yaml", declared); err != nil {
		return nil, err
	}
	ids := make([]core.DeviceID, o.devices)
	for i := range ids {
		ids[i] = core.DeviceID(fmt.Sprintf("soak-%02d", i))
	}
	units, err := h.Enrol(ctx, "soak", ids)
	if err != nil {
		return nil, err
	}
	if err := h.Stop(); err != nil {
		return nil, err
	}
	rec := &recording{erased: ids[len(ids)-1]}
	if rec.before, err = load(h.Dir); err != nil {
		return nil, err
	}
	rec.before.strict = o.strict
	trace := filepath.Join(dir, "trace")
	h.Under = tracer(trace)
	if err := h.Start(ctx); err != nil {
		return nil, err
	}
	h.Under = nil
	if rec.book, err = openBook(filepath.Join(dir, "acked")); err != nil {
		return nil, err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	never := make(chan struct{})
	var wg sync.WaitGroup
	for i, u := range units {
		conf, err := h.TLS(u)
		if err != nil {
			return nil, err
		}
		d := &device{id: u.ID, number: i, tls: conf, door: h.Devices, book: rec.book, window: o.window, every: time.Second / time.Duration(o.rate), drain: never}
		rec.devices = append(rec.devices, d)
		wg.Go(func() { d.run(load) })
	}
	// Meanwhile what changes keys, people's rights and the ledger.
	acts := func() error {
		time.Sleep(o.span / 4)
		if _, err := h.Run(ctx, "erase", string(rec.erased), "--reason", "a soak erases"); err != nil {
			return err
		}
		rec.gone = time.Now().UnixMicro()
		time.Sleep(o.span / 4)
		if _, err := h.Enrol(ctx, "soak", []core.DeviceID{"soak-late"}); err != nil {
			return err
		}
		if _, err := h.Run(ctx, "hold", "place", string(ids[0]), "--reason", "a soak holds"); err != nil {
			return err
		}
		time.Sleep(o.span / 2)
		return nil
	}
	err = acts()
	killed := h.Kill()
	stop()
	wg.Wait()
	if err := errors.Join(err, killed, rec.book.close()); err != nil {
		return nil, err
	}
	if err := quiet(ctx, trace); err != nil {
		return nil, err
	}
	rec.calls, rec.torn, err = readTrace(trace)
	return rec, err
}

// quiet waits until the tracer has written all.
func quiet(ctx context.Context, name string) error {
	last := int64(-1)
	for {
		st, err := os.Stat(name)
		if err != nil {
			return err
		}
		if st.Size() == last {
			return nil
		}
		last = st.Size()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// event is the beginning or the end of a call.
type event struct {
	line int
	call int
	end  bool
}

func (rec *recording) events() []event {
	var out []event
	for i := range rec.calls {
		c := &rec.calls[i]
		out = append(out, event{c.began, i, false}, event{c.ended, i, true})
	}
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Compare(a.line, b.line) })
	return out
}

// moments picks at which calls the power fails: half of them about a sync or a
// change of names, where order matters most.
func (rec *recording) moments(dice *rand.Rand, n int) map[int]bool {
	var all, sharp []int
	for i := range rec.calls {
		c := &rec.calls[i]
		if c.failed() || c.name == "openat" || c.name == "close" || c.name == "mmap" || c.name == "lseek" {
			continue
		}
		touches := false
		for _, a := range c.args {
			touches = touches || strings.Contains(string(unhex(a[:min(len(a), 4*len(rec.before.root)+40)])), rec.before.root)
		}
		if !touches {
			continue
		}
		all = append(all, i)
		if strings.HasPrefix(c.name, "fsync") || strings.HasPrefix(c.name, "fdatasync") || strings.HasPrefix(c.name, "rename") || strings.HasPrefix(c.name, "unlink") {
			sharp = append(sharp, i, max(0, i-1))
		}
	}
	out := map[int]bool{}
	for tries := 0; len(out) < n && len(sharp) > 0 && tries < 100*n; tries++ {
		from := all
		if tries%2 == 0 {
			from = sharp
		}
		out[from[dice.IntN(len(from))]] = true
	}
	return out
}

// replay lets the power fail at the moments, and starts a server on what is
// left each time.
func (rec *recording) replay(ctx context.Context, o *options, h *rig.Home, r *result) error {
	dice := rand.New(rand.NewPCG(o.seed, 1))
	moments := rec.moments(dice, o.points)
	if len(moments) < o.points {
		return fmt.Errorf("the trace has only %d moments", len(moments))
	}
	type state struct {
		files   map[string][]byte
		at      int64
		unsaved bool
		what    string
	}
	var states []state
	d := rec.before
	syncs := map[int]*syncing{}
	for _, e := range rec.events() {
		c := &rec.calls[e.call]
		var err error
		if !e.end {
			syncs[e.call], err = d.begin(c)
		} else {
			err = d.end(c, syncs[e.call])
			delete(syncs, e.call)
		}
		if err != nil {
			return fmt.Errorf("line %d of the trace: %w", e.line+1, err)
		}
		if e.end && moments[e.call] {
			states = append(states, state{d.cut(dice), c.at, d.unsaved(), fmt.Sprintf("after %s of line %d", c.name, e.line+1)})
		}
	}
	if err := d.same(rec.torn); err != nil {
		return fmt.Errorf("%w: %w", errNotFollowed, err)
	}
	for i, s := range states {
		if s.unsaved {
			r.Unsaved++
		}
		if err := write(h.Dir, s.files); err != nil {
			return err
		}
		if err := rec.look(ctx, h, s.at, r); err != nil {
			return fmt.Errorf("power failed %s (point %d, seed %d): %w", s.what, i+1, o.seed, err)
		}
		if n := i + 1; n%20 == 0 || n == len(states) {
			o.progress("%d of %d power failures, %d readings compared", n, len(states), r.Acked)
		}
	}
	return nil
}

// unsaved reports whether anything would be lost now.
func (d *disk) unsaved() bool {
	if len(d.late) > 0 {
		return true
	}
	for f := range maps.Values(d.names) {
		if len(f.late) > 0 {
			return true
		}
	}
	return false
}

// look starts a server on what lies there and compares.
func (rec *recording) look(ctx context.Context, h *rig.Home, at int64, r *result) error {
	began := time.Now()
	if err := h.Start(ctx); err != nil {
		return err
	}
	r.LongestStart = max(r.LongestStart, time.Since(began).Round(time.Millisecond).Seconds())
	acked := rec.book.until(at)
	for _, d := range rec.devices {
		lines, err := h.Read(ctx, string(d.id), "a soak compares what was acknowledged")
		if d.id == rec.erased { // an error says that it is gone
			if err == nil && at >= rec.gone && len(lines) > 0 {
				return fmt.Errorf("%d readings open after the receipt of their erasure", len(lines))
			}
			continue
		}
		if err != nil {
			return err
		}
		before := r.Lost + r.Changed + r.Strange + r.Twice + r.Reordered
		if err := r.compare(d.id, d.last.seq, acked[d.id], lines); err != nil {
			return fmt.Errorf("%s: %w", d.id, err)
		}
		if r.Lost+r.Changed+r.Strange+r.Twice+r.Reordered > before {
			return fmt.Errorf("%s: of %d acknowledged readings, %d are lost, %d changed, %d never sent, %d twice, %d out of order", d.id, len(acked[d.id]), r.Lost, r.Changed, r.Strange, r.Twice, r.Reordered)
		}
	}
	// Every row that is there is one that the ledger has, and the other way
	// round.
	if _, err := h.Run(ctx, "ledger", "verify"); err != nil {
		return err
	}
	return h.Kill()
}
