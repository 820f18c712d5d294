package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// childDeclaration is a product whose units have no certificate.
const childDeclaration = `
declaration: 1
product: test-contact
name: Test Contact
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
data:
  open: {stream: door, type: boolean, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  count: {stream: door, type: integer, unit: "1", range: [0, 100000], class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  rare: {stream: slow, type: integer, unit: "1", range: [0, 100000], class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
streams:
  door: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
  slow: {every: 1h, burst: 2, max_bytes: 512, on_bad: field}
interfaces:
  - {name: radio, protocol: zigbee, direction: out, auth: link-key}
network: {talks_to: [{service: gateway}]}
updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2032-12-31, afterwards: "Measures, but tells nobody."}
contacts: {security: security@northwind.example, help: help@northwind.example}
`

// hubDeclaration is testDeclaration of a product that may have up to max children.
func hubDeclaration(version, most int) string {
	s := strings.Replace(testDeclaration, "version: 1\n", fmt.Sprintf("version: %d\n", version), 1)
	return s + fmt.Sprintf("hub: {children: [test-contact], max: %d}\n", most)
}

const because = "a test wants it"

// home of hubs: a server with both declarations in force.
func startHubs(t testing.TB) *live {
	t.Helper()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, hubDeclaration(1, 8))
	l.publish(t, childDeclaration)
	return l
}

func (l *live) addChild(t testing.TB, hub, child core.DeviceID) api.Device {
	t.Helper()
	var d api.Device
	l.call(t, "POST", "/v1/devices/"+string(hub)+"/children", api.ChildRequest{Child: child, Product: "test-contact", Reason: because}, &d)
	return d
}

func (l *live) moveChild(t testing.TB, child, hub core.DeviceID) {
	t.Helper()
	l.call(t, "POST", "/v1/devices/"+string(child)+"/move", api.MoveRequest{Hub: hub, Reason: because}, nil)
}

// counts that a child's readings have, in the order of reading.
func (l *live) countsOf(t testing.TB, child core.DeviceID) []string {
	t.Helper()
	lines, err := l.readAll(t, child)
	if err != nil {
		t.Fatalf("read %s: %v", child, err)
	}
	var out []string
	for _, x := range lines {
		out = append(out, string(x.VouchedBy)+string(x.Values))
	}
	return out
}

const noChild = 0x87

// TestChildrenOfHubs tells the story of a child: registered under a hub, its
// messages judged by its own declaration and shown with who vouched for them,
// moved, removed and adopted again. At every step the other hubs, and ids that
// nobody has, get the one answer.
func TestChildrenOfHubs(t *testing.T) {
	l := startHubs(t)
	one, two := l.enrol(t, "H1"), l.enrol(t, "H2")
	a, b := dialMQTT(t, l, one), dialMQTT(t, l, two)
	refuses := func(m *mqttClient, who string) {
		t.Helper()
		if code, err := m.try("child/K1/telemetry/door", `{"count":1}`); code != noChild {
			t.Errorf("%s speaks for K1: 0x%02x %v, want 0x%02x", who, code, err, noChild)
		}
		if code, err := m.try("child/NEVER/telemetry/door", `{"count":1}`); code != noChild {
			t.Errorf("%s speaks for nobody: 0x%02x %v, want 0x%02x", who, code, err, noChild)
		}
	}
	refuses(a, "a hub before")
	d := l.addChild(t, "H1", "K1")
	if d.State != "child" || d.Hub != "H1" || d.Subject == "" || d.Certificate != "" {
		t.Fatalf("the child is %+v", d)
	}
	refuses(b, "another hub")
	a.publish(t, "child/K1/telemetry/door", `{"count":1,"open":true,"temp":3}`) // temp is the hub's field, not the child's
	a.publish(t, "telemetry/climate", `{"temp":21}`)
	if got := l.countsOf(t, "K1"); len(got) != 1 || got[0] != `H1{"count":1,"open":true}` {
		t.Errorf("K1 has %v", got)
	}
	if got := l.countsOf(t, "H1"); len(got) != 1 || got[0] != `{"temp":21}` {
		t.Errorf("the hub has %v", got)
	}
	// The child's own declaration, and its own rates.
	for what, c := range map[string]struct {
		topic, payload string
		code           byte
	}{
		"a stream of the hub":   {"child/K1/telemetry/climate", `{"temp":1}`, 0x90},
		"no field of the child": {"child/K1/telemetry/door", `{"temp":1}`, 0x99},
	} {
		if code, err := a.try(c.topic, c.payload); code != c.code {
			t.Errorf("%s: 0x%02x %v, want 0x%02x", what, code, err, c.code)
		}
	}
	var codes []byte
	for range 3 {
		code, _ := a.try("child/K1/telemetry/slow", `{"rare":1}`)
		codes = append(codes, code)
	}
	if codes[0] != 0 || codes[1] != 0 || codes[2] != 0x97 {
		t.Errorf("three messages of a stream with a burst of two: %x", codes)
	}

	// A move counts from its commit, also for the session that is open.
	l.moveChild(t, "K1", "H2")
	refuses(a, "the hub before a move")
	b.publish(t, "child/K1/telemetry/door", `{"count":2}`)
	d = api.Device{}
	l.call(t, "POST", "/v1/devices/K1/remove", api.ReasonRequest{Reason: because}, &d)
	if d.State != "no-hub" || d.Hub != "" {
		t.Errorf("removed, it is %+v", d)
	}
	refuses(a, "a hub after the removal")
	refuses(b, "the hub after the removal")
	l.call(t, "POST", "/v1/devices/H1/children/adopt", api.ChildRequest{Child: "K1", Reason: because}, nil)
	refuses(b, "the hub before the adoption")
	a.publish(t, "child/K1/telemetry/door", `{"count":3}`)
	if got := l.countsOf(t, "K1"); fmt.Sprint(got[:1], got[len(got)-2:]) != `[H1{"count":1,"open":true}] [H2{"count":2} H1{"count":3}]` {
		t.Errorf("K1 has %v", got)
	}
}

// TestNumbersAfterAMove: two hubs count for one child, and both begin at one.
// Not a reading of the second may pass for one of the first; what either sends
// twice is stored once.
func TestNumbersAfterAMove(t *testing.T) {
	l := startHubs(t)
	one, two := l.enrol(t, "H1"), l.enrol(t, "H2")
	l.addChild(t, "H1", "K1")
	send := func(m *mqttClient, from int) {
		for n := range 3 {
			m.publish(t, "child/K1/telemetry/door", fmt.Sprintf(`{"count":%d,"boot":1,"seq":%d}`, from+n, n+1))
			m.publish(t, "child/K1/telemetry/door", fmt.Sprintf(`{"count":%d,"boot":1,"seq":%d}`, from+n, n+1)) // again
		}
	}
	a := dialMQTT(t, l, one)
	send(a, 10)
	l.moveChild(t, "K1", "H2")
	send(dialMQTT(t, l, two), 20)
	l.moveChild(t, "K1", "H1") // and back: a link of its own again
	send(a, 30)
	want := `[H1{"count":10} H1{"count":11} H1{"count":12} H2{"count":20} H2{"count":21} H2{"count":22} H1{"count":30} H1{"count":31} H1{"count":32}]`
	got := l.countsOf(t, "K1")
	if fmt.Sprint(got) != want {
		t.Errorf("K1 has\n%v, want\n%v", got, want)
	}
	var d api.Device
	l.call(t, "GET", "/v1/devices/K1", nil, &d)
	if d.Counts.Duplicates != 9 || d.Counts.Stored != 9 {
		t.Errorf("counted %+v; want 9 stored and 9 that came again", *d.Counts)
	}
}

// TestHubEndsAndChildStays: with the hub's owner the links end, and nothing of
// the child; with a child's owner its own link ends, and nothing of the hub or
// of the other children.
func TestHubEndsAndChildStays(t *testing.T) {
	l := startHubs(t)
	a := dialMQTT(t, l, l.enrol(t, "H1"))
	for _, k := range []core.DeviceID{"K1", "K2"} {
		l.addChild(t, "H1", k)
		a.publish(t, "child/"+string(k)+"/telemetry/door", `{"count":1}`)
	}
	a.publish(t, "telemetry/climate", `{"temp":21}`)
	l.call(t, "POST", "/v1/devices/K1/erase", api.ReasonRequest{Reason: because}, nil)
	if _, err := l.readAll(t, "K1"); err == nil {
		t.Error("an erased child is read")
	}
	if code, _ := a.try("child/K1/telemetry/door", `{"count":2}`); code != noChild {
		t.Errorf("for a child that is nobody's: 0x%02x, want 0x%02x", code, noChild)
	}
	a.publish(t, "child/K2/telemetry/door", `{"count":2}`)
	if got := l.countsOf(t, "K2"); len(got) != 2 {
		t.Errorf("the sibling has %v", got)
	}
	if got := l.countsOf(t, "H1"); len(got) != 1 {
		t.Errorf("the hub has %v", got)
	}

	l.call(t, "POST", "/v1/devices/H1/erase", api.ReasonRequest{Reason: because}, nil)
	if got := l.countsOf(t, "K2"); len(got) != 2 || got[0] != `H1{"count":1}` {
		t.Errorf("after its hub's owner was erased K2 has %v", got)
	}
	l.call(t, "POST", "/v1/devices/H1/reopen", nil, nil)
	if code, _ := a.try("child/K2/telemetry/door", `{"count":3}`); code != noChild {
		t.Errorf("the hub in another home speaks for K2: 0x%02x, want 0x%02x", code, noChild)
	}
	a.publish(t, "telemetry/climate", `{"temp":22}`)
	l.call(t, "POST", "/v1/devices/H1/children/adopt", api.ChildRequest{Child: "K2", Reason: because}, nil)
	a.publish(t, "child/K2/telemetry/door", `{"count":4}`)
	if got := l.countsOf(t, "K2"); len(got) != 3 {
		t.Errorf("adopted again K2 has %v", got)
	}
	l.childrenProved(t, "after two erasures and an adoption")
}

// TestHubProposes: what a hub proposes is listed for people, in a bounded list,
// and becomes a child by their word alone.
func TestHubProposes(t *testing.T) {
	l := startHubs(t)
	a := dialMQTT(t, l, l.enrol(t, "H1"))
	l.enrol(t, "H2")
	l.addChild(t, "H2", "K9")
	for _, id := range []string{"K1", "K9", "H2", "H1"} {
		if code, err := a.try("child/"+id+"/propose", ""); code != 0 {
			t.Errorf("propose %s: 0x%02x %v; the answer is the same for every id", id, code, err)
		}
	}
	if code, _ := a.try("child/K1/telemetry/door", `{"count":1}`); code != noChild {
		t.Errorf("for a proposed child: 0x%02x, want 0x%02x", code, noChild)
	}
	var c api.Children
	l.call(t, "GET", "/v1/devices/H1/children", nil, &c)
	taken := map[core.DeviceID]bool{}
	for _, p := range c.Proposals {
		taken[p.Child] = p.Taken != ""
	}
	if fmt.Sprint(taken) != "map[H1:true H2:true K1:false K9:true]" || len(c.Children) != 0 {
		t.Errorf("H1 has %+v", c)
	}
	for child, may := range map[core.DeviceID]bool{"K9": false, "H2": false, "K7": false, "K1": true} {
		err := l.client.Call(t.Context(), "POST", "/v1/devices/H1/children/adopt", api.ChildRequest{Child: child, Product: "test-contact", Reason: because}, nil)
		if (err == nil) != may {
			t.Errorf("adopt %s: %v", child, err)
		}
	}
	a.publish(t, "child/K1/telemetry/door", `{"count":1}`)
	// Many more than the list holds; the pace ends it before.
	refused := 0
	for n := range 60 {
		if code, err := a.try(fmt.Sprintf("child/X%02d/propose", n), ""); err != nil && code != 0x97 {
			t.Fatalf("proposal %d: 0x%02x %v", n, code, err)
		} else if code == 0x97 {
			refused++
		}
	}
	l.call(t, "GET", "/v1/devices/H1/children", nil, &c)
	if len(c.Proposals) > 32 || refused < 20 {
		t.Errorf("%d proposals are listed, %d were refused", len(c.Proposals), refused)
	}
}

// TestChildRules: who may be whose child.
func TestChildRules(t *testing.T) {
	l := startHubs(t)
	l.enrol(t, "H1")
	l.enrol(t, "H2")
	l.addChild(t, "H1", "K1")
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "NEW", Product: "test-sensor"}, nil)
	must := func(what, path string, req any, reason string) {
		t.Helper()
		err := l.client.Call(t.Context(), "POST", path, req, nil)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q", what, err, reason)
		}
	}
	add := func(child core.DeviceID, product core.ProductID) api.ChildRequest {
		return api.ChildRequest{Child: child, Product: product, Reason: because}
	}
	must("the id of a device", "/v1/devices/H1/children", add("H2", "test-contact"), "registered")
	must("the id of a child", "/v1/devices/H2/children", add("K1", "test-contact"), "registered")
	must("a product that the hub may not have", "/v1/devices/H1/children", add("K2", "test-sensor"), "does not say that it may")
	must("under a child", "/v1/devices/K1/children", add("K2", "test-contact"), "no hub")
	must("under a hub that never enrolled", "/v1/devices/NEW/children", add("K2", "test-contact"), "belongs to nobody")
	must("under nothing", "/v1/devices/NOBODY/children", add("K2", "test-contact"), "no such hub")
	must("another hub's", "/v1/devices/H2/children/adopt", add("K1", ""), "another hub")
	must("its own", "/v1/devices/H1/children/adopt", add("K1", ""), "this hub's")
	must("without a reason", "/v1/devices/H1/children", api.ChildRequest{Child: "K2", Product: "test-contact"}, "reason")
	must("a code for a child", "/v1/devices/K1/code", nil, "no certificate")
	must("revoke a child", "/v1/devices/K1/revoke", api.WhyRequest{Cause: "test"}, "no certificate")
	must("a command to a child", "/v1/devices/K1/commands", api.CommandRequest{Name: "blink", As: "support", Reason: because}, "not brought yet")
	must("certify a child", "/v1/devices/K1/certificate", nil, "no credentials")
	must("move a device", "/v1/devices/H2/move", api.MoveRequest{Hub: "H1", Reason: because}, "no child")
	l.publish(t, hubDeclaration(2, 1))
	must("more than the declaration allows", "/v1/devices/H1/children", add("K2", "test-contact"), "as many children")
	if _, err := l.readAll(t, "K1"); err != nil {
		t.Error(err)
	}
}

// TestHubOfTheLibrary: a hub built on the device library, over real TLS, sends
// for its child, proposes another, and hears which of its words counted.
func TestHubOfTheLibrary(t *testing.T) {
	l := startHubs(t)
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	code := l.add(t, "H1")
	told := make(chan device.Refusal, 10)
	d, err := device.Open(device.Config{
		Serial: "H1", Server: "localhost:8883", EnrolServer: "localhost:8443", Roots: roots, StateDir: filepath.Join(t.TempDir(), "state"),
		EnrolmentCode: func() (string, error) { return code, nil }, Dial: (&switchboard{l: l}).dial, Refused: func(r device.Refusal) { told <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, d.Close()); err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, 20*time.Second, "enrolment", func() bool { return d.Status().Connected })
	l.addChild(t, "H1", "K1")
	for _, child := range []string{"K1", "K2"} {
		if err := d.SendFor(child, "door", device.NewReading(time.Now().Add(time.Second)).Int("count", 5)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Propose(ctx, "K2"); err != nil {
		t.Errorf("propose: %v", err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := l.countsOf(t, "K1"); len(got) != 1 || got[0] != `H1{"count":5}` {
		t.Errorf("K1 has %v", got)
	}
	if r := <-told; r.Reason != "no-child" || r.Child != "K2" && r.Child != "" {
		t.Errorf("told %+v", r)
	}
	var c api.Children
	l.call(t, "GET", "/v1/devices/H1/children", nil, &c)
	if len(c.Proposals) != 1 || c.Proposals[0].Child != "K2" {
		t.Errorf("proposals %+v", c.Proposals)
	}
}

// TestQuarantinedHub: what a hub in quarantine sends for its children gets no
// answer, like its own, whatever the id; after the release it counts again.
func TestQuarantinedHub(t *testing.T) {
	t.Parallel()
	l := startHubs(t)
	u := l.enrol(t, "H1")
	l.addChild(t, "H1", "K1")
	a := dialMQTT(t, l, u)
	a.publish(t, "child/K1/telemetry/door", `{"count":1}`)
	waitFor(t, 20*time.Second, "a quarantine, as two machines take one session from each other", func() bool {
		m, err := tryMQTTAs(t.Context(), l, u, "one")
		_, _ = m, err // whoever was thrown out comes back at the next try
		return l.device(t, "H1").State == "quarantined"
	})
	a = dialMQTTAs(t, l, u, "two")
	for _, topic := range []string{"child/K1/telemetry/door", "child/NEVER/telemetry/door", "child/NEVER/propose"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		r, err := a.c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(`{"count":2}`)})
		cancel()
		if err == nil {
			t.Errorf("in quarantine %s is answered: %+v", topic, r)
		}
	}
	must := l.client.Call(t.Context(), "POST", "/v1/devices/H1/children", api.ChildRequest{Child: "K2", Product: "test-contact", Reason: because}, nil)
	wantReason(t, "a child for a hub in quarantine", must, core.Conflict, "quarantine")
	l.call(t, "POST", "/v1/devices/H1/release", api.WhyRequest{Cause: "false-alarm"}, nil)
	dialMQTTAs(t, l, u, "three").publish(t, "child/K1/telemetry/door", `{"count":3}`)
	if got := l.countsOf(t, "K1"); len(got) != 2 {
		t.Errorf("K1 has %v", got)
	}
}

// TestServiceReadsAChild: a service reads a child's readings as such, and is not
// told of which hub.
func TestServiceReadsAChild(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, hubDeclaration(1, 8))
	l.publish(t, strings.NewReplacer(
		"readers: [owner, support], when_done: shred}\n  count", "readers: [owner, support, \"service:app-backend\"], when_done: shred}\n  count",
		"\nstreams:", "\nservices:\n  app-backend: {what: \"Shows it in the app.\", purposes: [service.control]}\nstreams:",
	).Replace(childDeclaration))
	m := dialMQTT(t, l, l.enrol(t, "H1"))
	l.addChild(t, "H1", "K1")
	p := l.service(t, "app-backend")
	m.publish(t, "child/K1/telemetry/door", `{"open":true}`)
	var body []byte
	waitFor(t, 10*time.Second, "the child's reading in the stream", func() bool {
		resp, err := p.hc.Get("https://" + p.addr + "/service/v1/stream/test-contact")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %v\n%s", resp.Status, err, body)
		}
		return strings.Contains(string(body), `"open":true`)
	})
	if !strings.Contains(string(body), `"flags":["wrong-clock","vouched-for-by-hub"]`) || strings.Contains(string(body), `"H1"`) || strings.Contains(string(body), `"K1"`) {
		t.Errorf("the stream says\n%s", body)
	}
}

// TestChildAndLegacyDoor: a child gets no credential of the maker's, either, and
// a hub that came by one speaks for itself alone.
func TestChildAndLegacyDoor(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	const door = "legacy: {auth: device-token, until: 2030-01-01, max_devices: 5}\n"
	l.publish(t, hubDeclaration(1, 8)+door)
	l.publish(t, childDeclaration+door)
	l.enrol(t, "H1")
	l.addChild(t, "H1", "K1")
	add := func(product, list string) error {
		return l.client.Call(t.Context(), "POST", "/v1/products/"+product+"/legacy/tokens", api.AddTokensRequest{List: list, Reason: "test"}, nil)
	}
	wantReason(t, "a token for a child", add("test-contact", "K1,a-token-of-the-old-fleet-0123456789\n"), core.Conflict, "is a child")
	if err := add("test-sensor", "H9,another-token-of-the-old-fleet-0123456789\n"); err != nil {
		t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: l.tls(nil)}).DialContext(t.Context(), "tcp", l.addr.Devices)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := c.Connect(t.Context(), &paho.Connect{KeepAlive: 30, CleanStart: true, UsernameFlag: true, PasswordFlag: true, Username: "H9", Password: []byte("another-token-of-the-old-fleet-0123456789")}); err != nil {
		t.Fatal(err)
	}
	l.addChild(t, "H9", "K9")
	for _, topic := range []string{"child/K9/telemetry/door", "child/K8/propose"} {
		r, _ := c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(`{"count":1}`)})
		if r == nil || r.ReasonCode != noChild {
			t.Errorf("a hub with a token, on %s: %+v, want 0x%02x", topic, r, noChild)
		}
	}
	if r, err := c.Publish(t.Context(), &paho.Publish{Topic: "telemetry/climate", QoS: 1, Payload: []byte(`{"temp":1}`)}); err != nil {
		t.Errorf("its own reading: %+v, %v", r, err)
	}
}
