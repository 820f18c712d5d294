package journal

import (
	"context"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/journal/natstest"
)

// Whoever has to leave a cluster that says nothing leaves: a reader with its
// context, and a journal that is closed, although each server would be given its
// time to answer.
func TestClusterLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("stops servers of a cluster")
	}
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, false)
	opt := away(t, c, "ONE")
	opt.CommitTimeout = 2 * time.Second
	j := open(t, opt)
	got := newTally()
	if err := j.Submit(token(1), got, 1); err != nil {
		t.Fatal(err)
	}
	got.wait(t, 1)
	for i := range c.Servers {
		c.Pause(i)
	}
	defer func() {
		for i := range c.Servers {
			c.Resume(i)
		}
	}()
	r := j.Reader(0)
	defer r.Close()
	ctx, leave := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, leave)
	began := time.Now()
	if _, err := r.Next(ctx); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("a reader left after %s: %v", time.Since(began).Round(time.Millisecond), err)
	}
	if err := j.Submit(token(2), got, 2); err != nil {
		t.Fatal(err)
	}
	if ok, bad := got.wait(t, 2); ok != 1 || bad != 1 {
		t.Errorf("%d acknowledged, %d not", ok, bad)
	}
	time.Sleep(time.Second) // it seeks another server by now
	began = time.Now()
	ctx, leave = context.WithTimeout(t.Context(), 10*time.Second)
	defer leave()
	if err := j.Close(ctx); err != nil || time.Since(began) > 4*time.Second {
		t.Errorf("closed after %s: %v", time.Since(began).Round(time.Millisecond), err)
	}
}
