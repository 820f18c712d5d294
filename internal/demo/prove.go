package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
		return fmt.Errorf("a check was not seen to turn red, or could not be tried: `%s check selftest` shows which", d.opt.Hawser)
	}
	f.SeenRed, f.NotSeenRed = tried.Seen, tried.Unseen
	// The console opens with the first founder's link, and is looked at, too.
	if err := d.hawser(ctx, d.home, nil, "people", "founder"); err != nil {
		return err
	}
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

// bundle hands evidence to an auditor, who knows two things from elsewhere: the
// key that the maker signs with, and a checkpoint of the ledger from before.
func (d *demo) bundle(ctx context.Context, f *Figures) error {
	done := d.say.step("The evidence is handed to an auditor, who verifies it offline", "hawser evidence export FOLDER --key FILE; hawser evidence verify FOLDER …")
	key, folder := filepath.Join(d.dir, "evidence.key"), filepath.Join(d.dir, "bundle")
	if err := d.hawser(ctx, d.home, nil, "evidence", "key", key); err != nil {
		return err
	}
	if err := d.hawser(ctx, d.home, nil, "evidence", "export", folder, "--key", key, "--earlier", d.earlier); err != nil {
		return err
	}
	var v struct {
		Verified     bool   `json:"verified"`
		Standing     string `json:"standing"`
		Observations int    `json:"observations"`
		Trials       int    `json:"trials"`
		Witnessed    string `json:"witnessed"`
		Headline     string `json:"headline"`
	}
	if err := d.hawser(ctx, d.home, &v, "evidence", "verify", folder, "--signers", key+".signers", "--checkpoint", d.earlier); err != nil {
		return err
	}
	f.EvidenceVerified = v.Verified
	d.say.detail("%s (%s): %d observations and %d trials, every verdict worked out anew", v.Standing, v.Witnessed, v.Observations, v.Trials)
	d.say.detail("the guide's 63 recommendations: %s", v.Headline)
	d.say.detail("the first half also with stock tools: sha256sum -c SHA256SUMS, ssh-keygen -Y verify")
	done()
	return nil
}

// keepCheckpoint is what an auditor does early: keep a checkpoint of the
// ledger, so that it can later be shown to have only grown.
func (d *demo) keepCheckpoint() error {
	d.earlier = filepath.Join(d.dir, "checkpoint-of-the-auditor")
	b, err := os.ReadFile(filepath.Join(d.home, "keys", "checkpoint"))
	if err != nil {
		return fmt.Errorf("keep a checkpoint: %w", err)
	}
	if err := os.WriteFile(d.earlier, b, 0o600); err != nil {
		return fmt.Errorf("keep a checkpoint: %w", err)
	}
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
