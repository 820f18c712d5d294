package console

import (
	"crypto/rand"
	"net/http"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// family is a hub with two children, one without a hub, and two proposals.
func (w *world) family(t testing.TB) {
	t.Helper()
	w.device(t, "HUB-1", "nest-hub")
	for _, id := range []core.DeviceID{"LEAF-1", "LEAF-2", "LEAF-3"} {
		var s core.Subject
		_, _ = rand.Read(s[:])
		must(t, w.ring.AddSubject(t.Context(), s))
		must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
			d := identity.DeviceRow{ID: id, Product: "leaf-contact", Added: w.now.Add(-9 * 24 * time.Hour), Revision: 1, Ownerships: 1, Child: true}
			_, _ = rand.Read(d.Unit[:])
			if err := tx.InsertDevice(t.Context(), d); err != nil {
				return err
			}
			if err := tx.PutBirth(t.Context(), identity.BirthRow{Device: id, Operator: "pqrstuvwxyz23", Time: d.Added, Door: identity.DoorHub, Station: identity.ByHand}); err != nil {
				return err
			}
			if err := tx.InsertOwnership(t.Context(), identity.OwnershipRow{Subject: s, Device: id, Actor: ada, Opened: d.Added, Done: true}); err != nil || id == "LEAF-3" {
				return err
			}
			l := identity.LinkRow{Child: id, Hub: "HUB-1", Since: d.Added}
			_, _ = rand.Read(l.Series[:])
			return tx.InsertChildLink(t.Context(), l)
		}))
	}
	must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
		for i, id := range []core.DeviceID{"00158d0001a2b3c4", "LEAF-3"} {
			at := w.now.Add(-time.Duration(i+1) * time.Hour)
			if err := tx.PutChildProposal(t.Context(), identity.ProposalRow{Hub: "HUB-1", Child: id, First: at, Last: at}, identity.MaxProposals); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestChildPages: wherever a child or its readings are shown stands who vouches
// for it.
func TestChildPages(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.publish(t, example(t, "nest-hub"))
		w.publish(t, example(t, "leaf-contact"))
		w.family(t)
	})
	for path, want := range map[string][]string{
		"/devices":              {"LEAF-1", `vouched for by hub <a class="mono" href="/device/HUB-1">`, "no-hub"},
		"/devices?state=child":  {"LEAF-1", "LEAF-2"},
		"/devices?state=no-hub": {"LEAF-3"},
		"/device/LEAF-1":        {`vouched for by hub <a class="mono" href="/device/HUB-1">`, "none, and never one: it is a child"},
		"/device/LEAF-3":        {"no hub speaks for it at present", "hawser child adopt HUB LEAF-3"},
		"/device/HUB-1":         {"2 children", `/device/LEAF-2`, "00158d0001a2b3c4", "registered, product leaf-contact; no hub speaks for it", "free"},
		"/product/nest-hub":     {"up to 64 children", "leaf-contact"},
	} {
		wants(t, path, w.must200(t, path), want...)
	}
	lacks(t, "a child", w.must200(t, "/device/LEAF-1"), "Enrolment code", "not connected", "HUB-2")
	d, err := w.c.d.Devices.Device("LEAF-1")
	must(t, err)
	w.send(t, "leaf-contact", "contact", d.Subject, reading{w.now.Add(-time.Minute), map[string]any{"open": true}})
	code, body := w.post(t, "/device/LEAF-1/readings", "role", "support", "purpose", "service.control", "reason", "a test looks at it", "span", "day", "field", "open")
	if code != http.StatusOK {
		t.Fatalf("read a child: %d\n%s", code, body)
	}
	wants(t, "a child's readings", body, "Vouched for by", "1 reading")
}
