package house

import (
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

const module = "github.com/hawser-iot/hawser"

// Program builds one of the shipped programs, as it is shipped, for a test
// that runs it, and gives its path.
//
// Tests build programs only here: what a `go build` subprocess reads is unknown
// to the test cache, which would go on to serve the old result of such a test
// after a change anywhere below the program. Program looks at every source in
// the test's own process, so that a change of any of them runs the test again.
func Program(t testing.TB, name string) string {
	t.Helper()
	return build(t, module+"/cmd/"+name)
}

// Peer builds a program of a module that we stand on, in the version that we
// stand on, for a test that speaks to it, and gives its path.
func Peer(t testing.TB, pkg string) string {
	t.Helper()
	return build(t, pkg)
}

func build(t testing.TB, pkg string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("there is no go command to build %s with", pkg)
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := observe(root); err != nil || n < 100 {
		t.Fatalf("looked at %d sources: %v", n, err)
	}
	out := filepath.Join(t.TempDir(), path.Base(pkg))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
	return out
}

// Root is the folder of the repository that the test runs in.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fs.ErrNotExist
		}
		dir = up
	}
	return "", err
}

// observe looks at every file that a program may be built from, in the way
// that the test cache notices, and counts them.
func observe(root string) (n int, err error) {
	apart := []string{"node_modules", "testdata", "bin", "tools", "docs"}
	kinds := []string{".go", ".mod", ".sum", ".sql", ".yaml"}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != root && (slices.Contains(apart, d.Name()) || d.Name()[0] == '.'):
			return filepath.SkipDir
		case d.Type().IsRegular() && slices.Contains(kinds, filepath.Ext(p)):
			n++
			_, err := os.Stat(p) // an Info of d would not be noticed
			return err
		}
		return nil
	})
	return n, err
}
