package server

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestFormsEndAlike: one reading as JSON, as a CBOR map and as a SenML pack in
// both forms, from a stock client over mutual TLS, is read back as the same
// reading four times; what nobody declared is in none, and one that was there
// already in another form is not stored again.
func TestFormsEndAlike(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	id := core.DeviceID("four-forms")
	u := l.enrol(t, id)
	c := dialMQTT(t, l, u)
	item := func(v any) string {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	at := time.Now().Unix() + 2 // not before the declaration
	object := map[string]any{"t": at * 1000, "boot": 1, "seq": 2, "temp": 21.54, "note": "Küche", "secret": 7, "ssid": "home-wifi"}
	type record = map[int]any // labels of RFC 8428 §6
	for _, payload := range []string{
		strings.ReplaceAll(`{"t":AT000,"boot":1,"seq":1,"temp":21.54,"note":"Küche","secret":7,"ssid":"home-wifi"}`, "AT", strconv.FormatInt(at, 10)),
		item(object),
		strings.ReplaceAll(`[{"bn":"urn:dev:mac:0024befffe804ff1:","bt":AT,"n":"boot","v":1},{"n":"seq","v":3},{"n":"temp","u":"Cel","v":21.54},
			{"n":"note","vs":"Küche"},{"n":"secret","v":7},{"n":"ssid","vs":"home-wifi"}]`, "AT", strconv.FormatInt(at, 10)),
		item([]record{
			{-2: "urn:dev:mac:0024befffe804ff1:", -3: at, 0: "boot", 2: 1},
			{0: "seq", 2: 4},
			{0: "temp", 1: "Cel", 2: 21.54},
			{0: "note", 3: "Küche"},
			{0: "secret", 2: 7},
			{0: "ssid", 3: "home-wifi"},
		}),
		strings.ReplaceAll(`{"t":AT000,"boot":1,"seq":2,"temp":21.54,"note":"Küche","secret":7}`, "AT", strconv.FormatInt(at, 10)),
	} {
		c.publish(t, "telemetry/climate", payload)
	}
	// The HTTPS door takes them one at a time, by their media types.
	p := newPoster(l, u, t)
	object["seq"] = 5
	p.post(t, "climate", "application/cbor", item(object)).want(t, "a CBOR map over HTTPS", 200, "")
	p.post(t, "climate", "application/senml+json", strings.ReplaceAll(`[{"bt":AT,"n":"boot","v":1},{"n":"seq","v":6},{"n":"temp","u":"Cel","v":21.54},{"n":"note","vs":"Küche"}]`, "AT", strconv.FormatInt(at, 10))).want(t, "a pack over HTTPS", 200, "")
	if r := p.post(t, "climate", "application/cbor", "\xff"); r.status != 200 || !strings.Contains(r.body, `"accepted":0`) || !strings.Contains(r.body, "refused") {
		t.Errorf("no CBOR as CBOR: %d %s", r.status, r.body)
	}
	if code, err := c.try("telemetry/climate", `[{"bt":1,"n":"temp","v":1},{"n":"secret","t":1,"v":1}]`); code != 0x99 {
		t.Errorf("a pack of two times: code %#x, want 0x99: %v", code, err)
	}
	lines, err := l.readAll(t, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range lines {
		if want := `{"note":"Küche","temp":21.5}`; string(x.Values) != want || x.WrongClock || x.Time.Unix() != at {
			t.Errorf("read %s at %v (wrong clock %v), want %s at %d", x.Values, x.Time, x.WrongClock, want, at)
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d readings, want 6", len(lines))
	}
	c.close(t)
}

// TestLibraryInCBOR: the device library sends the same reading either way.
func TestLibraryInCBOR(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for id, inCBOR := range map[core.DeviceID]bool{"in-json": false, "in-cbor": true} {
		code := l.add(t, id)
		d, err := device.Open(device.Config{
			Serial: string(id), Server: "localhost:8883", EnrolServer: "localhost:8443", Roots: roots, StateDir: filepath.Join(t.TempDir(), "state"),
			EnrolmentCode: func() (string, error) { return code, nil }, Dial: (&switchboard{l: l}).dial, CBOR: inCBOR,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		waitFor(t, 20*time.Second, "enrolment", func() bool { return !d.Status().NotAfter.IsZero() })
		at := time.Now().Add(time.Second).Truncate(time.Millisecond)
		if err := d.Send("climate", device.NewReading(at).Float("temp", 21.44).String("note", "Küche").Bool("on", true)); err != nil {
			t.Fatal(err)
		}
		if err := d.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		lines, err := l.readAll(t, id)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) != 1 || string(lines[0].Values) != `{"note":"Küche","temp":21.4}` || !lines[0].Time.Equal(at) || lines[0].Seq == nil || *lines[0].Seq != 1 {
			t.Errorf("%s: read %+v", id, lines)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
