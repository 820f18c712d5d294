package observe

import (
	"fmt"
	"testing"

	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// One reading is learned from alike, whatever form it comes in, and what is not
// of these forms is still told apart.
func TestFormsAreLearnedAlike(t *testing.T) {
	for _, c := range []struct{ name, payload, want, odd string }{
		{name: "JSON", payload: `{"level":17,"heat":21.5,"on":true,"place":"here"}`, want: "map[heat:21.5 level:17 on:true place:here]"},
		{name: "CBOR", payload: "\xa5\x65level\x11\x64heat\xf9\x4d\x60\x62on\xf5\x65place\x64here\x07\x08", want: "map[heat:21.5 level:17 on:true place:here]"},
		{name: "CBOR, self-described, other numbers", payload: "\xd9\xd9\xf7\xa3\x65level\xc2\x41\x11\x64heat\xc4\x82\x20\x18\xd7\x61x\xfa\x41\xab\x85\x1f", want: "map[heat:21.5 level:17 x:21.44]"},
		{name: "CBOR, time", payload: "\xa1\x62at\xc1\x1a\x51\x4b\x67\xb0", want: "map[at:2013-03-21T20:04:00Z]"},
		{name: "CBOR, what cannot be declared", payload: "\xa3\x61a\x41x\x61b\xf9\x7e\x00\x61c\xa1\x01\x02", want: "map[a:map[] b:map[] c:map[]]"},
		{name: "SenML", payload: `[{"bn":"urn:dev:a:","bv":10,"n":"level","v":7},{"n":"heat","v":11.5},{"n":"on","vb":true},{"n":"place","vs":"here"}]`, want: "map[heat:21.5 level:17 on:true place:here]"},
		{name: "SenML in CBOR", payload: "\x84\xa3\x21\x6aurn:dev:a:\x00\x65level\x02\x11\xa2\x00\x64heat\x02\xf9\x4d\x60\xa2\x00\x62on\x04\xf5\xa2\x00\x65place\x03\x64here", want: "map[heat:21.5 level:17 on:true place:here]"},
		{name: "an array", payload: `[1,2]`, odd: oddArray},
		{name: "an array of objects", payload: `[{"level":17}]`, odd: oddArray},
		{name: "an array of CBOR", payload: "\x82\x01\x02", odd: "binary"},
		{name: "CBOR cut off", payload: "\xa2\x65level\x11", odd: "binary"},
		{name: "CBOR with more behind it", payload: "\xa1\x65level\x11\x00", odd: "binary"},
		{name: "an image", payload: "\x89PNG\r\n\x1a\n\x00", odd: "binary"},
	} {
		got, odd := object([]byte(c.payload))
		if s := fmt.Sprint(got); odd != c.odd || odd == "" && s != c.want {
			t.Errorf("%s: %s (%q), want %s (%q)", c.name, s, odd, c.want, c.odd)
		}
	}
}

// What a declaration would do to them is counted by the judge itself.
func TestFormsAreJudged(t *testing.T) {
	h, err := NewHolder([]*declaration.Policy{{
		Product: "lamp", Groups: []declaration.Group{{ID: "g", Keep: 1e15}},
		Fields:  []declaration.Field{{Name: "level", Type: declaration.Integer, Max: 100, HasRange: true}},
		Streams: []declaration.Stream{{Name: "light", Every: 1, Burst: 100, MaxBytes: 512, Fields: []int{0}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{
		`{"level":1,"x":1}`, "\xa2\x65level\x01\x61x\x01", `[{"n":"level","v":1},{"n":"x","v":1}]`, "\x82\xa2\x00\x65level\x02\x01\xa2\x00\x61x\x02\x01",
		`[{"n":"level","t":-1,"v":1},{"n":"level","t":-2,"v":1}]`, "\xa2\x65level\x01",
	} {
		h.Take("lamps/a4cf12aabbcc/light", []byte(payload), dawn)
	}
	got := h.Enforced()
	if got.Accepted != 4 || got.Refused[string(telemetry.ReasonSeveralTimes)] != 1 || got.Refused[string(telemetry.ReasonNotCBOR)] != 1 ||
		len(got.Dropped) != 1 || got.Dropped[0].Name != "x" || got.Dropped[0].Values != 4 {
		t.Errorf("%+v", got)
	}
}
