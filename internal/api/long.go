package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// linesType is what a caller accepts that wants to know how far it is.
const linesType = "application/jsonl"

// progressEvery is how often one is told at most.
const progressEvery = time.Second

// long answers a request that takes long: one object, or to who accepts lines
// how far it is, now and then, and then the object.
func long(w http.ResponseWriter, r *http.Request, do func(progress func(done, total int64)) (any, error)) error {
	if r.Header.Get("Accept") != linesType {
		v, err := do(func(int64, int64) {})
		if err != nil {
			return err
		}
		return writeJSON(w, v)
	}
	enc := json.NewEncoder(w)
	var told time.Time
	v, err := do(func(done, total int64) {
		if time.Since(told) < progressEvery {
			return
		}
		if told.IsZero() {
			w.Header().Set("Content-Type", linesType)
		}
		told = time.Now()
		// Who went shows by the request's context.
		_ = enc.Encode(LongLine{Progress: &Progress{Done: done, Total: total}})
		_ = http.NewResponseController(w).Flush()
	})
	switch {
	case err != nil && told.IsZero():
		return err
	case err != nil:
		p := problemOf(err)
		if encErr := enc.Encode(LongLine{Problem: &p}); encErr != nil {
			return encErr
		}
		return &toldError{err}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return enc.Encode(LongLine{Done: b})
}

// Long is Call for a request that takes long: progress is told how far it is.
func (c *Client) Long(ctx context.Context, method, path string, in, out any, progress func(done, total int64)) error {
	ended := false
	err := c.Stream(ctx, method, path, in, func(line []byte) error {
		var l LongLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		switch {
		case l.Problem != nil:
			return core.E(kindOfStatus(l.Problem.Status), l.Problem.Type, l.Problem.Title, l.Problem.Hint)
		case l.Progress != nil:
			progress(l.Progress.Done, l.Progress.Total)
		case l.Done != nil:
			ended = true
			if err := json.Unmarshal(l.Done, out); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
		}
		return nil
	})
	if err == nil && !ended {
		return core.E(core.Unavail, "cut-short", "the answer was cut short", "see the server's log, and try again")
	}
	return err
}
