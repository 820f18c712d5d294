package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/device"
)

func noEnv(string) string { return "" }

func whole(more ...string) []string {
	return append([]string{"--serial", "A1", "--server", "s.example", "--roots", "r.pem", "--state", "d"}, more...)
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("agent.json", `{"serial":"B2","server":"s.example","roots":"r.pem","state":"d","every":"3s","simulate":["thermostat"]}`)
	for _, c := range []struct {
		name string
		args []string
		want string // in the error; empty: none
	}{
		{"all that is needed", whole(), ""},
		{"nothing", nil, "--serial is missing"},
		{"no roots", []string{"--serial", "A1", "--server", "s"}, "--roots is missing"},
		{"unknown flag", whole("--password", "x"), "password"},
		{"a code on the command line", whole("--code", "secret"), "code"},
		{"a word too many", whole("x"), `"x" is no option`},
		{"no time", whole("--every", "soon"), "--every"},
		{"too short a time", whole("--keep-alive", "1ms"), "--keep-alive"},
		{"log form", whole("--log", "xml"), "--log"},
		{"negative count", whole("--count", "-1"), "--count"},
		{"misbehaving without a sensor", whole("--misbehave"), "--misbehave"},
		{"a sensor of nothing", whole("--simulate", "climate"), "--simulate"},
		{"file", []string{"--config", file}, ""},
		{"no such file", []string{"--config", filepath.Join(dir, "none")}, "no such file"},
		{"unknown key", []string{"--config", write("unknown.json", `{"serial":"A1","pasword":"x"}`)}, "pasword"},
		{"two objects", []string{"--config", write("two.json", `{"serial":"A1"} {}`)}, "more than one"},
		{"not JSON", []string{"--config", write("not.json", `serial: A1`)}, "invalid"},
	} {
		o, err := parseOptions(c.args)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %+v, %v, want an error with %q", c.name, o, err, c.want)
		}
	}
	o, err := parseOptions([]string{"--config", file, "--serial", "C3", "--simulate", "a b=bool"})
	if err != nil || o.Serial != "C3" || o.every != 3*time.Second || len(o.sensors) != 1 || o.sensors[0].stream != "a" {
		t.Errorf("flags over file: %+v, %v", o, err)
	}
}

func TestHelpTeaches(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, noEnv, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"Example:", "--code-file", codeVariable, "--misbehave", "--simulate", "--config", "Exit codes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not speak of %s", want)
		}
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if len(line) > 140 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	out.Reset()
	if code := run(t.Context(), []string{"--version"}, noEnv, strings.NewReader(""), &out, &errs); code != exitOK || !strings.HasPrefix(out.String(), "hawser-agent ") {
		t.Errorf("version: %d, %q", code, out.String())
	}
	if code := run(t.Context(), []string{"--nonsense"}, noEnv, strings.NewReader(""), &out, &errs); code != exitMisuse || !strings.Contains(errs.String(), "--help") {
		t.Errorf("misuse: %d, %q", code, errs.String())
	}
	if code := run(t.Context(), whole(), noEnv, strings.NewReader(""), &out, &errs); code != exitMisuse {
		t.Errorf("no bundle: %d", code)
	}
}

func TestEnrolmentCodeSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "code")
	if err := os.WriteFile(file, []byte("  from-file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := newLog(&log, "human")
	in := bufio.NewReader(strings.NewReader("from-stdin\nclimate {\"x\":1}\n"))
	env := func(name string) string {
		if name == codeVariable {
			return "from-env"
		}
		return ""
	}
	for _, c := range []struct {
		name, file string
		env        func(string) string
		want       string
	}{
		{"file", file, env, "from-file"}, {"stdin", "-", noEnv, "from-stdin"}, {"env", "", env, "from-env"},
	} {
		get := (&options{CodeFile: c.file}).enrolmentCode(c.env, in, logger)
		if got, err := get(); got != c.want || err != nil {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if !strings.Contains(log.String(), "others can read") {
		t.Error("a code that everybody can read is not told")
	}
	if strings.Contains(log.String(), "from-") {
		t.Errorf("a code is in the log: %s", log.String())
	}
	if rest, _ := io.ReadAll(in); !strings.HasPrefix(string(rest), "climate") {
		t.Errorf("the readings after the code are gone: %q", rest)
	}
	if (&options{}).enrolmentCode(noEnv, in, logger) != nil {
		t.Error("a code out of nothing")
	}
	for _, bad := range []string{filepath.Join(dir, "none"), "-"} {
		if got, err := (&options{CodeFile: bad}).enrolmentCode(noEnv, in, logger)(); err == nil {
			t.Errorf("%s: %q", bad, got)
		}
	}
}

func TestParseReading(t *testing.T) {
	now := time.UnixMilli(1)
	for _, c := range []struct{ in, want string }{
		{`{"a":1,"b":2.5,"c":true,"d":"x","e":-7,"f":1e3}`, ""},
		{`{"t":1795000000123,"a":1}`, ""},
		{`{"a":1}  `, ""},
		{``, "not a JSON object"},
		{`[1]`, "not a JSON object"},
		{`{"a":1`, "EOF"},
		{`{"a":null}`, "neither"},
		{`{"a":[1]}`, "neither"},
		{`{"a":{"b":1}}`, "neither"},
		{`{"a":1} x`, "after"},
		{`{"a":1} {}`, "after"},
		{`{"t":"now","a":1}`, "whole number"},
		{`{"t":1.5,"a":1}`, "whole number"},
		{`{"a":1e999}`, "range"},
	} {
		_, err := parseReading(c.in, now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.in, err, c.want)
		}
	}
}

// TestLines: one bad line does not end the sensor, and no line can be too long
// for it.
func TestLines(t *testing.T) {
	d := offline(t)
	var log bytes.Buffer
	in := "climate {\"a\":1}\n\n  climate {\"a\":2}  \r\nnonsense\nclimate [1]\nClimate {\"a\":1}\n" +
		"climate {\"a\":\"" + strings.Repeat("x", maxLine) + "\"}\nclimate {\"seq\":1}\nclimate {\"a\":3}"
	if err := readLines(t.Context(), bufio.NewReaderSize(strings.NewReader(in), 64), d, newLog(&log, "human")); err != nil {
		t.Fatal(err)
	}
	if st := d.Status(); st.Queued != 3 {
		t.Errorf("%d readings, want 3", st.Queued)
	}
	if n := strings.Count(log.String(), "line is no reading"); n != 5 {
		t.Errorf("%d lines were told, want 5:\n%s", n, log.String())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := readLines(t.Context(), bufio.NewReader(strings.NewReader("climate {\"a\":1}\n")), d, newLog(&log, "human")); err == nil {
		t.Error("a closed device takes lines")
	}
}

// offline is a device that never sees a network.
func offline(t *testing.T) *device.Device {
	t.Helper()
	d, err := device.Open(device.Config{Serial: "A1", Server: "127.0.0.1:1", Roots: []byte(root), StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// root is a root certificate whose key nobody has any more.
const root = `-----BEGIN CERTIFICATE-----
MIIBZDCCAQmgAwIBAgIBBzAKBggqhkjOPQQDAjAYMRYwFAYDVQQDEw1Ob2JvZHkn
cyBSb290MCAXDTI1MDEwMTAwMDAwMFoYDzIxMjUwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDEw1Ob2JvZHkncyBSb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqQyL
J6KK5ju9hF/XcR6LNt8LfpVd3dQsuLEgdD4XW7FngHiDK/pCBK3KA4BrCYGbtpcC
gE7fTfEMUUC5PnM9NaNCMEAwDgYDVR0PAQH/BAQDAgIEMA8GA1UdEwEB/wQFMAMB
Af8wHQYDVR0OBBYEFDobwgSG5dG5VVv7/DpXrRTfc6pqMAoGCCqGSM49BAMCA0kA
MEYCIQDZbczjEQgVOJr0yzWBWllwlZW+LmZzbQsl4N+HmQ/YDQIhAIynVBV1ob6w
ij69Am/0kN0JLuyOOsTrJgEXKSmH2UCR
-----END CERTIFICATE-----
`

func TestSimulated(t *testing.T) {
	for spec, ok := range map[string]bool{
		"thermostat": true, "climate a=1..2": true, "climate a=-1.5..2/0.25 b=bool c=x|y|z d=x": true,
		"": false, "climate": false, "climate a": false, "climate a=": false, "climate =1..2": false,
		"climate a=2..1": false, "climate a=x..y": false, "climate a=1..2/x": false, "climate a=1..2/-1": false,
		"climate a=NaN..2": false, "climate a=-Inf..Inf": false,
	} {
		if _, err := parseSimulated(spec); (err == nil) != ok {
			t.Errorf("parseSimulated(%q): %v", spec, err)
		}
	}
	s, err := parseSimulated("climate a=19.5..22.5/0.1 b=bool c=x|y")
	if err != nil {
		t.Fatal(err)
	}
	d := offline(t)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		if err := d.Send(s.stream, s.reading(time.Now(), float64(i)/50, r)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPranks: each one is something that the library lets through, because it
// is the server's work to refuse it.
func TestPranks(t *testing.T) {
	s, err := parseSimulated("climate a=19.5..22.5/0.1 b=bool c=x|y")
	if err != nil {
		t.Fatal(err)
	}
	d := offline(t)
	o := &options{Neighbour: "B2"}
	sent := 0
	for _, p := range o.pranks(s, d) {
		before := d.Status().Queued
		_, err := p.play(t.Context())
		if e, ok := errors.AsType[*device.Error](err); ok && e.Reason != device.NotConnected {
			t.Errorf("%s: %v", p.what, err)
		}
		if d.Status().Queued > before {
			sent++
		}
	}
	if sent != 5 {
		t.Errorf("%d pranks use the queue, want 5", sent)
	}
}

func TestLogForms(t *testing.T) {
	var b bytes.Buffer
	l := newLog(&b, "human").With(slog.String("device", "A1"))
	l.Warn("no session", slog.String("hint", "check the address"), slog.String("empty", ""), slog.Int("n", 3))
	l.Debug("unseen")
	if got := b.String(); !strings.HasSuffix(got, " warn: no session device=A1 hint=\"check the address\" n=3\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("human: %q", got)
	}
	b.Reset()
	newLog(&b, "json").Info("connected", slog.Int("window", 16))
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil || m["msg"] != "connected" || m["window"] != 16.0 {
		t.Errorf("json: %s, %v", b.String(), err)
	}
}

func FuzzParseReading(f *testing.F) {
	f.Add(`{"t":1795000000123,"a":1,"b":"x","c":true,"d":1.5}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReading(text, time.Now())
		if err == nil && r == nil {
			t.Error("neither reading nor error")
		}
	})
}

func TestServeEndsWithContext(t *testing.T) {
	d := offline(t)
	o, err := parseOptions(whole("--simulate", "thermostat", "--every", "10ms"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, o, d, bufio.NewReader(strings.NewReader("")), newLog(io.Discard, "human")); err != nil {
		t.Errorf("serve: %v", err)
	}
}
