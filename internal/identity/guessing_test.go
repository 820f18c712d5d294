package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
)

func TestHostileRequests(t *testing.T) {
	f := newFixture(t)
	other := newKey(t)
	codeB := f.mustAdd("B2")
	if _, err := f.svc.Enrol(t.Context(), home, "B2", codeB, csrFor(t, other, "B2")); err != nil {
		t.Fatal(err)
	}
	code := f.mustAdd("A1")
	_, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, other, "A1"))
	wantReason(t, err, "key-of-another-device")
	_, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "B2"))
	wantReason(t, err, "csr-foreign-name")
	one, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), big.NewInt(1).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, one, "A1"))
	wantReason(t, err, "csr-key-known")
	if got := len(f.records(identity.RecordFinding)); got != 3 {
		t.Errorf("%d findings, want 3", got)
	}
	// The same again in the same minute is one finding, not two.
	_, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, one, "A1"))
	wantReason(t, err, "csr-key-known")
	if got := len(f.records(identity.RecordFinding)); got != 3 {
		t.Errorf("%d findings after a repetition, want 3", got)
	}
	if c := f.mustEnrol("A1", code); c.URIs[0].String() != "urn:hawser:test:device:aria-thermostat:A1" {
		t.Errorf("the device itself is kept out: %v", c.URIs)
	}
}

func TestKeyIsNeverReused(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	key := newKey(t)
	chain, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, key, "A1"))
	if err != nil {
		t.Fatal(err)
	}
	c := leafOf(t, chain)
	f.mustIdentify(c)
	_, err = f.svc.Renew(t.Context(), c, csrFor(t, key, "A1"))
	wantReason(t, err, "key-reused")
	// Not even after every certificate of it is forgotten.
	f.advance(500 * 24 * time.Hour)
	if _, err := f.svc.Trim(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	fresh, err := f.svc.NewCode(t.Context(), admin, "A1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Enrol(t.Context(), home, "A1", fresh, csrFor(t, key, "A1"))
	wantReason(t, err, "key-reused")
}

func TestGuessing(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	wrong := f.mustAdd("B2")
	attacker := netip.MustParseAddr("198.51.100.9")
	texts := map[string]bool{}
	for i := range 20 {
		id := core.DeviceID("A1")
		if i%2 == 1 {
			id = core.DeviceID(fmt.Sprintf("guess-%d", i))
		}
		_, err := f.svc.Enrol(t.Context(), attacker, id, wrong, csrFor(t, newKey(t), id))
		wantReason(t, err, "wrong-code", "unknown-device")
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("answers differ: %v", texts)
	}
	if n := f.svc.Refusals()["unknown-device"]; n != 10 {
		t.Errorf("%d unknown devices counted, want 10", n)
	}
	_, err := f.svc.Enrol(t.Context(), attacker, "A1", code, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "source-throttled")
	if r, ok := errors.AsType[*identity.RetryError](err); !ok || r.After <= 0 || core.KindOf(err) != core.TooMany {
		t.Errorf("no time to wait: %v", err)
	}
	f.mustEnrol("A1", code) // from home
	f.restart()             // CC 1.13: and so it stays
	_, err = f.svc.Enrol(t.Context(), attacker, "A1", code, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "source-throttled")
	f.mustEnrol("A1", code)
	f.advance(time.Minute)
	_, err = f.svc.Enrol(t.Context(), attacker, "A1", wrong, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "wrong-code")
}

// A device that asks again and again with its own code is no guesser.
func TestRightCodesAreNotCounted(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	csr := csrFor(t, newKey(t), "A1")
	for range 50 {
		if _, err := f.svc.Enrol(t.Context(), home, "A1", code, csr); err != nil {
			t.Fatal(err)
		}
	}
	st, err := f.gate.State(t.Context())
	if err != nil || st.Slowed != 0 || st.Means[5].Means != gate.EnrolmentCode || st.Means[5].Right != 50 {
		t.Errorf("state %+v, %v", st, err)
	}
}

// CC 1.13: while the count cannot be kept, not even the right code is looked at.
func TestNoEnrolmentWithoutTheCount(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	f.stop()
	defer f.start(false)
	_, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1"))
	if core.KindOf(err) != core.Unavail {
		t.Errorf("without a database: %v", err)
	}
	if st, err := f.gate.State(t.Context()); err == nil {
		t.Errorf("the database is there: %+v", st)
	}
}

// CC 1.14: neither the answer's time nor that of the comparison alone, which the
// count on disk would hide, tells whether a device exists.
func TestGuessingLearnsNothingFromTime(t *testing.T) {
	f := newFixture(t)
	f.mustAdd("A1")
	wrong := f.mustAdd("B2")
	csr := csrFor(t, newKey(t), "A1")
	n := 0
	source := func() netip.Addr {
		n++ // each from a source of its own, or the gate answers
		return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	answer := func(id core.DeviceID) time.Duration {
		from := source()
		start := time.Now()
		_, err := f.svc.Enrol(t.Context(), from, id, wrong, csr)
		d := time.Since(start)
		if core.KindOf(err) != core.Denied {
			t.Fatalf("%s: %v", id, err)
		}
		return d
	}
	compare := func(id core.DeviceID) time.Duration {
		ticket, err := f.gate.Open(t.Context(), gate.Attempt{Means: gate.EnrolmentCode, Account: string(id), Source: source()})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = f.svc.VerifyCode(ticket, id, wrong)
		d := time.Since(start)
		if core.KindOf(err) != core.Denied {
			t.Fatalf("%s: %v", id, err)
		}
		return d
	}
	median := func(ds []time.Duration) time.Duration {
		slices.Sort(ds)
		return ds[len(ds)/2]
	}
	for what, try := range map[string]func(core.DeviceID) time.Duration{"answer": answer, "comparison": compare} {
		var known, absent time.Duration
		equal := false
		for range 5 { // a busy machine may disturb one round
			var a, b []time.Duration
			for range 1000 {
				a, b = append(a, try("A1")), append(b, try("Z9"))
			}
			known, absent = median(a), median(b)
			if equal = (known - absent).Abs() <= max(known, absent)/4; equal {
				break
			}
		}
		t.Logf("%s: a wrong code takes %s, an absent device %s", what, known, absent)
		if !equal {
			t.Errorf("%s: a wrong code takes %s, an absent device %s", what, known, absent)
		}
	}
}

func TestNoCodeOnDisk(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("PLAINLY-VISIBLE-7")
	used := f.mustAdd("B2")
	f.mustIdentify(f.mustEnrol("B2", used))
	f.stop()
	defer f.start(false)
	found := map[string]bool{}
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, what := range []string{code, used, strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(used, "-", "")[:27], "PLAINLY-VISIBLE-7"} {
			if bytes.Contains(bytes.ToUpper(b), []byte(what)) {
				found[what] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || !found["PLAINLY-VISIBLE-7"] {
		t.Errorf("found on the disk: %v; want the serial number only", found)
	}
}

func TestIssueRate(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	var err error
	n := 0
	for ; n < 20; n++ {
		if _, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1")); err != nil {
			break
		}
	}
	wantReason(t, err, "device-issues")
	if n < 3 || n > 10 {
		t.Errorf("%d certificates before the pause", n)
	}
	f.advance(20 * time.Minute)
	f.mustEnrol("A1", code)
}
