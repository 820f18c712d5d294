package journal

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// TestMay: a process that may not write does not, and what it wrote is not
// acknowledged once it may not any more; it goes on by itself when it may again.
func TestMay(t *testing.T) {
	why := errors.New("it is another's turn")
	var no atomic.Bool
	var then atomic.Int32 // answers from when on it may not; 0: no such
	opt := testOptions(t.TempDir())
	opt.May = func() error {
		if no.Load() || then.Load() > 0 && then.Add(-1) == 0 {
			no.Store(true)
			return why
		}
		return nil
	}
	j := open(t, opt)
	c := newTally()
	submit := func(n uint64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			err := j.Submit(record(n), c, n)
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	submit(1)
	c.wait(t, 1)
	before := j.Durable()
	no.Store(true)
	submit(2)
	if ok, bad := c.wait(t, 2); ok != 1 || bad != 1 || !errors.Is(c.errs[0], why) || j.Durable() != before {
		t.Fatalf("%d acknowledged, %d not: %v; %d batches, %d before", ok, bad, c.errs, j.Durable(), before)
	}
	if err := j.Submit(record(3), c, 3); !errors.Is(err, why) || !errors.Is(j.State().Trouble, why) {
		t.Errorf("taken while nothing may be written: %v, %v", err, j.State().Trouble)
	}
	no.Store(false)
	submit(4)
	if ok, _ := c.wait(t, 3); ok != 2 {
		t.Fatalf("%d acknowledged", ok)
	}
	before = j.Durable()
	then.Store(2) // it may, and then it may not: as after a pause in the middle
	submit(5)
	if ok, bad := c.wait(t, 4); ok != 2 || bad != 2 || j.Durable() != before+1 {
		t.Errorf("%d acknowledged, %d not, %d batches, %d before", ok, bad, j.Durable(), before)
	}
	no.Store(false)
	then.Store(0)
	submit(6)
	c.wait(t, 5)
	if got, _ := readAll(t, j, 0, 4); len(got) != 4 {
		t.Errorf("%d records", len(got))
	}
}
