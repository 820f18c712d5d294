package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestIngestAtOnce: a device has four requests at work, and no fifth; who holds
// them open with bodies that do not come keeps nobody else out.
func TestIngestAtOnce(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	slow, other := l.enrol(t, "A1"), l.enrol(t, "A2")
	for range 4 {
		r, w := io.Pipe()
		t.Cleanup(func() { _ = w.Close() }) // the test is over
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+"/device/v1/telemetry/climate", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", jsonType)
		p := newPoster(l, slow, t)
		go func() {
			if resp, err := p.hc.Do(req); err == nil {
				_ = resp.Body.Close() // its end is not looked at
			}
		}()
		if _, err := fmt.Fprint(w, strings.Repeat(" ", 100)); err != nil {
			t.Fatal(err)
		}
	}
	p := newPoster(l, slow, t)
	waitFor(t, 5*time.Second, "the fifth is refused", func() bool {
		r, err := p.try("climate", jsonType, `{"temp":1}`)
		return err == nil && r.status == http.StatusTooManyRequests && strings.Contains(r.body, "device-requests")
	})
	newPoster(l, other, t).post(t, "climate", jsonType, `{"temp":1}`).want(t, "another device", 200, "")
}
