package verify

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzLine holds that whatever is read as a line is JSON for everybody else as
// well, and that a leaf that is called canonical is what encoding/json writes.
func FuzzLine(f *testing.F) {
	hash := `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`
	for _, s := range []string{
		`{"export":1}`,
		`{"origin":"a/b","key":"a/b+00000000+AAAA"}`,
		`{"checkpoint":"a\n1\nAAAA\n\n— a AAAA\n"}`,
		`{"index":7,"hash":` + hash + `,"leaf":{"actor":"job:\"\\\u0001","facts":[["a","é"]],"v":1}}`,
		`{"index":0,"hash":"","raw":"AAAA"}`,
		`{"subtree":1,"hash":` + hash + `}`,
	} {
		if _, err := parseLine(s); err != nil {
			f.Fatalf("%s: %v", s, err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLine(s)
		if err != nil {
			return
		}
		if l.kind != lineEntry || l.raw {
			if !json.Valid([]byte(s)) {
				t.Errorf("%q was read as %+v, but is not JSON", s, l)
			}
			return
		}
		if !canonical(l.leaf) {
			return
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(l.leaf))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q is called canonical: %v", l.leaf, err)
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // it still writes U+2028 and U+2029 as escapes, where RFC 8785 does not
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		want := bytes.ReplaceAll(bytes.ReplaceAll(bytes.TrimSpace(b.Bytes()), []byte(`\u2028`), []byte("\u2028")), []byte(`\u2029`), []byte("\u2029"))
		if !bytes.Contains(l.leaf, []byte(`\\u202`)) && !bytes.Equal(want, l.leaf) {
			t.Errorf("%q is called canonical, but is written %q", l.leaf, want)
		}
	})
}
