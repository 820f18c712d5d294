package server

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// mqttClient is a stock MQTT 5 client on a connection of its own.
type mqttClient struct {
	c    *paho.Client
	gone chan struct{} // closed when the server ended it
}

func dialMQTT(t testing.TB, l *live, u *unit) *mqttClient {
	t.Helper()
	m, err := tryMQTT(t.Context(), l, u)
	if err != nil {
		t.Fatalf("connect %s: %v", u.id, err)
	}
	return m
}

// dialMQTTAs begins a clean session of a name.
func dialMQTTAs(t testing.TB, l *live, u *unit, clientID string) *mqttClient {
	t.Helper()
	m, err := tryMQTTAs(t.Context(), l, u, clientID)
	if err != nil {
		t.Fatalf("connect %s: %v", u.id, err)
	}
	return m
}

func tryMQTT(ctx context.Context, l *live, u *unit) (*mqttClient, error) {
	return tryMQTTAs(ctx, l, u, "")
}

func tryMQTTAs(ctx context.Context, l *live, u *unit, clientID string) (*mqttClient, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: l.tls(u)}
	conn, err := d.DialContext(ctx, "tcp", l.addr.Devices)
	if err != nil {
		return nil, err
	}
	m := &mqttClient{gone: make(chan struct{})}
	m.c = paho.NewClient(paho.ClientConfig{
		// Its first ping and a first publish may write at the same time, each in
		// pieces, which a tls.Conn does not keep apart.
		Conn:               packets.NewThreadSafeConn(conn),
		OnClientError:      func(error) { close(m.gone) },
		OnServerDisconnect: func(*paho.Disconnect) { close(m.gone) },
	})
	if _, err := m.c.Connect(ctx, &paho.Connect{ClientID: clientID, KeepAlive: 30, CleanStart: true}); err != nil {
		_ = conn.Close() // the connect error is the one to report
		return nil, err
	}
	return m, nil
}

func (m *mqttClient) publish(t testing.TB, topic, payload string) {
	t.Helper()
	if code, err := m.try(topic, payload); err != nil {
		t.Fatalf("publish %s: %v (0x%02x)", topic, err, code)
	}
}

// try publishes at QoS 1 and gives the reason code. It fails when the server
// ends the connection meanwhile.
func (m *mqttClient) try(topic, payload string) (byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() {
		select {
		case <-m.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	r, err := m.c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)})
	if r != nil {
		return r.ReasonCode, err
	}
	return 0, err
}

func (m *mqttClient) close(t testing.TB) {
	t.Helper()
	if err := m.c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Errorf("disconnect: %v", err)
	}
}
