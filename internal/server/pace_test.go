package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// metric is a value of the metrics that the local socket serves.
func (l *live) metric(t testing.TB, name string) float64 {
	t.Helper()
	value, found := l.findMetric(t, name)
	if !found {
		t.Fatalf("there is no metric %s", name)
	}
	return value
}

// findMetric is metric, where it may be that there is none yet.
func (l *live) findMetric(t testing.TB, name string) (value float64, found bool) {
	t.Helper()
	err := l.client.Stream(t.Context(), http.MethodGet, "/metrics", nil, func(line []byte) error {
		if v, ok := strings.CutPrefix(string(line), name+" "); ok {
			var err error
			value, err = strconv.ParseFloat(v, 64)
			found = true
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatalf("metric %s: %v", name, err)
	}
	return value, found
}

// TestProductPace: the devices of one product share its pace, however many they
// are; those of another do not feel it; and who waits loses nothing (CC 1.8).
func TestProductPace(t *testing.T) {
	const (
		perSecond = 50
		each      = 150 // of two devices: six seconds' worth, of which one is the burst
	)
	l := start(t, newHome(t, core.Test, fmt.Sprintf("product_messages_per_second: %d\n", perSecond)))
	l.publish(t, testDeclaration)
	l.publish(t, strings.Replace(testDeclaration, "product: test-sensor", "product: other-sensor", 1))
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "B1", Product: "other-sensor"}, &added)
	units := map[core.DeviceID]*unit{"A1": l.enrol(t, "A1"), "A2": l.enrol(t, "A2"), "B1": l.enrolWith(t, "B1", added.Code)}
	if n := l.metric(t, "hawser_gateway_pauses_total"); n != 0 {
		t.Errorf("%v pauses before anything was sent", n)
	}

	var wait sync.WaitGroup
	took := map[core.DeviceID]*time.Duration{}
	for id, u := range units {
		n := each
		if id == "B1" {
			n = perSecond / 2
		}
		c := dialMQTT(t, l, u)
		took[id] = new(time.Duration)
		wait.Go(func() {
			began := time.Now()
			for i := range n {
				if code, err := c.try("telemetry/climate", fmt.Sprintf(`{"temp":20,"boot":1,"seq":%d}`, i+1)); err != nil || code != 0 {
					t.Errorf("%s, message %d: 0x%02x, %v", id, i+1, code, err)
					return
				}
			}
			*took[id] = time.Since(began)
		})
	}
	wait.Wait()
	// Alone, either would be through after two seconds.
	const shared = (2*each - perSecond) * time.Second / perSecond
	if slower := max(*took["A1"], *took["A2"]); slower < shared-500*time.Millisecond {
		t.Errorf("two devices of one product sent %d messages in %s; at %d a second they need %s", 2*each, slower, perSecond, shared)
	}
	if d := *took["B1"]; d > shared*2/3 {
		t.Errorf("the device of another product took %s", d)
	}
	if n, s := l.metric(t, "hawser_gateway_pauses_total"), l.metric(t, "hawser_gateway_paused_seconds_total"); n < 10 || s < 1 {
		t.Errorf("%v pauses of %v s are counted", n, s)
	}
	for id, want := range map[core.DeviceID]int{"A1": each, "A2": each, "B1": perSecond / 2} {
		if lines, err := l.readAll(t, id); err != nil || len(lines) != want {
			t.Errorf("%s: %d readings, want %d, %v", id, len(lines), want, err)
		}
	}
}
