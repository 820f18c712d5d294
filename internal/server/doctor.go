package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// lowDiskBytes is how little room on a disk is worth a warning.
const lowDiskBytes = 1 << 30

// Doctor looks at an installation from outside, and asks its server when one
// runs. Findings are sorted: errors, warnings, instructions.
func Doctor(ctx context.Context, home string) ([]api.Finding, error) {
	c, err := LoadConfig(home)
	if err != nil {
		return []api.Finding{{Severity: "error", Area: "configuration", Text: err.Error(), Do: hintOf(err)}}, nil
	}
	var d diagnosis
	switch err := installed(ctx, c); {
	case c.Store != "" && err != nil:
		d.err("store", err.Error(), hintOf(err)) // what else can be seen is seen
	case err != nil:
		d.err("installation", "there is none in "+c.Data, "make one with `hawser init --home "+c.Home()+"`")
		return d.found, nil
	}
	d.files(c)
	d.leftovers(c)
	d.disks(c)
	var st api.Status
	switch err := api.NewClient(c.Socket).Call(ctx, "GET", "/v1/status", nil, &st); {
	case err == nil:
		d.found = append(d.found, st.Findings...)
	case core.ReasonOf(err) == "no-server":
		d.warn("server", "it is not running", "start it with `hawser serve --home "+c.Home()+"`")
	default:
		d.err("server", err.Error(), hintOf(err))
	}
	order := []string{"error", "warning", "instruction"}
	slices.SortStableFunc(d.found, func(a, b api.Finding) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
	return d.found, nil
}

// diagnosis collects findings.
type diagnosis struct{ found []api.Finding }

func (d *diagnosis) add(severity, area, text, do string) {
	d.found = append(d.found, api.Finding{Severity: severity, Area: area, Text: text, Do: do})
}
func (d *diagnosis) err(area, text, do string)  { d.add("error", area, text, do) }
func (d *diagnosis) warn(area, text, do string) { d.add("warning", area, text, do) }
func (d *diagnosis) instruct(area, text, do string) {
	d.add("instruction", area, text, do)
}

// files looks at the folders that hold keys.
func (d *diagnosis) files(c *Config) {
	if _, err := os.Stat(c.at(caRootFolder)); err == nil {
		d.instruct("authority", "the root of the certificate authority still lies on this machine", "move "+c.at(caRootFolder)+" to a medium that is kept elsewhere; the server does not need it")
	}
	kept := map[string]string{"data": c.Data, "authority": c.CA, "roots": c.Roots, "ledger key": c.LedgerKey, "gate key": c.GateKey}
	if c.RootsOpenBao != "" {
		delete(kept, "roots")
		d.warn("roots", "the root keys are in OpenBao: unproven, because this was never tried on a real one; what is destroyed there is `best-effort`",
			"rehearse an erasure, a restart and a restore with your OpenBao before you rely on it")
	}
	if c.rootsInToken() {
		delete(kept, "roots")
	}
	for what, p := range kept {
		st, err := os.Stat(p)
		if err != nil {
			d.err(what, err.Error(), "bring it back, or correct its path in config.yaml")
			continue
		}
		if st.Mode().Perm()&0o077 != 0 {
			d.err(what, fmt.Sprintf("%s can be opened by others (mode %v)", p, st.Mode().Perm()), fmt.Sprintf("chmod go= %s", p))
		}
	}
	for i, p := range c.Keyring {
		if _, err := os.Stat(p); err != nil {
			d.err("keyring", fmt.Sprintf("copy %d: %v", i+1, err), "the server repairs a missing copy from the other when it starts; find out why it went")
		}
	}
	if sameDevice(c.Keyring[0], c.Keyring[1]) {
		d.warn("keyring", "both copies lie on one disk: its end is everybody's erasure", "put one copy elsewhere: key `keyring` in config.yaml")
	}
	if c.RootsOpenBao == "" && !c.rootsInToken() && sameDevice(c.Roots, c.Data) {
		d.warn("roots", "root key and data lie on one disk: who takes the disk takes both", "put the roots on another medium: key `roots` in config.yaml; what is destroyed there is `best-effort` on any disk")
	}
}

// leftovers looks for stores of files from which everything was moved. What ends
// or is erased now does not leave them.
func (d *diagnosis) leftovers(c *Config) {
	old, err := filepath.Glob(filepath.Join(c.Data, "moved-*"))
	if err != nil {
		return
	}
	if _, err := os.Stat(filepath.Join(c.Data, "control.db")); err == nil && c.Store != "" {
		for _, name := range []string{"control.db", "telemetry", "hold"} {
			old = append(old, filepath.Join(c.Data, name))
		}
	}
	if len(old) > 0 {
		d.warn("store", "files from which everything was moved still lie in "+c.Data+": who is erased now still stands in them, without values", "when you trust the move, remove "+strings.Join(old, ", "))
	}
}

// disks looks at the room that is left.
func (d *diagnosis) disks(c *Config) {
	for what, p := range map[string]string{"data": c.Data, "keyring": filepath.Dir(c.Keyring[0]), "second keyring": filepath.Dir(c.Keyring[1])} {
		var s syscall.Statfs_t
		if err := syscall.Statfs(p, &s); err != nil {
			d.err(what, "cannot see how full its disk is: "+err.Error(), "")
			continue
		}
		if free := s.Bavail * uint64(s.Bsize); free < lowDiskBytes {
			d.warn(what, fmt.Sprintf("%d MB left on the disk of %s", free>>20, p), "make room; without any, messages are not acknowledged and nobody can be erased")
		}
	}
}

func sameDevice(a, b string) bool {
	var x, y syscall.Stat_t
	return syscall.Stat(a, &x) == nil && syscall.Stat(b, &y) == nil && x.Dev == y.Dev
}

// findings is what the running server knows of itself.
func (s *server) findings(ctx context.Context) []api.Finding {
	var d diagnosis
	if t := s.journal.State().Trouble; t != nil {
		d.err("journal", "messages are not acknowledged: "+t.Error(), hintOf(t))
	}
	if damage := s.journal.State().Damage; damage != "" {
		d.err("journal", "part of what was acknowledged is gone: "+damage, "look for a failing disk, and restore from a backup what the devices no longer have")
	}
	if st := s.store.State(); st.Trouble != nil {
		d.err("store", "the database cannot be used: "+st.Trouble.Error(), hintOf(st.Trouble))
	}
	p := s.telem.projector.State()
	if p.Trouble != nil {
		d.err("projector", "readings stay in the journal: "+p.Trouble.Error(), hintOf(p.Trouble))
	} else if p.Behind > 1000 {
		d.warn("projector", fmt.Sprintf("%d batches behind the journal", p.Behind), "watch whether it falls; the disk or the load may be too much for one machine")
	}
	for _, b := range p.Broken {
		d.err("epoch files", b.Error(), "restore that file from a backup; its new readings wait in the late lane and are not lost")
	}
	if p.Lane != "" {
		d.err("late lane", "it was damaged, and is begun anew: "+p.Lane, "readings that waited in it for their file are missing: look for a failing disk, and restore them from a backup if you need them; when the loss is dealt with, remove the file that was put aside from data/telemetry")
	}
	if n := p.Lost.Missing + p.Lost.Damaged + p.Lost.Records; n > 0 {
		d.err("journal", fmt.Sprintf("%d batches or records could not be read since the start", n), "acknowledged readings are gone; look for a failing disk and restore from a backup")
	}
	if l := s.ledger.Status(); l.Trouble != nil {
		d.err("ledger", l.Trouble.Error(), hintOf(l.Trouble))
	} else if s.opt.Now().Sub(l.LastSequence) > time.Minute {
		d.err("ledger", fmt.Sprintf("nothing was sequenced for %s", s.opt.Now().Sub(l.LastSequence).Round(time.Second)), "see the log; restart the server if it does not come back")
	}
	for _, j := range s.jobs {
		last, since, failed := j.state()
		if failed != nil {
			d.err("jobs", fmt.Sprintf("%s fails since %s: %v", j.name, since.UTC().Format(time.RFC3339), failed), hintOf(failed))
		} else if !last.IsZero() && s.opt.Now().Sub(last) > 3*j.period+time.Minute {
			d.err("jobs", fmt.Sprintf("%s last succeeded %s ago", j.name, s.opt.Now().Sub(last).Round(time.Second)), "see the log")
		}
	}
	if until := s.ca.Expires(); until.Sub(s.opt.Now()) < 90*24*time.Hour {
		d.warn("authority", "an intermediate certificate ends on "+until.Format(time.DateOnly), "`hawser authority renew --root FOLDER` makes new ones with the root; no device is touched")
	}
	s.clock.finding(&d)
	n := s.devices.Counts()
	if n.KeysMissing > 0 {
		d.warn("devices", fmt.Sprintf("%d devices are owned in the database, but their key was destroyed: they were erased after this data was backed up", n.KeysMissing), "nothing opens; `hawser device reopen` begins a new ownership")
	}
	if q := n.ByState["quarantined"]; q > 0 {
		d.warn("devices", fmt.Sprintf("%d devices are in quarantine: two machines seem to use one certificate", q), "`hawser device list` names them, `hawser device show SERIAL` says what was seen; find out which of the two is the device")
	}
	if all, err := s.decl.All(ctx); err != nil {
		d.err("declarations", err.Error(), "see the log")
	} else if len(all) == 0 {
		d.instruct("declarations", "none is published: no device can enrol", "`hawser declaration publish FILE`; examples/aria-thermostat.yaml is one to begin with")
	} else {
		for _, p := range all {
			if p.SupportUntil.Before(s.opt.Now()) {
				d.err("declarations", fmt.Sprintf("%s: the promised security updates ended on %s", p.Product, p.SupportUntil.Format(time.DateOnly)), "prolong the support, or retire the product")
			}
			s.legacyFindings(&d, p)
		}
	}
	s.servicesFindings(ctx, &d)
	s.undeclared(&d)
	s.gatewayFindings(&d)
	if st := s.gateway.Stats(); st.Panics > 0 {
		d.err("gateway", fmt.Sprintf("%d faults of the server ended connections", st.Panics), "see the log for the stack, and report it (SECURITY.md)")
	}
	s.turnedAway(&d)
	if runtime.GOOS != "linux" {
		d.instruct("platform", "some of what `doctor` looks at is not observable on "+runtime.GOOS, "run live installations on Linux")
	}
	return d.found
}
