package server

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestLegacyIsToldThings: a device that came with a token gets its commands, and
// its will is published when its delay is over, like those of any other.
func TestLegacyIsToldThings(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	until := time.Now().UTC().AddDate(0, 0, 7).Format(time.DateOnly)
	l.publish(t, commandDeclaration+"legacy: {auth: device-token, until: "+until+", max_devices: 3}\n")
	tokens := l.addTokens(t, "OLD-1\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: l.tls(nil)}).DialContext(ctx, "tcp", l.addr.Devices)
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan *paho.Publish, 4)
	c := paho.NewClient(paho.ClientConfig{
		Conn:              packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) { came <- p.Packet; return true, nil }},
	})
	delay, life := uint32(1), uint32(60)
	if _, err := c.Connect(ctx, &paho.Connect{
		ClientID: "old", KeepAlive: 30, CleanStart: true, UsernameFlag: true, Username: "OLD-1", PasswordFlag: true, Password: []byte(tokens["OLD-1"]),
		Properties:  &paho.ConnectProperties{SessionExpiryInterval: &life},
		WillMessage: &paho.WillMessage{QoS: 1, Topic: "telemetry/climate", Payload: []byte(`{"temp":33}`)}, WillProperties: &paho.WillProperties{WillDelayInterval: &delay},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "command/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	l.give(t, "OLD-1", "6")
	select {
	case p := <-came:
		if !strings.HasPrefix(p.Topic, "command/blink/") {
			t.Errorf("%s came", p.Topic)
		}
	case <-ctx.Done():
		t.Fatal("no command came")
	}
	if err := conn.Close(); err != nil { // without DISCONNECT
		t.Fatal(err)
	}
	if got := l.stored(t, "OLD-1", 1); string(got[0].Values) != `{"temp":33}` {
		t.Errorf("the will is %s", got[0].Values)
	}
	if strings.Contains(l.log.String(), "fault=") {
		t.Error("a connection's code failed")
	}
}
