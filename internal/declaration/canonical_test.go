package declaration

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

func examples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	return files
}

// TestCanonicalIsStable holds the canonical form and hash of every example:
// readings and ledger entries of the past name these hashes, so a release may
// never compile a published declaration to other bytes, nor refuse one. When
// an example is changed on purpose, its old canonical form stays under another
// name (testdata/canonical/*.json are all parsed).
func TestCanonicalIsStable(t *testing.T) {
	for _, file := range examples(t) {
		p := mustCompile(t, file, read(t, file))
		name := filepath.Join("testdata/canonical", string(p.Product))
		golden(t, name+".json", p.Canonical)
		golden(t, name+".sha256", []byte(p.Hash.String()+"\n"))
	}
	files, err := filepath.Glob("testdata/canonical/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src := read(t, file)
		p, err := ParsePolicy(src)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if got, want := p.Hash.String()+"\n", string(read(t, strings.TrimSuffix(file, ".json")+".sha256")); got != want {
			t.Errorf("%s: hash %s, want %s", file, got, want)
		}
	}
}

// TestCanonicalIsCanonical checks RFC 8785 with another writer: encoding/json
// sorts the keys of maps.
func TestCanonicalIsCanonical(t *testing.T) {
	for _, file := range examples(t) {
		p := mustCompile(t, file, read(t, file))
		d := json.NewDecoder(bytes.NewReader(p.Canonical))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		if got := bytes.TrimSpace(b.Bytes()); !bytes.Equal(got, p.Canonical) {
			t.Errorf("%s:\ngot  %s\nwant %s", file, p.Canonical, got)
		}
		if p.Hash != core.Hash(sha256.Sum256(p.Canonical)) {
			t.Errorf("%s: the hash is not that of the canonical form", file)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, file := range examples(t) {
		p := mustCompile(t, file, read(t, file))
		q, err := ParsePolicy(p.Canonical)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !reflect.DeepEqual(p, q) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", file, q, p)
		}
		// The canonical form is a declaration too: JSON is YAML.
		if r := mustCompile(t, "canonical.yaml", p.Canonical); r.Hash != p.Hash {
			t.Errorf("%s: its canonical form read as YAML has another hash", file)
		}
	}
}

// TestOrderAndSpellingDoNotCount: the same said in another way is the same.
func TestOrderAndSpellingDoNotCount(t *testing.T) {
	src := string(read(t, "testdata/sound.yaml"))
	want := mustCompile(t, "sound.yaml", []byte(src)).Hash
	for _, c := range [][2]string{
		{"keep: 7d", "keep: 168h"},
		{"every: 10s", "every: 10000ms"},
		{"[owner, support]", "[support, owner]"},
		{"aggregate(k=20, by=day)", "aggregate(k=20,by=day)"},
		{"product: door-bell\nname: Door Bell\n", "name: 'Door Bell'\nproduct: \"door-bell\"\n"},
		{"range: [0, 100]", "range: [-0.0, 1e2]"},
		{"wifi: [wpa2, wpa3]", "wifi: [wpa3, wpa2]\n  tls: \"1.3\""},
		{"audience: general\n", "audience: general\nhealth: false\nidentity: {life: 90d}\n# a remark\n"},
		{"{service: gateway}, {service: ntp, host: ntp.example.com}", "{service: ntp, host: ntp.example.com}, {service: gateway}"},
		{"\n", "\r\n"},
	} {
		if !strings.Contains(src, c[0]) {
			t.Fatalf("the file does not say %q", c[0])
		}
		if got := mustCompile(t, "other.yaml", []byte(strings.ReplaceAll(src, c[0], c[1]))).Hash; got != want {
			t.Errorf("%q for %q: another hash", c[1], c[0])
		}
	}
}

func TestAlteredPolicyIsRefused(t *testing.T) {
	p := mustCompile(t, aria, read(t, aria))
	text := string(p.Canonical)
	for _, c := range []struct{ name, src string }{
		{"white space", strings.Replace(text, ",", ", ", 1)},
		{"end of line", text + "\n"},
		{"more follows", text + "{}"},
		{"cut", text[:len(text)-1]},
		{"empty", ""},
		{"a list", "[" + text + "]"},
		{"null", "null"},
		{"longer keep", strings.Replace(text, `"keep":"30d"`, `"keep":"11y"`, 1)},
		{"other spelling", strings.Replace(text, `"keep":"30d"`, `"keep":"720h"`, 1)},
		{"number spelling", strings.Replace(text, "[-40,85]", "[-40.0,85]", 1)},
		{"order of keys", strings.Replace(text, `{"burst":10,"every":"1m"`, `{"every":"1m","burst":10`, 1)},
		{"order of readers", strings.Replace(text, `"owner","support"`, `"support","owner"`, 1)},
		{"unknown key", strings.Replace(text, `"burst":10`, `"bonus":1,"burst":10`, 1)},
		{"key twice", strings.Replace(text, `"burst":10`, `"burst":10,"burst":10`, 1)},
		{"default left out", strings.Replace(text, `"health":false,`, "", 1)},
		{"unknown stream", strings.Replace(text, `"stream":"climate"`, `"stream":"other"`, 1)},
		{"no such reader", strings.Replace(text, "share:weatherco", "share:nobody", 1)},
		{"deep", strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
		{"huge", strings.Repeat(" ", 4*maxBytes+1)},
		{"escape", strings.Replace(text, "Aria", `\u0041ria`, 1)},
	} {
		if c.src == text {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		q, err := ParsePolicy([]byte(c.src))
		if err == nil {
			t.Errorf("%s: accepted as %s", c.name, q.Canonical)
			continue
		}
		if core.ReasonOf(err) != "policy-altered" || core.KindOf(err) != core.Invalid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What is sound but another policy has another hash.
	q, err := ParsePolicy([]byte(strings.Replace(text, `"burst":10`, `"burst":11`, 1)))
	if err != nil || q.Hash == p.Hash {
		t.Errorf("another burst: %v", err)
	}
}

func TestCompileNeedsParse(t *testing.T) {
	for _, d := range []*Declaration{nil, {}} {
		if _, err := Compile(d); core.KindOf(err) != core.Invalid {
			t.Errorf("compiled an empty declaration: %v", err)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, file := range examples(f) {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		d, err := Parse(file, src)
		if err != nil {
			f.Fatal(err)
		}
		p, err := Compile(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Canonical)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := ParsePolicy(src)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Canonical, src) || p.Hash != core.Hash(sha256.Sum256(src)) {
			t.Fatalf("took %q for %q", src, p.Canonical)
		}
		holds(t, p)
	})
}

// holds checks what everybody relies on who uses a policy.
func holds(t *testing.T, p *Policy) {
	t.Helper()
	if !p.Product.Valid() || p.Version < 1 || len(p.Fields) == 0 || len(p.Fields) > MaxFields || len(p.Groups) > MaxGroups || len(p.Streams) > MaxStreams {
		t.Fatalf("out of bounds: %+v", p)
	}
	inStream, inGroup := make([]int, len(p.Fields)), make([]int, len(p.Fields))
	for _, s := range p.Streams {
		if s.Every <= 0 || s.Burst < 1 || s.MaxBytes < 16 || len(s.Fields) == 0 {
			t.Fatalf("stream %+v", s)
		}
		for _, i := range s.Fields {
			inStream[i]++
			if p.Fields[i].Stream != s.Name {
				t.Fatalf("stream %s has the field of %s", s.Name, p.Fields[i].Stream)
			}
		}
	}
	for k, g := range p.Groups {
		for _, i := range g.Fields {
			inGroup[i]++
			if f := p.Fields[i]; f.Group != k || f.Class != g.Class || f.Keep != g.Keep || groupID(&f) != g.ID {
				t.Fatalf("group %+v has the field %+v", g, f)
			}
		}
	}
	for i, f := range p.Fields {
		if inStream[i] != 1 || inGroup[i] != 1 || f.Keep < MinKeep || f.Keep > MaxKeep || len(f.Readers) == 0 || len(f.Purposes) == 0 || f.WhenDone == "" {
			t.Fatalf("field %+v", f)
		}
		if f.HasRange != (f.Type == Number || f.Type == Integer) || f.HasRange && f.Min >= f.Max {
			t.Fatalf("range of %+v", f)
		}
		if f.Class >= Sensitive && len(f.Protection) == 0 {
			t.Fatalf("unprotected %+v", f)
		}
	}
	for _, s := range p.Shares {
		for _, i := range s.Fields {
			if i < 0 || i >= len(p.Fields) {
				t.Fatalf("share %+v", s)
			}
		}
	}
	if p.SupportUntil.IsZero() {
		t.Fatal("no end of support")
	}
}
