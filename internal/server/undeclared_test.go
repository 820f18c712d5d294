package server

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestDoctorNamesUndeclaredFields: by stream, also after a restart, until the
// person from whom the name came is erased; the ledger says it once.
func TestDoctorNamesUndeclaredFields(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20,"wifi_ssid":"x"}`)
	c.publish(t, "telemetry/climate", `{"temp":20,"lat52":"x"}`)
	told := func(l *live) (texts []string) {
		t.Helper()
		var s api.Status
		l.call(t, "GET", "/v1/status", nil, &s)
		for _, f := range s.Findings {
			if f.Area == "collection" {
				texts = append(texts, f.Text)
			}
		}
		return texts
	}
	names := func(l *live, want string) {
		t.Helper()
		if got := told(l); len(got) != 1 || !strings.Contains(got[0], "test-sensor") || !strings.Contains(got[0], "stream climate") || !strings.HasSuffix(got[0], want) {
			t.Errorf("doctor says %q, want ... %s", got, want)
		}
	}
	names(l, ": lat##, wifi_ssid")
	waitFor(t, 60*time.Second, "the ledger has it", func() bool { return l.records(t, "undeclared-fields") == 1 })
	c.close(t)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	l = start(t, home)
	names(l, ": lat##, wifi_ssid")
	c = dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20,"wifi_ssid":"x"}`)
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	names(l, "are erased")
	c.close(t)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	names(l, "are erased")
	if n := l.records(t, "undeclared-fields"); n != 1 {
		t.Errorf("%d records in the ledger", n)
	}
}
