package kit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

func write(t *testing.T, dir string, all []File) {
	t.Helper()
	for _, f := range all {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// examples prints the example message of every stream, one a line.
const examples = `
#include "hawser_readings.h"
#include "hawser_settings.h"
#include <stdio.h>
int main(void)
{
    char text[HAWSER_MAX_MESSAGE + 1];
    hawser_stamp stamp = {1795427759748, 4294967295, 99999};
    for (int i = 0; i < HAWSER_STREAMS; i++) {
        int n = hawser_streams[i].example(text, sizeof text, &stamp);
        printf("%s %s\n", hawser_streams[i].name, n < 0 ? "cannot be sent" : text);
    }
    return 0;
}
`

// TestKitsCompile: readings and settings of every example declaration, and of
// one whose every text is hostile, compile as C and as C++ without a warning,
// load as Python, and their examples are what the declaration takes.
func TestKitsCompile(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"cc", "c++", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: `make deps` as root installs it from Debian (gcc, g++, python3)", tool)
		}
	}
	all := map[string]Facts{}
	for _, file := range []string{"aria-thermostat.yaml", "pulse-band.yaml", "story-bear.yaml", "yard-gate.yaml"} {
		all[file] = Facts{Policy: policy(t, file), Door: door()}
	}
	for name, text := range map[string]string{
		"ends a string": `"; } int main(void) { return 7; } //`, "ends a comment": "*/ #error broken /*", "trigraph": "??/", "backslash": `a\`, "lines": "a\nb\r\nc", "unicode": "é😀\u202e",
		"keywords": "default", "python": "'''\"\"\"\nimport os\n",
	} {
		f := hostile(policy(t, "pulse-band.yaml"), text)
		p := *f.Policy
		p.Product, p.Streams = "hostile", p.Streams[:1]
		f.Policy = &p
		all[name] = f
	}
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := Render(f, Linux)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			write(t, dir, files)
			run := func(argv ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
				}
				return string(out)
			}
			write(t, dir, []File{{"examples.c", []byte(examples)}, {"all.cc", []byte("#include \"hawser_readings.h\"\n#include \"hawser_settings.h\"\n")}})
			run("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-trigraphs", "-Wno-trigraphs", "-o", "examples", "examples.c", "hawser_readings.c", "hawser_json.c")
			run("c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "all.cc")
			out := run("./examples")
			if files, err = Render(f, Python); err != nil {
				t.Fatal(err)
			}
			write(t, dir, files)
			py := run("python3", "-c", "import hawser_readings as r\nfor s, f in r.STREAMS.items(): print(len(f()))")
			if !strings.HasSuffix(name, ".yaml") {
				return // what it means is nobody's; that it compiles is what matters
			}
			if strings.Contains(out, "cannot be sent") || strings.Count(out, "\n") != len(f.Policy.Streams) || strings.Count(py, "\n") != len(f.Policy.Streams) {
				t.Errorf("the examples:\n%s%s", out, py)
			}
			for l := range strings.Lines(out) {
				stream, text, _ := strings.Cut(strings.TrimSpace(l), " ")
				takes(t, f.Policy, stream, text)
			}
		})
	}
}

// takes holds an example against its declaration: names and length.
func takes(t *testing.T, p *declaration.Policy, stream, text string) {
	t.Helper()
	s := p.Stream(stream)
	if s == nil || len(text) > s.MaxBytes {
		t.Errorf("%s: %d bytes: %s", stream, len(text), text)
		return
	}
	for _, i := range s.Fields {
		if !strings.Contains(text, `"`+p.Fields[i].Name+`":`) && len(text)+len(p.Fields[i].Name)+60 < s.MaxBytes {
			t.Errorf("%s leaves %s out: %s", stream, p.Fields[i].Name, text)
		}
	}
}

// TestAddressForSmallTLS: Mbed TLS compares no addresses, at least not in most
// of its releases: such a kit would never connect.
func TestAddressForSmallTLS(t *testing.T) {
	f := Facts{Policy: policy(t, "yard-gate.yaml"), Door: door()}
	f.Door.Host = "192.0.2.7"
	if _, err := Render(f, ESPIDF); core.ReasonOf(err) != "kit-address" {
		t.Errorf("a kit for Mbed TLS that dials an address: %v", err)
	}
	if _, err := Render(f, Linux); err != nil {
		t.Errorf("OpenSSL compares addresses: %v", err)
	}
}
