package server

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/store"
)

// TestSamplesOfAServer: an assessor draws units and records of a whole
// installation, finds each of them, and finds the samples in the bundle with
// the nonces, and with no other. Nothing of a unit stands in the population.
func TestSamplesOfAServer(t *testing.T) {
	o := openOffice(t, newHome(t, core.Test, ""))
	s, ctx := o.s, t.Context()
	assessor := access1("z")
	for i := range 30 {
		_, err := s.devices.AddDevice(ctx, core.Job("test"), "test-sensor", core.DeviceID(fmt.Sprintf("S-%03d", i)))
		o.must(err)
	}
	draw := func(q sampling.Request, nonce []byte) (sampling.Sampling, []sampling.Item) {
		t.Helper()
		x, err := s.samples.Begin(ctx, assessor, q)
		o.must(err)
		_, err = s.samples.Draw(ctx, assessor, x.ID, nonce)
		o.must(err)
		x, items, err := s.samples.Look(ctx, x.ID)
		o.must(err)
		return x, items
	}
	first, second := bytes.Repeat([]byte{1, 2}, 8), bytes.Repeat([]byte{3, 4}, 8)
	x, items := draw(sampling.Request{Of: sampling.Devices, Size: 7}, first)
	if x.Total != 30 || len(items) != 7 {
		t.Fatalf("%d of %d units", len(items), x.Total)
	}
	var seen []core.DeviceID
	for i, it := range items {
		unit, err := core.ParseSubject(it.Unit)
		if err != nil || it.Gone || it.ID != x.Drawn[i] || sampling.Unit(x.Seed, unit) != it.ID || it.Product != "test-sensor" || s.devices.UnitName(it.Device) != "unit "+it.Unit {
			t.Errorf("unit %d: %+v, %v", i, it, err)
		}
		if _, err := s.devices.Device(it.Device); err != nil || slices.Contains(seen, it.Device) {
			t.Errorf("%s is drawn twice, or is no device: %v", it.Device, err)
		}
		seen = append(seen, it.Device)
	}

	now := time.Now()
	r, items := draw(sampling.Request{Of: sampling.RecordsOf(identity.RecordAdded), Size: 9, From: now.Add(-time.Hour), Until: now.Add(time.Hour)}, second)
	if r.Total != 30 || len(items) != 9 {
		t.Fatalf("%d of %d records", len(items), r.Total)
	}
	for i, it := range items {
		e, err := s.ledger.Get(ctx, it.Position)
		if err != nil || it.Gone || e.Record.Kind != identity.RecordAdded || !e.Record.Time.Equal(it.Time) || entryName(e.Index) != r.Drawn[i] {
			t.Errorf("record %d: %+v, %v", i, it, err)
		}
	}
	if _, err := s.samples.Begin(ctx, assessor, sampling.Request{Of: sampling.RecordsOf(identity.RecordAdded), Size: 1, From: now.Add(-2 * time.Hour), Until: now.Add(-time.Hour)}); core.ReasonOf(err) != "sample-few" {
		t.Errorf("records of an hour in which nothing happened: %v", err)
	}

	o.allPass()
	folder, key := o.exported(t)
	signers := []byte(key.Public().AllowedSigner() + "\n")
	for name, c := range map[string]struct {
		mine []bundle.Drawing
		ok   bool
	}{
		"both":                         {[]bundle.Drawing{{Nonce: first, Digest: x.Digest()}, {Nonce: second, Digest: r.Digest()}}, true},
		"one beside that of another":   {[]bundle.Drawing{{Nonce: first, Digest: x.Digest()}}, true},
		"one that I did not see begun": {[]bundle.Drawing{{Nonce: first, Digest: r.Digest()}}, false},
		"one that is left out":         {[]bundle.Drawing{{Nonce: first}, {Nonce: bytes.Repeat([]byte{5, 6}, 8)}}, false},
	} {
		rep, err := bundle.VerifyDir(ctx, folder, bundle.Trust{Signers: signers, Drawings: c.mine})
		if err != nil || rep.OK() != c.ok || rep.Samplings != 2 {
			t.Errorf("%s: %v, %d samples, %v", name, err, rep.Samplings, rep.Faults)
		}
	}
	b, err := os.ReadFile(filepath.Join(folder, "sampling.json"))
	o.must(err)
	for _, it := range x.Population {
		if !bytes.Contains(b, []byte(it)) {
			t.Fatalf("%s of the population is not in the bundle", it)
		}
	}
	for i := range 30 {
		id := core.DeviceID(fmt.Sprintf("S-%03d", i))
		if bytes.Contains(b, []byte(id)) || bytes.Contains(b, []byte(s.devices.UnitName(id)[len("unit "):])) {
			t.Errorf("the bundle names %s", id)
		}
	}

	// Whoever changes what was drawn, behind the program's back, exports nothing.
	n, err := store.Behind(ctx, filepath.Join(s.c.Data, "control.db"), `UPDATE assurance_sampling SET body = replace(body, '`+hex.EncodeToString(first)+`', '`+hex.EncodeToString(bytes.Repeat([]byte{9, 8}, 8))+`') WHERE id = '`+x.ID+`'`)
	if err != nil || n != 1 {
		t.Fatalf("change a nonce: %d, %v", n, err)
	}
	if err := (evidence{s}).Export(ctx, operator, time.Time{}, &bytes.Buffer{}); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("an edited sample is exported: %v", err)
	}
}

// exported is a signed bundle of all that is proved now.
func (o *office) exported(t *testing.T) (string, bundle.Key) {
	t.Helper()
	var draft bytes.Buffer
	o.must(evidence{o.s}.Export(t.Context(), operator, time.Time{}, &draft))
	d, err := bundle.ReadDraft(&draft)
	o.must(err)
	k, err := bundle.CreateKey(filepath.Join(t.TempDir(), "evidence.key"))
	o.must(err)
	folder := filepath.Join(t.TempDir(), "bundle")
	o.must(d.Write(t.Context(), folder, k))
	return folder, k
}
