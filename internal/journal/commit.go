package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	roomEvery    = 250 * time.Millisecond // how often the disk's free space is looked at,
	roomBytes    = 1 << 20                // or after so many bytes written
	troubleEvery = 250 * time.Millisecond // how often trouble is looked at again
	restartEvery = 5 * time.Second        // at most, between two starts of a failed store
)

// commitLoop is the one goroutine that writes. It commits what has gathered
// while the commit before was running, and what is being handed in.
func (j *Journal) commitLoop() {
	defer close(j.stopped)
	defer func() {
		var e *engine
		j.change(func() { e, j.engine = j.engine, nil })
		if e != nil {
			e.stop()
		}
		if err := j.head.close(); err != nil {
			j.opt.Log.Error("journal's head not closed", slog.Any("err", err))
		}
	}()
	var checked time.Time
	written := 0 // since then
	for {
		j.gather()
		b := j.queue.take()
		if b == nil {
			select {
			case <-j.queue.wake:
				continue
			case <-j.closing: // nothing more comes in; what came in before goes out
				if b = j.queue.take(); b == nil {
					return
				}
			}
		}
		var err error
		if now := j.opt.Now(); now.Sub(checked) >= roomEvery || now.Before(checked) || written >= roomBytes {
			checked, written = now, 0
			err = j.room(0)
		}
		if err == nil {
			err = j.commit(b)
		}
		if err == nil {
			written += len(b.buf)
			b.tell(nil)
			j.queue.done(b)
			continue
		}
		j.fail(b, err)
		checked = time.Time{}
		if !j.heal(err) {
			return
		}
	}
}

// gatherRounds bounds how often the committer lets others go first.
const gatherRounds = 4

// gather lets those run who are about to hand something in, for as long as
// they do: what they bring then rides on this commit, whose price does not
// depend on its size. It waits for nobody who is not ready to run.
func (j *Journal) gather() {
	before := -1
	for range gatherRounds {
		now := j.queue.held()
		if now == before {
			return
		}
		before = now
		runtime.Gosched()
	}
}

// commit writes one batch to disk.
func (j *Journal) commit(b *batch) error {
	finishBatch(b.buf, b.records)
	if err := j.opt.may(); err != nil {
		return err
	}
	e, last := j.current()
	seq, err := e.publish(b.buf, j.opt.CommitTimeout)
	if err != nil {
		return err
	}
	if err := j.advance(e, last, seq); err != nil {
		return err
	}
	return j.opt.may() // this process may have been paused
}

// barredError is why Options.May lets nothing be written.
type barredError struct{ why error }

func (e *barredError) Error() string { return e.why.Error() }
func (e *barredError) Unwrap() error { return e.why }

func (o *Options) may() error {
	if o.May != nil {
		if err := o.May(); err != nil {
			return &barredError{err}
		}
	}
	return nil
}

// advance notes that seq was committed after last.
func (j *Journal) advance(e *engine, last, seq uint64) error {
	if seq <= last {
		return ErrDamaged // JetStream gives a number out again
	}
	if err := j.head.set(seq); err != nil {
		return err
	}
	if e.rolled() {
		if err := j.head.sync(); err != nil {
			return err
		}
	}
	j.change(func() { j.durable = max(j.durable, seq) })
	return nil
}

// fail tells b and all that waits behind it that they are not acknowledged,
// and lets nothing in until the trouble is over: what a device sent later
// must not be stored before what it has to send again.
func (j *Journal) fail(b *batch, err error) {
	why := j.classify(err)
	j.opt.Log.Error("journal stops acknowledging", slog.String("reason", core.ReasonOf(why)), slog.Any("err", err))
	j.queue.refuse(why)
	j.change(func() { j.trouble = why })
	for ; b != nil; b = j.queue.take() {
		b.tell(why)
		j.queue.done(b)
	}
}

// classify makes of an error of the store what the gateway and doctor see.
func (j *Journal) classify(err error) error {
	if barred, ok := errors.AsType[*barredError](err); ok {
		return barred.why
	}
	switch {
	case errors.Is(err, ErrDisk):
		return ErrDisk
	case errors.Is(err, ErrDamaged):
		return ErrDamaged
	case isFull(err):
		return ErrFull
	case errors.Is(err, syscall.ENOSPC), strings.Contains(err.Error(), "no space left"), j.room(0) != nil:
		return ErrDisk
	}
	return &core.Error{
		Kind: core.Unavail, Reason: "journal-write", Message: "the journal cannot be written",
		Hint: "look at the disk of the data folder; the log has the cause", Err: err,
	}
}

// isFull reports whether JetStream refused a message because of MaxBytes. It
// was then not stored, and the store is well.
func isFull(err error) bool {
	a, ok := errors.AsType[*jetstream.APIError](err)
	return ok && a.ErrorCode == 10077 && strings.Contains(a.Description, "maximum bytes exceeded")
}

// room says ErrDisk while the file system has less than MinFreeBytes + more.
func (j *Journal) room(more int64) error {
	if j.opt.Cluster != nil || j.opt.MinFreeBytes < 0 && more == 0 {
		return nil
	}
	free, err := freeBytes(j.opt.Dir)
	if err != nil {
		return fmt.Errorf("ask for the free space of the journal's disk: %w", err)
	}
	if free < max(j.opt.MinFreeBytes, 0)+more {
		return ErrDisk
	}
	return nil
}

// heal returns true when the journal takes records again, false when it is
// being closed.
func (j *Journal) heal(err error) bool {
	var well bool
	_, barred := errors.AsType[*barredError](err)
	switch {
	case barred: // the store is well
		well = j.until(func() bool { return j.opt.may() == nil })
	case errors.Is(err, ErrDisk): // nothing was tried: the store is well
		well = j.until(func() bool { return j.room(2*maxBatchBytes) == nil })
	case isFull(err):
		well = j.until(j.hasSpace)
	case errors.Is(err, ErrDamaged):
		well = j.giveUp()
	default:
		well = j.restart()
	}
	if !well {
		return false
	}
	j.change(func() { j.trouble = nil })
	j.queue.refuse(nil)
	j.opt.Log.Info("journal acknowledges again")
	return true
}

// giveUp waits for the journal to be closed: nothing else helps.
func (j *Journal) giveUp() bool {
	j.queue.refuse(ErrDamaged)
	j.change(func() { j.trouble = ErrDamaged })
	<-j.closing
	return false
}

// until asks again and again, at once after a Trim.
func (j *Journal) until(ok func() bool) bool {
	t := time.NewTicker(troubleEvery)
	defer t.Stop()
	for !ok() {
		select {
		case <-t.C:
		case <-j.kick:
		case <-j.closing:
			return false
		}
	}
	return true
}

// hasSpace reports whether the stream is far enough below its limit again.
func (j *Journal) hasSpace() bool {
	ctx, cancel := context.WithTimeout(context.Background(), j.opt.CommitTimeout)
	defer cancel()
	if !j.refresh(ctx) {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held.Bytes+min(2*maxBatchBytes, j.opt.MaxBytes/4) <= j.opt.MaxBytes
}

// restart replaces the engine: JetStream keeps refusing after a write error.
// The new one has to prove itself with a write before anything is let in.
func (j *Journal) restart() bool {
	var old *engine
	j.change(func() { old, j.engine = j.engine, nil })
	if old != nil {
		old.stop()
	}
	for wait := troubleEvery; ; wait = min(2*wait, restartEvery) {
		if !j.until(func() bool { return j.room(2*maxBatchBytes) == nil }) {
			return false
		}
		e, err := j.startProven()
		if err == nil {
			return true
		}
		if e != nil {
			e.stop()
		}
		j.opt.Log.Error("journal store does not come back", slog.Any("err", err))
		if errors.Is(err, ErrDamaged) {
			return j.giveUp()
		}
		select {
		case <-time.After(wait):
		case <-j.closing:
			return false
		}
	}
}

// startProven starts an engine and writes an empty batch with it. On failure
// it returns the engine, if there is one, to be stopped.
func (j *Journal) startProven() (*engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	go func() { // whoever closes it waits for nobody who may never answer
		select {
		case <-j.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	e, err := startEngine(ctx, j.opt)
	if err != nil {
		return nil, err
	}
	_, last := j.current()
	if e.away != nil && e.incarnation == j.incarnation && e.last < last {
		// A server that has just become the leader may not have come so far.
		return e, fmt.Errorf("the cluster is at %d, was at %d", e.last, last)
	}
	if e.incarnation != j.incarnation || e.last < last {
		return e, fmt.Errorf("the store came back as %s at %d, was %s at %d: %w", e.incarnation, e.last, j.incarnation, last, ErrDamaged)
	}
	probe := startBatch(nil)
	finishBatch(probe, 0)
	seq, err := e.publish(probe, j.opt.CommitTimeout)
	switch {
	case isFull(err): // it is well; the limit is a trouble of its own
		j.change(func() { j.durable = e.last })
	case err != nil:
		return e, err
	default:
		if err := j.advance(e, last, seq); err != nil {
			return e, err
		}
	}
	j.change(func() { j.engine = e })
	return e, nil
}
