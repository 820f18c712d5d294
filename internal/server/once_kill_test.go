package server

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho311 "github.com/eclipse/paho.mqtt.golang"
	packets311 "github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/hawser-iot/hawser/internal/core"
)

// relStore remembers that a PUBREL was sent. The client's own store forgets it,
// and so the client sends the PUBLISH again when its PUBCOMP is lost, which it
// must not [MQTT-4.3.3-1]; nobody could tell that from a new message.
type relStore struct{ paho311.Store }

func (s relStore) released(id uint16) {
	p := packets311.NewControlPacket(packets311.Pubrel).(*packets311.PubrelPacket)
	p.MessageID = id
	s.Put(fmt.Sprintf("o.%d", id), p)
}

// relConn sees each PUBREL before it leaves.
type relConn struct {
	net.Conn
	store relStore
}

func (c relConn) Write(b []byte) (int, error) {
	if len(b) == 4 && b[0] == 0x62 {
		c.store.released(binary.BigEndian.Uint16(b[2:]))
	}
	return c.Conn.Write(b)
}

// TestOnceKilled kills the server again and again while a 3.1.1 client sends
// readings without a number at QoS 2: each is stored once.
func TestOnceKilled(t *testing.T) {
	t.Parallel()
	const readings, kills = 150, 4
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	var addr atomic.Value // of the server that lives
	addr.Store("")
	conf := l.tls(u)
	store := relStore{paho311.NewMemoryStore()}
	o := paho311.NewClientOptions().AddBroker("ssl://localhost:1").SetClientID("one").SetCleanSession(false).SetProtocolVersion(4).
		SetResumeSubs(false).SetOrderMatters(false).SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).
		SetCustomOpenConnectionFn(func(*url.URL, paho311.ClientOptions) (net.Conn, error) {
			c, err := tls.Dial("tcp", addr.Load().(string), conf)
			if err != nil {
				return nil, err
			}
			return relConn{c, store}, nil
		}).SetStore(store)
	c := paho311.NewClient(o)
	c.Connect()
	defer c.Disconnect(0)
	done := make(chan error, 1)
	go func() {
		for i := range readings {
			k := c.Publish("telemetry/climate", 2, false, fmt.Sprintf(`{"temp":%d}`, i%50)) // the same values come back
			if k.Error() != nil {
				done <- k.Error()
				return
			}
			if i%10 == 9 {
				k.Wait()
			}
			time.Sleep(5 * time.Millisecond)
		}
		done <- nil
	}()
	for range kills {
		cmd, a := doomed(t, home)
		addr.Store(a.Devices)
		time.Sleep(time.Duration(150+rand.IntN(250)) * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	l = start(t, home)
	addr.Store(l.addr.Devices)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the client does not come to its end")
	}
	lines := l.stored(t, "A1", readings)
	by := map[string]int{}
	for _, line := range lines {
		by[string(line.Values)]++
	}
	for v, n := range by {
		if n != readings/50 {
			t.Errorf("%s was stored %d times, sent %d times", v, n, readings/50)
		}
	}
}
