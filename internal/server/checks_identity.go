package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// identityChecks hold together what the register and the devices' door say of
// each other (CC 3.2).
func (s *server) identityChecks() []check.Check {
	return []check.Check{{
		ID: "devices.revoked-cut", Version: 1, Rows: []string{"3.2"}, Kind: check.Query, MaxAge: check.Critical,
		Says: "No device is connected, or would be let in, with a certificate that the store says is revoked or replaced.",
		Do:   "Start the server again: that ends every session and reads the register anew; then find out who wrote to control.db.",
		Look: s.lookAtRevoked,
		Violations: []check.Violation{
			{ID: "revoked-behind-the-back", Says: "Revokes a certificate in the store behind the program's back, while its device is connected.", Do: revokeBehind(`UPDATE certificate SET state = ? WHERE device = ? AND state = ?`, "revoked", "confirmed")},
			{ID: "device-revoked-behind-the-back", Says: "Revokes a device, not its certificate, in the store behind the program's back.", Do: revokeDeviceBehind},
		},
	}}
}

// cutWithin is how soon a session ends after its certificate did (CC 3.2).
const cutWithin = time.Second

// lookAtRevoked asks the store which certificates are over, and holds the live
// sessions and the doors' memory against it. What is wrong must still be so
// when a session has had its time to be cut.
func (s *server) lookAtRevoked(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: certificate, device")
	l.Touch("source", "live sessions at the devices' door")
	wrong, n, err := s.overButThere(ctx)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cutWithin):
		}
		if wrong, n, err = s.overButThere(ctx); err != nil {
			return err
		}
	}
	l.Expect("live sessions, and certificates that are over before their time", n)
	for _, w := range wrong {
		l.Fail(w.subject, "%s", w.text)
	}
	l.Pass(n - len(wrong))
	return nil
}

type breach struct{ subject, text string }

func (s *server) overButThere(ctx context.Context) (out []breach, n int, err error) {
	// Sessions first: one that is listed and over was there when it ended.
	live, err := s.allSessions(ctx)
	if err != nil {
		return nil, 0, err
	}
	over, err := s.devices.Ended(ctx)
	if err != nil {
		return nil, 0, err
	}
	n = len(live) + len(over)
	for _, x := range live {
		switch e, ended := over[x.Serial]; {
		case !ended:
		case e.Revoked:
			out = append(out, breach{s.devices.UnitName(x.Device), "is connected with a certificate that is revoked in the store"})
		case !e.Suspected: // in quarantine both are held, and neither is cut
			out = append(out, breach{s.devices.UnitName(x.Device), "is connected with a certificate that was replaced"})
		}
	}
	for serial, e := range over {
		if s.devices.Admitted(serial) {
			out = append(out, breach{s.devices.UnitName(e.Device), "would be let in with a certificate that is over in the store"})
		}
	}
	return out, n, nil
}

func revokeBehind(stmt, to, from string) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		if len(t.Devices()) == 0 {
			return nil, errors.New("the twin has no unit")
		}
		id := string(t.Devices()[0].ID)
		if err := t.Exec(ctx, "control.db", stmt, to, id, from); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return t.Exec(ctx, "control.db", stmt, from, id, to) }, nil
	}
}

func revokeDeviceBehind(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	if len(t.Devices()) == 0 {
		return nil, errors.New("the twin has no unit")
	}
	const stmt = `UPDATE device SET revoked_us = ? WHERE id = ?`
	id := string(t.Devices()[0].ID)
	if err := t.Exec(ctx, "control.db", stmt, t.Now().UnixMicro(), id); err != nil {
		return nil, fmt.Errorf("revoke a device: %w", err)
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", stmt, nil, id) }, nil
}
