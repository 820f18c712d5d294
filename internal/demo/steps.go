package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// declared are the fields of the demo's declaration.
var declared = [...]string{"room_temperature", "heating_on", "room_label"}

// devices is how many units the demo makes; the last one misbehaves.
const devices = 5

// device is one hawser-agent process and what it needs.
type device struct {
	serial string
	dir    string // its own disk
	bad    bool
	proc   *process
}

func (a *device) stop() {
	if a.proc != nil {
		a.proc.stop()
	}
}

func (d *demo) install(ctx context.Context) error {
	done := d.say.step("A new installation", "hawser init --environment test")
	b := make([]byte, 8)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	d.canary = "canary-" + hex.EncodeToString(b)
	var made struct {
		Made []struct {
			Path string `json:"path"`
			What string `json:"what"`
		} `json:"made"`
	}
	if err := d.hawser(ctx, d.home, &made, "init", "--environment", "test"); err != nil {
		return err
	}
	for _, m := range made.Made {
		rel, err := filepath.Rel(d.home, m.Path)
		if err != nil {
			rel = m.Path
		}
		d.say.detail("%-22s %s", rel, m.What)
	}
	d.say.detail("no person, no password, no default credential exists at any moment")
	done()
	return nil
}

// serve starts the server and waits until it answers.
func (d *demo) serve(ctx context.Context) error {
	done := d.say.step("The server", "hawser serve")
	var err error
	if d.ports, err = freePorts(); err != nil {
		return err
	}
	if err := writeConfig(d.home, d.ports, ""); err != nil {
		return err
	}
	if d.server, err = d.startServer(ctx, d.home); err != nil {
		return err
	}
	d.say.detail("devices connect at mqtts://127.0.0.1:%d, mutual TLS only%s", d.ports.devices, taken(d.ports.devices, 8883))
	d.say.detail("devices enrol at   https://127.0.0.1:%d (EST)%s", d.ports.https, taken(d.ports.https, 8443))
	done()
	return nil
}

func taken(port, usual int) string {
	if port == usual {
		return ""
	}
	return fmt.Sprintf("  (%d was taken)", usual)
}

func writeConfig(home string, p ports, more string) error {
	text := fmt.Sprintf("devices: 127.0.0.1:%d\nhttps: 127.0.0.1:%d\nconsole: 127.0.0.1:%d\nnames: [localhost, 127.0.0.1]\n%s", p.devices, p.https, p.console, more)
	if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (d *demo) startServer(ctx context.Context, home string) (*process, error) {
	p, err := start(filepath.Join(d.dir, filepath.Base(home)+".log"), d.opt.Hawser, []string{"serve", "--home", home}, nil)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		var s api.Status
		err := d.hawser(ctx, home, &s, "status")
		if err == nil {
			return p, nil
		}
		if p.ended() || time.Now().After(deadline) || ctx.Err() != nil {
			p.stop()
			return nil, fmt.Errorf("the server does not answer (%w); its log ends with:\n%s", err, p.tail())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (d *demo) publish(ctx context.Context) error {
	done := d.say.step("A declaration is published", "hawser declaration publish aria-thermostat.yaml")
	file := filepath.Join(d.dir, "aria-thermostat.yaml")
	if err := os.WriteFile(file, declarationText, 0o600); err != nil {
		return fmt.Errorf("write declaration: %w", err)
	}
	var p api.Declaration
	if err := d.hawser(ctx, d.home, &p, "declaration", "publish", file); err != nil {
		return err
	}
	d.say.detail("%s, version %d: %d fields, kept 30 days, read by owner and support, nothing else", p.Name, p.Version, p.Fields)
	d.say.detail("security updates until %s; hash %s…", p.Support, p.Hash[:16])
	done()
	return d.keepCheckpoint()
}

// enrol registers five units and starts their agents as a maker ships them.
func (d *demo) enrol(ctx context.Context) error {
	done := d.say.step("Five devices enrol, each with its own code and its own key", "hawser device add …, then hawser-agent")
	for i := range devices {
		a := &device{serial: fmt.Sprintf("aria-%d", i+1), bad: i == devices-1}
		a.dir = filepath.Join(d.dir, a.serial)
		if err := os.MkdirAll(a.dir, 0o700); err != nil {
			return fmt.Errorf("make the device's disk: %w", err)
		}
		var added api.DeviceAdded
		if err := d.hawser(ctx, d.home, &added, "device", "add", a.serial, "--product", product); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(a.dir, "code"), []byte(added.Code+"\n"), 0o600); err != nil {
			return fmt.Errorf("hand over the enrolment code: %w", err)
		}
		d.agents = append(d.agents, a)
		if err := d.startAgent(a); err != nil {
			return err
		}
	}
	err := d.until(ctx, 30*time.Second, "five devices are connected", func() (bool, error) {
		var all []api.Device
		if err := d.hawser(ctx, d.home, &all, "device", "list"); err != nil {
			return false, err
		}
		n := 0
		for _, x := range all {
			if x.State == "active" {
				n++
			}
		}
		return n == devices, nil
	})
	if err != nil {
		return err
	}
	d.say.detail("aria-1 to aria-4 are honest; aria-5 sends undeclared fields, impossible values, a flood, other devices' topics, and has a wild clock")
	done()
	return nil
}

// until asks again and again, and says what it waited for when time is over.
func (d *demo) until(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		yes, err := ok()
		if err != nil {
			return err
		}
		if yes {
			return nil
		}
		for _, a := range d.agents {
			if a.proc != nil && a.proc.ended() {
				return fmt.Errorf("agent %s ended by itself; its log ends with:\n%s", a.serial, a.proc.tail())
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s, but not: %s", limit, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// watch shows what the server does with the messages, as they come.
func (d *demo) watch(ctx context.Context) error {
	done := d.say.step("What happens to their messages", "hawser device show aria-5")
	end := time.Now().Add(d.opt.Send)
	var last []api.Device
	for {
		var rows []api.Device
		for _, a := range d.agents {
			var x api.Device
			if err := d.hawser(ctx, d.home, &x, "device", "show", a.serial); err != nil {
				return err
			}
			rows = append(rows, x)
		}
		d.say.live(rows)
		last = rows
		if time.Now().After(end) && enough(rows) {
			break
		}
		if time.Now().After(end.Add(20 * time.Second)) {
			return fmt.Errorf("the devices' messages did not all arrive; see %s", filepath.Join(d.dir, "home.log"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(400 * time.Millisecond):
		}
	}
	for _, a := range d.agents {
		a.stop()
	}
	d.say.liveEnd(last)
	done()
	return nil
}

// enough reports whether every honest device has readings in store and the bad
// one was caught.
func enough(rows []api.Device) bool {
	for i, r := range rows {
		if r.Counts == nil || r.Counts.Stored == 0 {
			return false
		}
		if i == devices-1 && (len(r.Counts.Refused) == 0 || r.Counts.DroppedFields == 0) {
			return false
		}
	}
	return true
}

func (d *demo) backup(ctx context.Context) error {
	folder := filepath.Join(d.dir, "backup")
	done := d.say.step("A backup, before anything is erased", "hawser backup FOLDER")
	var b api.Backup
	if err := d.hawser(ctx, d.home, &b, "backup", folder); err != nil {
		return err
	}
	d.say.detail("%d files, %d KB; no keyring and no root in it: by itself it opens nothing", b.Files, b.Bytes>>10)
	done()
	return nil
}

// readBack reads a device through the public read path.
func (d *demo) readBack(ctx context.Context, home, serial string) (lines []api.ReadLine, done api.ReadDone, err error) {
	args := []string{"read", serial, "--home", home, "--json", "--purpose", "service.history", "--reason", "demo: ticket 4711, says it is cold"}
	cmd := exec.CommandContext(ctx, d.opt.Hawser, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, done, &commandError{args: args, text: strings.TrimSpace(stderr.String()), err: err}
	}
	for line := range bytes.Lines(out) {
		var l api.ReadLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, done, fmt.Errorf("read what `hawser read` printed: %w", err)
		}
		if l.Done != nil {
			done = *l.Done
			continue
		}
		lines = append(lines, l)
	}
	return lines, done, nil
}

// figuresBefore asks other processes for what store and counters hold, while
// nobody has been erased.
func (d *demo) figuresBefore(ctx context.Context) (*Figures, error) {
	var f Figures
	var all []api.Device
	if err := d.hawser(ctx, d.home, &all, "device", "list"); err != nil {
		return nil, err
	}
	for _, x := range all {
		if x.State == "active" && x.Product == core.ProductID(product) {
			f.Devices++
		}
	}
	var c api.Counts
	if err := d.hawser(ctx, d.home, &c, "counts"); err != nil {
		return nil, err
	}
	f.Accepted, f.DroppedFields, f.Refused, f.Stored = c.Accepted, c.DroppedFields, c.Refused, c.Stored
	for _, a := range d.agents {
		lines, done, err := d.readBack(ctx, d.home, a.serial)
		if err != nil {
			return nil, err
		}
		// Whoever reads says what it opened that no declaration names; what it
		// shows is looked at besides.
		f.UndeclaredStored += done.Undeclared
		f.opened += len(lines)
		for _, l := range lines {
			var values map[string]json.RawMessage
			if err := json.Unmarshal(l.Values, &values); err != nil {
				return nil, fmt.Errorf("read the values of a reading: %w", err)
			}
			for name, v := range values {
				if !slices.Contains(declared[:], name) {
					f.UndeclaredStored++
				}
				f.canarySeen = f.canarySeen || strings.Contains(string(v), d.canary)
			}
		}
	}
	return &f, nil
}

func (d *demo) read(ctx context.Context) error {
	done := d.say.step("Support reads one device, for a purpose and with a reason", `hawser read aria-1 --purpose service.history --reason "ticket 4711, says it is cold"`)
	lines, _, err := d.readBack(ctx, d.home, "aria-1")
	if err != nil {
		return err
	}
	for _, l := range lines[max(0, len(lines)-3):] {
		d.say.detail("%s  %s  %s", l.Time.Format("15:04:05"), l.Stream, l.Values)
	}
	d.say.detail("%d readings; who asked, why and how many stands in the ledger", len(lines))
	done()
	return nil
}

func (d *demo) erase(ctx context.Context) error {
	done := d.say.step("Its owner asks to be forgotten", `hawser erase aria-1 --reason "owner asked, case 12"`)
	var r api.Receipt
	if err := d.hawser(ctx, d.home, &r, "erase", "aria-1", "--reason", "demo: owner asked, case 12"); err != nil {
		return err
	}
	d.say.detail("the key is destroyed (%s); the receipt stands in the ledger", r.Destroys)
	done()
	return nil
}

// figuresAfter asks the ledger what was erased, and how many readings of the
// others can be read. Then the first server ends.
func (d *demo) figuresAfter(ctx context.Context, f *Figures) error {
	var entries []api.Entry
	if err := d.hawser(ctx, d.home, &entries, "ledger", "show"); err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Kind {
		case erasedKind:
			f.Erased++
		case readClosedKind:
			// The count that the ledger holds of the first read of aria-1.
			if f.ReadBack == 0 {
				f.ReadBack = factInt(e, "readings")
			}
		}
	}
	var v struct {
		Verified bool `json:"verified"`
	}
	if err := d.hawser(ctx, d.home, &v, "ledger", "verify"); err != nil {
		return err
	}
	f.LedgerVerified = v.Verified
	d.server.stop()
	return nil
}
