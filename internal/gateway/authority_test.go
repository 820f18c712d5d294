package gateway

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/wire"
)

// nosy lets every device name every other one.
type nosy struct{}

func (nosy) Publish(own core.DeviceID, topic []byte) wire.Topic {
	if string(topic) == "devices/B/telemetry/light" {
		own = "B"
	}
	return Rules{}.Publish(own, topic)
}

func (nosy) Subscribe(_ core.DeviceID, filter []byte) (wire.Kind, wire.Form, []byte) {
	return Rules{}.Subscribe("B", filter)
}

// TestAuthorityIsAsked: what a device may name is what the authority says, for
// whoever asks, and a sibling decides like the gateway that it is of (CC 3.6).
func TestAuthorityIsAsked(t *testing.T) {
	right := newDoor(t)
	wrong := newDoor(t, func(d *door) { d.wrap = func(p *Deps) { p.Authority = nosy{} } })
	for _, c := range []struct {
		d    *door
		want bool
	}{{right, false}, {wrong, true}} {
		sib, err := c.d.g.Sibling(Deps{
			Environment: c.d.env, Certificate: c.d.g.deps.Certificate, DeviceCAs: c.d.ca.ClientPool, Identity: c.d.ids, Intake: c.d.intake, Now: c.d.now,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range []*Gateway{c.d.g, sib} {
			if got := g.MayPublish("A", "devices/B/telemetry/light"); got != c.want {
				t.Errorf("a neighbour's topic may be published to: %v, want %v", got, c.want)
			}
			if got := g.MaySubscribe("A", "devices/B/refused"); got != c.want {
				t.Errorf("a neighbour's topic may be subscribed to: %v, want %v", got, c.want)
			}
			if r := g.product("lamp").rates.Load(); r == nil || r.by[r.index["slow"]].burst != 2 {
				t.Error("the declared rates are not in force")
			}
		}
		if !right.g.MayPublish("A", "telemetry/light") || !right.g.MaySubscribe("A", "devices/A/command/#") || right.g.MaySubscribe("A", "command/+/x") {
			t.Error("its own topics are not its own")
		}
		if err := sib.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
