package server

import (
	"crypto/tls"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// legacyDeclaration is the test product with a door for old devices.
func legacyDeclaration(auth, until string, most string) string {
	return testDeclaration + "legacy: {auth: " + auth + ", until: " + until + ", max_devices: " + most + "}\n"
}

// addTokens registers devices with tokens that the server makes.
func (l *live) addTokens(t testing.TB, list string) map[core.DeviceID]string {
	t.Helper()
	var out api.TokensAdded
	l.call(t, "POST", "/v1/products/test-sensor/legacy/tokens", api.AddTokensRequest{List: list, Reason: "CHG-7"}, &out)
	tokens := map[core.DeviceID]string{}
	for _, x := range out.Tokens {
		tokens[x.Device] = x.Token
	}
	return tokens
}

// mosquitto publishes with a user name and password, and no certificate.
func (l *live) mosquitto(t *testing.T, version, user, password, topic, payload string, more ...string) (string, error) {
	t.Helper()
	pub := need(t, "mosquitto_pub", "Debian (mosquitto-clients)")
	args := append([]string{"-V", version, "-h", "localhost", "-p", port(t, l.addr.Devices), "--cafile", l.rootFile(t), "-q", "1", "-t", topic, "-m", payload}, more...)
	if user != "" {
		args = append(args, "-u", user, "-P", password)
	}
	out, err := exec.CommandContext(t.Context(), pub, args...).CombinedOutput()
	return string(out), err
}

// pair is a certificate with its key, from files.
func pair(t *testing.T, cert, key string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// post brings a batch of readings over HTTPS; cert may be nil.
func (l *live) post(t *testing.T, path string, cert *tls.Certificate, body string, basic ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if len(basic) == 2 {
		req.SetBasicAuth(basic[0], basic[1])
	}
	conf := &tls.Config{RootCAs: l.roots, MinVersion: tls.VersionTLS13}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (l *live) values(t testing.TB, id core.DeviceID) string {
	t.Helper()
	lines, err := l.readAll(t, id)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range lines {
		got = append(got, string(x.Values))
	}
	return strings.Join(got, " ")
}

// TestLegacyTokens: while it is declared, a stock client comes with its own
// token, and what it sends is judged like every reading; nobody comes with a
// wrong one, another device's, or one that ended (design, section 5,
// Brownfield; CC 1.9, 3.1).
func TestLegacyTokens(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "Debian (mosquitto-clients)")
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	home := newHome(t, core.Test, "")
	l := startAt(t, home, home, clock)
	l.publish(t, testDeclaration)

	const good = `{"temp":21.54,"ssid":"home-wifi"}`
	deny := func(what, version, user, password string) {
		t.Helper()
		if out, err := l.mosquitto(t, version, user, password, "telemetry/climate", good); err == nil {
			t.Errorf("%s (-V %s) got in: %s", what, version, out)
		}
	}
	err := l.client.Call(t.Context(), "POST", "/v1/products/test-sensor/legacy/tokens", api.AddTokensRequest{List: "OLD-1", Reason: "CHG-7"}, nil)
	if err == nil || !strings.Contains(err.Error(), "has no door for old devices") {
		t.Errorf("a product without such a door: %v", err)
	}
	until := now.UTC().AddDate(0, 0, 1)
	l.publish(t, strings.Replace(legacyDeclaration("device-token", until.Format(time.DateOnly), "3"), "version: 1", "version: 2", 1))
	tokens := l.addTokens(t, "serial\nOLD-1\nOLD-2\n")
	if len(tokens) != 2 || len(tokens["OLD-1"]) < 26 || tokens["OLD-1"] == tokens["OLD-2"] {
		t.Fatalf("tokens: %d", len(tokens))
	}
	for _, version := range []string{"5", "311"} {
		deny("no credential", version, "", "")
		deny("a wrong token", version, "OLD-1", strings.Repeat("A", 26))
		deny("another device's token", version, "OLD-1", tokens["OLD-2"])
		deny("an unknown device", version, "OLD-9", tokens["OLD-1"])
		if out, err := l.mosquitto(t, version, "OLD-1", tokens["OLD-1"], "telemetry/climate", good); err != nil {
			t.Fatalf("its own token, -V %s: %v: %s", version, err, out)
		}
	}
	if got, want := l.values(t, "OLD-1"), `{"temp":21.5} {"temp":21.5}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if out, err := l.mosquitto(t, "5", "OLD-1", tokens["OLD-1"], "devices/OLD-2/telemetry/climate", good); err == nil && !strings.Contains(out, "Not authorized") {
		t.Errorf("a device with a token spoke for another one: %s", out)
	}
	u := l.enrol(t, "NEW-1") // who has a certificate is who it says, whatever is sent with it
	if out, err := l.mosquitto(t, "5", "OLD-1", "wrong", "telemetry/climate", `{"temp":5}`, "--cert", u.certFile, "--key", u.keyFile); err != nil {
		t.Errorf("a certificate with a password that is ignored: %v: %s", err, out)
	}
	if got := l.values(t, "NEW-1"); got != `{"temp":5}` {
		t.Errorf("NEW-1: %s", got)
	}

	// Revoked: at once, and for good.
	l.call(t, "POST", "/v1/devices/OLD-2/revoke", api.ReasonRequest{Reason: "stolen"}, nil)
	deny("a revoked device", "5", "OLD-2", tokens["OLD-2"])
	// Its last day is included, the next is not.
	mu.Lock()
	now = time.Date(until.Year(), until.Month(), until.Day(), 23, 59, 30, 0, time.UTC)
	mu.Unlock()
	if out, err := l.mosquitto(t, "5", "OLD-1", tokens["OLD-1"], "telemetry/climate", `{"temp":7}`); err != nil {
		t.Errorf("on the last day: %v: %s", err, out)
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	deny("after the last day", "5", "OLD-1", tokens["OLD-1"])
	if got, want := l.values(t, "OLD-1"), `{"temp":21.5} {"temp":21.5} {"temp":7}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}
