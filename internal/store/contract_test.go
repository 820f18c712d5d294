package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// both runs a part of the contract on an empty store of each engine.
func both(t *testing.T, part func(*testing.T, func(testing.TB) *store.Store)) {
	t.Helper()
	opener := func(o func(testing.TB) store.Options) func(testing.TB) *store.Store {
		return func(t testing.TB) *store.Store {
			t.Helper()
			s, err := store.Open(t.Context(), o(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() }) // the test is over
			return s
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		part(t, opener(func(t testing.TB) store.Options { return store.Options{Dir: t.TempDir()} }))
	})
	t.Run("postgres", func(t *testing.T) {
		part(t, opener(func(t testing.TB) store.Options {
			return store.Options{Dir: t.TempDir(), Postgres: store.PGOptions{DSN: pgtest.Database(t)}}
		}))
	})
}

func TestAccess(t *testing.T)      { both(t, storetest.Access) }
func TestAssurance(t *testing.T)   { both(t, storetest.Assurance) }
func TestClock(t *testing.T)       { both(t, storetest.Clock) }
func TestDeclaration(t *testing.T) { both(t, storetest.Declaration) }
func TestErasure(t *testing.T)     { both(t, storetest.Erasure) }
func TestGate(t *testing.T)        { both(t, storetest.Gate) }
func TestIdentity(t *testing.T)    { both(t, storetest.Identity) }
func TestLedger(t *testing.T)      { both(t, storetest.Ledger) }
func TestReview(t *testing.T)      { both(t, storetest.Review) }
func TestReaders(t *testing.T)     { both(t, storetest.Readers) }
func TestSampling(t *testing.T)    { both(t, storetest.Sampling) }
func TestUndeclared(t *testing.T)  { both(t, storetest.Undeclared) }
func TestCommand(t *testing.T)     { both(t, storetest.Command) }
func TestRemember(t *testing.T)    { both(t, storetest.Remember) }
func TestSetting(t *testing.T)     { both(t, storetest.Setting) }
func TestCounts(t *testing.T)      { both(t, storetest.Counts) }
func TestEpochs(t *testing.T)      { both(t, storetest.Epochs) }
func TestIngest(t *testing.T)      { both(t, storetest.Ingest) }

func TestHoldFiles(t *testing.T) {
	storetest.HoldFiles(t, func(t *testing.T, dir string) telemetry.HoldFiles {
		f, err := store.OpenHoldFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

// TestContractIsForBoth: each part of the contract that takes a store runs on
// both engines.
func TestContractIsForBoth(t *testing.T) {
	src, err := os.ReadFile("contract_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("storetest/*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() || !takesStore(fn.Type) {
				continue
			}
			n++
			if !strings.Contains(string(src), "both(t, storetest."+fn.Name.Name+")") {
				t.Errorf("%s: storetest.%s does not run on both engines: write both(t, storetest.%s)", name, fn.Name.Name, fn.Name.Name)
			}
		}
	}
	if n < 16 {
		t.Errorf("found %d parts of the contract: the search finds nothing", n)
	}
}

// takesStore reports whether a function takes a way to open a store.
func takesStore(f *ast.FuncType) bool {
	for _, p := range f.Params.List {
		open, ok := p.Type.(*ast.FuncType)
		if !ok || open.Results == nil {
			continue
		}
		star, ok := open.Results.List[0].Type.(*ast.StarExpr)
		if !ok {
			continue
		}
		if sel, ok := star.X.(*ast.SelectorExpr); ok && sel.Sel.Name == "Store" {
			return true
		}
	}
	return false
}
