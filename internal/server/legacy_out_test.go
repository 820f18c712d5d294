package server

import (
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestLegacyWayOut: a device gets a certificate of its own for its token, and
// from its first use on the token opens nothing (design, section 5, Brownfield).
func TestLegacyWayOut(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "Debian (mosquitto-clients)")
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, legacyDeclaration("device-token", "2027-12-31", "5"))
	tokens := l.addTokens(t, "OLD-1\nOLD-2\nOLD-3\n")
	send := func(id, payload string) error {
		_, err := l.mosquitto(t, "5", id, tokens[core.DeviceID(id)], "telemetry/climate", payload)
		return err
	}
	if err := send("OLD-1", `{"temp":1}`); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]estCall{
		"a wrong token":          {path: "simpleenroll", user: "OLD-1", code: strings.Repeat("B", 26), body: csrOf(t, newKey(t), x509.CertificateRequest{})},
		"another device's token": {path: "simpleenroll", user: "OLD-1", code: tokens["OLD-2"], body: csrOf(t, newKey(t), x509.CertificateRequest{})},
	} {
		if status, body := l.est(t, c); status != http.StatusUnauthorized {
			t.Errorf("enrolment with %s: %d %s", what, status, body)
		}
	}
	u := l.enrolWith(t, "OLD-1", tokens["OLD-1"])
	if err := send("OLD-1", `{"temp":2}`); err != nil { // its answer may have been lost
		t.Errorf("the token ended before the certificate was used: %v", err)
	}
	m := dialMQTT(t, l, u)
	defer m.close(t)
	m.publish(t, "telemetry/climate", `{"temp":3}`)
	if send("OLD-1", `{"temp":4}`) == nil {
		t.Error("the token is good beside the certificate")
	}
	if got, want := l.values(t, "OLD-1"), `{"temp":1} {"temp":2} {"temp":3}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	// With an enrolment code it is the same.
	if err := send("OLD-2", `{"temp":1}`); err != nil {
		t.Fatal(err)
	}
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices/OLD-2/code", nil, &added)
	dialMQTT(t, l, l.enrolWith(t, "OLD-2", added.Code)).close(t)
	if send("OLD-2", `{"temp":2}`) == nil {
		t.Error("the token is good beside a certificate that came by a code")
	}
	// Staff takes a credential back.
	if err := send("OLD-3", `{"temp":1}`); err != nil {
		t.Fatal(err)
	}
	l.call(t, "POST", "/v1/devices/OLD-3/legacy/withdraw", api.WithdrawLegacyRequest{Cause: "compromised"}, nil)
	if send("OLD-3", `{"temp":2}`) == nil {
		t.Error("a credential that was withdrawn is good")
	}
	var door api.Legacy
	l.call(t, "GET", "/v1/products/test-sensor/legacy", nil, &door)
	var got []string
	for _, d := range door.Devices {
		got = append(got, string(d.Device)+" "+d.Why)
	}
	if want := "OLD-1 enrolled,OLD-2 enrolled,OLD-3 withdrawn"; strings.Join(got, ",") != want || door.Live != 0 {
		t.Errorf("the list says %v and %d live, want %s", got, door.Live, want)
	}
	var page api.Entries
	l.call(t, "GET", "/v1/ledger/entries?from=0&kind=identity-finding", nil, &page)
	if len(page.Entries) != 3 { // each of the three was used after its end
		t.Errorf("%d findings, want 3", len(page.Entries))
	}
}

// ownCA is a maker's authority, made with openssl.
type ownCA struct {
	t   *testing.T
	dir string
}

func newOwnCA(t *testing.T) ownCA {
	t.Helper()
	need(t, "openssl", "Debian (openssl)")
	a := ownCA{t, t.TempDir()}
	a.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "400", "-subj", "/O=Northwind/CN=Northwind Devices 2019")
	return a
}

func (a ownCA) run(args ...string) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "openssl", args...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
}

func (a ownCA) path(name string) string { return filepath.Join(a.dir, name) }

func (a ownCA) read(name string) string {
	a.t.Helper()
	b, err := os.ReadFile(a.path(name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}

// leaf makes a device's key and certificate, as many makers' scripts do.
func (a ownCA) leaf(file, cn, newkey, ext string) {
	a.t.Helper()
	algo := []string{"-newkey", newkey}
	if newkey == "ec" {
		algo = append(algo, "-pkeyopt", "ec_paramgen_curve:P-256")
	}
	a.run(append(append([]string{"req", "-new"}, algo...), "-nodes", "-keyout", file+".key", "-out", file+".csr", "-subj", "/CN="+cn)...)
	sign := []string{"x509", "-req", "-in", file + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "300", "-out", file + ".pem"}
	if ext != "" {
		if err := os.WriteFile(a.path(file+".ext"), []byte(ext), 0o600); err != nil {
			a.t.Fatal(err)
		}
		sign = append(sign, "-extfile", file+".ext")
	}
	a.run(sign...)
}

// TestLegacyOwnCA: a stock client comes with the certificate that its maker's
// own authority gave it, once that very certificate is registered; nothing else
// of the authority opens anything.
func TestLegacyOwnCA(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "Debian (mosquitto-clients)")
	a := newOwnCA(t)
	a.leaf("one", "CAM-1", "rsa:2048", "")
	a.leaf("two", "CAM-2", "ec", "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature")
	a.leaf("three", "CAM-3", "ec", "")
	a.leaf("server", "CAM-4", "ec", "extendedKeyUsage=serverAuth")
	a.leaf("weak", "CAM-5", "rsa:1024", "")
	a.leaf("named", "CAM-6", "ec", "subjectAltName=URI:urn:hawser:test:device:test-sensor:CAM-1")
	a.leaf("ca2", "CAM-7", "ec", "basicConstraints=critical,CA:TRUE")
	a.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "self.key", "-out", "self.pem", "-days", "300", "-subj", "/CN=CAM-8")
	// One key on two devices: the fleet's secret in another form.
	a.run("req", "-new", "-key", "two.key", "-out", "shared.csr", "-subj", "/CN=CAM-9")
	a.run("x509", "-req", "-in", "shared.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "300", "-out", "shared.pem")

	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, legacyDeclaration("own-ca", "2027-12-31", "3"))
	publish := func(name, topic string) error {
		_, err := l.mosquitto(t, "311", "", "", topic, `{"temp":21.54}`, "--cert", a.path(name+".pem"), "--key", a.path(name+".key"))
		return err
	}
	const base = "/v1/products/test-sensor/legacy/"
	add := func(names ...string) error {
		var all string
		for _, n := range names {
			all += a.read(n + ".pem")
		}
		return l.client.Call(t.Context(), "POST", base+"certificates", api.AddLegacyCertificatesRequest{Authority: "northwind", Certificates: all, SerialFrom: "cn", Reason: "CHG-7"}, nil)
	}
	if add("one") == nil {
		t.Error("a certificate of an authority that is not registered was taken")
	}
	ours := api.AddLegacyAuthorityRequest{Name: "ours", Certificate: func() string { b, _ := os.ReadFile(l.rootFile(t)); return string(b) }(), Reason: "CHG-7"}
	if l.client.Call(t.Context(), "POST", base+"authorities", ours, nil) == nil {
		t.Error("this installation's own authority was taken for the maker's")
	}
	l.call(t, "POST", base+"authorities", api.AddLegacyAuthorityRequest{Name: "northwind", Certificate: a.read("ca.pem"), Reason: "CHG-7"}, nil)
	if publish("one", "telemetry/climate") == nil {
		t.Error("a certificate that is not registered got in by its authority alone")
	}
	if err := add("one", "two"); err != nil {
		t.Fatal(err)
	}
	if err := add("one", "two"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	for _, name := range []string{"server", "weak", "named", "ca2", "self", "shared", "one.csr"} {
		if name == "one.csr" {
			if l.client.Call(t.Context(), "POST", base+"certificates", api.AddLegacyCertificatesRequest{Authority: "northwind", Certificates: a.read("one.csr"), SerialFrom: "cn", Reason: "x"}, nil) == nil {
				t.Error("a request was taken for a certificate")
			}
			continue
		}
		if add(name) == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := os.Stat(a.path(name + ".key")); err == nil && publish(name, "telemetry/climate") == nil {
			t.Errorf("%s got in", name)
		}
	}
	for name, id := range map[string]core.DeviceID{"one": "CAM-1", "two": "CAM-2"} {
		if err := publish(name, "telemetry/climate"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = publish(name, "devices/CAM-3/telemetry/climate") // it cannot name another device
		if got, want := l.values(t, id), `{"temp":21.5}`; got != want {
			t.Errorf("%s: stored %s, want %s", id, got, want)
		}
	}
	if err := add("three"); err != nil {
		t.Fatal(err)
	}
	a.leaf("fourth", "CAM-10", "ec", "")
	if err := add("fourth"); err == nil || !strings.Contains(err.Error(), "more than the 3") {
		t.Errorf("a fourth of three: %v", err)
	}
	// Nobody may bring batches of readings over HTTPS with it.
	cert := pair(t, a.path("two.pem"), a.path("two.key"))
	if status, body := l.post(t, "/device/v1/telemetry/climate", &cert, `[{"temp":1}]`); status != http.StatusForbidden {
		t.Errorf("batch with a legacy certificate: %d %s", status, body)
	}

	// The way out: EST for the certificate that it has.
	key := newKey(t)
	status, body := l.est(t, estCall{path: "simpleenroll", client: &cert, body: csrOf(t, key, x509.CertificateRequest{})})
	if status != http.StatusOK {
		t.Fatalf("enrol with the maker's certificate: %d %s", status, body)
	}
	u := l.unitOf(t, "CAM-2", key, []byte(body))
	dialMQTT(t, l, u).close(t)
	if publish("two", "telemetry/climate") == nil {
		t.Error("the maker's certificate is good beside our own")
	}
	if status, _ := l.est(t, estCall{path: "simpleenroll", client: &cert, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status == http.StatusOK {
		t.Error("the maker's certificate enrolled a second time")
	}
	// Revoked, and the authority ended: at once, also for who is there.
	m := dialMQTT(t, l, &unit{id: "CAM-1", cert: pair(t, a.path("one.pem"), a.path("one.key"))})
	l.call(t, "POST", "/v1/devices/CAM-1/revoke", api.ReasonRequest{Reason: "stolen"}, nil)
	gone(t, m, "a revoked device")
	if publish("one", "telemetry/climate") == nil {
		t.Error("a revoked device got in")
	}
	m = dialMQTT(t, l, &unit{id: "CAM-3", cert: pair(t, a.path("three.pem"), a.path("three.key"))})
	l.call(t, "POST", base+"authorities/northwind/end", api.WithdrawLegacyRequest{Cause: "compromised"}, nil)
	gone(t, m, "a device of an authority that ended")
	if publish("three", "telemetry/climate") == nil {
		t.Error("a device of an authority that ended got in")
	}
}

// gone waits until the server has ended a session.
func gone(t *testing.T, m *mqttClient, what string) {
	t.Helper()
	select {
	case <-m.gone:
	case <-time.After(5 * time.Second):
		t.Errorf("the session of %s goes on", what)
	}
}
