package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// A session that ends before its CONNACK was sent is told so in a CONNACK, whose
// table of codes is another than that of DISCONNECT. The codec refuses what does
// not belong there, and then the client would be told nothing.
func TestEveryEndCanBeSaidInAConnack(t *testing.T) {
	for _, code := range []mqtt.ReasonCode{
		0, mqtt.SessionTakenOver, mqtt.ServerShuttingDown, mqtt.AdministrativeAction, mqtt.NotAuthorized, mqtt.KeepAliveTimeout,
		mqtt.ServerBusy, mqtt.QuotaExceeded, mqtt.UnspecifiedError, mqtt.MessageRateTooHigh, mqtt.ProtocolError,
	} {
		for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
			got := inConnack(code)
			if _, err := mqtt.AppendConnack(nil, v, got, mqtt.NewSession, nil); err != nil || !got.Failed() {
				t.Errorf("%v: %#x becomes %#x: %v", v, code, got, err)
			}
		}
	}
}

// Nothing larger than a client takes is sent to it [MQTT-3.1.2-24].
func TestClientsMaximumPacketSize(t *testing.T) {
	d := newDoor(t)
	takes := func(n uint32) func(*mqtt.Packet) {
		return func(p *mqtt.Packet) { p.Props.SetNumber(mqtt.PropMaximumPacketSize, n) }
	}
	if got := d.tryConnect(d.enrol("A1"), mqtt.V5, "x", takes(12)).ack; got.Code != mqtt.PacketTooLarge {
		t.Errorf("a client that takes 12 bytes: %#x", got.Code)
	}
	eventually(t, "it has no session", func() bool { return d.g.Connected("A1") == 0 })
	// Who takes the CONNACK takes the largest answer to a SUBSCRIBE.
	size := uint32(0)
	for n := uint32(12); size == 0; n++ {
		if n > 100 {
			t.Fatal("no size is large enough")
		}
		d.advance(time.Minute)
		if c := d.tryConnect(d.enrol(core.DeviceID(fmt.Sprint("B", n))), mqtt.V5, "x", takes(n)); c.ack.Code == mqtt.Success {
			size = n
			p := &mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 1}
			for range 16 {
				p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte("update")})
			}
			c.write(p)
			b, err := mqtt.Append(nil, mqtt.V5, c.read())
			if err != nil || len(b) > int(n) {
				t.Errorf("a client that takes %d bytes was sent %d, %v", n, len(b), err)
			}
		}
	}
}
