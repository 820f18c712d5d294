package ingest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		form form
		body string
		want string // the readings, with | between them; "!" for a refusal
	}{
		{formArray, `{"a":1}`, `{"a":1}`},
		{formArray, ` [ {"a":"]}\\\""} , {"b":[1,{}]} ] `, `{"a":"]}\\\""}|{"b":[1,{}]}`},
		{formArray, `[1,"x",null]`, `1|"x"|null`},
		{formArray, `[{"a":1}`, "!"},
		{formArray, `[{"a":1},]`, "!"},
		{formArray, `[{"a":1}{"a":2}]`, "!"},
		{formArray, `[{"a":1}] x`, "!"},
		{formArray, `[{"a":"1}]`, "!"},
		{formArray, `[]`, "!"},
		{formArray, ``, "!"},
		{formArray, "[" + strings.Repeat("1,", maxReadings) + "1]", "!"},
		{formLines, "{}\n\r\n {\"a\":1} \r\n{", "{}|{\"a\":1}|{"},
		{formLines, "\n\n", "!"},
		{formLines, strings.Repeat("1\n", maxReadings+1), "!"},
		{formOne, `[{"n":"a","v":1}]`, `[{"n":"a","v":1}]`},
	} {
		got, err := split(nil, c.form, []byte(c.body))
		text := string(bytes.Join(got, []byte("|")))
		if err != nil {
			text = "!"
		}
		if text != c.want {
			t.Errorf("%.60q: %s (%v), want %s", c.body, text, err, c.want)
		}
	}
}

// FuzzSplit: a body that is a JSON array is taken apart as encoding/json does
// it; whatever else comes, no reading lies outside the body and none overlap.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{`[{"a":1},{"b":"]\""}]`, "{}\n{}\n", `[1,[2],"x"]`, `[`, `{"a":1}`, "[\"\\\\\"]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, how := range []form{formOne, formArray, formLines} {
			got, err := split(nil, how, []byte(body))
			total := 0
			for _, g := range got {
				total += len(g)
			}
			if len(got) > maxReadings || total > len(body) {
				t.Fatalf("%d readings of %d bytes from %d bytes", len(got), total, len(body))
			}
			var want []json.RawMessage
			if how != formArray || json.Unmarshal([]byte(body), &want) != nil || want == nil || len(want) > maxReadings {
				continue
			}
			if (err != nil) != (len(want) == 0) || len(got) != len(want) {
				t.Fatalf("%q: %d readings, %v; encoding/json finds %d", body, len(got), err, len(want))
			}
			for i := range want {
				if !bytes.Equal(bytes.TrimSpace(want[i]), got[i]) {
					t.Fatalf("%q: reading %d is %q, want %q", body, i, got[i], want[i])
				}
			}
		}
	})
}
