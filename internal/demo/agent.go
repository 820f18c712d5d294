package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
)

// startAgent starts a device's agent, as a maker ships it: with its serial
// number, its one-time code, the server's addresses and the pinned root.
func (d *demo) startAgent(a *device) error {
	args := []string{
		"--serial", a.serial, "--server", fmt.Sprintf("127.0.0.1:%d", d.ports.devices),
		"--enrol-server", fmt.Sprintf("127.0.0.1:%d", d.ports.https),
		"--roots", d.roots, "--state", filepath.Join(a.dir, "state"),
		"--code-file", filepath.Join(a.dir, "code"), "--every", "400ms",
		"--simulate", "climate room_temperature=19.5..22.5/0.1 heating_on=bool room_label=" + d.canary,
	}
	if a.bad {
		args = append(args, "--misbehave", "--neighbour", "aria-1")
	}
	var err error
	a.proc, err = start(filepath.Join(a.dir, "log"), d.opt.Agent, args, nil)
	return err
}

// stay starts the restored server and the devices again and keeps them running
// until the person ends it. The first installation is history: the ledger went
// on in the restored one, and a server refuses to sign for both.
func (d *demo) stay(ctx context.Context) error {
	d.home = d.restored
	var err error
	if d.server, err = d.startServer(ctx, d.home); err != nil {
		return err
	}
	for _, a := range d.agents {
		if err := d.startAgent(a); err != nil {
			return err
		}
	}
	guest := &device{serial: "guest-1", dir: filepath.Join(d.dir, "guest-1")}
	if err := os.MkdirAll(guest.dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	var added api.DeviceAdded
	if err := d.hawser(ctx, d.home, &added, "device", "add", guest.serial, "--product", product); err != nil {
		return err
	}
	if err := d.enrolGuest(ctx, guest, added.Code); err != nil {
		return err
	}
	var founder api.Link
	if err := d.hawser(ctx, d.home, &founder, "people", "founder"); err != nil {
		return err
	}
	d.say.staying(d, guest, founder.Link)
	select {
	case <-ctx.Done():
		return nil
	case <-d.server.done:
		return errors.New("the server ended by itself; its log ends with:\n" + d.server.tail())
	}
}

// enrolGuest lets the agent enrol once and takes its key and certificate for
// mosquitto_pub.
func (d *demo) enrolGuest(ctx context.Context, a *device, code string) error {
	if err := os.WriteFile(filepath.Join(a.dir, "code"), []byte(code+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand over the enrolment code: %w", err)
	}
	p, err := start(filepath.Join(a.dir, "log"), d.opt.Agent, []string{
		"--serial", a.serial, "--server", fmt.Sprintf("127.0.0.1:%d", d.ports.devices),
		"--enrol-server", fmt.Sprintf("127.0.0.1:%d", d.ports.https), "--roots", d.roots,
		"--state", filepath.Join(a.dir, "state"), "--code-file", filepath.Join(a.dir, "code"),
		"--simulate", "thermostat", "--count", "1", "--every", "100ms",
	}, nil)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop()
		return ctx.Err()
	case <-time.After(60 * time.Second):
		p.stop()
		return errors.New("the guest device did not enrol; its log ends with:\n" + p.tail())
	}
	for from, to := range map[string]string{"key.pem": "key.pem", "chain.pem": "cert.pem"} {
		found, err := filepath.Glob(filepath.Join(a.dir, "state", "*", "*", from))
		if err != nil || len(found) == 0 {
			return errors.New("the guest device has no certificate; its log ends with:\n" + p.tail())
		}
		b, err := os.ReadFile(found[len(found)-1])
		if err != nil {
			return fmt.Errorf("read the guest's certificate: %w", err)
		}
		if err := os.WriteFile(filepath.Join(a.dir, to), b, 0o600); err != nil {
			return fmt.Errorf("keep the guest's certificate: %w", err)
		}
	}
	return nil
}
