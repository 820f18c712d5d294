package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestBirthRecord: ask for a serial number's birth record and get station,
// operator, time and where its key was made, as the ledger has it; it is
// written once (CC 1.7).
func TestBirthRecord(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	ask := func() *api.Birth {
		t.Helper()
		var d api.Device
		l.call(t, "GET", "/v1/devices/A1", nil, &d)
		if d.Birth == nil {
			t.Fatal("no birth record")
		}
		return d.Birth
	}
	req := api.AddDeviceRequest{Device: "A1", Product: "test-sensor", Station: "line-4", Hardware: "rev/C", Batch: "2026-W47"}
	for _, bad := range []string{"line 4", strings.Repeat("x", 65), "Ada <ada@example.com>", "a\nb", "é"} {
		for _, where := range []func(*api.AddDeviceRequest){
			func(r *api.AddDeviceRequest) { r.Station = bad },
			func(r *api.AddDeviceRequest) { r.Hardware = bad },
			func(r *api.AddDeviceRequest) { r.Batch = bad },
		} {
			wrong := req
			where(&wrong)
			if err := l.client.Call(t.Context(), "POST", "/v1/devices", wrong, nil); err == nil || !strings.Contains(err.Error(), "no word") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", req, &added)
	b := ask()
	if b.Station != "line-4" || b.Hardware != "rev/C" || b.Batch != "2026-W47" || b.Door != "enrolment-code" || !strings.HasPrefix(b.By, "os:") || b.Added.IsZero() || b.CodeBits < 128 {
		t.Errorf("born %+v", b)
	}
	if b.Enrolled != nil || b.Key != "" || b.KeyOrigin != "" {
		t.Errorf("before its first handshake: %+v", b)
	}
	digest := b.Digest
	u := l.enrolWith(t, "A1", added.Code)
	dialMQTT(t, l, u).close(t)
	b = ask()
	if b.Enrolled == nil || len(b.Key) != 64 || b.KeyOrigin != "device" || b.Digest != digest {
		t.Errorf("after it: %+v", b)
	}
	if err := l.client.Call(t.Context(), "POST", "/v1/devices", api.AddDeviceRequest{Device: "A1", Product: "test-sensor", Station: "elsewhere"}, nil); err == nil {
		t.Error("one serial number was born twice")
	}
	if again := ask(); again.Station != "line-4" || again.Digest != digest {
		t.Errorf("after a second registration: %+v", again)
	}
	waitFor(t, 5*time.Second, "the ledger has it", func() bool {
		found := l.entries(t, "device-added")
		return len(found) == 1 && slices.Contains(found[0].Facts, [2]string{"birth", digest}) && slices.Contains(found[0].Facts, [2]string{"door", "enrolment-code"})
	})
	for _, e := range l.entries(t, "") {
		for _, f := range e.Facts {
			if f[1] == "A1" || strings.Contains(f[1], "line-4") {
				t.Errorf("the ledger says %s=%s in clear", f[0], f[1])
			}
		}
	}
}

// entries are the ledger's records of a kind; of all for "".
func (l *live) entries(t testing.TB, kind string) []api.Entry {
	t.Helper()
	var page api.Entries
	l.call(t, "GET", "/v1/ledger/entries?from=0&kind="+kind, nil, &page)
	return page.Entries
}
