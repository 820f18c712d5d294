package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho311 "github.com/eclipse/paho.mqtt.golang"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// commandDeclaration can be told some things.
var commandDeclaration = strings.Replace(testDeclaration, "interfaces:\n", `commands:
  blink: {params: {seconds: {type: integer, unit: s, range: [1, 60]}, mode: {type: enum, values: [slow, fast]}}, by: [owner, support], risky: false}
  melt: {by: [support], risky: true}
  paint: {by: [owner], risky: false}
interfaces:
`, 1)

func (l *live) give(t testing.TB, id core.DeviceID, seconds string) api.Command {
	t.Helper()
	var c api.Command
	l.call(t, "POST", "/v1/devices/"+string(id)+"/commands", api.CommandRequest{
		Name: "blink", Params: json.RawMessage(`{"seconds":` + seconds + `,"mode":"slow"}`), As: "support", Reason: "which of the two is it",
	}, &c)
	return c
}

func (l *live) ended(t testing.TB, id core.DeviceID, name string) (c api.Command) {
	t.Helper()
	waitFor(t, 10*time.Second, "an end of the command", func() bool {
		l.call(t, "GET", "/v1/devices/"+string(id)+"/commands/"+name, nil, &c)
		return c.Ended != nil
	})
	return c
}

// board is a device with the library of ours, and what it did.
type board struct {
	conf device.Config

	mu   sync.Mutex
	did  []string
	fail error
}

func (l *live) board(t testing.TB, id core.DeviceID) *board {
	t.Helper()
	code := l.add(t, id)
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &board{}
	b.conf = device.Config{
		Serial: string(id), Server: "localhost:8883", EnrolServer: "localhost:8443", Roots: roots, StateDir: filepath.Join(t.TempDir(), "s"),
		EnrolmentCode: func() (string, error) { return code, nil }, Dial: (&switchboard{l: l}).dial,
		Commands: []device.Command{{
			Name:   "blink",
			Params: []device.Param{{Name: "mode", Type: "enum", Values: []string{"slow", "fast"}}, {Name: "seconds", Type: "integer", Min: 1, Max: 30}},
			Do: func(_ context.Context, v map[string]any) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				s, err := json.Marshal(v)
				b.did = append(b.did, string(s))
				return errors.Join(err, b.fail)
			},
		}},
	}
	return b
}

// on runs the device until the function that it returns is called.
func (b *board) on(t testing.TB) func() {
	t.Helper()
	d, err := device.Open(b.conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, d.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (b *board) done() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.did...)
}

// TestCommands: a command reaches its device, is done once and within both
// sides' bounds, its outcome comes back, and all of it stands in the ledger,
// without its values in clear (CC 3.7).
func TestCommands(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, commandDeclaration)
	b := l.board(t, "A1")
	off := b.on(t)
	defer func() { off() }()
	waitFor(t, 10*time.Second, "the device", func() bool { return l.device(t, "A1").Connected })

	c := l.ended(t, "A1", l.give(t, "A1", "7").Command)
	if did := b.done(); c.State != "done" || c.Taken == nil || len(did) != 1 || did[0] != `{"mode":"slow","seconds":7}` {
		t.Fatalf("%+v, did %v", c, did)
	}
	// The device's own bound is the narrower one.
	if c := l.ended(t, "A1", l.give(t, "A1", "31").Command); c.State != "refused" || !strings.Contains(c.Said, "seconds") || len(b.done()) != 1 {
		t.Errorf("out of the device's bounds: %+v, did %v", c, b.done())
	}
	b.mu.Lock()
	b.fail = errors.New("the lamp is broken")
	b.mu.Unlock()
	if c := l.ended(t, "A1", l.give(t, "A1", "8").Command); c.State != "failed" || !strings.Contains(c.Said, "the lamp is broken") {
		t.Errorf("failed: %+v", c)
	}

	for name, r := range map[string]struct {
		api.CommandRequest
		want string
	}{
		"out of bounds":         {api.CommandRequest{Name: "blink", Params: json.RawMessage(`{"seconds":61,"mode":"slow"}`), As: "support"}, "seconds"},
		"an undeclared value":   {api.CommandRequest{Name: "blink", Params: json.RawMessage(`{"seconds":6,"mode":"slow","door":"open"}`), As: "support"}, "door"},
		"no values":             {api.CommandRequest{Name: "blink", As: "support"}, "missing"},
		"an undeclared command": {api.CommandRequest{Name: "explode", As: "support"}, "declares no command"},
		"a role without it":     {api.CommandRequest{Name: "paint", As: "support"}, "may not give paint"},
		"as the owner":          {api.CommandRequest{Name: "paint", As: "owner"}, "no role of the maker's staff"},
		"as a service":          {api.CommandRequest{Name: "paint", As: "service:app"}, "no role of the maker's staff"},
		"a risky one":           {api.CommandRequest{Name: "melt", As: "support"}, "risky"},
		"without a reason":      {api.CommandRequest{Name: "blink", Params: json.RawMessage(`{"seconds":6,"mode":"slow"}`), As: "support", Reason: "-"}, "reason"},
	} {
		if r.Reason == "" {
			r.Reason = "a test gives it"
		}
		r.Reason = strings.Trim(r.Reason, "-")
		if err := l.client.Call(t.Context(), "POST", "/v1/devices/A1/commands", r.CommandRequest, nil); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := b.done(); len(got) != 2 {
		t.Errorf("the device did %v", got)
	}

	// It waits for a device that is off, over a restart of the server; what is
	// cancelled does not.
	off()
	waits, not := l.give(t, "A1", "9"), l.give(t, "A1", "10")
	var cancelled api.Command
	l.call(t, "POST", "/v1/devices/A1/commands/"+not.Command+"/cancel", nil, &cancelled)
	if cancelled.State != "cancelled" {
		t.Errorf("cancelled: %+v", cancelled)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	b.conf.Dial = (&switchboard{l: l}).dial
	b.mu.Lock()
	b.fail = nil
	b.mu.Unlock()
	off = b.on(t)
	if c := l.ended(t, "A1", waits.Command); c.State != "done" || len(b.done()) != 3 {
		t.Errorf("after a restart: %+v, did %v", c, b.done())
	}

	var kinds []string
	for _, e := range l.commandEntries(t) {
		fact := map[string]string{}
		for _, f := range e.Facts {
			fact[f[0]] = f[1]
			if strings.Contains(f[1], "slow") || strings.Contains(f[1], "which of the two") {
				t.Errorf("the ledger has %s in clear", f[1])
			}
		}
		if e.Subject == "" || fact["command"] == "" {
			t.Errorf("%+v", e)
		}
		kinds = append(kinds, strings.TrimSpace(fact["name"]+" "+strings.TrimPrefix(e.Kind, "command-")+" "+fact["end"]))
	}
	if want := "blink given|blink ended done|blink given|blink ended refused|blink given|blink ended failed|" +
		"blink given|blink given|blink ended cancelled|blink ended done"; strings.Join(kinds, "|") != want {
		t.Errorf("the ledger has\n%s, want\n%s", strings.Join(kinds, "|"), want)
	}

	// Erasing the owner takes the commands along.
	off()
	l.give(t, "A1", "11")
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "a test erases"}, nil)
	var left []api.Command
	l.call(t, "GET", "/v1/devices/A1/commands", nil, &left)
	if len(left) != 0 {
		t.Errorf("after the erasure there are %+v", left)
	}
	if err := l.client.Call(t.Context(), "POST", "/v1/devices/A1/commands", api.CommandRequest{Name: "blink", Params: json.RawMessage(`{"seconds":6,"mode":"slow"}`), As: "support", Reason: "nobody's device"}, nil); err == nil || !strings.Contains(err.Error(), "belongs to nobody") {
		t.Errorf("a command to nobody's device: %v", err)
	}
}

// commandEntries are the ledger's records of commands, in order.
func (l *live) commandEntries(t testing.TB) (out []api.Entry) {
	t.Helper()
	for _, kind := range []core.RecordKind{command.RecordGiven, command.RecordEnded} {
		var page api.Entries
		l.call(t, "GET", "/v1/ledger/entries?from=0&kind="+string(kind), nil, &page)
		out = append(out, page.Entries...)
	}
	slices.SortFunc(out, func(a, b api.Entry) int { return cmp.Compare(a.Position, b.Position) })
	return out
}

// TestCommandsToStockClients: a 3.1.1 client with a persistent session gets what
// waited, with the session's own packet identifiers again when it did not
// acknowledge; mosquitto_sub needs nothing but its certificate.
func TestCommandsToStockClients(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, commandDeclaration)
	u := l.enrol(t, "old")
	connect := func(heard func(paho311.Message)) paho311.Client {
		t.Helper()
		o := paho311.NewClientOptions().AddBroker("ssl://" + l.addr.Devices).SetTLSConfig(l.tls(u)).SetClientID("one").SetCleanSession(false).SetAutoReconnect(false).SetProtocolVersion(4).
			SetAutoAckDisabled(true).SetResumeSubs(false).SetDefaultPublishHandler(func(_ paho311.Client, m paho311.Message) { heard(m) })
		c := paho311.NewClient(o)
		if k := c.Connect(); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
			t.Fatal(k.Error())
		}
		return c
	}
	var mu sync.Mutex
	var got []paho311.Message
	hear := func(m paho311.Message) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m)
	}
	heard := func() []paho311.Message {
		mu.Lock()
		defer mu.Unlock()
		return append([]paho311.Message(nil), got...)
	}
	c := connect(hear)
	if k := c.Subscribe("command/#", 1, nil); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
		t.Fatal(k.Error())
	}
	one := l.give(t, "old", "1")
	waitFor(t, 10*time.Second, "the command", func() bool { return len(heard()) == 1 })
	first := heard()[0]
	if first.Topic() != "command/blink/"+one.Command || first.Qos() != 1 || first.Duplicate() || !strings.Contains(string(first.Payload()), `"params":{"mode":"slow","seconds":1}`) {
		t.Errorf("%s at %d, %s", first.Topic(), first.Qos(), first.Payload())
	}
	c.Disconnect(100) // without the acknowledgement
	waitFor(t, 10*time.Second, "the end of the session", func() bool { return !l.device(t, "old").Connected })
	two := l.give(t, "old", "2")
	c = connect(hear) // does not subscribe again: its session is kept
	waitFor(t, 10*time.Second, "both commands", func() bool { return len(heard()) == 3 })
	again, next := heard()[1], heard()[2]
	if again.MessageID() != first.MessageID() || !again.Duplicate() || again.Topic() != first.Topic() || next.Topic() != "command/blink/"+two.Command || next.Duplicate() || next.MessageID() == again.MessageID() {
		t.Errorf("again %s %d %t, then %s %d %t", again.Topic(), again.MessageID(), again.Duplicate(), next.Topic(), next.MessageID(), next.Duplicate())
	}
	again.Ack()
	next.Ack()
	if k := c.Publish("command/blink/reply/"+one.Command, 1, false, `{"outcome":"done","text":"blinked"}`); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
		t.Fatal(k.Error())
	}
	if x := l.ended(t, "old", one.Command); x.State != "done" || x.Said != "blinked" {
		t.Errorf("%+v", x)
	}
	var x api.Command
	waitFor(t, 10*time.Second, "the second to be taken", func() bool {
		l.call(t, "GET", "/v1/devices/old/commands/"+two.Command, nil, &x)
		return x.State == "taken"
	})
	c.Disconnect(100)
	c = connect(hear)
	time.Sleep(300 * time.Millisecond)
	if n := len(heard()); n != 3 {
		t.Errorf("after the acknowledgement %d messages came again", n-3)
	}
	// Of somebody else's command, or one that is over, nothing is taken.
	other := l.enrol(t, "other")
	m := dialMQTT(t, l, other)
	for topic, payload := range map[string]string{
		"command/blink/reply/" + two.Command: `{"outcome":"done"}`, "command/blink/reply/cnone": `{"outcome":"done"}`, "devices/old/command/blink/reply/" + two.Command: `{"outcome":"done"}`,
	} {
		if code, err := m.try(topic, payload); code < 0x80 {
			t.Errorf("another device answers %s: %#x, %v", topic, code, err)
		}
	}
	m.close(t)
	if l.call(t, "GET", "/v1/devices/old/commands/"+two.Command, nil, &x); x.State != "taken" {
		t.Errorf("after the strangers' answers: %+v", x)
	}
	c.Disconnect(100)

	// The session outlives the server, with what waited meanwhile; a clean one
	// ends it for good.
	three := l.give(t, "old", "3")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	c = connect(hear)
	waitFor(t, 10*time.Second, "the third command", func() bool { return len(heard()) == 4 })
	if third := heard()[3]; third.Topic() != "command/blink/"+three.Command {
		t.Errorf("after a restart: %s", third.Topic())
	}
	c.Disconnect(100)
	m = dialMQTTAs(t, l, u, "one")
	m.close(t)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	c = connect(hear)
	time.Sleep(300 * time.Millisecond)
	if n := len(heard()); n != 4 {
		t.Errorf("a session that was ended by a clean start is back: %d messages", n)
	}
	c.Disconnect(100)

	sub := need(t, "mosquitto_sub", "Debian (mosquitto-clients)")
	for _, version := range []string{"5", "311"} {
		id := core.DeviceID("sub-" + version)
		u := l.enrol(t, id)
		c := l.give(t, id, "3")
		out, err := exec.CommandContext(t.Context(), sub, "-V", version, "-h", "localhost", "-p", port(t, l.addr.Devices), "--cafile", u.rootsFile, "--cert", u.certFile, "--key", u.keyFile,
			"-q", "1", "-t", "command/#", "-C", "1", "-W", "20", "-F", "%t %p").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "command/blink/"+c.Command+" {") {
			t.Errorf("mosquitto_sub -V %s: %v, %s", version, err, out)
		}
	}
}

// TestCommandFlow: no more is under way than the client takes (MQTT 5.0, section
// 4.9); what is over never arrives; at QoS 0 it is sent once a session until it
// is answered.
func TestCommandFlow(t *testing.T) {
	var skew atomic.Int64
	home := newHome(t, core.Test, "")
	l := startAt(t, home, home, func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
	l.publish(t, commandDeclaration)
	u := l.enrol(t, "A1")
	var mu sync.Mutex
	var got []*paho.Publish
	hear := func(p paho.PublishReceived) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, p.Packet)
		return true, nil
	}
	heard := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	connect := func(most uint16, qos byte) *paho.Client {
		t.Helper()
		d := tls.Dialer{NetDialer: &net.Dialer{}, Config: l.tls(u)}
		conn, err := d.DialContext(t.Context(), "tcp", l.addr.Devices)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), EnableManualAcknowledgment: true, OnPublishReceived: []func(paho.PublishReceived) (bool, error){hear}})
		if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: "one", KeepAlive: 30, CleanStart: true, Properties: &paho.ConnectProperties{ReceiveMaximum: &most}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "devices/A1/command/#", QoS: qos}}}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var given []api.Command
	for range 5 {
		given = append(given, l.give(t, "A1", "1"))
	}
	c := connect(2, 1)
	waitFor(t, 10*time.Second, "two commands", func() bool { return heard() == 2 })
	time.Sleep(200 * time.Millisecond)
	if n := heard(); n != 2 {
		t.Fatalf("%d are under way, the client takes 2", n)
	}
	for i := range 3 {
		mu.Lock()
		p := got[i]
		mu.Unlock()
		if p.Topic != "devices/A1/command/blink/"+given[i].Command || p.Properties == nil || p.Properties.MessageExpiry == nil || *p.Properties.MessageExpiry < 86000 {
			t.Errorf("message %d: %s, %+v", i, p.Topic, p.Properties)
		}
		if err := c.Ack(p); err != nil {
			t.Fatal(err)
		}
		waitFor(t, 10*time.Second, "the next command", func() bool { return heard() == min(5, i+3) })
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	// Two were sent and not acknowledged; a new session gets them anew.
	mu.Lock()
	got = nil
	mu.Unlock()
	for range 2 {
		c = connect(20, 0)
		waitFor(t, 10*time.Second, "two commands at QoS 0", func() bool { return heard() == 2 })
		mu.Lock()
		if got[0].QoS != 0 || got[0].Topic != "devices/A1/command/blink/"+given[3].Command {
			t.Errorf("at QoS %d: %s", got[0].QoS, got[0].Topic)
		}
		got = nil
		mu.Unlock()
		if err := c.Disconnect(&paho.Disconnect{}); err != nil {
			t.Fatal(err)
		}
	}
	skew.Store(int64(25 * time.Hour))
	l.confirmClock(t) // it jumped: nothing ends by it before
	if x := l.ended(t, "A1", given[3].Command); x.State != "expired" || x.Taken != nil {
		t.Errorf("after its time: %+v", x)
	}
	if x := l.ended(t, "A1", given[0].Command); x.State != "unanswered" || x.Taken == nil {
		t.Errorf("taken, and never answered: %+v", x)
	}
	// No more than a few wait for one device.
	var err error
	for range 20 {
		if err = l.client.Call(t.Context(), "POST", "/v1/devices/A1/commands", api.CommandRequest{Name: "blink", Params: json.RawMessage(`{"seconds":6,"mode":"slow"}`), As: "support", Reason: "a test gives many"}, nil); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "16 commands wait") {
		t.Errorf("twenty commands: %v", err)
	}
}
