package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// twinContact is the product of the twin's children.
const twinContact = `declaration: 1
product: twin-contact
name: Twin Contact
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
data:
  open: {stream: contact, type: boolean, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
streams:
  contact: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
interfaces:
  - {name: radio, protocol: zigbee, direction: out, auth: link-key}
network: {talks_to: [{service: gateway}]}
updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2099-12-31, afterwards: "Switches the light."}
contacts: {security: security@twin.example, help: help@twin.example}
claims:
  - {say: "Encrypted on its way and at rest.", rests_on: [RP-03]}
`

// The twin's children, of its first unit.
const (
	firstChild  core.DeviceID = "TWIN-K1"
	secondChild core.DeviceID = "TWIN-K2"
)

// fillChildren gives the twin's first unit children, with a reading each.
func (t *twin) fillChildren(ctx context.Context) error {
	if err := t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "contact.yaml", Source: twinContact}, nil); err != nil {
		return err
	}
	for _, id := range []core.DeviceID{firstChild, secondChild} {
		if err := t.addChild(ctx, id); err != nil {
			return err
		}
	}
	return t.s.telem.projector.Settle(ctx)
}

func (t *twin) addChild(ctx context.Context, id core.DeviceID) error {
	req := api.ChildRequest{Child: id, Product: "twin-contact", Reason: "the twin has a hub with children"}
	if err := t.Call(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/children", req, nil); err != nil {
		return err
	}
	return t.speak(ctx, 0, id)
}

// speak has one of the twin's units send for a child.
func (t *twin) speak(ctx context.Context, unit int, child core.DeviceID) error {
	topic := "child/" + string(child) + "/telemetry/contact"
	t.Touch("device", string(t.units[unit].ID)+" "+topic)
	if err := t.until(ctx, func() bool { return t.agents[unit].Status().Connected }); err != nil {
		return err
	}
	code, err := t.agents[unit].PublishRaw(ctx, topic, []byte(`{"open":true}`))
	if err != nil || code != 0 {
		return fmt.Errorf("publish for %s: 0x%02x, %w", child, code, err)
	}
	return nil
}

// newChild is one more, to be erased when the trial is over.
func (t *twin) newChild(ctx context.Context) (core.DeviceID, func(context.Context) error, error) {
	id := core.DeviceID("TWIN-K-" + rand.Text()[:8])
	if err := t.addChild(ctx, id); err != nil {
		return "", nil, err
	}
	return id, func(ctx context.Context) error {
		return t.Call(ctx, "POST", "/v1/devices/"+string(id)+"/erase", api.ReasonRequest{Reason: "the trial is over"}, nil)
	}, nil
}

// changeLink gives the first child to the twin's second unit.
func changeLink(ctx context.Context, t *twin) (func(context.Context) error, error) {
	const set = `UPDATE child_link SET hub = ? WHERE child = ?`
	was, is := string(t.units[0].ID), string(t.units[1].ID)
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, was, string(firstChild)) },
		t.Exec(ctx, "control.db", set, is, string(firstChild))
}

// slipLink makes the twin's third unit the child of its second.
func slipLink(ctx context.Context, t *twin) (func(context.Context) error, error) {
	child := string(t.units[2].ID)
	return func(ctx context.Context) error {
			return t.Exec(ctx, "control.db", `DELETE FROM child_link WHERE child = ?`, child)
		}, t.Exec(ctx, "control.db", `INSERT INTO child_link (child, hub, series, since_us) VALUES (?, ?, randomblob(16), ?)`,
			child, string(t.units[1].ID), t.Now().UnixMicro())
}

// instead has the twin's doors ask somebody else than the register.
func (t *twin) instead(what string, f func(hub core.DeviceID, child []byte) *identity.Vouched) (undo func()) {
	t.Touch("door", what)
	t.s.kin.other.Store(&f)
	return func() { t.s.kin.other.Store(nil) }
}

func oneSubject(_ context.Context, t *twin) (func(context.Context) error, error) {
	undo := t.instead("two children are one subject", func(hub core.DeviceID, child []byte) *identity.Vouched {
		v := t.s.devices.Vouched(hub, child)
		if v == nil || v.Child != secondChild {
			return v
		}
		other := *v
		other.Subject = t.s.devices.Vouched(hub, []byte(firstChild)).Subject
		return &other
	})
	return func(context.Context) error { undo(); return nil }, nil
}

// strangeHub has the twin's second unit send for a child of its first.
func strangeHub(ctx context.Context, t *twin) (func(context.Context) error, error) {
	child, erase, err := t.newChild(ctx)
	if err != nil {
		return nil, err
	}
	undo := t.instead("any hub's word is taken", func(_ core.DeviceID, child []byte) *identity.Vouched {
		return t.s.devices.Vouched(t.units[0].ID, child)
	})
	err = t.speak(ctx, 1, child)
	undo()
	if err == nil {
		err = t.s.telem.projector.Settle(ctx)
	}
	return erase, err
}

// speaksForItself hands the journal a reading of a child, past the doors.
func speaksForItself(ctx context.Context, t *twin) (func(context.Context) error, error) {
	child, erase, err := t.newChild(ctx)
	if err != nil {
		return nil, err
	}
	d, err := t.s.devices.Device(child)
	if err != nil {
		return erase, err
	}
	p, err := t.s.decl.Current(ctx, d.Product)
	if err != nil {
		return erase, err
	}
	_, f := p.Field("open")
	if f == nil {
		return erase, errors.New("the twin's children have no such field")
	}
	now := t.Now()
	r := telemetry.Reading{
		Product: p.Product, Subject: d.Subject, Stream: f.Stream, Policy: p.Hash, T: now.UnixMilli(), Received: now.UnixMilli(), Counter: 1, Flags: telemetry.FlagVouched,
		Parts: []telemetry.Part{{Epoch: core.EpochAt(f.Keep, declaration.EpochLength(f.Keep), now), Group: uint8(f.Group)}},
	}
	binary.BigEndian.PutUint64(r.Gateway[:], uint64(now.UnixNano()))
	key, err := t.s.ring.Lease(r.Subject, r.Parts[0].Epoch)
	if err != nil {
		return erase, err
	}
	part := &r.Parts[0]
	if part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, telemetry.Sender{1}, []byte(`{"open":false}`)), telemetry.AppendAAD(nil, &r, part)); err != nil {
		return erase, err
	}
	t.Touch("journal", "a reading of a child that no hub sent")
	var done committed
	if err := t.s.journal.Submit(telemetry.AppendReading(nil, &r), &done, 0); err != nil {
		return erase, err
	}
	return erase, t.s.telem.projector.Settle(ctx)
}
