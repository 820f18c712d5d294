package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	paho311 "github.com/eclipse/paho.mqtt.golang"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

// One bad message ahead of 1,000 good ones, from clients as they are sold,
// with persistent sessions: 1,000 are stored, and nobody reconnects for ever
// (design, section 5, Messages).

const goodMessages = 1000

func goodMessage(i int) []byte { return fmt.Appendf(nil, `{"level":%d,"boot":1,"seq":%d}`, i, i) }

// thousand checks what came of them.
func (d *door) thousand(connects uint64) {
	d.t.Helper()
	d.thousandBehind(connects, telemetry.ReasonNotJSON)
}

// thousandBehind is thousand for a message that was bad for another reason.
func (d *door) thousandBehind(connects uint64, why telemetry.Reason) {
	d.t.Helper()
	readings, refusals := d.stored()
	seen := map[uint64]bool{}
	for i, r := range readings {
		if seen[r.Seq] {
			d.t.Errorf("reading %d was stored twice", r.Seq)
		}
		seen[r.Seq] = true
		if r.Seq != uint64(i) {
			d.t.Errorf("reading %d stands at place %d", r.Seq, i)
			break
		}
	}
	if len(readings) != goodMessages {
		d.t.Errorf("%d readings stored, want %d", len(readings), goodMessages)
	}
	if len(refusals) != 1 || refusals[0].Reason != why {
		d.t.Errorf("refusals on record: %+v, want one for %q", refusals, why)
	}
	if s := d.g.Stats(); s.Connected != connects {
		d.t.Errorf("%d connects, want %d: %v", s.Connected, connects, s.Ended)
	}
}

func (d *door) enrolOld() tls.Certificate {
	cert := d.enrol("A1")
	d.advance(time.Minute) // so that 1,001 messages are within the declared rate
	return cert
}

func TestPaho311BehindABadMessage(t *testing.T) {
	paho311Behind(t, []byte("not JSON"), telemetry.ReasonNotJSON)
}

// A message that is far larger than any packet may be holds up nobody, either:
// 3.1.1 has no way to tell its client the limit, and one that is closed for it
// sends it again after every reconnect.
func TestPaho311BehindAnOversizeMessage(t *testing.T) {
	paho311Behind(t, make([]byte, 5<<20), telemetry.ReasonTooLarge)
}

func paho311Behind(t *testing.T, bad []byte, why telemetry.Reason) {
	d := newDoor(t)
	opts := paho311.NewClientOptions().AddBroker("ssl://" + d.addr).SetTLSConfig(d.config(d.enrolOld())).
		SetClientID("paho").SetCleanSession(false).SetResumeSubs(true).SetOrderMatters(true).
		SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond)
	c := paho311.NewClient(opts)
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	told := make(chan string, 10)
	if tok := c.Subscribe("refused", 1, func(_ paho311.Client, m paho311.Message) { told <- string(m.Payload()) }); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("subscribe: %v", tok.Error())
	}
	tokens := []paho311.Token{c.Publish("telemetry/light", 1, false, bad)}
	for i := range goodMessages {
		tokens = append(tokens, c.Publish("telemetry/light", 1, false, goodMessage(i)))
	}
	for i, tok := range tokens {
		if !tok.WaitTimeout(20*time.Second) || tok.Error() != nil {
			t.Fatalf("message %d has no answer: %v", i, tok.Error())
		}
	}
	select {
	case m := <-told:
		if !strings.Contains(m, `"`+string(why)+`"`) {
			t.Errorf("the device was told %s", m)
		}
	case <-time.After(5 * time.Second):
		t.Error("the device was never told why")
	}
	c.Disconnect(100)
	d.thousandBehind(1, why)
}

func TestPaho5BehindABadMessage(t *testing.T) {
	d := newDoor(t)
	u := must[*url.URL](t)(url.Parse("mqtts://" + d.addr))
	cm, err := autopaho.NewConnection(t.Context(), autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, TlsCfg: d.config(d.enrolOld()), KeepAlive: 30,
		CleanStartOnInitialConnection: false, SessionExpiryInterval: 600,
		ClientConfig: paho.ClientConfig{ClientID: "paho5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := cm.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := cm.Publish(ctx, &paho.Publish{Topic: "telemetry/light", QoS: 1, Payload: []byte("not JSON")})
	if r == nil || r.ReasonCode != 0x99 {
		t.Errorf("the bad message: %+v, %v; want 0x99", r, err)
	}
	// This client asks for no reason strings [MQTT-3.1.2-29].
	if r != nil && r.Properties != nil && r.Properties.ReasonString != "" {
		t.Errorf("the reason was given unasked: %+v", r.Properties)
	}
	for i := range goodMessages {
		if _, err := cm.Publish(ctx, &paho.Publish{Topic: "telemetry/light", QoS: 1, Payload: goodMessage(i)}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := cm.Disconnect(ctx); err != nil {
		t.Error(err)
	}
	d.thousand(1)
}

// files writes what outside programs need: the root, a device's certificate
// and key.
func (d *door) files(cert tls.Certificate) (ca, crt, key string) {
	d.t.Helper()
	dir := d.t.TempDir()
	write := func(name, kind string, blocks ...[]byte) string {
		var b bytes.Buffer
		for _, der := range blocks {
			if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
				d.t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			d.t.Fatal(err)
		}
		return path
	}
	der := must[[]byte](d.t)(x509.MarshalPKCS8PrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey)))
	return write("ca.pem", "CERTIFICATE", d.ca.Root().Raw), write("dev.pem", "CERTIFICATE", cert.Certificate...), write("dev.key", "PRIVATE KEY", der)
}

func (d *door) port() string { return d.addr[strings.LastIndexByte(d.addr, ':')+1:] }

func TestMosquittoClient(t *testing.T) {
	tool, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		t.Skip("mosquitto_pub (Debian: mosquitto-clients) is missing")
	}
	for _, c := range []struct{ v, qos string }{{"mqttv311", "1"}, {"mqttv311", "2"}, {"mqttv5", "1"}} {
		t.Run(c.v+", QoS "+c.qos, func(t *testing.T) {
			v := c.v
			d, _ := newLastingDoor(t)
			cert := d.enrolOld()
			d.mu.Lock()
			d.shift = 0 // an outside program reads its own clock
			d.mu.Unlock()
			ca, crt, key := d.files(cert)
			lines := []byte("not JSON\n")
			for i := range goodMessages {
				lines = append(append(lines, goodMessage(i)...), '\n')
			}
			args := []string{"-h", "localhost", "-p", d.port(), "--cafile", ca, "--cert", crt, "--key", key, "-V", v, "-q", c.qos, "-i", "mosq", "-t", "telemetry/light", "-l"}
			if v == "mqttv311" {
				args = append(args, "-c")
			} else {
				args = append(args, "-c", "-x", "600")
			}
			cmd := exec.CommandContext(t.Context(), tool, args...)
			cmd.Stdin = bytes.NewReader(lines)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			d.thousand(1)
		})
	}
}

func TestMQTTjs(t *testing.T) {
	tools := must[string](t)(filepath.Abs("../../tools/node_modules"))
	lib := filepath.Join(tools, "mqtt")
	if _, err := os.Stat(lib); err != nil {
		t.Skip("MQTT.js (npm ci in tools/) is missing")
	}
	node := filepath.Join(tools, ".bin", "node")
	if _, err := os.Stat(node); err != nil {
		if node, err = exec.LookPath("node"); err != nil {
			t.Skip("node is missing")
		}
	}
	for _, c := range []struct {
		v     string
		bytes int // of the bad message; 0: a small one that is not JSON
	}{{"4", 0}, {"5", 0}, {"4", 5 << 20}} {
		v := c.v
		t.Run(fmt.Sprintf("level %s, %d bytes", v, c.bytes), func(t *testing.T) {
			d := newDoor(t)
			cert := d.enrolOld()
			d.mu.Lock()
			d.shift = 0 // an outside program reads its own clock
			d.mu.Unlock()
			ca, crt, key := d.files(cert)
			cmd := exec.CommandContext(t.Context(), node, must[string](t)(filepath.Abs("testdata/mqttjs.cjs")))
			cmd.Env = append(os.Environ(), "MQTTJS="+lib, "MQTT_URL=mqtts://localhost:"+d.port(), "MQTT_VERSION="+v, "MQTT_CA="+ca, "MQTT_CERT="+crt, "MQTT_KEY="+key, "MQTT_BYTES="+strconv.Itoa(c.bytes))
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			var got struct{ Acked, Refused, Connects int }
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want := struct{ Acked, Refused, Connects int }{1000, 1, 1}
			if v == "4" {
				want.Acked, want.Refused = 1001, 0
			}
			if got != want {
				t.Errorf("the client counts %+v, want %+v; %s", got, want, errs.String())
			}
			why := telemetry.ReasonNotJSON
			if c.bytes > 0 {
				why = telemetry.ReasonTooLarge
			}
			d.thousandBehind(1, why)
		})
	}
}
