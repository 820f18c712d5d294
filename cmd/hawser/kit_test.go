package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
)

// kitProduct declares every type of field, and TLS 1.2 where old is set.
func kitProduct(id string, old bool) string {
	tls := ""
	if old {
		tls = `, tls: "1.2"`
	}
	const rest = "class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred"
	return `
declaration: 1
product: ` + id + `
name: 'Kit "Sensor" */ \\'
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
identity: {life: 30d, may_sleep: until-end-of-support}
data:
  room-temp: {stream: climate, type: number, unit: Cel, range: [-40, 85], precision: 0.1, about: 'How warm "it" is. */', ` + rest + `}
  room_temp: {stream: climate, type: integer, unit: "%", range: [0, 100], ` + rest + `}
  default: {stream: climate, type: boolean, ` + rest + `}
  mode: {stream: state-of-it, type: enum, values: ['off', 'very "hot" \ ??/', heating], ` + rest + `}
  note: {stream: state-of-it, type: string, min_length: 1, max_length: 64, ` + rest + `}
  at: {stream: state-of-it, type: timestamp, ` + rest + `}
streams:
  climate: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
  state-of-it: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: message}
commands:
  blink: {params: {seconds: {type: integer, unit: s, range: [1, 60]}}, by: [support], risky: false}
  reset: {params: {}, by: [owner], risky: false}
settings:
  lamp: {type: boolean, default: false, class: public, keep: 30d, by: [support], risky: false}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network: {talks_to: [{service: gateway}], wifi: [wpa2, wpa3]` + tls + `}
updates: {automatic: true, check_every: 6h, window: "02:00-05:00", deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2032-12-31, afterwards: "Measures, but tells nobody."}
contacts: {security: security@northwind.example, help: help@northwind.example}
`
}

// kitHome is a running installation with the products of kitProduct:
// kit-sensor, and kit-sensor-old with TLS 1.2.
type kitHome struct {
	t    *testing.T
	home string
	env  []string // of the units' programs
}

// onlyTLS12 makes OpenSSL speak TLS 1.2, or whatever it likes again.
func (k *kitHome) onlyTLS12(yes bool) {
	k.t.Helper()
	if k.env = nil; !yes {
		return
	}
	conf := filepath.Join(k.t.TempDir(), "openssl.cnf")
	if err := os.WriteFile(conf, []byte("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.env = []string{"OPENSSL_CONF=" + conf}
}

// tls12 is how many handshakes of TLS 1.2 the devices' door completed.
func (k *kitHome) tls12() string {
	k.t.Helper()
	var b bytes.Buffer
	if err := api.NewClient(filepath.Join(k.home, "data", "hawser.sock")).Fetch(k.t.Context(), "GET", "/metrics", nil, &b); err != nil {
		k.t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^\w*gateway_handshakes_tls12_total [0-9].*$`).FindString(b.String())
}

func newKitHome(t *testing.T) *kitHome {
	t.Helper()
	k := &kitHome{t: t, home: filepath.Join(t.TempDir(), "h")}
	k.hawser("init", "--environment", "test")
	if err := os.WriteFile(filepath.Join(k.home, "config.yaml"), []byte("devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nservices: 127.0.0.1:0\nnames: [localhost, 127.0.0.1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() { ended <- runWith(ctx, &log, "serve", "--home", k.home) }()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitOK {
			t.Errorf("serve ended with %d:\n%s", code, &log)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if code, _, _ := try(t, "status", "--home", k.home); code == exitOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server does not answer")
		}
	}
	for id, old := range map[string]bool{"kit-sensor": false, "kit-sensor-old": true} {
		file := filepath.Join(t.TempDir(), id+".yaml")
		if err := os.WriteFile(file, []byte(kitProduct(id, old)), 0o600); err != nil {
			t.Fatal(err)
		}
		k.hawser("declaration", "publish", file)
	}
	return k
}

// hawser types a command, which must work, and gives what it printed.
func (k *kitHome) hawser(args ...string) string {
	k.t.Helper()
	code, out, errs := try(k.t, append(args, "--home", k.home)...)
	if code != exitOK {
		k.t.Fatalf("hawser %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// add registers a unit and puts its code into a file.
func (k *kitHome) add(serial, product string) (codeFile, code string) {
	k.t.Helper()
	var added api.DeviceAdded
	if err := json.Unmarshal([]byte(k.hawser("device", "add", serial, "--product", product, "--json")), &added); err != nil {
		k.t.Fatal(err)
	}
	codeFile = filepath.Join(k.t.TempDir(), "code")
	if err := os.WriteFile(codeFile, []byte(added.Code+"\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return codeFile, added.Code
}

// kit writes the kit of a product and gives its folder.
func (k *kitHome) kit(of, platform string) string {
	k.t.Helper()
	to := filepath.Join(k.t.TempDir(), "kit")
	k.hawser("device", "kit", of, platform, "--out", to)
	return to
}

// troubled writes the kit of a product again, for which every certificate is due
// for renewal and the enrolment door is shut.
func (k *kitHome) troubled(of, platform string) string {
	k.t.Helper()
	to := k.kit(of, platform)
	changed := 0
	err := filepath.Walk(to, func(p string, st os.FileInfo, err error) error {
		if err != nil || !strings.HasPrefix(st.Name(), "hawser_settings") {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b = regexp.MustCompile(`(HAWSER_EST_PORT|"enrolment_port":) \d+`).ReplaceAll(b, []byte("${1} 1"))
		b = regexp.MustCompile(`(HAWSER_CERTIFICATE_DAYS|"certificate_days":) 30`).ReplaceAllFunc(b, func(m []byte) []byte {
			changed++
			return bytes.Replace(m, []byte("30"), []byte("400"), 1)
		})
		return os.WriteFile(p, b, 0o644)
	})
	if err != nil || changed != 1 {
		k.t.Fatalf("the certificate's life stands in %d settings: %v", changed, err)
	}
	return to
}

// stored gives the values that the server has of a device, oldest first.
func (k *kitHome) stored(serial string) (out []string) {
	k.t.Helper()
	for l := range strings.Lines(k.hawser("read", serial, "--purpose", "service.control", "--reason", "a test reads back", "--json")) {
		var x api.ReadLine
		if err := json.Unmarshal([]byte(l), &x); err != nil {
			k.t.Fatal(err)
		}
		if x.Done == nil {
			out = append(out, string(x.Values))
		}
	}
	return out
}

// what a unit's example readings are, as the server stores them.
const (
	kitClimate = `{"default":true,"room-temp":22.5,"room_temp":50}`
	kitState   = `{"at":"2026-01-01T00:00:00Z","mode":"off","note":"example"}`
)

// joins runs a unit's program twice: it enrols, connects and sends; then it
// renews and sends again with its new certificate. Neither its code nor its key
// appears in what it says, and nothing of it is in the kit. prepare builds a kit
// and gives the program's command line.
func (k *kitHome) joins(serial, product, platform string, prepare func(dir string) []string) {
	k.t.Helper()
	program := prepare(k.kit(product, platform))
	codeFile, code := k.add(serial, product)
	state := filepath.Join(k.t.TempDir(), "state")
	run := func(args ...string) string {
		k.t.Helper()
		all := append(append(program[:len(program):len(program)], "--serial", serial, "--state", state, "--once"), args...)
		ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, all[0], all[1:]...)
		cmd.Env = append(os.Environ(), k.env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			k.t.Fatalf("%s: %v\n%s\nthe server: %s", strings.Join(all, " "), err, out, k.hawser("device", "show", serial))
		}
		for _, secret := range []string{code, strings.ReplaceAll(code, "-", ""), "PRIVATE KEY"} {
			if bytes.Contains(out, []byte(secret)) {
				k.t.Errorf("%s says a secret:\n%s", program, out)
			}
		}
		return string(out)
	}
	said := run("--code-file", codeFile)
	for _, want := range []string{"enrolled", "connected", "acknowledged: climate", "acknowledged: state-of-it"} {
		if !strings.Contains(said, want) {
			k.t.Errorf("%s does not say %q:\n%s", program, want, said)
		}
	}
	before := k.certificate(serial)
	if said := run("--renew-now"); !strings.Contains(said, "renewed") || !strings.Contains(said, "connected") {
		k.t.Errorf("%s does not renew:\n%s", program, said)
	}
	if after := k.certificate(serial); after == before || after == "" {
		k.t.Errorf("%s: the certificate in use is %q after the renewal, and was %q", serial, after, before)
	}
	// A renewal that is due and fails ends nothing: the unit goes on sending.
	program = prepare(k.troubled(product, platform))
	if said := run(); !regexp.MustCompile("not renewed|failed").MatchString(said) || regexp.MustCompile("(?m)^(renewed|enrolled)").MatchString(said) || !strings.Contains(said, "acknowledged: climate") {
		k.t.Errorf("%s, when a renewal fails:\n%s", program, said)
	}
	want := map[string]int{kitClimate: 3, kitState: 3}
	for _, v := range k.stored(serial) {
		want[v]--
	}
	for v, n := range want {
		if n != 0 {
			k.t.Errorf("%s: %s is stored %d times less than it was sent", serial, v, n)
		}
	}
	// What it keeps is for it alone.
	err := filepath.Walk(state, func(p string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			k.t.Errorf("%s can be read by others: %s", p, st.Mode())
		}
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kitHome) certificate(serial string) string {
	k.t.Helper()
	var d api.Device
	if err := json.Unmarshal([]byte(k.hawser("device", "show", serial, "--json")), &d); err != nil {
		k.t.Fatal(err)
	}
	return d.Certificate
}

// partFor skips by name where something from Debian is missing.
func partFor(t *testing.T, what, from string, probe ...string) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), probe[0], probe[1:]...).Run(); err != nil {
		t.Skipf("%s is not installed: `make deps` as root installs it from Debian (%s)", what, from)
	}
}

// debianPython is the one that Debian's packages are for, whatever else is
// installed.
const debianPython = "/usr/bin/python3"

// TestKitPython: the kit's sketch, unchanged, with Debian's Paho for Python.
func TestKitPython(t *testing.T) {
	t.Parallel()
	partFor(t, "Paho for Python", "python3-paho-mqtt, python3-cryptography", debianPython, "-c", "import paho.mqtt.client, cryptography")
	k := newKitHome(t)
	for product, serial := range map[string]string{"kit-sensor": "py-13", "kit-sensor-old": "py-12"} {
		k.onlyTLS12(product == "kit-sensor-old")
		before := k.tls12()
		k.joins(serial, product, "--python", func(dir string) []string { return []string{debianPython, filepath.Join(dir, "hawser_device.py")} })
		if after := k.tls12(); after == before && product == "kit-sensor-old" {
			t.Errorf("%s: handshakes of TLS 1.2: %q, and then %q", product, before, after)
		}
	}
}

// sanitizers find what C does wrong while it runs.
const sanitizers = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"

// build makes a program of a kit; the kit's Makefile says -Wall -Wextra -Werror.
func build(t *testing.T, dir, cflags string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "-C", dir, "CFLAGS="+cflags)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
}

// header skips where a header of a library from Debian is missing.
func header(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("there is no C compiler: `make deps` as root installs it from Debian (gcc, make)")
	}
	cmd := exec.CommandContext(t.Context(), "cc", "-fsyntax-only", "-x", "c", "-")
	cmd.Stdin = strings.NewReader("#include <" + name + ">\n")
	if err := cmd.Run(); err != nil {
		t.Skipf("%s is not installed: `make deps` as root installs it from Debian (%s)", name, pkg)
	}
}

// TestKitLinux: the kit's program, unchanged, with Debian's Paho MQTT C and
// OpenSSL, once as it is shipped and once under the sanitizers.
func TestKitLinux(t *testing.T) {
	t.Parallel()
	header(t, "MQTTClient.h", "libpaho-mqtt-dev")
	header(t, "openssl/ssl.h", "libssl-dev")
	k := newKitHome(t)
	for _, c := range []struct{ serial, product, cflags string }{
		{"linux-13", "kit-sensor", "-O2"},
		{"linux-12", "kit-sensor-old", "-O2"},
		{"linux-asan", "kit-sensor", sanitizers},
	} {
		k.onlyTLS12(c.product == "kit-sensor-old")
		before := k.tls12()
		k.joins(c.serial, c.product, "--linux", func(dir string) []string {
			build(t, dir, c.cflags)
			return []string{filepath.Join(dir, "unit")}
		})
		if after := k.tls12(); after == before && c.product == "kit-sensor-old" {
			t.Errorf("%s: handshakes of TLS 1.2: %q, and then %q", c.product, before, after)
		}
	}
}

// TestKitMbedTLS: the portable part of the kits for chips, which are the same
// files in each, with Debian's Mbed TLS as a process of Linux.
func TestKitMbedTLS(t *testing.T) {
	t.Parallel()
	header(t, "mbedtls/ssl.h", "libmbedtls-dev")
	k := newKitHome(t)
	for _, c := range []struct{ serial, platform, cflags string }{
		{"mbed-esp", "--esp-idf", "-O2"},
		{"mbed-zephyr", "--zephyr", sanitizers},
		{"mbed-arduino", "--arduino", "-Os"},
	} {
		k.joins(c.serial, "kit-sensor-old", c.platform, func(dir string) []string {
			build(t, filepath.Join(dir, "host"), c.cflags)
			return []string{filepath.Join(dir, "host", "unit")}
		})
	}
	// A product of TLS 1.3 alone does not compile with a library that has none,
	// and the compiler says what to do.
	dir := filepath.Join(k.kit("kit-sensor", "--zephyr"), "host")
	out, err := exec.CommandContext(t.Context(), "make", "-C", dir).CombinedOutput()
	if err == nil {
		t.Log("this Mbed TLS speaks TLS 1.3")
	} else if !strings.Contains(string(out), "TLS 1.3 only") {
		t.Errorf("a kit of TLS 1.3 with a library of 1.2: %v\n%s", err, out)
	}
}

// TestKitCommand: which kit for whom, and what is refused.
func TestKitCommand(t *testing.T) {
	t.Parallel()
	k := newKitHome(t)
	k.add("unit-7", "kit-sensor")
	out := filepath.Join(t.TempDir(), "kit")
	var w kitWritten
	if err := json.Unmarshal([]byte(k.hawser("device", "kit", "unit-7", "--python", "--out", out, "--json")), &w); err != nil {
		t.Fatal(err)
	}
	if w.Product != "kit-sensor" || w.Platform != "python" || len(w.Files) < 5 {
		t.Errorf("the kit of a device: %+v", w)
	}
	readme, err := os.ReadFile(filepath.Join(out, "README.md"))
	if err != nil || !bytes.Contains(readme, []byte("--serial unit-7 ")) {
		t.Errorf("the README does not name the device: %v", err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"kit-sensor --python --out " + out, "there already"},
		{"kit-sensor", "no platform"},
		{"kit-sensor --python --linux", "one platform"},
		{"nobody --python --out " + out + "2", "neither a product nor a device"},
		{"../etc --python --out " + out + "2", "neither a product nor a device"},
		{"kit-sensor --python --out " + out + "/no/such/folder", "make the kit's folder"},
	} {
		code, _, errs := try(t, append(append([]string{"device", "kit"}, strings.Fields(c.args)...), "--home", k.home)...)
		if code == exitOK || !strings.Contains(errs, c.want) {
			t.Errorf("device kit %s: exit %d, %q; want %q", c.args, code, errs, c.want)
		}
	}
}

// TestKitJSON: what the kit's C writes for values at the edges, and what it
// refuses.
func TestKitJSON(t *testing.T) {
	t.Parallel()
	header(t, "stdint.h", "libc6-dev")
	k := newKitHome(t)
	dir := k.kit("kit-sensor", "--linux")
	const main = `
#include "hawser_json.h"
#include <math.h>
#include <stdio.h>
#define N(v, min, max, d) do { hawser_json w; char b[64]; hawser_json_begin(&w, b, sizeof b, NULL); hawser_json_number(&w, "x", v, min, max, d); int n = hawser_json_end(&w, 60); printf("%d %s\n", n < 0 ? n : 1, b); } while (0)
#define T(v, min, max, size) do { hawser_json w; char b[64]; hawser_json_begin(&w, b, size, NULL); hawser_json_text(&w, "x", v, min, max); int n = hawser_json_end(&w, 60); printf("%d %s\n", n < 0 ? n : 1, b); } while (0)
#define I(v, min, max) do { hawser_json w; char b[64]; hawser_json_begin(&w, b, sizeof b, NULL); hawser_json_integer(&w, "x", v, min, max); int n = hawser_json_end(&w, 60); printf("%d %s\n", n < 0 ? n : 1, b); } while (0)
int main(void)
{
    N(21.54, -40, 85, 1); N(-0.04, -40, 85, 1); N(-0.06, -40, 85, 1); N(0.1 + 0.2, 0, 1, 9); N(85, -40, 85, 1); N(-40, -40, 85, 0);
    N(85.01, -40, 85, 1); N(NAN, -40, 85, 1); N(INFINITY, -40, 1e308, 1); N(1e300, 0, 1e308, 6); N(123456789012.5, 0, 1e15, 9); N(0.000001, 0, 1, 6);
    I(INT64_C(-9007199254740992), INT64_C(-9007199254740992), 0); I(INT64_MIN, INT64_MIN, 0); I(7, 0, 6);
    T("a\"\\\n\x01", 1, 9, 64); T("\xc3\xa9\xc3\xa9", 2, 2, 64); T("", 1, 9, 64); T("abc", 1, 2, 64); T(NULL, 0, 9, 64); T("abcdef", 0, 9, 14); T("abcdef", 0, 9, 15); T("x", 0, 9, 1); T("x", 0, 9, 0);
    { hawser_json w; char b[64]; hawser_stamp s = {1, 2, 3}; hawser_json_begin(&w, b, sizeof b, &s); printf("%d %s\n", hawser_json_end(&w, 60), b); }
    return 0;
}
`
	const want = `1 {"x":21.5}
1 {"x":0}
1 {"x":-0.1}
1 {"x":0.3}
1 {"x":85}
1 {"x":-40}
-2 
-2 
-2 
-2 
1 {"x":123456789012.5}
1 {"x":0.000001}
1 {"x":-9007199254740992}
1 {"x":-9223372036854775808}
-2 
1 {"x":"a\"\\\u000a\u0001"}
1 {"x":"éé"}
-2 
-2 
-2 
-1 
1 {"x":"abcdef"}
-1 
-1 
-3 
`
	if err := os.WriteFile(filepath.Join(dir, "edges.c"), []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	cc := exec.CommandContext(t.Context(), "cc", append(strings.Fields(sanitizers), "-Wall", "-Wextra", "-Werror", "-o", "edges", "edges.c", "hawser_json.c")...)
	cc.Dir = dir
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "edges")).CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

// TestKitHearsRefusals: a unit that sends what its declaration forbids is told,
// says so, and ends with another code; what was wrong is not stored.
func TestKitHearsRefusals(t *testing.T) {
	t.Parallel()
	header(t, "MQTTClient.h", "libpaho-mqtt-dev")
	header(t, "openssl/ssl.h", "libssl-dev")
	header(t, "mbedtls/ssl.h", "libmbedtls-dev")
	partFor(t, "Paho for Python", "python3-paho-mqtt, python3-cryptography", debianPython, "-c", "import paho.mqtt.client, cryptography")
	k := newKitHome(t)
	for platform, program := range map[string][]string{"--python": {debianPython, "hawser_device.py"}, "--linux": {"./unit"}, "--zephyr": {"host/unit"}} {
		serial := "wild" + platform
		dir := k.kit("kit-sensor-old", platform)
		for _, name := range []string{"hawser_readings.py", "hawser_readings.c", "src/hawser_readings.c"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue // of another platform
			}
			// A month that does not exist: the C looks at the length only.
			wild := strings.ReplaceAll(string(b), "2026-01-01T", "2026-99-01T")
			if err := os.WriteFile(filepath.Join(dir, name), []byte(wild), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if platform != "--python" {
			build(t, filepath.Join(dir, filepath.Dir(program[0])), "-O1")
		}
		codeFile, _ := k.add(serial, "kit-sensor-old")
		cmd := exec.CommandContext(t.Context(), program[0], append(program[1:], "--serial", serial, "--state", "state", "--once", "--code-file", codeFile)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 3 || !bytes.Contains(out, []byte("refused: ")) || !bytes.Contains(out, []byte("state-of-it")) {
			t.Errorf("%s: %v\n%s", platform, err, out)
		}
		for _, v := range k.stored(serial) {
			if strings.Contains(v, "2026-99") {
				t.Errorf("%s: stored %s", platform, v)
			}
		}
	}
}

// TestKitHearsCommands: the Python sketch takes a command and settings, and says
// that it does none of it; it leaves nothing unanswered.
func TestKitHearsCommands(t *testing.T) {
	t.Parallel()
	partFor(t, "Paho for Python", "python3-paho-mqtt, python3-cryptography", debianPython, "-c", "import paho.mqtt.client, cryptography")
	k := newKitHome(t)
	dir := k.kit("kit-sensor", "--python")
	codeFile, _ := k.add("told", "kit-sensor")
	once := func() string {
		cmd := exec.CommandContext(t.Context(), debianPython, "hawser_device.py", "--serial", "told", "--state", "state", "--once", "--code-file", codeFile)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	once()
	k.hawser("command", "give", "told", "blink", "seconds=7", "--reason", "a test tells it")
	k.hawser("setting", "set", "told", "lamp=true", "--reason", "a test sets it")
	out := ""
	for range 5 { // a unit that sends and goes may go before it heard
		out += once()
		told, set := k.hawser("command", "list", "told", "--json"), k.hawser("setting", "show", "told", "--json")
		if strings.Contains(told, `"state": "refused"`) && strings.Contains(set, `"why": "this sketch sets nothing"`) {
			return
		}
	}
	t.Errorf("the command stands as\n%s\nthe settings as\n%s\nthe unit says\n%s", k.hawser("command", "list", "told"), k.hawser("setting", "show", "told"), out)
}
