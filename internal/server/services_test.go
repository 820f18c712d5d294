package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// readersDeclaration is the tests' product with two services.
func readersDeclaration() string {
	return strings.NewReplacer(
		"readers: [owner, support], when_done: shred}\n  note", "readers: [owner, support, \"service:app-backend\"], when_done: shred}\n  note",
		"keep: 30d, readers: [owner, support], when_done: shred}\n  secret", "keep: 10d, readers: [owner, support, \"service:app-backend\", \"service:other\"], when_done: shred}\n  secret",
		"\nstreams:", "\nservices:\n  app-backend: {what: \"Shows it in the app.\", purposes: [service.control]}\n  other: {what: \"Reads notes.\", purposes: [service.control]}\nstreams:",
	).Replace(testDeclaration)
}

// peer is a service with its certificate.
type servicePeer struct {
	name string
	addr string
	hc   *http.Client
	dir  string
	cert tls.Certificate
}

// service registers a service and gives it a certificate, as its maker would.
func (l *live) service(t testing.TB, name string) *servicePeer {
	t.Helper()
	var s api.Service
	l.call(t, "POST", "/v1/services", api.AddServiceRequest{Service: name}, &s)
	return l.servicePeer(t, name)
}

func (l *live) servicePeer(t testing.TB, name string) *servicePeer {
	t.Helper()
	key, csr := serviceRequest(t)
	var c api.ServiceCertificate
	l.call(t, "POST", "/v1/services/"+name+"/certificate", api.CertifyServiceRequest{CSR: string(csr)}, &c)
	p := &servicePeer{name: name, addr: c.Address, dir: t.TempDir()}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for file, b := range map[string][]byte{"cert.pem": []byte(c.Certificate), "key.pem": keyPEM, "root.pem": []byte(c.Root)} {
		if err := os.WriteFile(filepath.Join(p.dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p.cert, err = tls.X509KeyPair([]byte(c.Certificate), keyPEM); err != nil {
		t.Fatal(err)
	}
	p.hc = l.serviceClient(t, &p.cert)
	return p
}

func (l *live) serviceClient(t testing.TB, cert *tls.Certificate) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: l.roots, ServerName: "localhost", Time: l.now}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: c}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 90 * time.Second}
}

func serviceRequest(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// ask gets a page; problem is the reason when it was refused.
func (p *servicePeer) ask(t testing.TB, query url.Values) (lines []readers.Line, cursor, raw, problem string) {
	t.Helper()
	resp, err := p.hc.Get("https://" + p.addr + "/service/v1/stream/test-sensor?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		var x struct{ Reason string }
		_ = json.Unmarshal(b, &x)
		return nil, "", string(b), x.Reason
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var x readers.Line
		if err := json.Unmarshal(sc.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		if x.Type == "cursor" {
			cursor = x.Cursor
			continue
		}
		lines = append(lines, x)
	}
	if cursor == "" || resp.Header.Get("Hawser-Cursor") != cursor {
		t.Fatalf("the page has no cursor: %s", b)
	}
	return lines, cursor, string(b), ""
}

// gather asks on until there were n lines, and gives them with the cursor.
func (p *servicePeer) gather(t testing.TB, cursor string, n int) (lines []readers.Line, next, raw string) {
	t.Helper()
	next = cursor
	for end := time.Now().Add(30 * time.Second); len(lines) < n; {
		if time.Now().After(end) {
			t.Fatalf("%d lines after 30 s, want %d: %s", len(lines), n, raw)
		}
		q := url.Values{"wait": {"2"}}
		if next != "" {
			q.Set("cursor", next)
		}
		some, c, b, problem := p.ask(t, q)
		if problem != "" {
			t.Fatalf("refused: %s", b)
		}
		lines, next, raw = append(lines, some...), c, raw+b
	}
	return lines, next, raw
}

// TestServiceStream (CC 1.6, 3.4): a registered service gets the declared
// fields and nothing else, by curl as well as by Go's client, goes on where it
// was over a restart, and knows subjects by names of its own.
func TestServiceStream(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, readersDeclaration())
	if s := l.addr; s.Devices == "" {
		t.Fatal("no address")
	}
	u := l.enrol(t, "A1")
	post := newPoster(l, u, t)
	app, other := l.service(t, "app-backend"), l.service(t, "other")
	for i := range 5 {
		post.post(t, "climate", jsonType, fmt.Sprintf(`{"temp":%d,"note":"n%d","secret":777}`, 20+i, i)).want(t, "a reading", 200, "")
	}
	lines, cursor, raw := app.gather(t, "", 10) // two keep-times: two parts each
	seen := map[string]string{}
	for _, x := range lines {
		if x.Type != "reading" || x.Stream != "climate" || x.T == "" || x.Policy == "" || x.Epoch == "" || x.Until == "" || x.Subject == "" {
			t.Errorf("line %+v", x)
		}
		seen[x.Reading] += string(x.Values)
	}
	if len(seen) != 5 {
		t.Errorf("%d readings, want 5: %v", len(seen), seen)
	}
	if strings.Contains(raw, "secret") || strings.Contains(raw, ":777") {
		t.Errorf("a field that is not declared for the service was in its bytes: %s", raw)
	}
	theirs, _, raw2 := other.gather(t, "", 5)
	if strings.Contains(raw2, "temp") || strings.Contains(raw2, "secret") {
		t.Errorf("the other service got %s", raw2)
	}
	if theirs[0].Subject == lines[0].Subject || theirs[0].Reading == lines[0].Reading {
		t.Error("two services know a subject, or a reading, by one name")
	}
	if _, _, _, why := app.ask(t, url.Values{"fields": {"secret"}}); why != "field-not-declared" {
		t.Errorf("asked for a field that is not its own: %q", why)
	}
	if _, _, _, why := other.ask(t, url.Values{"cursor": {cursor}}); why != "cursor" {
		t.Errorf("another service's cursor: %q", why)
	}

	// By curl, from the beginning again: at least once.
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command("curl", "-sS", "--cert", filepath.Join(app.dir, "cert.pem"), "--key", filepath.Join(app.dir, "key.pem"), "--cacert", filepath.Join(app.dir, "root.pem"),
			"https://"+app.addr+"/service/v1/stream/test-sensor?wait=0").CombinedOutput()
		if err != nil || bytes.Count(out, []byte(`"type":"reading"`)) != 10 {
			t.Errorf("curl: %v %s", err, out)
		}
	} else {
		t.Log("skipped: curl is not installed")
	}

	// Server-sent events, from the cursor on.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+app.addr+"/service/v1/stream/test-sensor", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", cursor)
	resp, err := app.hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	post.post(t, "climate", jsonType, `{"temp":31}`).want(t, "a reading", 200, "")
	sc := bufio.NewScanner(resp.Body)
	var event, id string
	for sc.Scan() && id == "" {
		if v, ok := strings.CutPrefix(sc.Text(), "data: "); ok && strings.Contains(v, "31") {
			event = v
		}
		if v, ok := strings.CutPrefix(sc.Text(), "id: "); ok && event != "" {
			id = v
		}
	}
	if !strings.Contains(event, `"values":{"temp":31}`) {
		t.Errorf("event %q", event)
	}

	// Nothing is lost over a restart.
	post.post(t, "climate", jsonType, `{"temp":32}`).want(t, "a reading", 200, "")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	var s api.Service
	l.call(t, "GET", "/v1/services/app-backend", nil, &s)
	app.addr = s.Address
	var after []readers.Line
	for len(after) == 0 { // a canary may be planted by now: it is of nobody that we know
		var some []readers.Line
		some, id, _ = app.gather(t, id, 1)
		after = append(after, slices.DeleteFunc(some, func(x readers.Line) bool { return x.Subject != lines[0].Subject })...)
	}
	if len(after) != 1 || string(after[0].Values) != `{"temp":32}` || after[0].Subject != lines[0].Subject {
		t.Errorf("after a restart: %+v", after)
	}

	// Revoked: the stream that waits is cut, and the door is shut.
	waits := make(chan error, 1)
	go func() {
		resp, err := app.hc.Get("https://" + app.addr + "/service/v1/stream/test-sensor?cursor=now&wait=60")
		if err == nil {
			_ = resp.Body.Close()
			err = fmt.Errorf("%s", resp.Status)
		}
		waits <- err
	}()
	time.Sleep(300 * time.Millisecond)
	l.call(t, "POST", "/v1/services/app-backend/revoke", api.RevokeServiceRequest{Cause: "compromised"}, nil)
	select {
	case err := <-waits:
		t.Logf("cut: %v", err)
	case <-time.After(5 * time.Second):
		t.Error("a revoked service's stream goes on")
	}
	app.hc = l.serviceClient(t, &app.cert)
	if _, err := app.hc.Get("https://" + app.addr + "/service/v1/stream/test-sensor"); err == nil {
		t.Error("a revoked service came in")
	}
	// A device, a stranger and nobody: no handshake.
	for what, cert := range map[string]*tls.Certificate{"a device": &u.cert, "nobody": nil} {
		if _, err := l.serviceClient(t, cert).Get("https://" + app.addr + "/service/v1/stream/test-sensor"); err == nil {
			t.Errorf("%s came in at the services' door", what)
		}
	}
	// And no service at the devices' door.
	pst := newPoster(l, &unit{id: "A1", cert: other.cert}, t)
	if r := pst.post(t, "climate", jsonType, `{"temp":1}`); r.status != 403 {
		t.Errorf("a service at the devices' door: %d %s", r.status, r.body)
	}
	l.call(t, "GET", "/v1/services/app-backend", nil, &s)
	if len(s.Refusals) == 0 {
		t.Error("the refusal was not noted")
	}
}
