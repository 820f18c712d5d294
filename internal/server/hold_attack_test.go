package server

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestErasureUnderLoadLeavesTheHoldAll: while a device sends as fast as it can,
// its owner is erased. Whatever was accepted up to the last moment is with the
// legal hold: neither the message that was being sealed nor the commit that was
// under way slips between the two (design, section 5, Legal hold).
func TestErasureUnderLoadLeavesTheHoldAll(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	const devices, senders = 6, 4
	for i := range devices {
		id := core.DeviceID(fmt.Sprintf("A%d", i))
		c := dialMQTT(t, l, l.enrol(t, id))
		var before api.Counts
		l.call(t, "GET", "/v1/counts", nil, &before)
		l.call(t, "POST", "/v1/devices/"+string(id)+"/hold", api.ReasonRequest{Reason: "court order 12"}, nil)
		stop := make(chan struct{})
		begun := make(chan struct{}, senders)
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for n := 0; ; n++ {
					if n == 20 {
						begun <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
					// Refused for the rate or accepted: the counts tell.
					if _, err := c.try("telemetry/climate", `{"temp":20}`); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range senders {
			<-begun
		}
		l.call(t, "POST", "/v1/devices/"+string(id)+"/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
		close(stop)
		wg.Wait()
		c.close(t)
		var after api.Counts
		l.call(t, "POST", "/v1/verify", nil, nil) // settles: all is counted
		l.call(t, "GET", "/v1/counts", nil, &after)
		var holds []api.Hold
		l.call(t, "GET", "/v1/holds", nil, &holds)
		held := int64(-1)
		for _, h := range holds {
			if h.Device == id {
				held = h.Rows
			}
		}
		if accepted := int64(after.Accepted - before.Accepted); accepted < senders*20 || held != accepted {
			t.Errorf("%s: %d readings were accepted, the hold has %d", id, accepted, held)
		}
		if after.Dropped["unowned"] == before.Dropped["unowned"] {
			t.Logf("%s: nothing came after the erasure", id)
		}
	}
}
