package declaration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestHostileFiles gives Parse files made to exhaust it: each is refused, by
// the right rule, in little time and with few words.
func TestHostileFiles(t *testing.T) {
	const most = maxBytes
	fill := func(s string) string { return strings.Repeat(s, most/len(s)) }
	var steps strings.Builder
	for i := range 600 {
		steps.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	var keys strings.Builder
	for i := 0; keys.Len() < most-16; i++ {
		keys.WriteString("k" + number(float64(i)) + ": 1\n")
	}
	bomb := "a: &a [x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 9) + "x]\n"
	}
	sound := string(read(t, "testdata/sound.yaml"))
	for _, c := range []struct{ name, src, rule string }{
		{"over the limit", sound + strings.Repeat("#", most), ruleSize},
		{"brackets", fill("["), ruleDepth},
		{"closed brackets", strings.Repeat("[", most/2) + strings.Repeat("]", most/2), ruleDepth},
		{"braces", fill("{a: "), ruleDepth},
		{"dashes", fill("- "), ruleDepth},
		{"question marks", fill("? "), ruleDepth},
		{"steps", steps.String(), ruleDepth},
		{"a long list", "[" + fill("1,")[:most-2] + "1", ruleYAML},
		{"a long sound list", "[" + fill("1,")[:most-2] + "]", ruleSize},
		{"many keys", keys.String(), ruleSize},
		{"one key again", fill("a: 1\n"), ruleDuplicateKey},
		{"some keys again", strings.Repeat("a: 1\n", 5000), ruleDuplicateKey},
		{"anchors", fill("&a "), ruleYAML},
		{"tags", fill("!a "), ruleYAML},
		{"documents", fill("---\n"), ruleOneDocument},
		{"nothing", "", ruleOneDocument},
		{"lines", fill("\n"), ruleOneDocument},
		{"remarks", fill("# c\n"), ruleOneDocument},
		{"colons", fill(":\n"), ruleDuplicateKey},
		{"quotes", fill(`"" `), ruleYAML},
		{"one text", "name: \"" + strings.Repeat("x", most-8) + "\"", ruleText},
		{"one word", "audience: " + strings.Repeat("x", most-16), ruleAudience},
		{"one name", strings.Repeat("x", most-16) + ": 1", ruleUnknownKey},
		{"long numbers", "version: " + strings.Repeat("9", most-16), ruleNumber},
		{"exponent", "version: 1e999999999", ruleNumber},
		{"zero bytes", strings.Repeat("\x00", most), ruleCharacter},
		{"bytes", strings.Repeat("\xff", most), ruleUTF8},
		{"bad lines", strings.Repeat("\xfa\n", most/2), ruleUTF8},
		{"alias bomb", bomb, ruleAnchor},
		{"alias of itself", "a: &a [*a]\n", ruleAnchor},
		{"block text", "name: |\n" + strings.Repeat("  x\n", most/8), ruleText},
	} {
		start := time.Now()
		d, err := Parse("hostile.yaml", []byte(c.src))
		took := time.Since(start)
		faults, ok := err.(Faults)
		if d != nil || !ok {
			t.Errorf("%s: got %v, %v", c.name, d, err)
			continue
		}
		found := false
		for _, f := range faults {
			found = found || f.Rule == c.rule
			if n := utf8.RuneCountInString(f.Message) + utf8.RuneCountInString(f.Fix); n > 600 {
				t.Errorf("%s: a fault of %d characters", c.name, n)
			}
		}
		if !found {
			t.Errorf("%s: not refused by %s: %v", c.name, c.rule, err)
		}
		if len(faults) > maxFaults+1 {
			t.Errorf("%s: %d faults", c.name, len(faults))
		}
		var b bytes.Buffer
		if err := faults.Render(&b); err != nil || b.Len() > 200_000 {
			t.Errorf("%s: %d bytes of faults, %v", c.name, b.Len(), err)
		}
		if took > 5*time.Second { // measured: at most 0.5 s
			t.Errorf("%s took %v", c.name, took)
		}
	}
}

func TestManyFaultsAreCut(t *testing.T) {
	var b strings.Builder
	b.WriteString("declaration: 1\n")
	for i := range 1000 {
		b.WriteString("k" + number(float64(i)) + ": 1\n")
	}
	_, err := Parse("many.yaml", []byte(b.String()))
	f, ok := err.(Faults)
	if !ok || len(f) != maxFaults+1 {
		t.Fatalf("%d faults, want %d", len(f), maxFaults+1)
	}
	if last := f[len(f)-1]; last.Rule != ruleTooMany || !strings.Contains(last.Message, "more faults") {
		t.Errorf("last: %v", last)
	}
}

func TestLargestDeclarationFits(t *testing.T) {
	src := string(read(t, "testdata/sound.yaml"))
	var b strings.Builder
	for i := range MaxFields - 2 {
		b.WriteString("  f" + number(float64(i)) + ": {stream: events, type: number, unit: Cel, range: [-40, 85], class: personal, purposes: [service.alert], keep: 30d, readers: [owner, support], when_done: shred}\n")
	}
	p := mustCompile(t, "large.yaml", []byte(strings.Replace(src, "streams:", b.String()+"streams:", 1)))
	if len(p.Fields) != MaxFields {
		t.Errorf("%d fields", len(p.Fields))
	}
	holds(t, p)
	if q, err := ParsePolicy(p.Canonical); err != nil || q.Hash != p.Hash {
		t.Error(err)
	}
	_, err := Parse("larger.yaml", []byte(strings.Replace(src, "streams:", b.String()+b.String()[:strings.Index(b.String(), "\n")+1]+"streams:", 1)))
	if err == nil {
		t.Error("a field twice was accepted")
	}
	one := strings.Replace(b.String()[:strings.Index(b.String(), "\n")+1], "f0", "g0", 1)
	_, err = Parse("larger.yaml", []byte(strings.Replace(src, "streams:", b.String()+one+"streams:", 1)))
	if f, ok := err.(Faults); !ok || f[0].Rule != ruleCount {
		t.Errorf("%d fields: %v", MaxFields+1, err)
	}
}

func TestFaultsAreAnError(t *testing.T) {
	_, err := Parse("x.yaml", []byte("declaration: 2\n"))
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind != core.Invalid || e.Reason != "declaration-faults" || e.Hint == "" || !strings.Contains(e.Message, "x.yaml:1:") {
		t.Errorf("%+v", e)
	}
	var none Faults
	if none.Unwrap() != nil || none.Error() == "" {
		t.Error("no faults are an error")
	}
}

// TestFaultsAreSafeToPrint puts what would steer a terminal into every value
// and name of a sound file: no fault repeats it as it is.
func TestFaultsAreSafeToPrint(t *testing.T) {
	src := string(read(t, "testdata/sound.yaml"))
	evil := []string{`"\e]0;x\a"`, `"marketing.\e[31m"`, `"servce.\n\r\0"`, `"share:\e[2J"`, `"\u202e"`, `["\e"]`, `{"\e": "\e"}`, `"7d\e"`, `"support\b"`}
	checked := 0
	for i := range len(src) {
		if src[i] != ' ' && src[i] != '[' && src[i] != '\n' && src[i] != '{' {
			continue
		}
		end := i + 1 + strings.IndexAny(src[i+1:]+",", ",]}:\n")
		if end-i < 2 || end > len(src) {
			continue
		}
		for k := range 2 {
			e := evil[(i+k*4)%len(evil)]
			_, err := Parse("evil.yaml", []byte(src[:i+1]+e+src[end:]))
			faults, _ := err.(Faults)
			for _, f := range faults {
				checked++
				for _, r := range f.String() {
					if !unicode.IsPrint(r) {
						t.Fatalf("%q at %d: fault %q", e, i, f.String())
					}
				}
			}
		}
	}
	if checked < 500 {
		t.Errorf("%d faults only", checked)
	}
}

// TestCaret shows the place in lines with wide and many characters.
func TestCaret(t *testing.T) {
	for _, c := range []struct {
		line  string
		col   int
		want  string
		caret int
	}{
		{"abc", 2, "abc", 1},
		{"größe: 1", 8, "größe: 1", 7},
		{"\tx\a", 2, " x·", 1},
		{strings.Repeat("a", 200) + "b" + strings.Repeat("c", 200), 201, strings.Repeat("a", 60) + "b" + strings.Repeat("c", 39), 60},
		{"", 1, "", 0},
	} {
		if got, caret := excerpt(c.line, c.col); got != c.want || caret != c.caret {
			t.Errorf("%q at %d: got %q, %d; want %q, %d", c.line, c.col, got, caret, c.want, c.caret)
		}
	}
}

func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/faulty/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(append(seeds, more...), "testdata/sound.yaml") {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	rules := map[string]bool{}
	for _, r := range Rules() {
		rules[r.ID] = true
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse("fuzz.yaml", src)
		if err != nil {
			faults, ok := err.(Faults)
			if !ok || len(faults) == 0 || d != nil {
				t.Fatalf("%v, %v", d, err)
			}
			for _, x := range faults {
				if !rules[x.Rule] || x.Message == "" || x.Fix == "" || !utf8.ValidString(x.String()) || strings.ContainsAny(x.String(), "\n\r\x1b\x00") {
					t.Fatalf("%+v", x)
				}
			}
			if err := faults.Render(&bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			return
		}
		p, err := Compile(d)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, p)
		q, err := ParsePolicy(p.Canonical)
		if err != nil {
			t.Fatalf("does not read back: %v\n%s", err, p.Canonical)
		}
		if len(Diff(p, q)) != 0 {
			t.Fatal("differs from itself")
		}
	})
}
