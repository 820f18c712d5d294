package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// openConsole opens the console of a running server by its first link, and
// gives its host and port.
func (l *live) openConsole(t testing.TB) string {
	t.Helper()
	var link api.Link
	l.call(t, "POST", "/v1/people/founder", nil, &link)
	u, err := url.Parse(link.Link)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// needs is the path of a program of the system, or the end of the test.
func needs(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s needs %s (Debian: %s)", t.Name(), program, debian)
	}
	return path
}

// TestHydra lets a guessing program loose on the way in: it finds nothing, and
// most of its tries are not even looked at (CC 1.13, 1.14).
func TestHydra(t *testing.T) {
	t.Parallel()
	hydra := needs(t, "hydra", "hydra")
	l := start(t, newHome(t, core.Live, ""))
	host, port, _ := strings.Cut(l.openConsole(t), ":")
	const guesses = 150
	var list strings.Builder
	for n := range guesses {
		fmt.Fprintf(&list, "correct-horse-%04d\n", n)
	}
	file := filepath.Join(t.TempDir(), "guesses")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), hydra, "-I", "-l", "founder@northwind.example", "-P", file, "-t", "8", "-s", port, host,
		"https-post-form", "/sign-in/password:mail=^USER^&password=^PASS^&code=123456:S=303")
	cmd.Dir = t.TempDir() // it leaves a file where it could go on
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 valid password") {
		t.Fatalf("hydra: %v\n%s", err, out)
	}
	tried := l.metric(t, `hawser_gate_tries_total{means="password"}`)
	refused := l.metric(t, `hawser_gate_refused_total{means="password"}`)
	if tried == 0 || refused < guesses/2 {
		t.Errorf("of %d guesses %v were looked at and %v refused unseen; want most refused", guesses, tried, refused)
	}
}

// TestWapiti lets a scanner of web pages loose on all that a stranger reaches.
// Two of its findings are none: it knows anti-CSRF tokens in forms, not a
// refusal of what other sites send, which console.cross-site looks at; and the
// header X-XSS-Protection switches on a filter that browsers have removed.
func TestWapiti(t *testing.T) {
	t.Parallel()
	wapiti := needs(t, "wapiti", "wapiti")
	l := start(t, newHome(t, core.Live, ""))
	dir := t.TempDir()
	report := filepath.Join(dir, "report.json")
	cmd := exec.CommandContext(t.Context(), wapiti, "-u", "https://"+l.openConsole(t)+"/sign-in", "--scope", "domain", "-m", "xss,sql,exec,file,crlf,redirect,csp,http_headers,cookieflags,csrf",
		"--verify-ssl", "0", "--max-scan-time", "60", "--max-attack-time", "20", "--flush-session", "--store-session", filepath.Join(dir, "session"), "-f", "json", "-o", report, "--no-bugreport")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("wapiti: %v\n%s", err, out)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	type finding struct{ Path, Info, Method string }
	var r struct {
		Vulnerabilities map[string][]finding
		Anomalies       map[string][]finding
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Vulnerabilities) < 5 {
		t.Fatalf("the report names %d kinds of vulnerability: it looked at nothing", len(r.Vulnerabilities))
	}
	none := []string{"Lack of anti CSRF token", "X-XSS-Protection is not set"}
	for _, kinds := range []map[string][]finding{r.Vulnerabilities, r.Anomalies} {
		for kind, all := range kinds {
			for _, f := range all {
				if !slices.Contains(none, f.Info) {
					t.Errorf("%s: %s %s: %s", kind, f.Method, f.Path, f.Info)
				}
			}
		}
	}
}
