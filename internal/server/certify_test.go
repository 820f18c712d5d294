package server

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

func (l *live) certify(t testing.TB, id core.DeviceID) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.client.Fetch(t.Context(), "POST", "/v1/devices/"+string(id)+"/certificate", nil, &b); err != nil {
		t.Fatalf("certify %s: %v", id, err)
	}
	return b.Bytes()
}

func (l *live) ledgerKey(t testing.TB) string {
	t.Helper()
	var k api.LedgerKey
	l.call(t, "GET", "/v1/ledger/key", nil, &k)
	return k.Key
}

// TestUnitCertificate: a unit whose credentials are its own is certified, so
// that somebody else can verify it; nothing that is changed in the file, and
// nothing out of another one, is believed (CC 2.15).
func TestUnitCertificate(t *testing.T) {
	l := start(t, newHome(t, core.Live, ""))
	l.publish(t, testDeclaration)
	if err := l.client.Fetch(t.Context(), "POST", "/v1/devices/A1/certificate", nil, &bytes.Buffer{}); core.KindOf(err) != core.Unknown {
		t.Errorf("a unit that nobody registered: %v", err)
	}
	a1 := l.enrol(t, "A1")
	if err := l.client.Fetch(t.Context(), "POST", "/v1/devices/A1/certificate", nil, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "nothing to look at") {
		t.Errorf("with nothing to compare: %v", err)
	}
	dialMQTT(t, l, a1).close(t)
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "B2", Product: "test-sensor"}, nil)
	file, key := l.certify(t, "A1"), l.ledgerKey(t)
	trust := bundle.UnitTrust{LogKeys: []string{key}}
	r, err := bundle.VerifyUnit(file, trust)
	if err != nil || len(r.Faults) > 0 || r.Standing != bundle.Proved {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := r.Statement; s.Serial != "A1" || s.Product != "test-sensor" || s.Code.Bits < 64 || !s.Code.Spent || s.Code.Compared != 2 || s.Code.Same != 0 || len(s.Keys) != 1 || s.Keys[0].Units != 1 {
		t.Errorf("it says %+v", s)
	}
	if r, err := bundle.VerifyUnit(file, bundle.UnitTrust{}); err != nil || len(r.Faults) > 0 || r.Standing != bundle.SelfConsistent {
		t.Errorf("with nothing from elsewhere: %+v, %v", r, err)
	}
	// A unit that never enrolled has its code only.
	if r, err := bundle.VerifyUnit(l.certify(t, "B2"), trust); err != nil || r.Standing != bundle.Proved || len(r.Statement.Keys) != 0 || r.Statement.Code.Spent {
		t.Errorf("before enrolment: %+v, %v", r, err)
	}
	believed := func(b []byte) bool {
		r, err := bundle.VerifyUnit(b, trust)
		return err == nil && (len(r.Faults) == 0 || r.Standing != bundle.Refuted)
	}
	edit := func(pattern, to string) []byte {
		t.Helper()
		out := regexp.MustCompile(pattern).ReplaceAll(file, []byte(to))
		if bytes.Equal(out, file) {
			t.Fatalf("nothing in the file is like %s", pattern)
		}
		return out
	}
	for name, b := range map[string][]byte{
		"another serial":     edit(`"serial": "A1"`, `"serial": "A7"`),
		"a stronger code":    edit(`"bits": \d+`, `"bits": 256`),
		"compared with more": edit(`"compared": 2`, `"compared": 2000`),
		"another key":        edit(`"sha256": "[0-9a-f]{4}`, `"sha256": "0000`),
		"later":              edit(`("at": "20)\d\d`, `${1}31`),
		"a second spelling":  edit(`"same": 0`, `"same":  0`),
		"a member more":      edit(`"same": 0`, `"same": 0, "x": 1`),
		"something behind":   append(bytes.Clone(file), ' '),
		"a round less":       edit(`(?s)"rounds": \[.*?\n  \]`, `"rounds": []`),
		"a failing round":    edit(`\\"outcome\\":\\"pass\\"`, `\"outcome\":\"fail\"`),
		"of another product": edit(`"product": "test-sensor"`, `"product": "nice-sensor"`),
	} {
		if believed(b) {
			t.Errorf("%s is believed", name)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := bytes.Clone(file)
		at := rnd.IntN(len(b))
		b[at] ^= 1 << rnd.IntN(8)
		if believed(b) {
			t.Errorf("a changed byte %d (%.30q) is believed", at, file[max(0, at-15):])
		}
	}
	// Another installation certifies a unit of the same name: with this ledger's
	// key it is nobody's.
	other := start(t, newHome(t, core.Live, ""))
	other.publish(t, testDeclaration)
	dialMQTT(t, other, other.enrol(t, "A1")).close(t)
	if believed(other.certify(t, "A1")) {
		t.Error("what another ledger holds is believed")
	}
}

// TestSharedIsNotCertified: what units share is not certified, and leaves no
// record that says so (CC 2.15).
func TestSharedIsNotCertified(t *testing.T) {
	l := start(t, newHome(t, core.Live, ""))
	l.publish(t, testDeclaration)
	dialMQTT(t, l, l.enrol(t, "A1")).close(t)
	dialMQTT(t, l, l.enrol(t, "B2")).close(t)
	control := filepath.Join(l.home, "data/control.db")
	for name, c := range map[string]struct{ do, undo, says string }{
		"a code": {
			`UPDATE device SET spent = (SELECT spent FROM device WHERE id = 'B2') WHERE id = 'A1'`,
			`UPDATE device SET spent = randomblob(32) WHERE id = 'A1'`, "had its enrolment code",
		},
		"a key": {
			`UPDATE device_key SET device = 'B2' WHERE device = 'A1'`,
			`UPDATE device_key SET device = 'A1' WHERE spki = (SELECT spki FROM certificate WHERE device = 'A1')`, "shown by 2 units",
		},
	} {
		if _, err := store.Behind(t.Context(), control, c.do); err != nil {
			t.Fatal(err)
		}
		err := l.client.Fetch(t.Context(), "POST", "/v1/devices/A1/certificate", nil, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s that is shared: %v", name, err)
		}
		if _, err := store.Behind(t.Context(), control, c.undo); err != nil {
			t.Fatal(err)
		}
	}
	var entries api.Entries
	l.call(t, "GET", "/v1/ledger/entries?from=0&kind="+string(bundle.RecordUnitCertified), nil, &entries)
	if len(entries.Entries) != 0 {
		t.Errorf("%d records of certificates that were not given", len(entries.Entries))
	}
	l.certify(t, "A1")
}
