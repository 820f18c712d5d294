package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

var (
	testDeclared = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testNow      = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

// testPolicy is one product with every type of field, three groups and a
// second stream.
func testPolicy() *declaration.Policy {
	const day = 24 * time.Hour
	p := &declaration.Policy{
		Product: "aria-thermostat", Name: "Aria", Version: 3, Hash: core.Hash{1, 2, 3},
		Groups: []declaration.Group{
			{ID: "personal/owner+support/k2592000", Class: declaration.Personal, Keep: 30 * day},
			{ID: "public/owner/k3600", Class: declaration.Public, Keep: time.Hour},
			{ID: "sensitive/owner/k2592000", Class: declaration.Sensitive, Keep: 30 * day},
		},
		Streams: []declaration.Stream{
			{Name: "climate", Every: time.Minute, Burst: 10, MaxBytes: 2048, OnBad: declaration.BadField},
			{Name: "strict", Every: time.Minute, Burst: 10, MaxBytes: 512, OnBad: declaration.BadMessage},
		},
	}
	add := func(stream int, group int, f declaration.Field) {
		f.Stream, f.Group, f.Keep, f.Class = p.Streams[stream].Name, group, p.Groups[group].Keep, p.Groups[group].Class
		p.Streams[stream].Fields = append(p.Streams[stream].Fields, len(p.Fields))
		p.Groups[group].Fields = append(p.Groups[group].Fields, len(p.Fields))
		p.Fields = append(p.Fields, f)
	}
	add(0, 0, declaration.Field{Name: "heating_on", Type: declaration.Boolean})
	add(0, 0, declaration.Field{Name: "humidity", Type: declaration.Number, HasRange: true, Min: 0, Max: 100, Precision: 0.5})
	add(0, 1, declaration.Field{Name: "installed", Type: declaration.Timestamp})
	add(0, 2, declaration.Field{Name: "label", Type: declaration.String, MinLength: 1, MaxLength: 12})
	add(0, 2, declaration.Field{Name: "latitude", Type: declaration.Number, HasRange: true, Min: -90, Max: 90, Precision: 0.01})
	add(0, 1, declaration.Field{Name: "mode", Type: declaration.Enum, Values: []string{"auto", "off", "Ünïcode \"q\"", "manual"}})
	add(0, 1, declaration.Field{Name: "pressure", Type: declaration.Number, HasRange: true, Min: 300, Max: 1100})
	add(0, 0, declaration.Field{Name: "room_temperature", Type: declaration.Number, Unit: "Cel", HasRange: true, Min: -40, Max: 85, Precision: 0.1})
	add(0, 0, declaration.Field{Name: "set_point", Type: declaration.Number, HasRange: true, Min: 5, Max: 30.04, Precision: 0.1})
	add(0, 1, declaration.Field{Name: "starts", Type: declaration.Integer, HasRange: true, Min: 0, Max: 1e6})
	add(0, 1, declaration.Field{Name: "ticks", Type: declaration.Integer, HasRange: true, Min: -(1 << 63), Max: 1 << 62})
	add(0, 1, declaration.Field{Name: "uptime", Type: declaration.Integer, HasRange: true, Min: 0, Max: 1e9, Precision: 60})
	add(1, 0, declaration.Field{Name: "door", Type: declaration.Boolean})
	add(1, 0, declaration.Field{Name: "level", Type: declaration.Number, HasRange: true, Min: -1e300, Max: 1e300})
	return p
}

func testPlan(tb testing.TB) *Plan {
	tb.Helper()
	p, err := NewPlan(testPolicy(), testDeclared)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// partsText is what was kept, one part after the other, each after its group.
func partsText(j *Judged) string {
	var out []string
	for _, p := range j.Parts() {
		out = append(out, fmt.Sprintf("%d%s", p.Group, p.Plain))
	}
	return strings.Join(out, " ")
}

func TestJudge(t *testing.T) {
	plan := testPlan(t)
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	for _, c := range []struct {
		name, payload   string
		want            Reason
		kept            string
		undeclared, bad int
	}{
		{
			name: "one of each", payload: `{"room_temperature":21.44,"heating_on":true,"humidity":50.3,"mode":"off","label":"Küche","starts":7}`,
			kept: `0{"heating_on":true,"humidity":50.5,"room_temperature":21.4} 1{"mode":"off","starts":7} 2{"label":"Küche"}`,
		},
		{name: "white space", payload: " \t\r\n{ \"heating_on\" :\nfalse } \n", kept: `0{"heating_on":false}`},
		{name: "undeclared", payload: `{"heating_on":true,"gps":[1.5,{"a":null}],"x":"y"}`, kept: `0{"heating_on":true}`, undeclared: 2},
		{name: "other case", payload: `{"heating_on":true,"Heating_On":false,"HEATING_ON":1}`, kept: `0{"heating_on":true}`, undeclared: 2},
		{name: "escaped name", payload: `{"\u0068eating_on":true,"hum\u0069dity":3}`, kept: `0{"heating_on":true,"humidity":3}`},
		{name: "name with a space", payload: `{"heating_on ":true,"mode":"auto"}`, kept: `1{"mode":"auto"}`, undeclared: 1},
		{name: "name with NUL", payload: `{"heating_on\u0000":true,"mode":"auto"}`, kept: `1{"mode":"auto"}`, undeclared: 1},
		{name: "empty name", payload: `{"":true,"mode":"auto"}`, kept: `1{"mode":"auto"}`, undeclared: 1},
		{name: "field of another stream", payload: `{"door":true,"mode":"auto"}`, kept: `1{"mode":"auto"}`, undeclared: 1},

		{name: "duplicate", payload: `{"heating_on":true,"heating_on":true}`, want: ReasonDuplicateKey},
		{name: "duplicate by escape", payload: `{"heating_on":true,"he\u0061ting_on":false}`, want: ReasonDuplicateKey},
		{name: "duplicate after a bad one", payload: `{"heating_on":1,"heating_on":true}`, want: ReasonDuplicateKey},
		{name: "duplicate t", payload: `{"t":1,"mode":"off","t":2}`, want: ReasonDuplicateKey},
		{name: "undeclared twice", payload: `{"x":1,"x":2,"mode":"off"}`, kept: `1{"mode":"off"}`, undeclared: 2},

		{
			name: "rounded, no artefact", payload: `{"room_temperature":21.499999999,"humidity":0.25,"latitude":52.3702157}`,
			kept: `0{"humidity":0.5,"room_temperature":21.5} 2{"latitude":52.37}`,
		},
		{name: "half away from zero", payload: `{"room_temperature":-0.25,"latitude":-0.005}`, kept: `0{"room_temperature":-0.3} 2{"latitude":-0.01}`},
		{
			name: "minus zero", payload: `{"room_temperature":-0.0,"latitude":-0.004,"ticks":-0,"pressure":3e2}`,
			kept: `0{"room_temperature":0} 1{"pressure":300,"ticks":0} 2{"latitude":0}`,
		},
		{name: "range is of what was sent", payload: `{"room_temperature":85.04,"latitude":90.001,"mode":"off"}`, kept: `1{"mode":"off"}`, bad: 2},
		{name: "rounding stays in range", payload: `{"set_point":30.04}`, kept: `0{"set_point":30}`},
		{
			name: "exponents", payload: `{"pressure":1013.25e0,"starts":1e6,"room_temperature":2135E-2,"ticks":1.0e1}`,
			kept: `0{"room_temperature":21.4} 1{"pressure":1013.25,"starts":1000000,"ticks":10}`,
		},
		{name: "a whole number is not a fraction", payload: `{"starts":1.5,"ticks":2.0,"uptime":90}`, kept: `1{"ticks":2,"uptime":120}`, bad: 1},
		{name: "beyond 2^53", payload: `{"ticks":4611686018427387903}`, kept: `1{"ticks":4611686018427387903}`},
		{name: "beyond 2^53 at the edge", payload: `{"ticks":4611686018427387905,"starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "least int64", payload: `{"ticks":-9223372036854775808}`, kept: `1{"ticks":-9223372036854775808}`},
		{name: "below least int64", payload: `{"ticks":-9223372036854775809,"starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "too many digits", payload: `{"ticks":100000000000000000000000,"starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "padding of zeros", payload: `{"starts":7.` + strings.Repeat("0", 100) + `}`, kept: `1{"starts":7}`},
		{name: "absurd length", payload: `{"starts":7.` + strings.Repeat("0", 200) + `,"mode":"off"}`, kept: `1{"mode":"off"}`, bad: 1},
		{name: "absurd exponent", payload: `{"pressure":1e999999999999999999,"starts":1e-999999999999999,"mode":"off"}`, kept: `1{"mode":"off"}`, bad: 2},
		{name: "out of range", payload: `{"humidity":100.00000000000001,"starts":-1,"mode":"off"}`, kept: `1{"mode":"off"}`, bad: 2},

		{
			name: "wrong types", payload: `{"heating_on":1,"humidity":"50","mode":3,"label":["a"],"starts":true,"installed":5,"pressure":null,"ticks":{}}`,
			want: ReasonNothingLeft, bad: 8,
		},
		{name: "enum by escape", payload: `{"mode":"\u00dcn\u00efcode \"q\""}`, kept: `1{"mode":"Ünïcode \"q\""}`},
		{name: "enum in another case", payload: `{"mode":"OFF","starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "length in code points", payload: `{"label":"ääääääääääää"}`, kept: `2{"label":"ääääääääääää"}`},
		{name: "one too long", payload: `{"label":"äääääääääääää","starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "too short", payload: `{"label":"","starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "a pair is one", payload: `{"label":"\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00"}`, kept: `2{"label":"😀😀😀😀😀😀😀"}`},
		{name: "escapes in text", payload: `{"label":"\u0041\/\b\f\n\r\t\"\\\u0001"}`, kept: `2{"label":"A/\b\f\n\r\t\"\\\u0001"}`},
		{name: "timestamp", payload: `{"installed":"2026-11-22T10:00:00.250+02:00"}`, kept: `1{"installed":"2026-11-22T08:00:00.25Z"}`},
		{name: "no timestamp", payload: `{"installed":"2026-11-22 10:00:00Z","starts":1}`, kept: `1{"starts":1}`, bad: 1},
		{name: "year minus one", payload: `{"installed":"0000-01-01T00:00:00+01:00","starts":1}`, kept: `1{"starts":1}`, bad: 1},

		{name: "empty", payload: ``, want: ReasonNotJSON},
		{name: "empty object", payload: `{}`, want: ReasonNothingLeft},
		{name: "only undeclared", payload: `{"x":1}`, want: ReasonNothingLeft, undeclared: 1},
		{name: "only time", payload: `{"t":1795341600000,"seq":1}`, want: ReasonNothingLeft},
		{name: "array", payload: `[true,{"n":"heating_on","vb":true}]`, want: ReasonNotObject},
		{name: "empty array", payload: `[]`, want: ReasonNotObject},
		{name: "array of objects", payload: `[{"heating_on":true}]`, want: ReasonNotSenML},
		{name: "string", payload: `"heating_on"`, want: ReasonNotObject},
		{name: "number", payload: ` 21.5 `, want: ReasonNotObject},
		{name: "null", payload: `null`, want: ReasonNotObject},
		{name: "text", payload: `heating on`, want: ReasonNotJSON},
		{name: "cut", payload: `{"heating_on":tru`, want: ReasonNotJSON},
		{name: "NaN", payload: `{"humidity":NaN}`, want: ReasonNotJSON},
		{name: "Infinity", payload: `{"humidity":-Infinity}`, want: ReasonNotJSON},
		{name: "hex", payload: `{"humidity":0x10}`, want: ReasonNotJSON},
		{name: "leading zero", payload: `{"humidity":050}`, want: ReasonNotJSON},
		{name: "plus", payload: `{"humidity":+5}`, want: ReasonNotJSON},
		{name: "bare point", payload: `{"humidity":.5}`, want: ReasonNotJSON},
		{name: "point at the end", payload: `{"humidity":5.}`, want: ReasonNotJSON},
		{name: "comment", payload: `{"humidity":5/*five*/}`, want: ReasonNotJSON},
		{name: "comma at the end", payload: `{"humidity":5,}`, want: ReasonNotJSON},
		{name: "single quotes", payload: `{'humidity':5}`, want: ReasonNotJSON},
		{name: "no quotes", payload: `{humidity:5}`, want: ReasonNotJSON},
		{name: "two values", payload: `{"humidity":5}{"humidity":6}`, want: ReasonNotJSON},
		{name: "byte order mark", payload: "\ufeff{\"humidity\":5}", want: ReasonNotJSON},
		{name: "control character", payload: "{\"label\":\"a\nb\"}", want: ReasonNotJSON},
		{name: "bad escape", payload: `{"label":"\x41"}`, want: ReasonNotJSON},
		{name: "bad UTF-8", payload: "{\"label\":\"\xff\"}", want: ReasonNotJSON},
		{name: "overlong UTF-8", payload: "{\"label\":\"\xc0\xaf\"}", want: ReasonNotJSON},
		{name: "surrogate in UTF-8", payload: "{\"label\":\"\xed\xa0\x80\"}", want: ReasonNotJSON},
		{name: "half a pair", payload: `{"label":"\ud83d"}`, want: ReasonNotJSON},
		{name: "half a pair in what is dropped", payload: `{"x":["\ude00"],"mode":"off"}`, want: ReasonNotJSON},
		{name: "pair the wrong way round", payload: `{"label":"\ude00\ud83d"}`, want: ReasonNotJSON},
		{name: "bad JSON in what is dropped", payload: `{"x":[1,],"mode":"off"}`, want: ReasonNotJSON},
		{name: "bad JSON after it", payload: `{"mode":"off"`, want: ReasonNotJSON},
		{name: "mismatched", payload: `{"x":[1},"mode":"off"}`, want: ReasonNotJSON},
		{name: "deep enough", payload: `{"mode":"off","x":` + deep(7) + `}`, kept: `1{"mode":"off"}`, undeclared: 1},
		{name: "too deep", payload: `{"mode":"off","x":` + deep(8) + `}`, want: ReasonTooDeep},
		{name: "very deep", payload: `{"mode":"off","x":` + deep(900) + `}`, want: ReasonTooDeep},
		{name: "too large", payload: `{"mode":"off"` + strings.Repeat(" ", 2048) + `}`, want: ReasonTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j Judged
			got := plan.Stream([]byte("climate")).Judge(&j, []byte(c.payload), testNow)
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

// With `on_bad: message` one bad field refuses all; an undeclared one does not.
func TestJudgeStrictStream(t *testing.T) {
	sp := testPlan(t).Stream([]byte("strict"))
	var j Judged
	for payload, want := range map[string]Reason{
		`{"door":true,"level":1e3}`:    "",
		`{"door":true,"x":1}`:          "",
		`{"door":true,"level":"high"}`: ReasonBadField,
		`{"door":true,"t":"today"}`:    ReasonBadField,
		`{"door":true,"seq":-1}`:       ReasonBadField,
		`{"door":1,"level":`:           ReasonNotJSON,
		`{"door":1}`:                   ReasonBadField,
	} {
		if got := sp.Judge(&j, []byte(payload), testNow); got != want {
			t.Errorf("%s: judged %q, want %q", payload, got, want)
		}
	}
}

func TestJudgeTimeAndNumber(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	now := testNow.UnixMilli()
	for _, c := range []struct {
		members   string
		t         int64
		wrong     bool
		boot, seq uint64
		numbered  bool
		bad       int
	}{
		{members: ``, t: now, wrong: true},
		{members: `,"t":1795341599000`, t: 1795341599000},
		{members: `,"t":"2026-11-22T09:59:59Z"`, t: testNow.UnixMilli() - 1000},
		{members: `,"t":"2026-11-22T10:59:59.5+01:00"`, t: testNow.UnixMilli() - 500},
		{members: fmt.Sprintf(`,"t":%d`, now+300_000), t: now + 300_000},
		{members: fmt.Sprintf(`,"t":%d`, now+300_001), t: now, wrong: true},
		{members: fmt.Sprintf(`,"t":%d`, testDeclared.UnixMilli()), t: testDeclared.UnixMilli()},
		{members: fmt.Sprintf(`,"t":%d`, testDeclared.UnixMilli()-1), t: now, wrong: true},
		{members: `,"t":1795341599`, t: now, wrong: true}, // seconds: January 1970
		{members: `,"t":0`, t: now, wrong: true},
		{members: `,"t":-9223372036854775807`, t: now, wrong: true},
		{members: `,"t":9223372036854775807`, t: now, wrong: true},
		{members: `,"t":9223372036854775808`, t: now, wrong: true, bad: 1},
		{members: `,"t":1795341599000.5`, t: now, wrong: true, bad: 1},
		{members: `,"t":null`, t: now, wrong: true, bad: 1},
		{members: `,"t":"now"`, t: now, wrong: true, bad: 1},
		{members: `,"t":"1970-01-01T00:00:00Z"`, t: now, wrong: true},
		{members: `,"t":"9999-12-31T23:59:59Z"`, t: now, wrong: true},
		{members: `,"boot":3,"seq":9`, t: now, wrong: true, boot: 3, seq: 9, numbered: true},
		{members: `,"seq":0`, t: now, wrong: true, numbered: true},
		{members: `,"boot":3`, t: now, wrong: true},
		{members: `,"boot":-1,"seq":1`, t: now, wrong: true, seq: 1, numbered: true, bad: 1},
		{members: `,"seq":9223372036854775807`, t: now, wrong: true, seq: 1<<63 - 1, numbered: true},
		{members: `,"seq":9223372036854775808`, t: now, wrong: true, bad: 1},
		{members: `,"seq":"7"`, t: now, wrong: true, bad: 1},
		{members: `,"seq":1.5`, t: now, wrong: true, bad: 1},
	} {
		var j Judged
		if why := sp.Judge(&j, []byte(`{"mode":"off"`+c.members+`}`), testNow); why != "" {
			t.Errorf("%s: refused: %s", c.members, why)
			continue
		}
		if j.T != c.t || j.WrongClock != c.wrong || j.HasSeq != c.numbered || j.Seq != c.seq || j.Boot != c.boot || j.Bad != c.bad {
			t.Errorf("%s: t %d wrong %v, numbered %v %d/%d, bad %d; want %+v", c.members, j.T, j.WrongClock, j.HasSeq, j.Boot, j.Seq, j.Bad, c)
		}
	}
}

// Nothing of one message may be left when the next is judged.
func TestJudgedIsReused(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	var j Judged
	if why := sp.Judge(&j, []byte(`{"label":"secret","heating_on":true,"boot":1,"seq":2,"t":1795341599000,"x":1}`), testNow); why != "" {
		t.Fatal(why)
	}
	if why := sp.Judge(&j, []byte(`{"mode":"off"}`), testNow); why != "" || partsText(&j) != `1{"mode":"off"}` ||
		j.HasSeq || !j.WrongClock || j.Undeclared != 0 || j.stray != nil {
		t.Errorf("after another message: %q %s %+v", why, partsText(&j), j)
	}
	if why := sp.Judge(&j, []byte(`{"label":"secret"`), testNow); why != ReasonNotJSON || len(j.Parts()) != 0 {
		t.Errorf("a refused message has parts: %s", partsText(&j))
	}
	sp.Judge(&j, []byte(`{"label":"secret"}`), testNow)
	j.Wipe()
	for _, b := range [][]byte{j.values, j.out, j.scratch} {
		if strings.Contains(string(b[:cap(b)]), "secret") {
			t.Error("still there after Wipe")
		}
	}
}

func TestPlanRefusesWhatNoDeclarationHas(t *testing.T) {
	for name, edit := range map[string]func(*declaration.Policy){
		"a field named t":     func(p *declaration.Policy) { p.Fields[0].Name = "t" },
		"one name twice":      func(p *declaration.Policy) { p.Fields[0].Name = "humidity" },
		"precision below 0":   func(p *declaration.Policy) { p.Fields[1].Precision = -1 },
		"fraction of integer": func(p *declaration.Policy) { p.Fields[9].Precision = 0.5 },
		"unknown type":        func(p *declaration.Policy) { p.Fields[0].Type = 99 },
		"no product":          func(p *declaration.Policy) { p.Product = "" },
		"too many groups":     func(p *declaration.Policy) { p.Groups = make([]declaration.Group, 33) },
		"nameless stream":     func(p *declaration.Policy) { p.Streams[0].Name = "" },
	} {
		p := testPolicy()
		edit(p)
		if _, err := NewPlan(p, testDeclared); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnknownStream(t *testing.T) {
	p := testPlan(t)
	for _, name := range []string{"", "climat", "climate ", "Climate"} {
		if p.Stream([]byte(name)) != nil {
			t.Errorf("stream %q is known", name)
		}
	}
	if sp := p.Stream([]byte("climate")); sp.Name() != "climate" || sp.Every() != time.Minute || sp.Burst() != 10 || sp.MaxBytes() != 2048 {
		t.Error("the stream does not say what was declared")
	}
}

// benchPayload is 12 declared fields in 200 bytes.
const benchPayload = `{"t":1795341599000,"boot":3,"seq":91,"room_temperature":21.44,"set_point":20.5,"humidity":48.3,"latitude":52.37,"pressure":1013.2,"starts":17,"uptime":9000,"ticks":88,"mode":"auto","heating_on":true}`

func BenchmarkJudge(b *testing.B) {
	sp := testPlan(b).Stream([]byte("climate"))
	payload := []byte(benchPayload)
	var j Judged
	if why := sp.Judge(&j, payload, testNow); why != "" || j.Bad+j.Undeclared != 0 {
		b.Fatal(why, j.Bad, j.Undeclared)
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		sp.Judge(&j, payload, testNow)
	}
}

func TestJudgeAllocatesNothing(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	var j Judged
	for _, payload := range []string{
		benchPayload,
		`{"installed":"2026-11-22T10:00:00.250+02:00","t":"2026-11-22T09:59:59Z","label":"\u0041ä","mode":"\u006fff"}`,
		`{"x":[1,2,{"y":"z"}],"humidity":"bad","mode":"off","pressure":1013.250000000000001}`,
		`{"heating_on":`,
	} {
		b := []byte(payload)
		sp.Judge(&j, b, testNow)
		if n := testing.AllocsPerRun(100, func() { sp.Judge(&j, b, testNow) }); n != 0 {
			t.Errorf("%v allocations for %s", n, payload)
		}
	}
}
