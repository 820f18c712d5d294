package identity_test

import (
	"fmt"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestFind pages through the register: by id, filtered, each device once.
func TestFind(t *testing.T) {
	f := newFixture(t)
	for i := range 30 {
		f.mustAdd(core.DeviceID(fmt.Sprintf("A%02d", (i*7)%30)))
	}
	if _, err := f.svc.AddDevice(t.Context(), admin, "other", "B1"); err != nil {
		t.Fatal(err)
	}
	if err := revokeAdded(t, f, "A03"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		q    identity.Query
		want int
	}{
		{"all", identity.Query{}, 31},
		{"product", identity.Query{Product: product}, 30},
		{"prefix", identity.Query{Prefix: "A1"}, 10},
		{"state", identity.Query{State: identity.StateRevoked}, 1},
		{"state and product", identity.Query{State: identity.StateRevoked, Product: "other"}, 0},
		{"none", identity.Query{Prefix: "a"}, 0},
	} {
		for _, limit := range []int{1, 7, 10, 31, 1000} {
			q := c.q
			q.Limit = limit
			var last core.DeviceID
			seen := 0
			for {
				got := f.svc.Find(q)
				if got.Matching != c.want || len(got.Devices) > limit {
					t.Fatalf("%s by %d: %d match, want %d; %d on a page", c.name, limit, got.Matching, c.want, len(got.Devices))
				}
				for _, d := range got.Devices {
					if d.ID <= last {
						t.Errorf("%s by %d: %s after %s", c.name, limit, d.ID, last)
					}
					last = d.ID
					seen++
				}
				if q.After = got.Next; got.Next == "" {
					break
				}
			}
			if seen != c.want {
				t.Errorf("%s by %d: %d on all pages, want %d", c.name, limit, seen, c.want)
			}
		}
	}
}

func revokeAdded(t *testing.T, f *fixture, id core.DeviceID) error {
	t.Helper()
	_, err := f.svc.Revoke(t.Context(), admin, id, identity.Why{Cause: identity.CauseTest})
	return err
}
