package server

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
)

// public asks the HTTPS door as a stranger.
func (l *live) public(t *testing.T, path string) (int, string, http.Header) {
	t.Helper()
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: l.tls(nil), DisableKeepAlives: true}}
	resp, err := hc.Get("https://" + l.addr.HTTPS + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// TestSecurityTXT: whom to tell comes from the declarations in force, the keys
// from their file; what nobody has said is not there.
func TestSecurityTXT(t *testing.T) {
	home := newHome(t, core.Test, "public_https: https://iot.northwind.example\n")
	l := start(t, home)
	for _, path := range []string{securityTXTPath, evidenceKeysPath} {
		if code, body, _ := l.public(t, path); code != http.StatusNotFound {
			t.Errorf("%s before anything is known: %d %q", path, code, body)
		}
	}
	l.publish(t, testDeclaration)
	code, body, head := l.public(t, securityTXTPath)
	if code != http.StatusOK || head.Get("Content-Type") != "text/plain; charset=utf-8" || strings.Contains(body, "Evidence") {
		t.Errorf("without a key: %d %s\n%s", code, head.Get("Content-Type"), body)
	}
	k, err := bundle.CreateKey(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "keys", "evidence.signers"), []byte(k.Public().AllowedSigner()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, body, _ = l.public(t, securityTXTPath)
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	want := []string{
		"Contact: mailto:security@northwind.example", "Expires: ", "Canonical: https://iot.northwind.example/.well-known/security.txt",
		"Hawser-Evidence-Keys: https://iot.northwind.example/.well-known/hawser-evidence.signers", k.Public().SecurityTXT(),
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), body)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d: %q, want %q", i+1, lines[i], w)
		}
	}
	until, err := time.Parse(time.RFC3339, strings.TrimPrefix(lines[1], "Expires: "))
	if d := time.Until(until); err != nil || d < 28*24*time.Hour || d > 365*24*time.Hour {
		t.Errorf("it runs out in %s: %v", d, err)
	}
	if code, body, _ := l.public(t, evidenceKeysPath); code != http.StatusOK || body != k.Public().AllowedSigner()+"\n" {
		t.Errorf("the keys: %d %q", code, body)
	}
	if err := os.WriteFile(filepath.Join(home, "keys", "evidence.signers"), []byte("rubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, body, _ := l.public(t, securityTXTPath); code != http.StatusInternalServerError || strings.Contains(body, "rubbish") {
		t.Errorf("with a file of keys that cannot be read: %d %q", code, body)
	}
}

// TestConfiguredContact: who is named in the configuration comes before what
// declarations say, and only URIs of RFC 9116 are taken.
func TestConfiguredContact(t *testing.T) {
	l := start(t, newHome(t, core.Test, "security_contact: [https://northwind.example/report, mailto:psirt@northwind.example]\n"))
	l.publish(t, testDeclaration)
	_, body, _ := l.public(t, securityTXTPath)
	if !strings.HasPrefix(body, "Contact: https://northwind.example/report\nContact: mailto:psirt@northwind.example\nExpires: ") {
		t.Errorf("contacts:\n%s", body)
	}
	for c, want := range map[string]bool{
		"mailto:a@b.example": true, "https://b.example/x": true, "tel:+49-30-1": true,
		"a@b.example": false, "http://b.example": false, "mailto:nobody": false, "tel:110": false, "https:///x": false, "mailto:a@b\nX: y": false, "mailto:a@b c": false, "javascript:1": false, "": false,
	} {
		if goodContact(c) != want {
			t.Errorf("%q is taken: %v", c, !want)
		}
	}
	for _, bad := range []string{"security_contact: [a@b.example]\n", "public_https: http://b.example\n", "public_https: https://b.example/x\n", "maker: \"\\u202eevil\"\n", "maker: " + strings.Repeat("x", 61) + "\n"} {
		if _, err := ParseConfig(t.TempDir(), []byte(bad)); core.KindOf(err) != core.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
