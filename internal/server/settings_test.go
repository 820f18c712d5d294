package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho311 "github.com/eclipse/paho.mqtt.golang"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// settingDeclaration has things that can be set.
var settingDeclaration = strings.Replace(testDeclaration, "interfaces:\n", `settings:
  display: {type: enum, values: [dim, bright], default: dim, class: public, keep: 30d, by: [owner, support], risky: false}
  night: {type: number, unit: Cel, range: [10, 20], default: 16, class: personal, keep: 30d, by: [owner, support], risky: false}
  heat: {type: boolean, default: false, class: personal, keep: 30d, by: [support], risky: true}
interfaces:
`, 1)

func (l *live) set(t testing.TB, id core.DeviceID, values string) (s api.DeviceSettings) {
	t.Helper()
	l.call(t, "POST", "/v1/devices/"+string(id)+"/settings", api.SettingsRequest{Values: json.RawMessage(values), As: "support", Reason: "a test sets it"}, &s)
	return s
}

func (l *live) settings(t testing.TB, id core.DeviceID) (s api.DeviceSettings) {
	t.Helper()
	l.call(t, "GET", "/v1/devices/"+string(id)+"/settings", nil, &s)
	return s
}

func (l *live) settled(t testing.TB, id core.DeviceID, state string) (s api.DeviceSettings) {
	t.Helper()
	waitFor(t, 10*time.Second, "settings that are "+state, func() bool {
		s = l.settings(t, id)
		return s.State == state
	})
	return s
}

// setClient is a stock client of MQTT 3.1.1 that keeps what came on config.
type setClient struct {
	paho311.Client

	mu  sync.Mutex
	got []paho311.Message
}

func (l *live) setClient(t testing.TB, u *unit, clean bool) *setClient {
	t.Helper()
	c := &setClient{}
	o := paho311.NewClientOptions().AddBroker("ssl://" + l.addr.Devices).SetTLSConfig(l.tls(u)).SetClientID("one").SetCleanSession(clean).SetAutoReconnect(false).SetProtocolVersion(4).
		SetAutoAckDisabled(true).SetResumeSubs(false).SetDefaultPublishHandler(func(_ paho311.Client, m paho311.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, m)
	})
	c.Client = paho311.NewClient(o)
	if k := c.Connect(); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
		t.Fatal(k.Error())
	}
	return c
}

func (c *setClient) listen(t testing.TB, filter string, qos byte) {
	t.Helper()
	if k := c.Subscribe(filter, qos, nil); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
		t.Fatal(k.Error())
	}
}

// heard is the n-th message, counted from 1.
func (c *setClient) heard(t testing.TB, n int) paho311.Message {
	t.Helper()
	waitFor(t, 10*time.Second, fmt.Sprintf("message %d", n), func() bool { return c.count() >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[n-1]
}

func (c *setClient) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *setClient) say(t testing.TB, topic, payload string) {
	t.Helper()
	if k := c.Publish(topic, 1, false, payload); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
		t.Fatal(k.Error())
	}
}

// TestSettingsToStockClients: what is set reaches a client of MQTT 3.1.1 whole,
// again in each session until it says that it has it, and its word is shown
// (CC 3.7).
func TestSettingsToStockClients(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, settingDeclaration)
	u := l.enrol(t, "A1")
	c := l.setClient(t, u, true)
	c.listen(t, "config", 1)
	s := l.set(t, "A1", `{"display":"bright"}`)
	if s.State != "waiting" && s.State != "taken" || s.Cause != "set" || len(s.Back) != 1 {
		t.Errorf("set: %+v", s)
	}
	m := c.heard(t, 1)
	if m.Topic() != "config" || m.Qos() != 1 || !strings.Contains(string(m.Payload()), fmt.Sprintf(`{"version":%d,`, s.Version)) || !strings.Contains(string(m.Payload()), `"settings":{"display":"bright","heat":false,"night":16}`) {
		t.Errorf("%s at %d: %s", m.Topic(), m.Qos(), m.Payload())
	}
	m.Ack()
	l.settled(t, "A1", "taken")
	c.Disconnect(100)

	// It said nothing of it: the next session is told again.
	c = l.setClient(t, u, true)
	c.listen(t, "devices/A1/config", 1)
	m = c.heard(t, 1)
	if m.Topic() != "devices/A1/config" || m.Duplicate() {
		t.Errorf("%s, again %t", m.Topic(), m.Duplicate())
	}
	m.Ack()
	c.say(t, "state", fmt.Sprintf(`{"settings":{"version":%d,"values":{"display":"dim","heat":false,"night":16.0},"refused":{"display":"the display is broken"}}}`, s.Version))
	s = l.settled(t, "A1", "otherwise")
	if x := s.Settings[0]; x.Name != "display" || x.Device != "refused" || x.Why != "the display is broken" || string(x.Value) != `"bright"` {
		t.Errorf("refused: %+v", x)
	}
	for _, x := range s.Settings[1:] {
		if x.Device != "in-force" || len(x.Value) > 0 || x.Set {
			t.Errorf("a personal one: %+v", x)
		}
	}
	c.say(t, "devices/A1/state", fmt.Sprintf(`{"settings":{"version":%d,"values":{"display":"bright","heat":false,"night":16}}}`, s.Version))
	l.settled(t, "A1", "in-force")
	c.Disconnect(100)

	// Now it is not told again, but of the next version it is.
	c = l.setClient(t, u, true)
	c.listen(t, "config", 1)
	s = l.set(t, "A1", `{"night":12.5}`)
	if m = c.heard(t, 1); !strings.Contains(string(m.Payload()), `"settings":{"display":"bright","heat":false,"night":12.5}`) {
		t.Errorf("the next version: %s", m.Payload())
	}
	m.Ack()
	var back api.DeviceSettings
	l.call(t, "POST", "/v1/devices/A1/settings/back", api.SettingsBack{As: "support", Reason: "a test sets it back"}, &back)
	if m = c.heard(t, 2); back.Cause != "back" || !strings.Contains(string(m.Payload()), `"settings":{"display":"bright","heat":false,"night":16}`) {
		t.Errorf("set back: %+v, %s", back, m.Payload())
	}
	m.Ack()
	c.Disconnect(100)

	for name, r := range map[string]struct{ values, as, want string }{
		"out of bounds": {`{"night":20.5}`, "support", "night"},
		"undeclared":    {`{"door":"open"}`, "support", "declares no setting"},
		"risky":         {`{"heat":true}`, "support", "risky"},
		"as the owner":  {`{"night":12}`, "owner", "no role of the maker's staff"},
		"not the role":  {`{"night":12}`, "legal", "may not set night"},
	} {
		if err := l.client.Call(t.Context(), "POST", "/v1/devices/A1/settings", api.SettingsRequest{Values: json.RawMessage(r.values), As: r.as, Reason: "a test sets it"}, nil); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A subscription at QoS 0, and a client that needs nothing but its certificate.
	sub := need(t, "mosquitto_sub", "Debian (mosquitto-clients)")
	out, err := exec.CommandContext(t.Context(), sub, "-V", "5", "-h", "localhost", "-p", port(t, l.addr.Devices), "--cafile", u.rootsFile, "--cert", u.certFile, "--key", u.keyFile,
		"-q", "0", "-t", "config", "-C", "1", "-W", "20", "-F", "%t %q %p").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "config 0 {") {
		t.Errorf("mosquitto_sub: %v, %s", err, out)
	}

	// Another's word does not count, and what is none is refused.
	other := dialMQTT(t, l, l.enrol(t, "B1"))
	for topic, payload := range map[string]string{
		"devices/A1/state": fmt.Sprintf(`{"settings":{"version":%d,"values":{}}}`, back.Version), "state": `{"settings":7}`,
	} {
		if code, err := other.try(topic, payload); code < 0x80 {
			t.Errorf("another device on %s: %#x, %v", topic, code, err)
		}
	}
	if code, err := other.try("state", `{"settings":{"version":1,"values":{}}}`); code >= 0x80 {
		t.Errorf("a report of a device that was never set: %#x, %v", code, err)
	}
	over := 0
	for range 20 {
		if code, _ := other.try("state", `{"settings":{"version":1,"values":{}}}`); code == 0x97 {
			over++
		}
	}
	if over < 5 {
		t.Errorf("of 20 reports at once %d were over the rate", over)
	}
	other.close(t)
}

// TestSettingsInSessions: a kept session gets what it did not acknowledge with
// the same packet identifier, over a restart the newest of it, and a declaration
// that forbids a value takes it back.
func TestSettingsInSessions(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, settingDeclaration)
	u := l.enrol(t, "A1")
	c := l.setClient(t, u, false)
	c.listen(t, "config", 1)
	l.set(t, "A1", `{"night":11}`)
	first := c.heard(t, 1)
	c.Disconnect(100)
	waitFor(t, 10*time.Second, "the end of the session", func() bool { return !l.device(t, "A1").Connected })
	c = l.setClient(t, u, false)
	again := c.heard(t, 1)
	if again.MessageID() != first.MessageID() || !again.Duplicate() || string(again.Payload()) != string(first.Payload()) {
		t.Errorf("again: %d %t %s", again.MessageID(), again.Duplicate(), again.Payload())
	}
	c.Disconnect(100)
	waitFor(t, 10*time.Second, "the end of the session", func() bool { return !l.device(t, "A1").Connected })
	l.set(t, "A1", `{"night":12}`)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	c = l.setClient(t, u, false)
	if m := c.heard(t, 1); !strings.Contains(string(m.Payload()), `"night":12`) {
		t.Errorf("after a restart: %s", m.Payload())
	} else {
		m.Ack()
	}
	l.publish(t, strings.Replace(strings.Replace(settingDeclaration, "range: [10, 20]", "range: [14, 20]", 1), "version: 1", "version: 2", 1))
	if m := c.heard(t, 2); !strings.Contains(string(m.Payload()), `"night":16`) {
		t.Errorf("after another declaration: %s", m.Payload())
	} else {
		m.Ack()
	}
	if s := l.settled(t, "A1", "taken"); s.Cause != "declaration" {
		t.Errorf("%+v", s)
	}
	c.Disconnect(100)

	// Its next owner gets it as declared, and finds nothing of the former one.
	l.set(t, "A1", `{"night":15}`)
	before := l.settings(t, "A1").Version
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "a test erases"}, nil)
	if s := l.settings(t, "A1"); len(s.Settings) != 0 || s.State != "never-set" {
		t.Errorf("after the erasure: %+v", s)
	}
	l.call(t, "POST", "/v1/devices/A1/reopen", nil, nil)
	c = l.setClient(t, u, true)
	c.listen(t, "config", 1)
	m := c.heard(t, 1)
	if !strings.Contains(string(m.Payload()), `"night":16`) {
		t.Errorf("to the next owner: %s", m.Payload())
	}
	m.Ack()
	if s := l.settled(t, "A1", "taken"); s.Cause != "owner" || s.Version <= before || len(s.Back) != 0 {
		t.Errorf("of the next owner: %+v", s)
	}
	c.Disconnect(100)
}

// TestSettingsOnTheDevice: the device library takes what is set, within its own
// bounds, once, over restarts of both sides; what it says is shown, and all of
// it stands in the ledger without a value in clear (CC 3.7).
func TestSettingsOnTheDevice(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, settingDeclaration)
	b := l.board(t, "A1")
	b.conf.Settings = []device.Setting{
		{Param: device.Param{Name: "display", Type: "enum", Values: []string{"dim", "bright"}}, Default: "dim"},
		{Param: device.Param{Name: "night", Type: "number", Min: 12, Max: 20}, Default: 16.0},
	}
	var broken atomic.Bool
	b.conf.Apply = func(_ context.Context, v map[string]any) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		s, err := json.Marshal(v)
		b.did = append(b.did, string(s))
		if broken.Load() && v["display"] == "bright" {
			return errors.New("the display is broken")
		}
		return err
	}
	off := b.on(t)
	defer func() { off() }()
	waitFor(t, 10*time.Second, "the device", func() bool { return l.device(t, "A1").Connected })
	l.set(t, "A1", `{"night":13.5}`)
	s := l.settled(t, "A1", "otherwise") // it does not know heat
	if by := byName(s); by["night"].Device != "in-force" || by["display"].Device != "in-force" || by["heat"].Why != "is not known" {
		t.Errorf("%+v", s)
	}
	// The device's own bound is the narrower one.
	l.set(t, "A1", `{"night":11}`)
	waitFor(t, 10*time.Second, "the device's word", func() bool { s = l.settings(t, "A1"); return byName(s)["night"].Device == "refused" })
	if why := byName(s)["night"].Why; !strings.Contains(why, "12 to 20") {
		t.Errorf("refused: %s", why)
	}
	broken.Store(true)
	l.set(t, "A1", `{"display":"bright","night":15}`)
	waitFor(t, 10*time.Second, "the device's word", func() bool { s = l.settings(t, "A1"); return byName(s)["display"].Why == "the display is broken" })
	broken.Store(false)
	want := []string{
		`{"display":"dim","night":16}`, `{"display":"dim","night":13.5}`, `{"display":"dim","night":13.5}`, `{"display":"bright","night":15}`, `{"display":"dim","night":13.5}`,
	}
	if did := b.done(); !slices.Equal(did, want) {
		t.Errorf("the device applied\n%v, want\n%v", did, want)
	}

	// It waits for a device that is off, over a restart of the server; the device
	// begins with what it had.
	off()
	l.call(t, "POST", "/v1/devices/A1/settings/back", api.SettingsBack{As: "support", Reason: "it was the cable"}, nil)
	l.set(t, "A1", `{"night":14}`)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	b.conf.Dial = (&switchboard{l: l}).dial
	off = b.on(t)
	waitFor(t, 10*time.Second, "the device's word", func() bool {
		s = l.settings(t, "A1")
		return byName(s)["night"].Device == "in-force" && byName(s)["night"].Set
	})
	if did := b.done()[len(want):]; !slices.Equal(did, []string{`{"display":"dim","night":13.5}`, `{"display":"dim","night":14}`}) {
		t.Errorf("after a restart the device applied %v", did)
	}
	off()
	off = b.on(t)
	waitFor(t, 10*time.Second, "the device", func() bool { return l.device(t, "A1").Connected })
	waitFor(t, 10*time.Second, "the device's own settings", func() bool { return len(b.done()) == len(want)+3 })

	var kinds []string
	for _, kind := range []core.RecordKind{command.RecordSettings, command.RecordReported} {
		var page api.Entries
		l.call(t, "GET", "/v1/ledger/entries?from=0&kind="+string(kind), nil, &page)
		for _, e := range page.Entries {
			fact := map[string]string{}
			for _, f := range e.Facts {
				fact[f[0]] = f[1]
				if strings.Contains(f[1], "13.5") || strings.Contains(f[1], "cable") {
					t.Errorf("the ledger has %s in clear", f[1])
				}
			}
			kinds = append(kinds, strings.TrimSpace(fact["cause"]+" "+fact["names"]+fact["refused"]))
		}
	}
	if want := "set night|set night|set display,night|back display,night|set night|heat|heat,night|display,heat,night|heat"; strings.Join(kinds, "|") != want {
		t.Errorf("the ledger has\n%s, want\n%s", strings.Join(kinds, "|"), want)
	}
}

func byName(s api.DeviceSettings) map[string]api.DeviceSetting {
	out := map[string]api.DeviceSetting{}
	for _, x := range s.Settings {
		out[x.Name] = x
	}
	return out
}
