package kit

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

var update = flag.Bool("update", false, "write testdata anew")

func door() Door {
	return Door{
		Environment: core.Test, Host: "iot.northwind.example", MQTTPort: 8883, ESTHost: "iot.northwind.example", ESTPort: 8443, ChainBytes: 1048, SmallTLS: true,
		Roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bytes.Repeat([]byte("not a certificate; only its place "), 6)}),
	}
}

func policy(t testing.TB, file string) *declaration.Policy {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("..", "..", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	d, err := declaration.Parse(file, src)
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRenderGolden: what each platform's kit of the thermostat is, file by file.
// The files that are the same for every product are golden by themselves.
func TestRenderGolden(t *testing.T) {
	p := policy(t, "aria-thermostat.yaml")
	for _, platform := range Platforms() {
		files, err := Render(Facts{Policy: p, Door: door(), Device: "A1"}, platform)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name)
			if src := source(f.Name); !strings.HasSuffix(src, ".tmpl") && f.Name != "hawser-roots.pem" && f.Name != "hawser_settings.json" {
				continue
			}
			golden := filepath.Join("testdata", string(platform), strings.ReplaceAll(f.Name, "/", "__"))
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, f.Content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Content, want) {
				t.Errorf("%s of %s is not what testdata has; look at the difference, then -update", f.Name, platform)
			}
		}
		if !slices.Contains(names, "README.md") || !slices.Contains(names, "hawser-roots.pem") {
			t.Errorf("the kit for %s is %v", platform, names)
		}
	}
}

// source is the template that a file of a kit comes from.
func source(name string) string {
	base := strings.ReplaceAll(name, "/", "__")
	last := name[strings.LastIndexByte(name, '/')+1:]
	for _, dir := range []string{"readme", "common", "mbedtls", "host", "linux", "python", "esp-idf", "zephyr", "arduino"} {
		for _, n := range []string{base, last} {
			for _, end := range []string{".tmpl", ""} {
				if _, err := files.ReadFile("files/" + dir + "/" + n + end); err == nil {
					return n + end
				}
			}
		}
	}
	return ""
}

// TestNoSecretInAKit: two units' kits differ in nothing but the README's example
// commands, a private key never gets in, and neither does a word of the roots'
// file around its certificates.
func TestNoSecretInAKit(t *testing.T) {
	p := policy(t, "aria-thermostat.yaml")
	for _, platform := range Platforms() {
		a, err := Render(Facts{Policy: p, Door: door(), Device: "UNIT-ONE"}, platform)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Render(Facts{Policy: p, Door: door(), Device: "UNIT-TWO"}, platform)
		if err != nil {
			t.Fatal(err)
		}
		for i := range a {
			one := bytes.ReplaceAll(a[i].Content, []byte("UNIT-ONE"), nil)
			if two := bytes.ReplaceAll(b[i].Content, []byte("UNIT-TWO"), nil); !bytes.Equal(one, two) {
				t.Errorf("%s: %s differs between units", platform, a[i].Name)
			}
			if a[i].Name != "README.md" && bytes.Contains(a[i].Content, []byte("UNIT-ONE")) {
				t.Errorf("%s: %s names a unit", platform, a[i].Name)
			}
		}
	}
	d := door()
	d.Roots = append([]byte("# the maker's notes\n"), d.Roots...)
	files, err := Render(Facts{Policy: p, Door: d}, Python)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if bytes.Contains(f.Content, []byte("notes")) {
			t.Errorf("%s has what stood around the certificates", f.Name)
		}
	}
	d.Roots = append(d.Roots, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("key")})...)
	if _, err := Render(Facts{Policy: p, Door: d}, Python); core.ReasonOf(err) != "kit-roots" {
		t.Errorf("a private key among the roots: %v", err)
	}
}

func TestRenderRefuses(t *testing.T) {
	p := policy(t, "aria-thermostat.yaml")
	small := door()
	small.SmallTLS = false
	for _, c := range []struct {
		name     string
		facts    Facts
		platform Platform
		want     string
	}{
		{"no such platform", Facts{Policy: p, Door: door()}, "cobol", "kit-platform"},
		{"no policy", Facts{Door: door()}, Python, "kit-facts"},
		{"no host", Facts{Policy: p, Door: Door{Roots: door().Roots}}, Python, "kit-facts"},
		{"no roots", Facts{Policy: p, Door: Door{Host: "a", ESTHost: "a", MQTTPort: 1, ESTPort: 1}}, Python, "kit-roots"},
		{"a chain that Mbed TLS refuses", Facts{Policy: p, Door: small}, Zephyr, "kit-chain"},
		{"a chain that OpenSSL takes", Facts{Policy: p, Door: small}, Linux, ""},
	} {
		if _, err := Render(c.facts, c.platform); err == nil && c.want != "" || err != nil && core.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	n := newNamer("have")
	for _, c := range [][2]string{
		{"room_temp", "room_temp"},
		{"room-temp", "room_temp_2"},
		{"ROOM.TEMP", "room_temp_3"},
		{"room_temp_2", "room_temp_2_2"},
		{"default", "default_2"},
		{"have", "have_2"},
		{"linux", "linux_2"},
		{"", "x"},
		{"9", "x9"},
		{"_a_", "a"},
		{"é", "x_2"},
		{strings.Repeat("a", 99), strings.Repeat("a", maxIdentifier)},
	} {
		if got := n.name(c[0]); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
	}
}

// TestExampleFits: the examples are values that the declaration takes, and
// their message is no longer than the stream.
func TestExampleFits(t *testing.T) {
	p := policy(t, "aria-thermostat.yaml")
	long := *p
	long.Fields = nil
	for i := range 64 {
		long.Fields = append(long.Fields, declaration.Field{Name: fmt.Sprintf("field%02d", i), Stream: "climate", Type: declaration.String, MinLength: 10, MaxLength: 10})
	}
	s := p.Streams[0]
	s.Fields, s.MaxBytes = nil, 256
	for i := range long.Fields {
		s.Fields = append(s.Fields, i)
	}
	long.Streams = []declaration.Stream{s}
	v := newView(Facts{Policy: &long, Door: door()}, Python, nil)
	size, in := stampBytes, 0
	for _, f := range v.Streams[0].Fields {
		if f.InExample {
			in++
			size += len(f.Name) + len(f.ExamplePy) + 3
		}
	}
	if in == 0 || in == 64 || size > 256 {
		t.Errorf("%d of 64 fields are in an example of %d bytes, which may have 256", in, size)
	}
}

// hostile are the facts of a product whose every free text is the given one.
func hostile(p *declaration.Policy, text string) Facts {
	q := *p
	q.Name = text
	q.Product = core.ProductID(text)
	q.Fields, q.Streams, q.Commands = slices.Clone(p.Fields), slices.Clone(p.Streams), slices.Clone(p.Commands)
	for i := range q.Fields {
		f := &q.Fields[i]
		f.Name, f.Unit, f.About = text, text, text
		f.Values = slices.Clone(f.Values)
		for k := range f.Values {
			f.Values[k] = text
		}
	}
	for i := range q.Streams {
		q.Streams[i].Name = text
	}
	for i := range q.Commands {
		q.Commands[i].Name = text
	}
	d := door()
	d.Host, d.ESTHost, d.Environment = text, text, core.Environment(text)
	q.Network.TalksTo = []declaration.Destination{{Service: "ntp", Host: text}}
	return Facts{Policy: &q, Door: d}
}

// FuzzRender: whatever the texts of a declaration are, the code made from them
// has the shape of the code made from harmless ones: the same tokens in the same
// order, as many lines of Markdown, valid JSON. No text leaves its string or its
// comment.
func FuzzRender(f *testing.F) {
	for _, s := range []string{
		"plain", `"; system("rm"); "`, "*/ int x; /*", "\\", "\\\n", "??/", "a\nb", "a\r#include \"x\"", "'''\"\"\"", "\u202eevil\u2066", "\x00", "\xff\xfe",
		"`rm`", "| a | b |", "</script><b>", "[x](javascript:y)", "{{.Host}}", "%s%n", "$(id)", "//", "/", "*", "\u2028x", "é😀", strings.Repeat("a*/", 50), "default", "",
	} {
		f.Add(s)
	}
	p := policy(f, "pulse-band.yaml")
	fields := slices.Clone(p.Fields) // with every type
	base := fields[p.Streams[0].Fields[0]]
	q := *p
	q.Streams = slices.Clone(p.Streams)
	q.Streams[0].Fields = slices.Clone(p.Streams[0].Fields)
	for _, typ := range []declaration.FieldType{declaration.Number, declaration.Integer, declaration.Boolean, declaration.String, declaration.Enum, declaration.Timestamp} {
		x := base
		x.Type, x.Values, x.MinLength, x.MaxLength = typ, []string{"a", "b"}, 1, 9
		q.Streams[0].Fields = append(q.Streams[0].Fields, len(fields))
		fields = append(fields, x)
	}
	q.Fields = fields
	for i := range q.Streams {
		q.Streams[i].MaxBytes = 32 << 10 // every field is in the example
	}
	plain := map[Platform][]File{}
	for _, platform := range Platforms() {
		files, err := Render(hostile(&q, "plain"), platform)
		if err != nil {
			f.Fatal(err)
		}
		plain[platform] = files
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || len(text) > 200 {
			return // no text has no place, and a declaration bounds its texts
		}
		for _, platform := range Platforms() {
			got, err := Render(hostile(&q, text), platform)
			if err != nil {
				t.Fatal(err)
			}
			for i, file := range got {
				want := plain[platform][i]
				if file.Name != want.Name {
					t.Fatalf("%s: %s instead of %s", platform, file.Name, want.Name)
				}
				if err := sameShape(file, want); err != nil {
					t.Errorf("%s, %s, %q: %v", platform, file.Name, text, err)
				}
			}
		}
	})
}

func sameShape(got, want File) error {
	switch {
	case strings.HasSuffix(got.Name, ".json"):
		if !json.Valid(got.Content) {
			return fmt.Errorf("no JSON: %s", got.Content)
		}
		return nil
	case strings.HasSuffix(got.Name, ".md"):
		if a, b := bytes.Count(got.Content, []byte("\n")), bytes.Count(want.Content, []byte("\n")); a != b {
			return fmt.Errorf("%d lines instead of %d", a, b)
		}
		return nil
	}
	lex := cTokens
	if strings.HasSuffix(got.Name, ".py") {
		lex = pyTokens
	} else if !strings.HasSuffix(got.Name, ".c") && !strings.HasSuffix(got.Name, ".h") && !strings.HasSuffix(got.Name, ".ino") {
		if !bytes.Equal(got.Content, want.Content) {
			return fmt.Errorf("a file without code depends on the texts")
		}
		return nil
	}
	a, err := lex(got.Content)
	if err != nil {
		return err
	}
	b, err := lex(want.Content)
	if err != nil {
		return err
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Errorf("token %d is %q instead of %q, after %q", i, a[i], b[i], a[max(0, i-5):i])
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d tokens instead of %d", len(a), len(b))
	}
	return nil
}

// TestKitOfAHub: the README of a hub's kit says on which topics it speaks for
// its children, and no other one does.
func TestKitOfAHub(t *testing.T) {
	for file, hub := range map[string]bool{"nest-hub.yaml": true, "aria-thermostat.yaml": false} {
		for _, platform := range Platforms() {
			files, err := Render(Facts{Policy: policy(t, file), Door: door(), Device: "H1"}, platform)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if f.Name != "README.md" {
					continue
				}
				for _, want := range []string{"child/ID/telemetry/STREAM", "child/ID/propose", "up to 64 others", "hawser child add H1 CHILD"} {
					if strings.Contains(string(f.Content), want) != hub {
						t.Errorf("%s for %s: %q is in it: %t", file, platform, want, !hub)
					}
				}
			}
		}
	}
}
