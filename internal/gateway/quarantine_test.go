package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	paho311 "github.com/eclipse/paho.mqtt.golang"

	unit "github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/est"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// renew gives the holder of a certificate the next one, as EST would.
func (d *door) renew(c tls.Certificate) tls.Certificate {
	d.t.Helper()
	key, csr := newCSR(d.t)
	leaf := must[*x509.Certificate](d.t)(x509.ParseCertificate(c.Certificate[0]))
	chain, err := d.ids.Renew(d.t.Context(), leaf, csr)
	if err != nil {
		d.t.Fatal(err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}
}

func (d *door) deviceState(id core.DeviceID) identity.DeviceState {
	d.t.Helper()
	dev, err := d.ids.Device(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return dev.State
}

// TestRefreshOfASupersededSessionAccusesNobody: a look at a live session whose
// certificate was just replaced is no handshake, so it is no sign of a copy: the
// session ends, and the device keeps its good name (CC 3.2).
func TestRefreshOfASupersededSessionAccusesNobody(t *testing.T) {
	d := newDoor(t)
	old := d.enrol("A1")
	d.connect(old, mqtt.V5, "x")
	before := d.g.table.find("A1").live()
	next := d.renew(old)
	now := d.connect(next, mqtt.V5, "y") // the old session is told to end
	for _, c := range before {
		c.refresh() // as one that began with an earlier change comes late
	}
	if got := d.deviceState("A1"); got == identity.StateQuarantined {
		t.Error("an innocent device is in quarantine")
	}
	now.publish(1, "telemetry/light", level(1))
	if got := now.acked(1); got != 0 {
		t.Errorf("its new session's reading: %#x", got)
	}
}

// TestCopiedCertificateHoldsBoth: whoever connects with the certificate before
// the present one has a copy or is the original; both stay connected, and
// neither's readings get an answer, until a person has looked (CC 3.2; design,
// section 5, Identity).
func TestCopiedCertificateHoldsBoth(t *testing.T) {
	d := newDoor(t)
	old := d.enrol("A1")
	d.connect(old, mqtt.V5, "x")
	next := d.renew(old)
	honest := d.connect(next, mqtt.V5, "honest")
	honest.publish(1, "telemetry/light", level(1))
	if got := honest.acked(1); got != 0 {
		t.Fatalf("before the copy: %#x", got)
	}
	clone := d.connect(old, mqtt.V5, "clone")
	if got := d.deviceState("A1"); got != identity.StateQuarantined {
		t.Fatalf("state %s", got)
	}
	d.g.Refresh("A1")
	clone.publish(1, "telemetry/light", level(2))
	honest.publish(2, "telemetry/light", level(3))
	eventually(t, "both are held", func() bool { return d.g.Stats().Withheld == 2 })
	for name, c := range map[string]*client{"the copy": clone, "the device": honest} {
		c.write(&mqtt.Packet{Type: mqtt.PINGREQ})
		if p := c.read(); p.Type != mqtt.PINGRESP {
			t.Errorf("%s was answered %v", name, p.Type)
		}
	}
	if _, err := d.ids.Release(t.Context(), staff, "A1", identity.Why{Text: "the copy was found"}); err != nil {
		t.Fatal(err)
	}
	clone.closed()
	honest.closed()
	again := d.connect(next, mqtt.V5, "honest")
	again.publish(2, "telemetry/light", level(3))
	if got := again.acked(2); got != 0 {
		t.Errorf("after the release: %#x", got)
	}
	got, refused := d.stored()
	if len(got) != 2 || len(refused) != 0 {
		t.Errorf("%d readings and %d refusals, want 2 and 0", len(got), len(refused))
	}
	for i := range got {
		if s := d.sender(&got[i]); s != telemetry.Sender(d.g.table.find("A1").live()[0].serial) {
			t.Errorf("a reading of %x was stored", s)
		}
	}
}

// quarantine puts a device there and waits until its sessions know.
func (d *door) quarantine(id core.DeviceID) {
	d.t.Helper()
	if err := d.ids.Suspect(d.t.Context(), id, "two-places"); err != nil {
		d.t.Fatal(err)
	}
	d.g.Refresh(id)
}

func (d *door) release(id core.DeviceID) {
	d.t.Helper()
	if _, err := d.ids.Release(d.t.Context(), staff, id, identity.Why{Text: "looked at"}); err != nil {
		d.t.Fatal(err)
	}
	d.g.Refresh(id) // what follows the change may still be at work
}

// A quarantine is no cut: readings get no answer, and everything else goes on,
// in the order in which it came. A session in which nothing was withheld goes
// on after the release (decision 004).
func TestQuarantineWithholdsOnlyReadings(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		d := newDoor(t)
		cert := d.enrol("A1")
		c, other := d.connect(cert, v, "x"), d.connect(cert, v, "silent")
		c.publish(1, "telemetry/light", level(1))
		if got := c.acked(1); got != 0 {
			t.Fatalf("before: %#x", got)
		}
		d.quarantine("A1")
		for i := range uint16(3 * window) { // more than may be undecided
			if v == mqtt.V5 && i == window-1 {
				break // what a 5.0 client may leave open, less one
			}
			c.publish(100+i, "telemetry/light", level(int(i)))
		}
		c.publish(50, "state", "{}")
		c.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 51, Filters: []mqtt.Filter{{Topic: []byte("update")}}})
		want := mqtt.ImplementationSpecificError
		if v == mqtt.V311 {
			want = 0
		}
		p, q := c.read(), c.read()
		if p.Type == mqtt.SUBACK {
			p, q = q, p // the refusal of the other waits for the disk
		}
		if p.Type != mqtt.PUBACK || p.ID != 50 || p.Code != want || q.Type != mqtt.SUBACK || q.Codes[0].Failed() {
			t.Errorf("%v: the other topics: %v %d %#x, %v %v", v, p.Type, p.ID, p.Code, q.Type, q.Codes)
		}
		c.write(&mqtt.Packet{Type: mqtt.PUBLISH, Topic: []byte("telemetry/light"), Payload: []byte(level(7))}) // QoS 0
		eventually(t, "refused for good", func() bool { return d.g.Stats().RefusedBy[string(telemetry.ReasonQuarantined)] == 1 })

		d.release("A1")
		code := mqtt.AdministrativeAction
		if v == mqtt.V311 {
			code = 0
		}
		if got := c.closed(); got != code {
			t.Errorf("%v: told %#x at the release, want %#x", v, got, code)
		}
		other.publish(1, "telemetry/light", level(2))
		if got := other.acked(1); got != 0 {
			t.Errorf("%v: the session without withheld messages: %#x", v, got)
		}
		if got, _ := d.stored(); len(got) != 2 {
			t.Errorf("%v: %d readings stored, want 2", v, len(got))
		}
	}
}

// What a quarantine kept a device from sending it may make up for: the time
// counts like time away, also when the connection was lost in between.
func TestQuarantineCostsNoRate(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	c := d.connect(cert, mqtt.V5, "x")
	for i := range uint16(2) { // the burst of one an hour
		c.publish(i+1, "telemetry/slow", `{"tick":1}`)
		if got := c.acked(i + 1); got != 0 {
			t.Fatalf("before: %#x", got)
		}
	}
	d.quarantine("A1")
	c.publish(3, "telemetry/slow", `{"tick":2}`)
	eventually(t, "held", func() bool { return d.g.Stats().Withheld == 1 })
	d.advance(3 * time.Hour)
	c.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
	c.closed()
	eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
	c = d.connect(cert, mqtt.V5, "x")
	c.publish(3, "telemetry/slow", `{"tick":2}`)
	eventually(t, "held again", func() bool { return d.g.Stats().Withheld == 2 })
	d.advance(3 * time.Hour)
	d.release("A1")
	c.closed()
	eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
	c = d.connect(cert, mqtt.V5, "x")
	passed := 0
	for i := range uint16(10) {
		c.publish(i+1, "telemetry/slow", `{"tick":2}`)
		if c.acked(i+1) == 0 {
			passed++
		}
	}
	if passed != 6 {
		t.Errorf("%d readings of six hours passed, want 6", passed)
	}
}

// The same in a session that sent nothing meanwhile and goes on.
func TestQuarantineCostsNoRateInALiveSession(t *testing.T) {
	d := newDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	send := func(n uint16) mqtt.ReasonCode {
		c.publish(n, "telemetry/slow", `{"tick":1}`)
		return c.acked(n)
	}
	for i := range uint16(3) { // the burst of one an hour, and one more
		send(i + 1)
	}
	d.quarantine("A1")
	d.advance(5 * time.Hour)
	d.release("A1")
	d.g.release("A1") // the first may still be at work
	passed := 0
	for i := range uint16(10) {
		if send(10+i) == 0 {
			passed++
		}
	}
	if passed != 5 {
		t.Errorf("%d readings of five hours passed, want 5", passed)
	}
}

// A persistent 3.1.1 client, as it is sold, keeps what got no answer and
// delivers it after the release.
func TestPaho311SitsOutAQuarantine(t *testing.T) {
	d := newDoor(t)
	opts := paho311.NewClientOptions().AddBroker("ssl://" + d.addr).SetTLSConfig(d.config(d.enrol("A1"))).
		SetClientID("paho").SetCleanSession(false).SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond)
	c := paho311.NewClient(opts)
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	defer c.Disconnect(100)
	d.quarantine("A1")
	var tokens []paho311.Token
	for i := range 20 {
		tokens = append(tokens, c.Publish("telemetry/light", 1, false, goodMessage(i)))
	}
	eventually(t, "held", func() bool { return d.g.Stats().Withheld == 20 })
	d.release("A1")
	for i, tok := range tokens {
		if !tok.WaitTimeout(20*time.Second) || tok.Error() != nil {
			t.Fatalf("message %d has no answer: %v", i, tok.Error())
		}
	}
	eventually(t, "all have arrived", func() bool { got, _ := d.stored(); return len(got) >= 20 })
	d.twenty()
}

// twenty checks that 20 readings were stored, each once, and none refused.
func (d *door) twenty() {
	d.t.Helper()
	got, refused := d.stored()
	seen := map[uint64]int{}
	for _, r := range got {
		seen[r.Seq]++
	}
	if len(got) != 20 || len(seen) != 20 || len(refused) != 0 {
		d.t.Errorf("%d readings of %d numbers stored, %d refusals; want 20, 20 and 0", len(got), len(seen), len(refused))
	}
}

// agent is the device library as a maker uses it, not enrolled yet.
type agent struct {
	*unit.Device
	told chan unit.Refusal
}

func (d *door) agent(id core.DeviceID) *agent {
	d.t.Helper()
	t := d.t
	code := must[string](t)(d.ids.AddDevice(t.Context(), staff, "lamp", id))
	a := &agent{told: make(chan unit.Refusal, 100)}
	a.Device = must[*unit.Device](t)(unit.Open(unit.Config{
		Serial: string(id), Server: d.addr, EnrolServer: d.estDoor(), ServerName: "localhost", StateDir: t.TempDir(), Window: 8,
		Roots:         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.ca.Root().Raw}),
		EnrolmentCode: func() (string, error) { return code, nil },
		Refused:       func(r unit.Refusal) { a.told <- r },
	}))
	return a
}

// run keeps the agent at work until the test ends.
func (a *agent) run(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
		_ = a.Close() // the folder goes too
	})
}

func (a *agent) send(t *testing.T, at time.Time, n int) {
	t.Helper()
	if err := a.Send("light", unit.NewReading(at).Int("level", int64(n))); err != nil {
		t.Fatal(err)
	}
}

// The device library tells its program that it is held, keeps what it is given,
// and delivers all of it after the release.
func TestDeviceLibrarySitsOutAQuarantine(t *testing.T) {
	d := newDoor(t)
	a := d.agent("A1")
	a.run(t)
	eventually(t, "connected", func() bool { return a.Status().Connected })
	d.quarantine("A1")
	for i := range 10 {
		a.send(t, time.Now(), i)
	}
	eventually(t, "held", func() bool { return a.Status().Held })
	for i := range 10 {
		a.send(t, time.Now(), 10+i)
	}
	if r := <-a.told; !r.Held || r.Reason != string(telemetry.ReasonQuarantined) || r.Text == "" {
		t.Errorf("the program was told %+v", r)
	}
	if st := a.Status(); st.Queued != 20 || st.Refused != 0 || !st.Connected {
		t.Errorf("in quarantine: %+v", st)
	}
	d.release("A1")
	eventually(t, "the queue is empty", func() bool { return a.Status().Queued == 0 })
	if st := a.Status(); st.Held || st.Refused != 0 || len(a.told) != 0 {
		t.Errorf("after the release: %+v; told %d more times", st, len(a.told))
	}
	d.twenty()
}

// What a unit measured before its first enrolment has no owner and is not kept;
// its program is told so, and what comes after is kept.
func TestReadingsBeforeEnrolmentAreNotKeptAndTheDeviceIsTold(t *testing.T) {
	d := newDoor(t)
	a := d.agent("A1")
	for i := range 3 {
		a.send(t, time.Now().Add(-time.Hour), i)
	}
	a.run(t)
	eventually(t, "decided", func() bool { return a.Status().Queued == 0 })
	a.send(t, time.Now(), 7)
	eventually(t, "decided", func() bool { return a.Status().Queued == 0 })
	for told := 0; told < 3; {
		select {
		case r := <-a.told:
			if r.Reason != string(telemetry.ReasonBeforeOwner) || r.Text == "" || r.Stream != "light" {
				t.Errorf("the program was told %+v", r)
			}
			told += r.Count
		case <-time.After(20 * time.Second):
			t.Fatalf("the program was told of %d readings, not of 3", told)
		}
	}
	if got, _ := d.stored(); len(got) != 1 {
		t.Errorf("%d readings stored, want 1", len(got))
	}
}

// estDoor opens the enrolment door and gives its address.
func (d *door) estDoor() string {
	d.t.Helper()
	h := must[http.Handler](d.t)(est.New(est.Deps{Identity: d.ids, Bundle: d.ca.Bundle, Log: slog.New(slog.DiscardHandler)}))
	cert := must[*identity.ServerCertificate](d.t)(identity.NewServerCertificate(d.ca, []string{"localhost", "127.0.0.1"}))
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{GetCertificate: cert.GetCertificate, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	d.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
