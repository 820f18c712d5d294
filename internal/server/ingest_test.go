package server

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// poster is a client of the HTTPS door for readings.
type poster struct {
	l  *live
	hc *http.Client
}

func newPoster(l *live, u *unit, t testing.TB) *poster {
	tr := &http.Transport{TLSClientConfig: l.tls(u), DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &poster{l, &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
	reused bool // on a connection of an earlier request
}

func (p *poster) post(t testing.TB, stream, mediaType, body string, headers ...string) reply {
	t.Helper()
	r, err := p.try(stream, mediaType, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *poster) try(stream, mediaType, body string, headers ...string) (reply, error) {
	req, err := http.NewRequest("POST", "https://"+p.l.addr.HTTPS+"/device/v1/telemetry/"+stream, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", mediaType)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	var r reply
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { r.reused = i.Reused }}))
	resp, err := p.hc.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r.status, r.header, r.body = resp.StatusCode, resp.Header, string(b)
	return r, err
}

// want fails unless the reply has the status, and for a problem the reason.
func (r reply) want(t testing.TB, what string, status int, reason string) {
	t.Helper()
	var p struct {
		Status         int
		Reason, Detail string
	}
	if r.status != status {
		t.Errorf("%s: status %d, want %d: %s", what, r.status, status, r.body)
		return
	}
	if status == http.StatusOK {
		return
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" || p.Status != status || p.Reason != reason || p.Detail == "" {
		t.Errorf("%s: %s %s, want the problem %q that says what to do (%v)", what, r.header.Get("Content-Type"), r.body, reason, err)
	}
	if (status == 429 || status == 503) && r.header.Get("Retry-After") == "" {
		t.Errorf("%s: no Retry-After", what)
	}
}

// stored waits until a device has so many readings, and not more a moment later.
func (l *live) stored(t testing.TB, id core.DeviceID, n int) []api.ReadLine {
	t.Helper()
	var lines []api.ReadLine
	waitFor(t, 20*time.Second, fmt.Sprintf("%d readings", n), func() bool {
		var err error
		lines, err = l.readAll(t, id)
		return err == nil && len(lines) >= n
	})
	if len(lines) != n {
		t.Errorf("%d readings are stored, want %d", len(lines), n)
	}
	return lines
}

const jsonType = "application/json"

// TestIngest: a batch over HTTPS is judged like messages over MQTT, answered
// reading by reading, and what it stored is read back.
func TestIngest(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	p := newPoster(l, u, t)

	r := p.post(t, "climate", jsonType, ` [{"temp":1,"stray":"x"}, {"temp":"hot"} ,{"temp":3,"note":"a ] } \" , b"},7,{"temp":1]}]`)
	r.want(t, "a broken array", 400, "batch-json")
	r = p.post(t, "climate", jsonType, ` [{"temp":1,"stray":"x"}, {"temp":"hot"} ,{"temp":3,"note":"a ] } \" , b"},7]`)
	if want := `{"accepted":2,"dropped":0,"refused":[{"index":1,"reason":"nothing-left"},{"index":3,"reason":"not-object"}]}`; r.status != 200 || r.body != want {
		t.Fatalf("answer %d %s\nwant %s", r.status, r.body, want)
	}
	p.post(t, "climate", jsonType, `{"temp":4}`).want(t, "one object", 200, "")
	p.post(t, "climate", "application/x-ndjson", "{\"temp\":5}\r\n\n{\"temp\":6}\n").want(t, "lines", 200, "")
	for _, line := range l.stored(t, "A1", 5) {
		if b, _ := json.Marshal(line); bytes.Contains(b, []byte("stray")) {
			t.Errorf("an undeclared field was stored: %s", b)
		}
	}

	p.post(t, "nothing", jsonType, `{"temp":4}`).want(t, "an unknown stream", 404, "unknown-stream")
	p.post(t, "climate%2F..%2Fstate", jsonType, `{"temp":4}`).want(t, "another topic", 404, "wrong-topic")
	p.post(t, "climate", "text/plain", `{"temp":4}`).want(t, "a form that is not taken", 415, "media-type")
	p.post(t, "climate", jsonType, "x", "Content-Encoding", "gzip").want(t, "a compressed body", 415, "content-encoding")
	p.post(t, "climate", jsonType, "[]").want(t, "no reading", 400, "batch-empty")
	p.post(t, "climate", jsonType, "["+strings.Repeat("{},", 1000)+"{}]").want(t, "1,001 readings", 413, "batch-readings")
	p.post(t, "climate", jsonType, strings.Repeat(" ", 1<<20+1)).want(t, "a body over 1 MiB", 413, "body-size")
	newPoster(l, nil, t).post(t, "climate", jsonType, `{"temp":4}`).want(t, "no certificate", 401, "no-certificate")

	other := start(t, newHome(t, core.Test, ""))
	other.publish(t, testDeclaration)
	foreign := other.enrol(t, "A1")
	newPoster(l, foreign, t).post(t, "climate", jsonType, `{"temp":4}`).want(t, "another installation's certificate", 403, "foreign-authority")

	// Revoked while its connection is kept alive.
	p.post(t, "climate", jsonType, `{"temp":7}`)
	if r := p.post(t, "climate", jsonType, `{"temp":7}`); !r.reused || r.status != 200 {
		t.Fatalf("before: reused %v, %d %s", r.reused, r.status, r.body)
	}
	l.call(t, "POST", "/v1/devices/A1/revoke", api.ReasonRequest{Reason: "stolen"}, nil)
	r = p.post(t, "climate", jsonType, `{"temp":8}`)
	if r.want(t, "revoked", 403, "revoked"); !r.reused {
		t.Error("the connection was another one: this test tests nothing")
	}
}

// TestIngestIdempotency: the same request with the same key has one answer and
// is stored once, also after a restart, and also when nothing was kept of the
// first answer.
func TestIngestIdempotency(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	p := newPoster(l, u, t)
	const body = `[{"temp":1},{"temp":1},{"temp":2,"boot":1,"seq":1},{"stray":1}]`
	first := p.post(t, "climate", jsonType, body, "Idempotency-Key", `"k-1"`)
	first.want(t, "the first", 200, "")
	if again := p.post(t, "climate", jsonType, body, "Idempotency-Key", "k-1"); again.body != first.body || again.status != 200 {
		t.Errorf("again: %d %s, want %s", again.status, again.body, first.body)
	}
	p.post(t, "climate", jsonType, `{"temp":9}`, "Idempotency-Key", "k-1").want(t, "another body", 422, "idempotency-key-reused")
	p.post(t, "climate", jsonType, body, "Idempotency-Key", strings.Repeat("k", 65)).want(t, "a long key", 400, "idempotency-key")
	p.post(t, "climate", jsonType, body, "Idempotency-Key", "a b").want(t, "a key with a space", 400, "idempotency-key")
	numbered := 0
	for _, line := range l.stored(t, "A1", 3) {
		if line.Boot != nil {
			numbered++
		}
	}
	if numbered != 1 {
		t.Errorf("%d readings are shown with a number, want the one whose device gave one", numbered)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	l = start(t, home)
	p = newPoster(l, u, t)
	if again := p.post(t, "climate", jsonType, body, "Idempotency-Key", "k-1"); again.body != first.body || again.status != 200 {
		t.Errorf("after a restart: %d %s, want %s", again.status, again.body, first.body)
	}
	p.post(t, "climate", jsonType, `{"temp":9}`, "Idempotency-Key", "k-1").want(t, "another body after a restart", 422, "idempotency-key-reused")
	l.stored(t, "A1", 3)
	// Without a key nothing says that it is the same.
	p.post(t, "climate", jsonType, body).want(t, "without a key", 200, "")
	l.stored(t, "A1", 5)
}

// TestIngestRate: both doors take from one rate.
func TestIngestRate(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, strings.Replace(testDeclaration, "every: 10ms, burst: 1000", "every: 1h, burst: 20", 1))
	u := l.enrol(t, "A1")
	p := newPoster(l, u, t)
	c := dialMQTT(t, l, u)
	defer c.close(t)
	batch := "[" + strings.TrimSuffix(strings.Repeat(`{"temp":1},`, 15), ",") + "]"
	p.post(t, "climate", jsonType, batch).want(t, "15 of 20", 200, "")
	p.post(t, "climate", jsonType, batch).want(t, "30 of 20", 429, "rate")
	for i := range 5 {
		if code, err := c.try("telemetry/climate", `{"temp":2}`); err != nil || code != 0 {
			t.Fatalf("MQTT, %d of 5: %#x, %v", i, code, err)
		}
	}
	if code, err := c.try("telemetry/climate", `{"temp":2}`); code != 0x97 {
		t.Errorf("MQTT after the rate was used at both doors: %#x, %v, want 0x97", code, err)
	}
	p.post(t, "climate", jsonType, `{"temp":1}`).want(t, "one more", 429, "rate")
	l.stored(t, "A1", 20)
}

// TestIngestSlowBody: a body that never ends is cut and stores nothing.
func TestIngestSlowBody(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	conn, err := tls.Dial("tcp", l.addr.HTTPS, l.tls(u))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /device/v1/telemetry/climate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
	go func() { // 4 MiB without an end
		piece := "10000\r\n" + strings.Repeat(" ", 1<<16) + "\r\n"
		for range 64 {
			if _, err := io.WriteString(conn, piece); err != nil {
				return
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(40 * time.Second)) // the read tells
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 413" {
		t.Errorf("an endless body: %q, %v", head, err)
	}
}

// TestIngestCurl: an outside client, HTTP/1.1 because that is what is offered.
func TestIngestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	file := t.TempDir() + "/batch.ndjson"
	if err := os.WriteFile(file, []byte("{\"temp\":1}\n{\"temp\":2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "--http2", "--cert", u.certFile, "--key", u.keyFile, "--cacert", u.rootsFile,
		"-H", "Content-Type: application/x-ndjson", "-H", "Idempotency-Key: batch-1", "--data-binary", "@"+file,
		"-w", " %{http_version} %{http_code}", "https://"+l.addr.HTTPS+"/device/v1/telemetry/climate").CombinedOutput()
	if want := `{"accepted":2,"dropped":0,"refused":[]} 1.1 200`; err != nil || string(out) != want {
		t.Errorf("curl: %v: %s\nwant %s", err, out, want)
	}
	l.stored(t, "A1", 2)
}
