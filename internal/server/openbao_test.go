package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/kms/baotest"
)

// TestRootsInOpenBao: an installation whose root keys are in (a stand-in for)
// OpenBao's transit engine is made, stores, erases, and starts again; sealed,
// it does not start, and says why.
func TestRootsInOpenBao(t *testing.T) {
	bao := baotest.New(t)
	token, ca := bao.Files(t)
	home := newHome(t, core.Test, fmt.Sprintf("roots_openbao: %s\nroots_openbao_token: %s\nroots_openbao_ca: %s\n", bao.URL, token, ca))
	l := start(t, home)
	l.publish(t, testDeclaration)
	u, gone := l.enrol(t, "A1"), l.enrol(t, "B1")
	for _, x := range []*unit{u, gone} {
		if r := newPoster(l, x, t).post(t, "climate", jsonType, `{"temp":7}`); r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
		l.stored(t, x.id, 1)
	}
	before := ""
	bao.Set(func() {
		for name := range bao.Keys {
			before += name
		}
	})
	l.call(t, "POST", "/v1/devices/B1/erase", map[string]string{"reason": "a test erases"}, nil)
	after := ""
	bao.Set(func() {
		for name := range bao.Keys {
			after += name
		}
	})
	if before == after || strings.Count(after, "hawser-") != 1 {
		t.Errorf("roots before the erasure: %s, after: %s", before, after)
	}
	if f := l.finding(t, "roots"); f != "" && !strings.Contains(f, "unproven") {
		t.Errorf("doctor says %s", f)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	bao.Set(func() { bao.Status = http.StatusServiceUnavailable })
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), c, Options{Version: "test"}); core.ReasonOf(err) != "openbao-sealed" {
		t.Errorf("started without its roots: %v", err)
	}
	bao.Set(func() { bao.Status = 0 })
	l = start(t, home)
	l.stored(t, "A1", 1)
}
