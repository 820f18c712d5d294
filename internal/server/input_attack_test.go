package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestFaultyDeclarationsAreRefused: bombs and faults get one clear answer each,
// in little time, and what was in force stays in force (CC 4.2, 4.4, 4.7).
func TestFaultyDeclarationsAreRefused(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	next := strings.Replace(testDeclaration, "version: 1\n", "version: 2\n", 1)
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(next, old) {
			t.Fatalf("no %q in the declaration", old)
		}
		return strings.Replace(next, old, new, 1)
	}
	for name, c := range map[string]struct{ source, says string }{
		"billion laughs":            {bomb, "alias"},
		"a bomb inside a good file": {next + bomb, "alias"},
		"nested without end":        {"declaration: " + strings.Repeat("[", 100_000), "nest"},
		"nested maps":               {"declaration: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), "nest"},
		"large":                     {next + "# " + strings.Repeat("x", 300<<10), "bytes"},
		"a key twice":               {next + "\nname: Other\n", "name"},
		"an unknown key":            {next + "\nretention: forever\n", "retention"},
		"no keep-time":              {change("keep: 10d, ", ""), "keep"},
		"kept for ever":             {change("keep: 10d", "keep: forever"), "keep"},
		"no purpose":                {change("purposes: [service.control], keep: 10d", "keep: 10d"), "purposes"},
		"no end":                    {strings.ReplaceAll(next, ", when_done: shred", ""), "when_done"},
		"range not a number":        {change("[0, 1000]", "[0, .nan]"), "range"},
		"range without end":         {change("[0, 1000]", "[0, .inf]"), "range"},
		"range the wrong way":       {change("[0, 1000]", "[1000, 0]"), "range"},
		"unit unknown":              {change("unit: Cel", "unit: bananas"), "unit"},
		"support earlier":           {change("2032-12-31", "2031-12-31"), "2031"},
		"the same version again":    {strings.Replace(testDeclaration, "Test Sensor", "Test Censor", 1), "version"},
		"empty":                     {" ", ""},
	} {
		began := time.Now()
		err := l.client.Call(t.Context(), "POST", "/v1/declarations", api.PublishRequest{File: "evil.yaml", Source: c.source}, nil)
		took := time.Since(began)
		if err == nil {
			t.Errorf("%s: published", name)
			continue
		}
		if took > 2*time.Second {
			t.Errorf("%s: took %s to refuse", name, took)
		}
		text := err.Error()
		if !strings.Contains(text, c.says) || strings.Contains(text, "internal error") {
			t.Errorf("%s: does not name %q: %.300s", name, c.says, text)
		}
	}
	var all []api.Declaration
	l.call(t, "GET", "/v1/declarations", nil, &all)
	if len(all) != 1 || all[0].Version != 1 {
		t.Errorf("in force: %+v", all)
	}
	l.publish(t, change("keep: 10d", "keep: 7d")) // the must: what narrows is taken
	dialMQTT(t, l, l.enrol(t, "A1")).publish(t, "telemetry/climate", `{"temp":20}`)
}

// TestHostileRequestsAtTheLocalDoor: the local door is strict and bounded, too.
func TestHostileRequestsAtTheLocalDoor(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	deep := json.RawMessage(strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000))
	for name, body := range map[string]any{
		"unknown member": map[string]string{"file": "x", "source": "y", "force": "yes"},
		"wrong type":     map[string]int{"source": 5},
		"an array":       []string{"x"},
		"deep":           map[string]json.RawMessage{"source": deep},
		"huge":           map[string]string{"source": strings.Repeat("x", 2<<20)},
	} {
		err := l.client.Call(t.Context(), "POST", "/v1/declarations", body, nil)
		if err == nil || core.KindOf(err) == core.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"/v1/devices/..%2f..%2fcontrol.db", "/v1/devices/%00", "/v1/devices/" + strings.Repeat("a", 300)} {
		if err := l.client.Call(t.Context(), "GET", path, nil, nil); err == nil || core.KindOf(err) == core.Internal {
			t.Errorf("%.40s: %v", path, err)
		}
	}
	var s api.Status
	l.call(t, "GET", "/v1/status", nil, &s)
}

// TestHostilePayloads: what is no reading is refused by name and stored
// nowhere; what is half one keeps its good half (CC 1.2, 4.3).
func TestHostilePayloads(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	refused := []string{
		strings.Repeat("[", 400), strings.Repeat(`{"temp":`, 60) + "1" + strings.Repeat("}", 60),
		`{"temp":20,"temp":21}`, `{"temp":20,"\u0074emp":21}`, `{"temp":NaN}`, `{"temp":Infinity}`, `{"temp":1e999}`,
		`{"temp":-0x10}`, `{"temp":"20"}`, `{"temp":[20]}`, `{"temp":null}`, `[{"temp":20}]`, `"temp"`, ``, `{`, `{"temp":20}{"temp":21}`,
		"{\"note\":\"\xff\"}", "\xef\xbb\xbf{\"temp\":20}", `{"Temp":20}`, `{"temp ":20}`, `{"temp":86}`, `{"note":"` + strings.Repeat("x", 65) + `"}`,
		`{"pad":"` + strings.Repeat("x", 600) + `","temp":20}`,
	}
	for _, p := range refused {
		if code, err := c.try("telemetry/climate", p); code < 0x80 {
			t.Errorf("%.60s: 0x%02x, %v", p, code, err)
		}
	}
	// The must: the good half of a half-good one, and the unlikely but good.
	for _, p := range []string{`{"temp":20.04,"note":5}`, `{"\u0074emp":2.1e1,"x":{"deep":[1,2,{"y":null}]}}`, ` { "temp" : 22 } `} {
		c.publish(t, "telemetry/climate", p)
	}
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range lines {
		got = append(got, string(x.Values))
	}
	if want := `{"temp":20} {"temp":21} {"temp":22}`; strings.Join(got, " ") != want {
		t.Errorf("stored %v, want %s", got, want)
	}
	sum := uint64(0)
	for reason, n := range l.device(t, "A1").Counts.Refused {
		if reason == "" {
			t.Error("a refusal without a reason")
		}
		sum += n
	}
	if sum != uint64(len(refused)) {
		t.Errorf("%d refusals counted, want %d", sum, len(refused))
	}
}

// TestClocksFarOff: a clock that is decades off costs no reading: it is flagged
// and filed by its receipt; a likely one is filed by its own time (design,
// section 5, Time).
func TestClocksFarOff(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	began := time.Now().Truncate(time.Millisecond)
	off := []int64{
		0, 1, -1, began.AddDate(-40, 0, 0).UnixMilli(), began.AddDate(40, 0, 0).UnixMilli(), began.Add(time.Hour).UnixMilli(),
		1 << 52, began.Unix(), began.AddDate(-1, 0, 0).UnixMilli(),
	}
	for i, at := range off {
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"t":%d,"temp":%d}`, at, i))
	}
	good := time.Now().UnixMilli()
	c.publish(t, "telemetry/climate", fmt.Sprintf(`{"t":%d,"temp":50}`, good))
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	flagged := 0
	for _, x := range lines {
		if x.WrongClock {
			flagged++
			if x.Time.Before(began.Add(-time.Second)) || x.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: filed under %s, not under its receipt", x.Values, x.Time)
			}
		} else if string(x.Values) != `{"temp":50}` || x.Time.UnixMilli() != good {
			t.Errorf("not flagged: %s at %s", x.Values, x.Time)
		}
	}
	if flagged != len(off) || len(lines) != len(off)+1 {
		t.Errorf("%d of %d flagged, want %d of %d", flagged, len(lines), len(off), len(off)+1)
	}
}

// TestPrecision: a place sent at seven decimals and declared at two is stored
// at two, and the other five are nowhere on the disk or in an answer (CC 4.3).
func TestPrecision(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	const temp = "  temp: {"
	const place = "  lat: {stream: climate, type: number, unit: deg, range: [-90, 90], precision: 0.01, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}\n" +
		"  lon: {stream: climate, type: number, unit: deg, range: [-180, 180], precision: 0.01, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}\n"
	l.publish(t, strings.Replace(testDeclaration, temp, place+temp, 1))
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	c.publish(t, "telemetry/climate", `{"lat":52.5200066,"lon":-13.4049540}`)
	c.publish(t, "telemetry/climate", `{"lat":-0.0049999,"lon":179.9999999}`)
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range lines {
		got = append(got, string(x.Values))
	}
	if want := `{"lat":52.52,"lon":-13.4} {"lat":0,"lon":180}`; strings.Join(got, " ") != want {
		t.Errorf("stored %v, want %s", got, want)
	}
}
