package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors is the house of ARCHITECTURE.md: imports only point to a lower
// number. A package that is not listed has no place and fails the test.
var floors = map[string]int{
	"internal/core":              0,
	"internal/wire":              0,
	"internal/term":              0,
	"internal/declaration":       1,
	"internal/mqtt":              1,
	"internal/seal":              1,
	"internal/check":             1,
	"internal/gate":              1,
	"internal/ledger":            1,
	"internal/ledger/verify":     1,
	"internal/identity":          2,
	"internal/telemetry":         2,
	"internal/telemetry/readers": 2,
	"internal/command":           2,
	"internal/access":            2,
	"internal/assurance":         2,
	"internal/assurance/bundle":  2,
	"internal/sampling":          1,
	"device/tpm":                 1, // beside the library, which it never imports
	"internal/witness":           2,
	"internal/kms":               3,
	"internal/store":             3,
	"internal/journal":           3,
	"internal/gateway":           4,
	"internal/gateway/est":       4,
	"internal/gateway/ingest":    4,
	"internal/gateway/proxy":     4,
	"internal/gateway/link":      4,
	"internal/gateway/services":  4,
	"internal/api":               4,
	"internal/console":           4,
	"internal/kit":               4,
	"internal/probe":             4,
	"internal/simulate":          4,
	"internal/observe":           4,
	"internal/server":            5,
	"internal/demo":              6,
	"cmd/hawser":                 7,
	"cmd/hawser-agent":           7,
}

// apart are packages outside the floors: tests, benches and tools may import
// what they like and nothing may import them.
var apart = []string{"internal/house", "internal/store/storetest", "internal/store/pgtest", "internal/journal/natstest", "internal/kms/baotest", "bench", "scripts"}

// deviceMay is what the client library that makers build on may use inside.
var deviceMay = []string{"internal/core", "internal/wire", "internal/mqtt"}

// agentMayLink are the modules that device firmware may carry besides ours and
// the standard library: each one is code in somebody's home.
var agentMayLink = []string{"github.com/google/go-tpm", "github.com/smallstep/pkcs7", "golang.org/x/sys"}

type file struct {
	name string // relative to the root
	pkg  string // folder, relative to the root
	ast  *ast.File
	test bool
}

func parse(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []file
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "testdata" || n == "bin" || (strings.HasPrefix(n, ".") && p != root) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, file{name: rel, pkg: path.Dir(rel), ast: f, test: strings.HasSuffix(rel, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("parsed %d files: the walk looked in the wrong place", len(files))
	}
	return fset, files
}

func imports(f file) []string {
	var out []string
	for _, im := range f.ast.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func isApart(pkg string) bool {
	return slices.ContainsFunc(apart, func(a string) bool { return pkg == a || strings.HasPrefix(pkg, a+"/") })
}

// misplaced says what is wrong with pkg importing target, or nothing.
func misplaced(pkg, target string) string {
	if isApart(pkg) {
		return ""
	}
	if isApart(target) {
		return "nothing may import " + target
	}
	if pkg == "internal/ledger/verify" {
		return "the verifier imports nothing of ours"
	}
	if pkg == "device" {
		if !slices.Contains(deviceMay, target) {
			return fmt.Sprintf("device may use only %v", deviceMay)
		}
		return ""
	}
	from, ok := floors[pkg]
	if !ok {
		return "the package has no floor: add it to the house or to its design"
	}
	to, ok := floors[target]
	if target == "device" {
		to, ok = 1, true
	}
	if !ok {
		return target + " has no floor"
	}
	if from == to && strings.HasPrefix(target, pkg+"/") || from == to && strings.HasPrefix(pkg, target+"/") {
		return ""
	}
	if to >= from {
		return fmt.Sprintf("floor %d may not import floor %d", from, to)
	}
	return ""
}

func TestImportsPointDown(t *testing.T) {
	_, files := parse(t)
	for _, f := range files {
		if f.test {
			continue
		}
		if _, ok := floors[f.pkg]; !ok && f.pkg != "device" && !isApart(f.pkg) && !strings.HasPrefix(f.pkg, "tools") {
			t.Errorf("%s: package %s has no floor", f.name, f.pkg)
		}
		for _, im := range imports(f) {
			target, ours := strings.CutPrefix(im, module+"/")
			if !ours {
				continue
			}
			if why := misplaced(f.pkg, target); why != "" {
				t.Errorf("%s: %s imports %s: %s", f.name, f.pkg, target, why)
			}
		}
	}
}

func TestImportRuleCatches(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"internal/core", "internal/mqtt"},
		{"internal/identity", "internal/telemetry"},
		{"internal/telemetry", "internal/store"},
		{"internal/ledger/verify", "internal/core"},
		{"device", "internal/store"},
		{"internal/newcomer", "internal/core"},
		{"internal/server", "internal/house"},
	} {
		if misplaced(c.from, c.to) == "" {
			t.Errorf("%s may import %s: the rule catches nothing", c.from, c.to)
		}
	}
}

func TestSQLOnlyInStore(t *testing.T) {
	_, files := parse(t)
	for _, f := range files {
		if f.test || isApart(f.pkg) || f.pkg == "internal/store" {
			continue
		}
		if slices.Contains(imports(f), "database/sql") {
			t.Errorf("%s imports database/sql: SQL lives in internal/store", f.name)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	_, files := parse(t)
	doc, seen := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		seen[f.pkg] = true
		if f.ast.Doc != nil && len(f.ast.Doc.Text()) > 40 {
			doc[f.pkg] = true
		}
	}
	for pkg := range seen {
		if !doc[pkg] {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestNothingHides(t *testing.T) {
	fset, files := parse(t)
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: wire it where it can be read", f.name)
			}
		}
		if n := fset.File(f.ast.FileStart).LineCount(); n > 600 {
			t.Errorf("%s has %d lines: it holds more than one subject", f.name, n)
		}
	}
}

// TestDeviceAPIIsItsOwn holds that what makers compile against names only the
// package's own types and the standard library's.
func TestDeviceAPIIsItsOwn(t *testing.T) {
	_, files := parse(t)
	for _, f := range files {
		if f.pkg != "device" || f.test {
			continue
		}
		foreign := map[string]string{}
		for _, im := range f.ast.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			if !strings.Contains(strings.Split(p, "/")[0], ".") {
				continue
			}
			name := path.Base(p)
			if im.Name != nil {
				name = im.Name.Name
			}
			foreign[name] = p
		}
		for _, d := range f.ast.Decls {
			for _, typ := range exportedTypes(d) {
				ast.Inspect(typ, func(n ast.Node) bool {
					if sel, ok := n.(*ast.SelectorExpr); ok {
						if id, ok := sel.X.(*ast.Ident); ok && foreign[id.Name] != "" {
							t.Errorf("%s: exported API uses %s.%s", f.name, foreign[id.Name], sel.Sel.Name)
						}
					}
					return true
				})
			}
		}
	}
}

func exportedTypes(d ast.Decl) []ast.Node {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return nil
		}
		if d.Recv != nil && !exportedReceiver(d.Recv.List[0].Type) {
			return nil
		}
		return []ast.Node{d.Type}
	case *ast.GenDecl:
		var out []ast.Node
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if !s.Name.IsExported() {
					continue
				}
				st, ok := s.Type.(*ast.StructType)
				if !ok {
					out = append(out, s.Type)
					continue
				}
				for _, fl := range st.Fields.List {
					if len(fl.Names) == 0 || fl.Names[0].IsExported() {
						out = append(out, fl.Type)
					}
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && s.Type != nil {
					out = append(out, s.Type)
				}
			}
		}
		return out
	}
	return nil
}

func exportedReceiver(e ast.Expr) bool {
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// TestAgentCarriesLittle follows the imports of the agent through our own
// packages and names every module that would be linked into firmware.
func TestAgentCarriesLittle(t *testing.T) {
	_, files := parse(t)
	byPkg := map[string][]file{}
	for _, f := range files {
		if !f.test {
			byPkg[f.pkg] = append(byPkg[f.pkg], f)
		}
	}
	seen := map[string]bool{}
	var walk func(pkg string)
	walk = func(pkg string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, f := range byPkg[pkg] {
			for _, im := range imports(f) {
				if target, ours := strings.CutPrefix(im, module+"/"); ours {
					walk(target)
					continue
				}
				if strings.Contains(strings.Split(im, "/")[0], ".") &&
					!slices.ContainsFunc(agentMayLink, func(m string) bool { return im == m || strings.HasPrefix(im, m+"/") }) {
					t.Errorf("%s brings %s into the agent", f.name, im)
				}
			}
		}
	}
	walk("cmd/hawser-agent")
	if len(seen) < 4 {
		t.Errorf("followed only %d packages", len(seen))
	}
	for pkg := range seen {
		if pkg != "cmd/hawser-agent" && pkg != "device" && pkg != "device/tpm" && !slices.Contains(deviceMay, pkg) {
			t.Errorf("the agent links %s", pkg)
		}
	}
}

// buildsItself reports whether a call runs the go command.
func buildsItself(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Command" && sel.Sel.Name != "CommandContext" {
		return false
	}
	return slices.ContainsFunc(call.Args, func(a ast.Expr) bool {
		lit, ok := a.(*ast.BasicLit)
		return ok && lit.Value == `"go"`
	})
}

// TestProgramsAreBuiltInOnePlace: a test that runs `go` itself is served stale
// from the test cache, see Program.
func TestProgramsAreBuiltInOnePlace(t *testing.T) {
	fset, files := parse(t)
	seen := 0
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !buildsItself(call) {
				return true
			}
			if f.name == "internal/house/program.go" {
				seen++
			} else if f.test {
				t.Errorf("%s: a test runs the go command: use house.Program", fset.Position(call.Pos()))
			}
			return true
		})
	}
	if seen != 1 {
		t.Errorf("the rule found %d calls in Program, want 1: it catches nothing", seen)
	}
}

// TestAgentIsSmall builds the agent as it is shipped. Of its 14 MB, 5 MB stay
// free for the update client.
func TestAgentIsSmall(t *testing.T) {
	const maxBytes = 9 << 20
	st, err := os.Stat(Program(t, "hawser-agent"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("agent: %.1f MB stripped", float64(st.Size())/(1<<20))
	if st.Size() > maxBytes {
		t.Errorf("agent is %d bytes, more than %d", st.Size(), maxBytes)
	}
}
