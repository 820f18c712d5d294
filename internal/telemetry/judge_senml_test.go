package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// senmlExamples are packs for the stream climate.
var senmlExamples = []struct {
	name, payload   string
	want            Reason
	kept            string
	undeclared, bad int
}{
	{name: "one record (§5.1.1)", payload: `[{"n":"room_temperature","u":"Cel","v":21.44}]`, kept: `0{"room_temperature":21.4}`},
	{name: "base name (§5.1.2)", payload: `[{"bn":"urn:dev:ow:10e2073a01080063:","n":"room_temperature","u":"Cel","v":21.44},{"n":"heating_on","vb":true},{"n":"mode","vs":"off"}]`, kept: `0{"heating_on":true,"room_temperature":21.4} 1{"mode":"off"}`},
	{name: "white space", payload: " [ { \"n\" : \"mode\" ,\n\"vs\" : \"off\" } , { \"n\":\"starts\",\"v\":1 } ] \n", kept: `1{"mode":"off","starts":1}`},
	{name: "order within a record", payload: `[{"v":3,"u":"Cel","n":"room_temperature","bn":"dev:a/"}]`, kept: `0{"room_temperature":3}`},
	{name: "a record of bases", payload: `[{"bn":"a/","bt":1795341599,"bver":10},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`},
	{name: "the name may be all base", payload: `[{"bn":"urn:dev:ow:10e2073a01080063:mode","vs":"off"}]`, kept: `1{"mode":"off"}`},
	{name: "the name is what both make", payload: `[{"bn":"urn:dev:mac:0024befffe804ff1/room_","n":"temperature","v":1},{"bn":"urn:dev:mac:0024befffe804ff1/","n":"mode","vs":"off"}]`, kept: `0{"room_temperature":1} 1{"mode":"off"}`},
	{name: "the device in the name", payload: `[{"n":"urn:dev:ow:10e2073a01080063:mode","vs":"off"}]`, kept: `1{"mode":"off"}`},
	{name: "names by escape", payload: `[{"bn":"dev:\u0061\u002f","n":"mo\u0064e","vs":"\u006fff"},{"bn":"dev:a/","\u006e":"starts","\u0076":1}]`, kept: `1{"mode":"off","starts":1}`},
	{name: "two devices", payload: `[{"bn":"urn:dev:a:","n":"mode","vs":"off"},{"bn":"urn:dev:b:","n":"starts","v":1}]`, want: ReasonSeveralNames},
	{name: "with a device and without", payload: `[{"n":"mode","vs":"off"},{"bn":"urn:dev:b:","n":"starts","v":1}]`, want: ReasonSeveralNames},
	{name: "another device's number", payload: `[{"bn":"urn:dev:a:","n":"mode","vs":"off"},{"bn":"urn:dev:b:","n":"seq","v":1}]`, want: ReasonSeveralNames},
	{name: "another device's undeclared", payload: `[{"bn":"urn:dev:a:","n":"mode","vs":"off"},{"bn":"urn:dev:b:","n":"x","v":1}]`, kept: `1{"mode":"off"}`, undeclared: 1},

	{name: "undeclared", payload: `[{"n":"mode","vs":"off"},{"n":"gps","vs":"52.3702"},{"n":"x","vd":"AQID"},{"n":"t","v":1}]`, kept: `1{"mode":"off"}`, undeclared: 3},
	{name: "only the device's name", payload: `[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]`, want: ReasonNothingLeft, undeclared: 1},
	{name: "unknown labels", payload: `[{"n":"mode","vs":"off","gps":[1,{"a":null}],"l":"x"}]`, kept: `1{"mode":"off"}`, undeclared: 2},
	{name: "a label that must be understood (§4.4)", payload: `[{"n":"mode","vs":"off","foo_":1}]`, want: ReasonNotSenML},
	{name: "sums are undeclared", payload: `[{"n":"starts","v":1,"s":5},{"n":"uptime","s":9},{"bs":1}]`, kept: `1{"starts":1}`, undeclared: 3},
	{name: "update time", payload: `[{"n":"starts","v":1,"ut":60}]`, kept: `1{"starts":1}`},

	{name: "duplicate", payload: `[{"n":"mode","vs":"off"},{"n":"mode","vs":"off"}]`, want: ReasonDuplicateKey},
	{name: "duplicate by base", payload: `[{"n":"mode","vs":"off"},{"bn":"mo","n":"de","vs":"auto"}]`, want: ReasonDuplicateKey},
	{name: "duplicate label", payload: `[{"n":"mode","n":"starts","vs":"off"}]`, want: ReasonDuplicateKey},
	{name: "duplicate value", payload: `[{"n":"mode","vs":"off","\u0076s":"auto"}]`, want: ReasonDuplicateKey},

	{name: "another unit", payload: `[{"n":"room_temperature","u":"K","v":1},{"n":"starts","u":"count","v":1}]`, kept: `1{"starts":1}`, bad: 1},
	{name: "another base unit", payload: `[{"bu":"K","n":"room_temperature","v":1},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 1},
	{name: "own unit before base unit", payload: `[{"bu":"K","n":"room_temperature","u":"C\u0065l","v":1}]`, kept: `0{"room_temperature":1}`},
	{name: "no unit", payload: `[{"n":"room_temperature","v":1}]`, kept: `0{"room_temperature":1}`},

	{name: "base value (§4.5.4)", payload: `[{"bv":20,"n":"room_temperature","v":1.44},{"n":"starts","v":-3},{"n":"mode","vs":"off"},{"n":"pressure","v":1e3}]`, kept: `0{"room_temperature":21.4} 1{"mode":"off","pressure":1020,"starts":17}`},
	{name: "base value, no artefact", payload: `[{"bv":1013.1,"n":"pressure","v":0.2}]`, kept: `1{"pressure":1013.3}`},
	{name: "base value out of range", payload: `[{"bv":1e9,"n":"starts","v":1},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 1},
	{name: "base value beyond 64 bits", payload: `[{"bv":4611686018427387900,"n":"ticks","v":0.5},{"bv":1e300,"n":"starts","v":1e300},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 2},
	{name: "base value that would wrap around", payload: `[{"bv":18446744073709551615,"n":"ticks","v":2},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 1},
	{name: "base value and a fraction that no float64 has", payload: `[{"bv":461168601842738790,"n":"ticks","v":0.001},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 1},
	{name: "base value and an absurd length", payload: `[{"bv":1,"n":"starts","v":7.` + strings.Repeat("0", 200) + `},{"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`, bad: 1},
	{name: "base value to the last digit", payload: `[{"bv":4611686018427387900,"n":"ticks","v":3}]`, kept: `1{"ticks":4611686018427387903}`},

	{name: "wrong types of values", payload: `[{"n":"mode","v":1},{"n":"starts","vs":"1"},{"n":"heating_on","v":1},{"n":"label","vd":"AQID"},{"n":"pressure","v":"1013"},{"n":"ticks","v":null},{"n":"humidity","vb":true},{"n":"installed","v":1795341599}]`, want: ReasonNothingLeft, bad: 8},
	{name: "a text under v", payload: `[{"n":"mode","v":"off"},{"n":"heating_on","vs":true},{"n":"starts","vb":1},{"n":"uptime","v":60}]`, kept: `1{"uptime":60}`, bad: 3},
	{name: "timestamp", payload: `[{"n":"installed","vs":"2026-11-22T10:00:00.250+02:00"}]`, kept: `1{"installed":"2026-11-22T08:00:00.25Z"}`},

	{name: "several times (§5.1.2)", payload: `[{"bt":1795341599,"n":"starts","t":-5,"v":1},{"n":"starts","t":-4,"v":2}]`, want: ReasonSeveralTimes},
	{name: "several times of several fields", payload: `[{"n":"starts","t":1795341599,"v":1},{"n":"mode","vs":"off"}]`, want: ReasonSeveralTimes},
	{name: "one time, told twice", payload: `[{"n":"starts","t":1795341599.0,"v":1},{"n":"mode","bt":1795341600,"t":-1e0,"vs":"off"}]`, kept: `1{"mode":"off","starts":1}`},
	{name: "one time, told thrice", payload: `[{"n":"starts","bt":1795341600.00,"v":1},{"n":"mode","bt":1795341601,"t":-1,"vs":"off"},{"n":"ticks","bt":1.7953416e9,"v":2}]`, kept: `1{"mode":"off","starts":1,"ticks":2}`},
	{name: "another time of what is dropped", payload: `[{"n":"starts","t":1795341599,"v":1},{"n":"x","t":1795341598,"v":1}]`, kept: `1{"starts":1}`, undeclared: 1},

	{name: "two values", payload: `[{"n":"mode","vs":"off","v":1}]`, want: ReasonNotSenML},
	{name: "no value", payload: `[{"n":"mode"}]`, want: ReasonNotSenML},
	{name: "no name", payload: `[{"v":1}]`, want: ReasonNotSenML},
	{name: "empty name", payload: `[{"bn":"","n":"","v":1}]`, want: ReasonNotSenML},
	{name: "an empty record", payload: `[{"n":"mode","vs":"off"},{}]`, want: ReasonNotSenML},
	{name: "a record that is none", payload: `[{"n":"mode","vs":"off"},1]`, want: ReasonNotSenML},
	{name: "an object of fields", payload: `[{"heating_on":true}]`, want: ReasonNotSenML},
	{name: "a name that is no text", payload: `[{"n":1,"vs":"off"}]`, want: ReasonNotSenML},
	{name: "a time that is no number", payload: `[{"n":"mode","vs":"off","t":"2026-11-22T09:59:59Z"}]`, want: ReasonNotSenML},
	{name: "a unit that is no text", payload: `[{"n":"mode","vs":"off","bu":null}]`, want: ReasonNotSenML},
	{name: "an old version (§5.1.2)", payload: `[{"bver":5,"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`},
	{name: "secondary units (RFC 9100 §3)", payload: `[{"bver":26,"n":"mode","vs":"off"}]`, kept: `1{"mode":"off"}`},
	{name: "a version to come", payload: `[{"bver":11,"n":"mode","vs":"off"}]`, want: ReasonNotSenML},
	{name: "no version", payload: `[{"bver":0,"n":"mode","vs":"off"}]`, want: ReasonNotSenML},
	{name: "a negative version", payload: `[{"bver":-10,"n":"mode","vs":"off"}]`, want: ReasonNotSenML},
	{name: "half a version", payload: `[{"bver":9.5,"n":"mode","vs":"off"}]`, want: ReasonNotSenML},
	{name: "only bases", payload: `[{"bn":"urn:dev:a:"}]`, want: ReasonNothingLeft},

	{name: "cut", payload: `[{"n":"mode","vs":"off"}`, want: ReasonNotJSON},
	{name: "cut in a record", payload: `[{"n":"mode","vs":`, want: ReasonNotJSON},
	{name: "comma at the end", payload: `[{"n":"mode","vs":"off"},]`, want: ReasonNotJSON},
	{name: "comma at a record's end", payload: `[{"n":"mode","vs":"off",}]`, want: ReasonNotJSON},
	{name: "two packs", payload: `[{"n":"mode","vs":"off"}][]`, want: ReasonNotJSON},
	{name: "bad JSON in what is dropped", payload: `[{"n":"mode","vs":"off"},{"n":"x","v":01}]`, want: ReasonNotJSON},
	{name: "bad number of a base", payload: `[{"bt":1.,"n":"mode","vs":"off"}]`, want: ReasonNotJSON},
	{name: "bad UTF-8", payload: "[{\"n\":\"mode\",\"vs\":\"off\",\"x\":\"\xff\"}]", want: ReasonNotJSON},
	{name: "deep enough", payload: `[{"n":"mode","vs":"off","x":[[[[[[]]]]]]}]`, kept: `1{"mode":"off"}`, undeclared: 1},
	{name: "too deep", payload: `[{"n":"mode","vs":"off","x":[[[[[[[]]]]]]]}]`, want: ReasonTooDeep},
	{name: "too large", payload: `[{"n":"mode","vs":"off"}` + strings.Repeat(" ", 2048) + `]`, want: ReasonTooLarge},

	{name: "CBOR", payload: "\x82\xa4\x21\x6aurn:dev:a:\x00\x70room_temperature\x01\x63Cel\x02\xfa\x41\xab\x85\x1f\xa2\x00\x64mode\x03\x63off", kept: `0{"room_temperature":21.4} 1{"mode":"off"}`},
	{name: "CBOR, without lengths", payload: selfDescribed + "\x9f\xbf\x21\x7f\x64dev:\x62a/\xff\x00\x7f\x62mo\x62de\xff\x03\x7f\x61o\x62ff\xff\xff\xa2\x00\x6aheating_on\x04\xf4\xff", kept: `0{"heating_on":false} 1{"mode":"off"}`},
	{name: "CBOR, base value and decimal fraction", payload: "\x81\xa3\x24\x14\x00\x70room_temperature\x02\xc4\x82\x21\x18\x90", kept: `0{"room_temperature":21.4}`},
	{name: "CBOR, wrong types of values", payload: "\x84\xa2\x00\x64mode\x08\x43off\xa2\x00\x66starts\x02\xf6\xa2\x00\x65ticks\x02\xf9\x7e\x00\xa2\x00\x65label\x03\x41a", want: ReasonNothingLeft, bad: 4},
	{name: "CBOR, a text under v", payload: "\x82\xa2\x00\x64mode\x02\x63off\xa2\x00\x66starts\x02\x01", kept: `1{"starts":1}`, bad: 1},
	{name: "CBOR, labels spelt in text", payload: "\x81\xa2\x61n\x64mode\x62vs\x63off", want: ReasonNotSenML},
	{name: "CBOR, a label in both ways", payload: "\x81\xa3\x00\x64mode\x03\x63off\x61t\x01", want: ReasonNotSenML},
	{name: "CBOR, unknown labels", payload: "\x81\xa5\x00\x64mode\x03\x63off\x18\x2a\x01\x26\x01\x63gps\x81\x01", kept: `1{"mode":"off"}`, undeclared: 3},
	{name: "CBOR, keys of other kinds", payload: "\x81\xa4\x00\x64mode\x03\x63off\x41x\x01\xf6\x02", kept: `1{"mode":"off"}`, undeclared: 2},
	{name: "CBOR, must be understood", payload: "\x81\xa3\x00\x64mode\x03\x63off\x64foo_\x01", want: ReasonNotSenML},
	{name: "CBOR, duplicate label", payload: "\x81\xa3\x00\x64mode\x03\x63off\x18\x03\x63off", want: ReasonDuplicateKey},
	{name: "CBOR, a record that is none", payload: "\x82\xa2\x00\x64mode\x03\x63off\x01", want: ReasonNotSenML},
	{name: "CBOR, a time that is none", payload: "\x81\xa3\x00\x64mode\x03\x63off\x06\xf9\x7e\x00", want: ReasonNotSenML},
	{name: "CBOR, a name in bytes", payload: "\x81\xa2\x00\x44mode\x03\x63off", want: ReasonNotSenML},
	{name: "CBOR, cut", payload: "\x82\xa2\x00\x64mode\x03\x63off", want: ReasonNotCBOR},
	{name: "CBOR, more behind it", payload: "\x81\xa2\x00\x64mode\x03\x63off\x00", want: ReasonNotCBOR},
	{name: "CBOR, a length of 2^64-1", payload: "\x9b\xff\xff\xff\xff\xff\xff\xff\xff\xa2\x00\x64mode\x03\x63off", want: ReasonNotCBOR},
	{name: "CBOR, too deep", payload: "\x81\xa3\x00\x64mode\x03\x63off\x61x" + strings.Repeat("\x81", 6) + "\x80", want: ReasonTooDeep},
}

func TestJudgeSenML(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	for _, c := range senmlExamples {
		t.Run(c.name, func(t *testing.T) {
			var j Judged
			got := sp.Judge(&j, []byte(c.payload), testNow)
			if got != c.want {
				t.Fatalf("judged %q, want %q", got, c.want)
			}
			if kept := partsText(&j); kept != c.kept {
				t.Errorf("kept %s\nwant %s", kept, c.kept)
			}
			if c.want == "" && (j.Undeclared != c.undeclared || j.Bad != c.bad) {
				t.Errorf("%d undeclared and %d bad, want %d and %d", j.Undeclared, j.Bad, c.undeclared, c.bad)
			}
		})
	}
}

func TestJudgeSenMLTimeAndNumber(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	now := testNow.UnixMilli()
	for _, c := range []struct {
		pack      string
		t         int64
		wrong     bool
		boot, seq uint64
		numbered  bool
		bad       int
	}{
		{pack: `{"n":"mode","vs":"off"}`, t: now, wrong: true},
		{pack: `{"n":"mode","vs":"off","t":0}`, t: now, wrong: true}, // §4.5.3: no clock
		{pack: `{"n":"mode","vs":"off","t":1795341599}`, t: now - 1000},
		{pack: `{"n":"mode","vs":"off","t":1.7953415995e9}`, t: now - 500},
		{pack: `{"n":"mode","vs":"off","bt":1795341600,"t":-2.5}`, t: now - 2500},
		{pack: `{"n":"mode","vs":"off","t":-5}`, t: now - 5000}, // five seconds ago
		{pack: `{"n":"mode","vs":"off","t":0.25}`, t: now + 250},
		{pack: `{"n":"mode","vs":"off","t":300}`, t: now + 300_000},
		{pack: `{"n":"mode","vs":"off","t":300.001}`, t: now, wrong: true},
		{pack: `{"n":"mode","vs":"off","t":268435455}`, t: now, wrong: true}, // 2^28-1: far ahead
		{pack: `{"n":"mode","vs":"off","t":268435456}`, t: now, wrong: true}, // 1978
		{pack: `{"n":"mode","vs":"off","t":1795341599000}`, t: now, wrong: true, bad: 1},
		{pack: `{"n":"mode","vs":"off","t":1e300}`, t: now, wrong: true, bad: 1},
		{pack: `{"n":"mode","vs":"off","t":1e-300}`, t: now},
		{pack: `{"n":"boot","v":3},{"n":"mode","vs":"off","t":-5},{"n":"seq","v":9}`, t: now - 5000, boot: 3, seq: 9, numbered: true},
		{pack: `{"bn":"urn:dev:a:","bt":1795341599,"n":"boot","v":3},{"n":"seq","t":7,"v":9},{"n":"mode","vs":"off"}`, t: now - 1000, boot: 3, seq: 9, numbered: true},
		{pack: `{"n":"mode","vs":"off"},{"n":"seq","vs":"9"},{"n":"boot","v":-1}`, t: now, wrong: true, bad: 2},
	} {
		pack := []byte(`[` + c.pack + `]`)
		for _, payload := range [][]byte{pack, senmlCBOROf(t, pack)} {
			var j Judged
			if why := sp.Judge(&j, payload, testNow); why != "" {
				t.Errorf("%q: refused: %s", payload, why)
				continue
			}
			if j.T != c.t || j.WrongClock != c.wrong || j.HasSeq != c.numbered || j.Seq != c.seq || j.Boot != c.boot || j.Bad != c.bad {
				t.Errorf("%q: %s, want %+v", payload, summary(&j), c)
			}
		}
	}
}

// The examples of RFC 8428 §5.1 and §6, against a declaration that has their
// names. They say nothing of the device that the certificate does not.
func TestJudgeSenMLExamples(t *testing.T) {
	const day = 24 * time.Hour
	p := &declaration.Policy{
		Product: "meter", Groups: []declaration.Group{{ID: "g", Keep: 30 * day}},
		Streams: []declaration.Stream{{Name: "m", Every: time.Minute, Burst: 1, MaxBytes: 4096}},
	}
	for i, f := range []declaration.Field{
		{Name: "voltage", Unit: "V", Max: 500}, {Name: "current", Unit: "A", Max: 10}, {Name: "temperature", Unit: "Cel", Max: 100}, {Name: "humidity", Unit: "%RH", Max: 100},
	} {
		f.Type, f.HasRange = declaration.Number, true
		p.Fields = append(p.Fields, f)
		p.Streams[0].Fields, p.Groups[0].Fields = append(p.Streams[0].Fields, i), append(p.Groups[0].Fields, i)
	}
	plan, err := NewPlan(p, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	const several = `[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
		{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},{"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]`
	for _, c := range []struct {
		name, payload string
		want          Reason
		kept          string
		t             int64
	}{
		{"§5.1.1: a name without a field", `[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]`, ReasonNothingLeft, "", 0},
		{"§5.1.2: two fields", `[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]`, "", `0{"voltage":120.1,"current":1.2}`, 0},
		{"§5.1.2: a series", several, ReasonSeveralTimes, "", 0},
		{"§6: the same in CBOR", string(unhex(t, `87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e066666666666
			a3006763757272656e74062402fb3ff3333333333333a3006763757272656e74062302fb3ff4cccccccccccd a3006763757272656e74062202fb3ff6666666666666
			a3006763757272656e74062102f93e00 a3006763757272656e74062002fb3ff999999999999a a3006763757272656e74060002fb3ffb333333333333`)), ReasonSeveralTimes, "", 0},
		{"one of the series", `[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","v":1.7}]`, "", `0{"voltage":120.1,"current":1.7}`, 1276020076001},
		{"§5.1.5: several kinds of values", `[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.320067464e+09,"n":"temperature","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]`, "", `0{"temperature":23.1}`, 1320067464000},
		{"§5.1.3: places by unit only", `[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},{"u":"lon","v":24.30621},{"u":"lat","v":60.07965}]`, ReasonNothingLeft, "", 0},
	} {
		var j Judged
		why := plan.Stream([]byte("m")).Judge(&j, []byte(c.payload), testNow)
		if why != c.want || partsText(&j) != c.kept || c.t != 0 && (j.T != c.t || j.WrongClock) {
			t.Errorf("%s: %q %s, want %q %s at %d", c.name, why, summary(&j), c.want, c.kept, c.t)
		}
	}
}

// Nothing of one message may be left when the next is judged, nor after Wipe.
func TestJudgedIsReusedByForms(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	var j Judged
	pack := []byte(`[{"bn":"urn:dev:\u0073ecret:","bt":1795341599,"n":"secret_field","v":1},{"n":"label","vs":"secret"},{"n":"seq","v":1}]`)
	if why := sp.Judge(&j, pack, testNow); why != "" || string(j.stray) != "secret_field" {
		t.Fatal(why, string(j.stray))
	}
	j.Wipe()
	for _, b := range [][]byte{j.values, j.out, j.scratch, j.prefix, j.odd[:]} {
		if strings.Contains(string(b[:cap(b)]), "secret") {
			t.Error("still there after Wipe")
		}
	}
	if why := sp.Judge(&j, []byte("\xa1\x64mode\x63off"), testNow); why != "" || partsText(&j) != `1{"mode":"off"}` || j.HasSeq || !j.WrongClock || j.Undeclared != 0 || j.stray != nil {
		t.Errorf("after another message: %q %s", why, summary(&j))
	}
}

func TestJudgeFormsAllocateNothing(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	var j Judged
	pack := senmlOf(t, benchPayload)
	payloads := [][]byte{cborOf(t, benchPayload), pack, senmlCBOROf(t, pack)}
	for _, c := range senmlExamples {
		payloads = append(payloads, []byte(c.payload))
	}
	for _, b := range payloads {
		sp.Judge(&j, b, testNow)
		if n := testing.AllocsPerRun(100, func() { sp.Judge(&j, b, testNow) }); n != 0 {
			t.Errorf("%v allocations for %q", n, b)
		}
	}
}
