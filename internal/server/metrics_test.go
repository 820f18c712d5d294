package server

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// metricUnits are the last words of the metrics' names: a unit, or what is
// counted. "trouble" and "failing" are 0 or 1 and say so in their help.
var metricUnits = []string{
	"total", "seconds", "bytes", "connections", "accounts", "sessions", "devices", "records", "batches", "entries",
	"generation", "trouble", "failing",
}

// TestMetrics: every metric says its unit and its meaning, and none says which
// unit or whose it is: labels have few values (CC 4.3).
func TestMetrics(t *testing.T) {
	t.Run("files", func(t *testing.T) { metricsOf(t, newHome(t, core.Test, "")) })
	t.Run("postgres", func(t *testing.T) { metricsOf(t, newHome(t, core.Test, "store: "+pgtest.Database(t)+"\n")) })
}

func metricsOf(t *testing.T, home string) {
	t.Helper()
	l := start(t, home)
	l.publish(t, testDeclaration)
	const serial = "serial-4711"
	u := l.enrol(t, serial)
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20}`)
	for _, bad := range []string{`{"temp":900}`, "not JSON"} {
		if code, err := c.try("telemetry/climate", bad); code < 0x80 {
			t.Errorf("%s: 0x%02x, %v", bad, code, err)
		}
	}
	var text strings.Builder
	err := l.client.Stream(t.Context(), http.MethodGet, "/metrics", nil, func(line []byte) error {
		text.Write(line)
		text.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(text.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "hawser_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	ours := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (hawser_[a-z0-9_]+) \w+$`).FindAllStringSubmatch(text.String(), -1) {
		name := m[1]
		ours[name] = true
		if !slices.Contains(metricUnits, name[strings.LastIndexByte(name, '_')+1:]) {
			t.Errorf("%s does not end in a unit or in what it counts", name)
		}
	}
	for _, want := range []string{
		"hawser_gateway_received_bytes_total", "hawser_gateway_paused_seconds_total", "hawser_journal_bytes",
		"hawser_intake_refused_messages_total", "hawser_keyring_generation",
	} {
		if !ours[want] {
			t.Errorf("%s is missing among %d", want, len(ours))
		}
	}
	d := l.device(t, serial)
	for what, secret := range map[string]string{"serial number": serial, "pseudonym": d.Subject, "certificate": d.Certificate} {
		if secret == "" || strings.Contains(text.String(), secret) {
			t.Errorf("the %s %q is empty or stands in the metrics", what, secret)
		}
	}
	if !strings.Contains(text.String(), `hawser_intake_refused_messages_total{reason="not-json"} 1`) {
		t.Error("the refusal is not counted by its reason")
	}
}
