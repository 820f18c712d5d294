package identity_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// What a person writes may name a person, and what stands in clear in the
// ledger can never be erased: only a cause of the fixed list does, with an
// owner and without (design, section 5, Ledger).
func TestFreeTextIsNeverInClearInTheLedger(t *testing.T) {
	f := newFixture(t)
	words := "taken from Mrs Miller"
	why := identity.Why{Cause: identity.CauseStolen, Text: words}
	f.mustAdd("UNOWNED")
	f.device("OWNED")
	for _, id := range []core.DeviceID{"UNOWNED", "OWNED"} {
		if err := f.svc.Suspect(t.Context(), id, "two-places"); err != nil {
			t.Fatal(err)
		}
		released, err := f.svc.Release(t.Context(), admin, id, why)
		if err != nil {
			t.Fatal(err)
		}
		revoked, err := f.svc.Revoke(t.Context(), admin, id, why)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []identity.Receipt{released, revoked} {
			if r.Cause != identity.CauseStolen || r.TextKept != (id == "OWNED") || r.Time.IsZero() {
				t.Errorf("%s: receipt %+v", id, r)
			}
		}
	}
	for _, kind := range []core.RecordKind{identity.RecordReleased, identity.RecordRevoked} {
		got := f.records(kind)
		if len(got) != 2 {
			t.Fatalf("%s: %d records, want 2", kind, len(got))
		}
		for _, r := range got {
			cause := ""
			for _, fact := range r.Facts {
				if fact.Name == "cause" {
					cause = fact.Value
				}
			}
			if cause != "stolen" {
				t.Errorf("%s: facts %v name no cause", kind, r.Facts)
			}
			if (r.Sealed != nil) == r.Subject.IsZero() {
				t.Errorf("%s: sealed part %d bytes, subject %v", kind, len(r.Sealed), r.Subject)
			}
		}
	}
	err := f.store.View(t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(t.Context(), 10000)
		for _, p := range pending {
			if bytes.Contains(p.Leaf, []byte("Miller")) {
				t.Errorf("the ledger holds in clear: %q", p.Leaf)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCauses(t *testing.T) {
	f := newFixture(t)
	f.mustAdd("A1")
	for reason, why := range map[string]identity.Why{
		"no-reason":     {},
		"unknown-cause": {Cause: "Mrs Miller asked"},
		"long-reason":   {Cause: identity.CauseLost, Text: strings.Repeat("x", 1001)},
	} {
		_, err := f.svc.Revoke(t.Context(), admin, "A1", why)
		wantReason(t, err, reason)
		_, err = f.svc.Release(t.Context(), admin, "A1", why)
		wantReason(t, err, reason)
	}
	if err := f.svc.Suspect(t.Context(), "A1", "Mrs Miller saw it"); err == nil {
		t.Error("a sentence is taken as a word")
	}
	if n := len(f.records(identity.RecordRevoked)) + len(f.records(identity.RecordReleased)) + len(f.records(identity.RecordQuarantined)); n != 0 {
		t.Errorf("%d records of what was refused", n)
	}
	for _, c := range identity.Causes() {
		if strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("cause %q is no word", c)
		}
	}
	r, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{Text: "only words"})
	if err != nil || r.Cause != identity.CauseOther {
		t.Errorf("words without a cause: %+v, %v", r, err)
	}
}
