package server

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestEveryColumnHasItsEraser: each column that holds a subject, a device or a
// sealed value names an eraser that a running server really has (CC 4.8).
func TestEveryColumnHasItsEraser(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(l.home)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c, Options{Now: time.Now})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	have := s.telem.erase.Erasers()
	tagged := regexp.MustCompile(`-- \[(?:pseudonym|device|sealed); eraser=([a-z-]+)\]`)
	used := map[string]int{}
	for _, glob := range []string{"../store/migrations/*.sql", "../store/*.sql"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range tagged.FindAllStringSubmatch(string(b), -1) {
				used[m[1]]++
				if !slices.Contains(have, m[1]) {
					t.Errorf("%s names the eraser %q, which no server has; it has %v", f, m[1], have)
				}
			}
		}
	}
	if len(used) < 3 {
		t.Fatalf("found only %v: the schema was not read", used)
	}
	for _, name := range have {
		if used[name] == 0 {
			t.Errorf("the eraser %q empties no column", name)
		}
	}
}
