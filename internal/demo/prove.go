package demo

import (
	"context"
	"fmt"
	"time"
)

// rowLine is what the demo reads of `hawser check list --json`.
type rowLine struct {
	Row     string `json:"row"`
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
	Checks  []struct {
		Check string `json:"check"`
		Why   string `json:"why"`
	} `json:"checks"`
}

// allRows is how many rows the mission has.
const allRows = 132

// prove looks with every check and shows how the rows of the mission stand.
func (d *demo) prove(ctx context.Context, f *Figures) error {
	done := d.say.step("Is each recommendation followed, today?", "hawser check run")
	// The server has been trying its checks on a twin since it started: one
	// that was not seen to turn red counts for nothing.
	var tried struct {
		Seen   int `json:"seen_red"`
		Unseen int `json:"not_seen_red"`
	}
	if err := d.hawser(ctx, d.home, &tried, "check", "selftest"); err != nil {
		return err
	}
	f.SeenRed, f.NotSeenRed = tried.Seen, tried.Unseen
	var rows []rowLine
	err := d.until(ctx, time.Minute, "the server has seen its checks turn red", func() (bool, error) {
		var ran []rowLine
		if err := d.hawser(ctx, d.home, &ran, "check", "run"); err != nil && ctx.Err() != nil {
			return false, err // otherwise something fails: the list below says what
		}
		if err := d.hawser(ctx, d.home, &rows, "check", "list"); err != nil {
			return false, err
		}
		for _, r := range rows {
			if r.Verdict == "met" {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	f.Rows = map[string]int{}
	for _, r := range rows {
		f.Rows[r.Verdict]++
		if r.Verdict == "failing" {
			d.say.detail("row %s is failing: %s", r.Row, r.Why)
		}
	}
	d.say.detail("%d trials on a twin, a disposable copy: %d checks were seen to turn red when what they watch is broken, %d not", tried.Seen+tried.Unseen, tried.Seen, tried.Unseen)
	d.say.detail("of %d rows %s", allRows, tally(f.Rows))
	done()
	return nil
}

// tally is counts in words, the worst first.
func tally(rows map[string]int) string {
	out := ""
	for _, v := range []string{"tampered", "failing", "error", "stale", "unproven", "waived", "attested", "n/a", "met"} {
		if rows[v] > 0 {
			if out != "" {
				out += ", "
			}
			out += fmt.Sprintf("%d %s", rows[v], v)
		}
	}
	return out
}
