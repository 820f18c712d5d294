package declaration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustCompile parses and compiles, and shows all faults if there are any.
func mustCompile(t *testing.T, file string, src []byte) *Policy {
	t.Helper()
	d, err := Parse(file, src)
	if f, ok := err.(Faults); ok {
		var b strings.Builder
		if err := f.Render(&b); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("faults:\n%s", b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const aria = "../../examples/aria-thermostat.yaml"

func TestExamplesAreSound(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range files {
		p := mustCompile(t, f, read(t, f))
		if want := strings.TrimSuffix(filepath.Base(f), ".yaml"); string(p.Product) != want {
			t.Errorf("%s declares %s", f, p.Product)
		}
	}
}

func TestCompileAria(t *testing.T) {
	p := mustCompile(t, aria, read(t, aria))
	if p.Product != "aria-thermostat" || p.Version != 3 || p.Identity.Life != 30*day || p.Identity.MaySleep != 0 || p.Legacy != nil {
		t.Errorf("%+v", p)
	}
	if got, want := p.SupportUntil, time.Date(2032, 12, 31, 23, 59, 59, 0, time.UTC); !got.Equal(want) {
		t.Errorf("support until %v, want %v", got, want)
	}
	s := p.Stream("climate")
	if s == nil || s.Every != time.Minute || s.Burst != 10 || s.MaxBytes != 512 || s.OnBad != BadField || !slices.Equal(s.Fields, []int{0, 1}) {
		t.Errorf("stream: %+v", s)
	}
	i, f := p.Field("room_temperature")
	if f == nil || f.Type != Number || f.Unit != "Cel" || !f.HasRange || f.Min != -40 || f.Max != 85 || f.Precision != 0.1 || f.Keep != 30*day || f.Class != Personal || f.WhenDone != "shred" {
		t.Fatalf("field: %+v", f)
	}
	if g := p.Groups[f.Group]; !slices.Equal(g.Fields, []int{i}) || g.ID != "personal/owner+service:app-backend+share:weatherco+support/k2592000" {
		t.Errorf("group: %+v", g)
	}
	if _, f := p.Field("absent"); f != nil {
		t.Error("an undeclared field is found")
	}
	if p.Stream("climat") != nil {
		t.Error("an undeclared stream is found")
	}
}
