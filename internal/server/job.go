package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// job is one thing done again and again: safe to run twice, safe to kill.
type job struct {
	name   string
	period time.Duration
	run    func(context.Context) error

	held atomic.Bool // stands still: only a twin's does, to see that it is noticed

	mu     sync.Mutex // guards what follows
	last   time.Time  // last success
	failed error      // of the last run; nil after a success
	since  time.Time  // when it began to fail
	poked  chan struct{}
}

// poke is what makes the job run before its time.
func (j *job) poke() chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.poked == nil {
		j.poked = make(chan struct{}, 1)
	}
	return j.poked
}

// hurry lets the job run at once, or again when it is running.
func (j *job) hurry() {
	select {
	case j.poke() <- struct{}{}:
	default: // it will
	}
}

// loop runs the job at once and then each period, until ctx is done. What it
// notes goes by the time of now.
func (j *job) loop(ctx context.Context, log *slog.Logger, now func() time.Time) {
	t := time.NewTicker(j.period)
	defer t.Stop()
	for {
		if !j.held.Load() {
			err := j.once(ctx)
			if ctx.Err() != nil {
				return
			}
			if j.note(err, now()) {
				log.ErrorContext(ctx, "job failed", slog.String("job", j.name), slog.Any("err", err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-j.poke():
		}
	}
}

// once runs the job; a panic of one job must not end the others.
func (j *job) once(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return j.run(ctx)
}

// note keeps the outcome and reports whether it is a failure that is new.
func (j *job) note(err error, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh := err != nil && (j.failed == nil || j.failed.Error() != err.Error())
	if err != nil && j.failed == nil {
		j.since = now
	}
	if j.failed = err; err == nil {
		j.last = now
	}
	return fresh
}

// state is the job's last success, and since when it fails with what.
func (j *job) state() (last, since time.Time, failed error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last, j.since, j.failed
}
