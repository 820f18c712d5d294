package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("update", false, "write generated pages anew")

// try runs a command line and gives its exit code and both outputs.
func try(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, stdio{in: strings.NewReader(""), out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestCommandReference(t *testing.T) {
	const name = "../../docs/cli.md"
	got := reference()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is out of date: run `make docs`", name)
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.name] {
			t.Errorf("%s stands twice", c.name)
		}
		seen[c.name] = true
		if len(c.short) < 10 || len(c.long) < 30 || !strings.Contains(c.example, "hawser "+c.name) || c.run == nil {
			t.Errorf("%s: a text or its function is missing, or the example does not use it", c.name)
		}
		code, out, _ := try(t, append(strings.Fields(c.name), "--help")...)
		if code != exitOK || !strings.Contains(out, "Example:") || !strings.Contains(out, "--json") {
			t.Errorf("%s --help: exit %d, %q", c.name, code, out)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, "no command"},
		{[]string{"device", "frobnicate"}, "no command"},
		{[]string{"device", "add"}, "missing"},
		{[]string{"device", "list", "A1"}, "too many"},
		{[]string{"serve", "--cleartext"}, "not defined"},
	} {
		code, _, errs := try(t, c.args...)
		if code != exitMisuse || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %q; want exit %d saying %q", c.args, code, errs, exitMisuse, c.want)
		}
	}
}

func TestNoServerSaysSo(t *testing.T) {
	home := t.TempDir()
	if code, _, errs := try(t, "init", "--home", home, "--environment", "test"); code != exitOK {
		t.Fatal(errs)
	}
	code, _, errs := try(t, "device", "list", "--home", home)
	if code != exitNoServer || !strings.Contains(errs, "hawser serve") {
		t.Errorf("exit %d, %q", code, errs)
	}
	code, _, errs = try(t, "device", "list", "--home", home, "--json")
	var p struct{ Error, Hint string }
	if err := json.Unmarshal([]byte(errs), &p); code != exitNoServer || err != nil || p.Hint == "" {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// TestInitMakesNoCredential: CC 1.9, two installs share nothing, and nobody
// can sign in to either.
func TestInitMakesNoCredential(t *testing.T) {
	var files [2]map[string]string
	for i := range files {
		home := t.TempDir()
		if code, _, errs := try(t, "init", "--home", home, "--environment", "live"); code != exitOK {
			t.Fatal(errs)
		}
		files[i] = map[string]string{}
		err := filepath.Walk(filepath.Join(home, "keys"), func(p string, st os.FileInfo, err error) error {
			if err != nil || st.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			files[i][strings.TrimPrefix(p, home)] = string(b)
			if st.Size() == 0 {
				delete(files[i], strings.TrimPrefix(p, home)) // a lock holds nothing
			}
			// Certificates and the checkpoint are for everybody; keys are for nobody else.
			public := strings.HasSuffix(p, "/checkpoint") || strings.HasSuffix(p, ".pem") && !strings.Contains(string(b), "PRIVATE")
			if st.Mode().Perm()&0o077 != 0 && !public {
				t.Errorf("%s has mode %v", p, st.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if code, _, errs := try(t, "init", "--home", home, "--environment", "live"); code == exitOK || !strings.Contains(errs, "exists already") {
			t.Errorf("a second init: exit %d, %q", code, errs)
		}
	}
	if len(files[0]) < 8 {
		t.Fatalf("looked at %d key files only", len(files[0]))
	}
	for name, body := range files[0] {
		if files[1][name] == body {
			t.Errorf("%s is the same in two installations", name)
		}
	}
}

func TestInitNeedsAnEnvironment(t *testing.T) {
	code, _, errs := try(t, "init", "--home", t.TempDir())
	if code != exitFailed || !strings.Contains(errs, "test or live") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestDoctorOnNothing(t *testing.T) {
	code, out, _ := try(t, "doctor", "--home", t.TempDir())
	if code != exitFailed || !strings.Contains(out, "hawser init") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestDeclarationFaultsShowPlaceAndFix(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("declaration: 1\nproduct: Bad Name\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := try(t, "declaration", "check", file)
	if code != exitFailed || !strings.Contains(errs, file+":2:") || !strings.Contains(errs, "^") {
		t.Errorf("exit %d, %q", code, errs)
	}
	code, out, _ := try(t, "declaration", "check", file, "--json")
	var f struct {
		Faults []struct {
			Line int
			Rule string
		}
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil || code != exitFailed || len(f.Faults) == 0 || f.Faults[0].Line == 0 {
		t.Errorf("exit %d, %v, %q", code, err, out)
	}
}
