package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
)

// readerTools are what docs/readers.md and the example need.
func readerTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "openssl", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// TestReadersPage types the commands of docs/readers.md in their order, as one
// shell, with an order to erase between the pages.
func TestReadersPage(t *testing.T) {
	readerTools(t)
	l, _, _ := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	l.call(t, "POST", "/v1/services", api.AddServiceRequest{Service: "app-backend"}, nil)
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":20}`).want(t, "a reading", 200, "")
	page, err := os.ReadFile("../../docs/readers.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	var door string
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	for i, b := range blocks {
		switch i {
		case 1: // certified by the maker, as the page says between the blocks
			csr, err := os.ReadFile(filepath.Join(dir, "app-backend.csr"))
			if err != nil {
				t.Fatal(err)
			}
			var c api.ServiceCertificate
			l.call(t, "POST", "/v1/services/app-backend/certificate", api.CertifyServiceRequest{CSR: string(csr)}, &c)
			door = c.Address
			for name, text := range map[string]string{"app-backend.pem": c.Certificate, "root.pem": c.Root} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		case 3: // there is an order to answer by now
			l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "the owner asked"}, nil)
			b[1] = blocks[2][1] + strings.ReplaceAll(b[1], "page next-page", "next-page page")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b[1])
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "DOOR="+door, "PRODUCT=test-sensor")
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("block %d: %v\n%s\n%s", i+1, err, b[1], out)
		}
	}
	var s api.Service
	l.call(t, "GET", "/v1/services/app-backend", nil, &s)
	if len(s.Open) != 0 {
		t.Errorf("the order was not answered: %+v", s.Open)
	}
}

// TestExampleReader (CC 4.8): the reader that makers copy keeps what it is
// given, and is proved by a canary.
func TestExampleReader(t *testing.T) {
	t.Parallel()
	readerTools(t)
	l, s, shift := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	app := l.service(t, "app-backend")
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":20}`).want(t, "a reading", 200, "")
	app.gather(t, "", 1)
	for range 9 {
		cmd := exec.CommandContext(t.Context(), "python3", "../../examples/reader.py", "--once", "--door", app.addr, "--product", "test-sensor",
			"--cert", filepath.Join(app.dir, "cert.pem"), "--key", filepath.Join(app.dir, "key.pem"), "--root", filepath.Join(app.dir, "root.pem"), "--file", filepath.Join(app.dir, "readings.db"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("reader: %v\n%s", err, out)
		}
		if err := s.services.readers.Canaries(t.Context()); err != nil {
			t.Fatal(err)
		}
		shift.Add(int64(canaryStep))
	}
	all, err := s.services.readers.Standings(t.Context())
	if err != nil || len(all) != 1 || !all[0].Proved {
		t.Errorf("stands %+v, %v", all, err)
	}
}
