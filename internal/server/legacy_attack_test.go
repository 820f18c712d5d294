package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// tryToken connects without a certificate, from a source of loopback ("" for
// any), and gives the reason code of a refusal.
func tryToken(ctx context.Context, l *live, from, user, token string, conf *tls.Config) (*mqttClient, byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nd := &net.Dialer{}
	if from != "" {
		nd.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	if conf == nil {
		conf = l.tls(nil)
	}
	conn, err := (&tls.Dialer{NetDialer: nd, Config: conf}).DialContext(ctx, "tcp", l.addr.Devices)
	if err != nil {
		return nil, 0, err
	}
	m := &mqttClient{gone: make(chan struct{})}
	var once sync.Once
	end := func() { once.Do(func() { close(m.gone) }) }
	m.c = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), OnClientError: func(error) { end() }, OnServerDisconnect: func(*paho.Disconnect) { end() },
	})
	ack, err := m.c.Connect(ctx, &paho.Connect{KeepAlive: 30, CleanStart: true, UsernameFlag: true, Username: user, PasswordFlag: true, Password: []byte(token)})
	if err != nil {
		_ = conn.Close() // the connect error is the one to report
		if ack != nil {
			return nil, ack.ReasonCode, err
		}
		return nil, 0, err
	}
	return m, 0, nil
}

// TestLegacyDoorCloses: a session that is there ends with the door: on its
// day, and when a declaration without it comes into force.
func TestLegacyDoorCloses(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC)
	offset := midnight.Sub(now) - 4*time.Second // the door closes in four seconds
	home := newHome(t, core.Test, "")
	l := startAt(t, home, home, func() time.Time { return time.Now().Add(offset) })
	l.publish(t, legacyDeclaration("device-token", now.Format(time.DateOnly), "2"))
	tokens := l.addTokens(t, "OLD-1\n")
	m, _, err := tryToken(t.Context(), l, "", "OLD-1", tokens["OLD-1"], nil)
	if err != nil {
		t.Fatal(err)
	}
	m.publish(t, "telemetry/climate", `{"temp":1}`)
	select {
	case <-m.gone:
	case <-time.After(8 * time.Second):
		t.Error("the session goes on after the last day")
	}
	if _, _, err := tryToken(t.Context(), l, "", "OLD-1", tokens["OLD-1"], nil); err == nil {
		t.Error("a token is good after the last day")
	}
	later := now.AddDate(0, 0, 20).Format(time.DateOnly)
	l.publish(t, strings.Replace(legacyDeclaration("device-token", later, "2"), "version: 1", "version: 2", 1))
	if m, _, err = tryToken(t.Context(), l, "", "OLD-1", tokens["OLD-1"], nil); err != nil {
		t.Fatalf("the door was opened again: %v", err)
	}
	l.publish(t, strings.Replace(testDeclaration, "version: 1", "version: 3", 1))
	gone(t, m, "a device whose door is declared no more")
	if got := l.values(t, "OLD-1"); got != `{"temp":1}` {
		t.Errorf("stored %s", got)
	}
}

// TestLegacyAttacks: who guesses is slowed down where he guesses from, and
// nobody is locked out; what is no credential here opens nothing.
func TestLegacyAttacks(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, legacyDeclaration("device-token", "2027-12-31", "9"))
	tokens := l.addTokens(t, "OLD-1\nOLD-2\nOLD-3\n")

	// Twenty sources guess at one device, each until it has to wait.
	var mu sync.Mutex
	tries, waits := 0, 0
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			from := fmt.Sprintf("127.88.%d.1", i)
			for n := range 40 {
				_, code, err := tryToken(t.Context(), l, from, "OLD-1", fmt.Sprintf("%026d", i*100+n), nil)
				mu.Lock()
				tries++
				switch {
				case err == nil:
					t.Error("a guess was right")
				case code == 0x9f:
					waits++
				case code != 0x86:
					t.Errorf("a guess was answered with 0x%02x: %v", code, err)
				}
				mu.Unlock()
				if code == 0x9f {
					return
				}
			}
		})
	}
	work.Wait()
	if waits < 20 || tries > 20*30 {
		t.Errorf("%d tries of 20 sources, %d of them told to wait", tries, waits)
	}
	t.Logf("%d guesses from 20 sources before each was told to wait", tries-waits)
	m, _, err := tryToken(t.Context(), l, "127.89.0.1", "OLD-1", tokens["OLD-1"], nil)
	if err != nil {
		t.Fatalf("the true device is locked out: %v", err)
	}
	m.close(t)

	// The answer is one for all that is wrong.
	for what, c := range map[string][2]string{
		"a wrong token": {"OLD-2", strings.Repeat("A", 26)}, "another device's": {"OLD-2", tokens["OLD-3"]}, "an unknown device": {"OLD-9", tokens["OLD-3"]},
		"a device id that is none": {"../OLD-2", tokens["OLD-2"]}, "an empty token": {"OLD-2", ""}, "a long token": {"OLD-2", strings.Repeat("x", 60000)},
	} {
		if _, code, err := tryToken(t.Context(), l, "127.90.0.1", c[0], c[1], nil); err == nil || code != 0x86 && (c[1] != "" || code != 0x87) {
			t.Errorf("%s: 0x%02x %v", what, code, err)
		}
	}
	// A session that was revoked is not resumed: not by MQTT, and not by TLS.
	cache := l.tls(nil).Clone()
	cache.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if m, _, err = tryToken(t.Context(), l, "", "OLD-2", tokens["OLD-2"], cache); err != nil {
		t.Fatal(err)
	}
	l.call(t, "POST", "/v1/devices/OLD-2/revoke", api.ReasonRequest{Reason: "stolen"}, nil)
	gone(t, m, "a revoked device")
	if _, _, err := tryToken(t.Context(), l, "", "OLD-2", tokens["OLD-2"], cache); err == nil {
		t.Error("a revoked device came back")
	}
	// The doors of HTTPS know no tokens but at enrolment.
	if status, body := l.post(t, "/device/v1/telemetry/climate", nil, `[{"temp":1}]`, "OLD-3", tokens["OLD-3"]); status != http.StatusForbidden && status != http.StatusUnauthorized {
		t.Errorf("a batch with a token: %d %s", status, body)
	}
	// A list brings no secret of many, and none that is weak.
	for what, list := range map[string]string{
		"one token twice":              "N-1,k3J9sXq2mV7bT4wZ8cR5nY1pL6\nN-2,k3J9sXq2mV7bT4wZ8cR5nY1pL6\n",
		"the token of a device before": "N-1," + tokens["OLD-3"] + "\n",
		"one secret and a number":      "N-1,k3J9sXq2mV7bT4wZ8cR5nY1pL6-0001\nN-2,k3J9sXq2mV7bT4wZ8cR5nY1pL6-0002\n",
		"its serial number":            "N-10001,N-10001-k3J9sXq2mV7bT4wZ8cR5n\n",
		"eight digits":                 "N-1,12345678\n",
		"one letter":                   "N-1," + strings.Repeat("a", 60) + "\n",
	} {
		if l.client.Call(t.Context(), "POST", "/v1/products/test-sensor/legacy/tokens", api.AddTokensRequest{List: list, Reason: "CHG-8"}, nil) == nil {
			t.Errorf("a list with %s was taken", what)
		}
	}
	if l.client.Call(t.Context(), "POST", "/v1/products/test-sensor/legacy/tokens", api.AddTokensRequest{List: "OLD-3\n", Reason: "CHG-8"}, nil) == nil {
		t.Error("a device got a second token")
	}
	var door api.Legacy
	l.call(t, "GET", "/v1/products/test-sensor/legacy", nil, &door)
	if len(door.Devices) != 3 {
		t.Errorf("%d devices at the door, want 3", len(door.Devices))
	}
}

// TestLegacyChecks: a device at the legacy door makes row 3.2 fail, by name,
// and the trial of that is seen red and green on a twin.
func TestLegacyChecks(t *testing.T) {
	proofs, err := Selftest(t.Context(), SelftestOptions{Version: "test", Only: func(id string) bool { return id == "devices.no-legacy" }})
	if err != nil || len(proofs) != 1 || !proofs[0].OK() || !strings.Contains(proofs[0].Saw, "credential of the maker's (device-token)") {
		t.Errorf("trials: %v %+v", err, proofs)
	}
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, legacyDeclaration("device-token", "2027-12-31", "9"))
	l.enrol(t, "NEW-1")
	st := l.look(t, api.RunRequest{Check: "devices.no-legacy"})
	if c := checkOf(&st, "devices.no-legacy"); c.Observation == nil || c.Observation.Outcome != check.Pass {
		t.Errorf("without such a device: %s %s", c.Verdict, c.Why)
	}
	l.addTokens(t, "OLD-1\n")
	var door api.Legacy
	l.call(t, "GET", "/v1/products/test-sensor/legacy", nil, &door)
	st = l.look(t, api.RunRequest{Check: "devices.no-legacy"})
	c := checkOf(&st, "devices.no-legacy")
	o := c.Observation
	if c.Verdict != assurance.Failing || o == nil || len(o.Findings) != 1 || o.Findings[0].Subject != "unit "+door.Devices[0].Unit || !strings.Contains(o.Findings[0].Text, "2027-12-31") {
		t.Errorf("with one: %s %+v", c.Verdict, o)
	}
	var status api.Status
	l.call(t, "GET", "/v1/status", nil, &status)
	if !strings.Contains(fmt.Sprint(status), "the door for old devices (device-token) is open for") {
		t.Error("doctor does not count the days")
	}
}
