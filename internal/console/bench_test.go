package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/store"
)

// crowd is a world with that many devices, and those rounds of checks behind it.
func crowd(tb testing.TB, devices, rounds int) *world {
	tb.Helper()
	w := newWorld(tb, func(w *world) {
		w.publish(tb, example(tb, "aria-thermostat"))
		w.publish(tb, example(tb, "yard-gate"))
		must(tb, w.store.Update(tb.Context(), func(tx *store.Tx) error {
			for i := range devices {
				id := core.DeviceID(fmt.Sprintf("NW-%06d", i))
				if err := w.deviceIn(tb.Context(), tx, id, []core.ProductID{"aria-thermostat", "yard-gate"}[i%2], core.Subject{}); err != nil {
					return err
				}
			}
			return nil
		}))
	})
	w.prove(tb, "", w.manyChecks()...)
	for range rounds {
		w.now = w.now.Add(time.Minute)
		w.look(tb)
	}
	w.now = w.now.Add(time.Second)
	return w
}

func crowdPages() []string {
	return []string{"/", "/control/RP-03", "/check/area.2-8", "/products", "/product/aria-thermostat", "/devices", "/devices?state=added&product=yard-gate&id=NW-09", "/devices?after=NW-009000", "/device/NW-005000", "/refusals", "/ledger", "/ledger?kind=waiver-asked", "/waivers", "/reviews", "/evidence", "/people"}
}

// crowdSample draws the largest sample of n units, and says where it is shown.
func (w *world) crowdSample(tb testing.TB, n int) string {
	tb.Helper()
	w.units = n
	x, err := w.deps.Samples.Begin(tb.Context(), ada, sampling.Request{Of: sampling.Devices, Size: sampling.MaxSize})
	must(tb, err)
	_, err = w.deps.Samples.Draw(tb.Context(), ada, x.ID, []byte("sixteen bytes :-)"))
	must(tb, err)
	return "/evidence/samples/" + x.ID
}

// BenchmarkPages draws each page over 100,000 devices: at most 150 ms each.
func BenchmarkPages(b *testing.B) {
	w := crowd(b, 100_000, 60)
	for _, url := range append(crowdPages(), w.crowdSample(b, 100_000)) {
		b.Run(url, func(b *testing.B) {
			for b.Loop() {
				rec := httptest.NewRecorder()
				w.c.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), "GET", url, nil))
				if rec.Code != http.StatusOK {
					b.Fatal(rec.Code)
				}
				b.ReportMetric(float64(rec.Body.Len()), "bytes/page")
			}
		})
	}
}

// TestMemoryReadsEachRoundOnce: after a start the past is read back over a few
// pages, in order and once, and what closes meanwhile comes behind it.
func TestMemoryReadsEachRoundOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.prove(t, "", aCheck("a.b", "1.9", "So.", passes(1)))
	for range 99 {
		w.now = w.now.Add(time.Minute)
		w.look(t)
	}
	var m memory
	for i := range 20 {
		must(t, m.recall(t.Context(), w.proof))
		if i == 3 {
			w.now = w.now.Add(time.Minute)
			w.look(t)
		}
	}
	list := m.of("a.b", nil)
	if len(list) != 101 {
		t.Fatalf("%d sights, want 101", len(list))
	}
	for i, s := range list {
		if s.Round != uint64(101-i) {
			t.Fatalf("sight %d is of round %d", i, s.Round)
		}
	}
	if at, whole := since(list); whole || !at.Equal(list[100].Began) {
		t.Errorf("so since %s, %v", at, whole)
	}
}

// TestPagesAreQuick holds each page to its time over a tenth of that crowd,
// once it was drawn before; the benchmark has the whole.
func TestPagesAreQuick(t *testing.T) {
	w := crowd(t, 10_000, 30)
	for _, url := range append(crowdPages(), w.crowdSample(t, 10_000)) {
		w.must200(t, url)
		best := time.Hour
		for range 3 { // others use the machine, too
			began := time.Now()
			body := w.must200(t, url)
			best = min(best, time.Since(began))
			if len(body) > 90<<10 {
				t.Errorf("%s: %d bytes", url, len(body))
			}
		}
		if best > 150*time.Millisecond {
			t.Errorf("%s: %s", url, best)
		}
	}
}
