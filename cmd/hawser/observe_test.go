package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// oldBroker is a real mosquitto over TLS in which a fleet publishes and one
// account may only read. It gives its address and its authority's file.
func oldBroker(t *testing.T) (address, roots string) {
	t.Helper()
	mosquitto := ""
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if p, err := exec.LookPath(name); err == nil {
			mosquitto = p
		}
	}
	passwd, err := exec.LookPath("mosquitto_passwd")
	if err != nil || mosquitto == "" {
		t.Skip("there is no mosquitto: `make deps` installs it")
	}
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(dir, "cert.pem")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // mosquitto takes it
	for name, b := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"acl": []byte("user watcher\ntopic read #\nuser fleet\ntopic readwrite #\n"), "passwords": nil,
		"conf": fmt.Appendf(nil, "listener %d 127.0.0.1\ncertfile %s/cert.pem\nkeyfile %s/key.pem\nallow_anonymous false\npassword_file %s/passwords\nacl_file %s/acl\nuser root\n", port, dir, dir, dir, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"watcher", "fleet"} {
		if out, err := exec.CommandContext(t.Context(), passwd, "-b", filepath.Join(dir, "passwords"), name, "of "+name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), mosquitto, "-c", filepath.Join(dir, "conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // by that
	})
	address = fmt.Sprintf("localhost:%d", port)
	for range 100 {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close() // it was only to see
			return address, roots
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("mosquitto does not come up")
	return "", ""
}

// TestObserve listens to a fleet on a real broker: it finds topics and fields,
// writes drafts without one value, and says what an answered declaration would
// drop. It never publishes: its account cannot.
func TestObserve(t *testing.T) {
	address, roots := oldBroker(t)
	pem, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	fleet := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + address).SetClientID("fleet").SetUsername("fleet").SetPassword("of fleet").SetTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	if tok := fleet.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("the fleet: %v", tok.Error())
	}
	defer fleet.Disconnect(100)
	const canary, place = "NETWORK-OF-ADA", "48.13713"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; ctx.Err() == nil; i++ {
			for d := range 5 {
				unit := fmt.Sprintf("a4cf1200%04x", 77+d)
				fleet.Publish("lamps/"+unit+"/state", 0, false, fmt.Sprintf(`{"on":%t,"level":%d,"wifi_ssid":"%s"}`, i%2 == 0, i%10, canary))
				fleet.Publish(fmt.Sprintf("gate/b827eb00%04x/where", 77+d), 0, false, fmt.Sprintf(`{"lat":%s,"lon":11.57,"opens":%d}`, place, i))
			}
			fleet.Publish("blob/unit-01/raw", 0, false, "\x00\x01\x02")
			time.Sleep(100 * time.Millisecond)
		}
	}()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("of watcher\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := func(more ...string) []string {
		return append([]string{"observe", "--broker", "mqtts://" + address, "--roots", roots, "--user", "watcher", "--password-file", password, "--for", "3s"}, more...)
	}
	drafts := filepath.Join(dir, "drafts")
	code, out, errs := try(t, line("--out", drafts)...)
	if code != exitOK {
		t.Fatalf("observe: exit %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"lamps/{device}/state", "gate/{device}/where", "blob/{device}/raw", "LOOKS LIKE A WI-FI NETWORK", "LOOKS LIKE A PLACE", "binary", "5 devices"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(drafts, "blob.yaml")); err == nil {
		t.Error("there is a draft of what cannot be declared")
	}
	answers := filepath.Join(dir, "lamps.yaml")
	for _, name := range []string{"lamps", "gate"} {
		b, err := os.ReadFile(filepath.Join(drafts, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{canary, place, "11.57", "a4cf12"} {
			if strings.Contains(string(b)+out, value) {
				t.Errorf("%s tells a value, %s:\n%s", name, value, b)
			}
		}
		if code, _, _ := try(t, "declaration", "check", filepath.Join(drafts, name+".yaml")); code == exitOK {
			t.Errorf("%s compiles with its questions open", name)
		}
		if name == "lamps" { // whoever answers it takes the network out
			text := string(b)
			// How fast it may come is for people, too: a busy machine bunches messages.
			text = regexp.MustCompile(`burst: \d+`).ReplaceAllString(text, "burst: 1000")
			from, to := strings.Index(text, "  # wifi_ssid"), strings.Index(text, "\nstreams:")
			if err := os.WriteFile(answers, []byte(strings.NewReplacer(
				`name: "?"`, `name: Lamp`, `risk: {purpose: "?", harm: "?", exposure: "?"}`, `risk: {purpose: comfort, harm: low, exposure: home}`, `audience: "?"`, `audience: general`,
				`about: "?"`, `about: What it is.`, `unit: "?"`, `unit: "1"`, `class: "?"`, `class: personal`, `purposes: ["?"]`, `purposes: [service.control]`, `keep: "?"`, `keep: 30d`,
				`readers: ["?"]`, `readers: [owner]`, `when_done: "?"`, `when_done: shred`, "  - {name: \"?\", protocol: \"?\", direction: \"?\", auth: \"?\"}\n", "", `, {service: "?", host: "?"}`, "",
				`{automatic: "?", check_every: "?", deadline: {critical: "?", high: "?"}}`, `{automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}`,
				`security_updates_until: "?"`, `security_updates_until: 2032-12-31`, `afterwards: "?"`, `afterwards: It stays dark.`, `{security: "?", help: "?"}`, `{security: security@example.com, help: help@example.com}`,
			).Replace(text[:from]+text[to:])), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code, out, errs := try(t, "declaration", "check", answers); code != exitOK {
		t.Fatalf("the answered draft: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = try(t, line("--declaration", answers, "--json", "--topic", "lamps/#")...)
	var got observed
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil {
		t.Fatalf("with a declaration: exit %d, %v\n%s%s", code, err, out, errs)
	}
	e := got.Enforced
	if e == nil || e.Accepted == 0 || len(e.Refused) != 0 || e.BadValues != 0 || len(e.Dropped) != 1 || e.Dropped[0].Name != "wifi_ssid" || e.Dropped[0].Values != e.Accepted || e.Dropped[0].Look == "" {
		t.Errorf("enforced: %+v", e)
	}
	if code, _, errs := try(t, line("--out", drafts)...); code == exitOK || !strings.Contains(errs, "exists already") {
		t.Errorf("drafts that somebody may have answered are overwritten: exit %d, %s", code, errs)
	}
	stop()
	<-sent
	if err := os.WriteFile(password, []byte("of nobody"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a wrong password": line(), "no broker": {"observe", "--broker", "mqtts://localhost:1", "--for", "1s"}, "a password in the address": {"observe", "--broker", "mqtts://a:b@localhost:1"}, "no time": line("--for", "0s"),
	} {
		if code, _, errs := try(t, args...); code != exitFailed || !strings.Contains(errs, "\n  ") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

// TestObserveCapture reads what tcpdump captured of a real broker's real client,
// and says why there is nothing in what was encrypted.
func TestObserveCapture(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("there is no tcpdump: `make deps` installs it")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may listen on the wire")
	}
	mosquitto, err := exec.LookPath("/usr/sbin/mosquitto")
	if err != nil {
		t.Skip("there is no mosquitto: `make deps` installs it")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // mosquitto takes it
	conf, file := filepath.Join(dir, "conf"), filepath.Join(dir, "fleet.pcap")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %d 127.0.0.1\nallow_anonymous true\nuser root\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := exec.CommandContext(t.Context(), mosquitto, "-c", conf)
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = broker.Process.Kill() // it may have ended
		_ = broker.Wait()         // by that
	})
	// As it comes, a packet takes a quarter of a megabyte of the kernel's two:
	// what comes while the machine is busy would be lost.
	dump := exec.CommandContext(t.Context(), tcpdump, "-i", "lo", "-U", "--immediate-mode", "-s", "2048", "-B", "16384", "-Z", "root", "-w", file, fmt.Sprintf("tcp port %d", port))
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	for range 100 { // its file's header is there once it listens
		if st, err := os.Stat(file); err == nil && st.Size() >= 24 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	o := paho.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("fleet").SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond)
	fleet := paho.NewClient(o)
	if tok := fleet.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("the fleet: %v", tok.Error())
	}
	for i := range 50 {
		if tok := fleet.Publish(fmt.Sprintf("lamps/unit-%02d/state", i%5), 1, false, fmt.Sprintf(`{"level":%d}`, i)); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
			t.Fatalf("publish: %v", tok.Error())
		}
	}
	fleet.Disconnect(250)
	var got observed
	for range 200 { // tcpdump writes a moment later
		code, out, errs := try(t, "observe", "--pcap", file, "--json")
		if code == exitOK && json.Unmarshal([]byte(out), &got) == nil && got.Messages == 50 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatalf("%s%s", out, errs)
		}
	}
	_ = dump.Process.Kill() // it goes on until it is stopped
	_ = dump.Wait()         // by that
	if got.Messages != 50 || len(got.Products) != 1 || got.Products[0].Devices != 5 || got.Products[0].Streams[0].Topics[0] != "lamps/{device}/state" || got.Captured.MQTT != 1 || got.Captured.Broken != 0 {
		t.Errorf("read %+v of %+v", got.Report, got.Captured)
	}
	if err := os.WriteFile(conf, []byte("no capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"no capture": {"observe", "--pcap", conf}, "no file": {"observe", "--pcap", filepath.Join(dir, "none")}, "both": {"observe", "--pcap", file, "--broker", "mqtt://localhost:1"}} {
		if code, _, _ := try(t, args...); code != exitFailed {
			t.Errorf("%s: exit %d", name, code)
		}
	}
}
