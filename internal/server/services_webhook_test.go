package server

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/services"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// hook is a service that is posted to.
type hook struct {
	mu     sync.Mutex
	t      *testing.T
	secret string
	answer int // status; 0: 204
	posts  int
	bytes  string
	seen   map[string]int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	h.posts++
	h.bytes += string(body)
	secret, _ := hex.DecodeString(h.secret)
	at, err := strconv.ParseInt(r.Header.Get("Hawser-Timestamp"), 10, 64)
	if err != nil || r.Header.Get("Hawser-Signature") != services.Signature(secret, at, body) || r.Header.Get("Hawser-Product") != "test-sensor" {
		h.t.Errorf("a post with the head %v", r.Header)
	}
	if h.answer != 0 {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(h.answer)
		return
	}
	for line := range strings.Lines(string(body)) {
		var x readers.Line
		if json.Unmarshal([]byte(line), &x) == nil && x.Type == "reading" {
			h.seen[string(x.Values)]++
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *hook) at(status int) { h.mu.Lock(); h.answer = status; h.mu.Unlock() }

func (h *hook) got() (posts, readings int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.posts, len(h.seen)
}

// TestServiceWebhook: pages are posted with a signature until each is taken, in
// spite of errors, and redirections lead nowhere.
func TestServiceWebhook(t *testing.T) {
	h := &hook{t: t, seen: map[string]int{}}
	srv := httptest.NewTLSServer(h)
	defer srv.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, s, shift := innerWith(t, "webhook_roots: "+roots+"\ninsecure_private_webhooks: true\n")
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	l.service(t, "other")
	for _, bad := range []string{"http://127.0.0.1/", "https://", "https://user@app.example/", "ftp://x/", "https://x/#f", "//x"} {
		if err := s.services.readers.SetWebhook(t.Context(), core.Job("test"), "other", bad); err == nil {
			t.Errorf("%q is taken as a webhook", bad)
		}
	}
	var w api.ServiceWebhook
	l.call(t, "POST", "/v1/services/other/webhook", api.ServiceWebhookRequest{URL: srv.URL + "/hawser"}, &w)
	h.mu.Lock()
	h.secret, h.answer = w.Secret, http.StatusInternalServerError
	h.mu.Unlock()
	p := newPoster(l, u, t)
	for i := range 5 {
		p.post(t, "climate", jsonType, fmt.Sprintf(`{"note":"n%d","secret":777}`, i)).want(t, "a reading", 200, "")
	}
	waitFor(t, 20*time.Second, "a post that is not taken", func() bool { n, _ := h.got(); return n > 0 })
	h.at(http.StatusTemporaryRedirect)
	shift.Add(int64(time.Minute)) // its back-off is over
	before, _ := h.got()
	waitFor(t, 20*time.Second, "a post that is sent elsewhere", func() bool { n, _ := h.got(); return n > before })
	if since, why := s.services.readers.NotTaken("other"); since.IsZero() || why == nil {
		t.Error("nobody knows that the webhook takes nothing")
	}
	h.at(0)
	shift.Add(int64(time.Hour))
	waitFor(t, 20*time.Second, "all five", func() bool { _, n := h.got(); return n >= 5 })
	h.mu.Lock()
	if strings.Contains(h.bytes, "secret") || strings.Contains(h.bytes, ":777") || strings.Contains(h.bytes, "temp") {
		t.Errorf("a field that is not its own was posted: %s", h.bytes)
	}
	h.mu.Unlock()
	l.call(t, "POST", "/v1/services/other/revoke", api.RevokeServiceRequest{Cause: "replaced"}, nil)
	time.Sleep(100 * time.Millisecond)
	before, _ = h.got()
	p.post(t, "climate", jsonType, `{"note":"after"}`).want(t, "a reading", 200, "")
	time.Sleep(2*webhookEvery + time.Second)
	if n, _ := h.got(); n != before {
		t.Error("a revoked service is posted to")
	}
}

// TestServiceWebhookStaysOutside: without the key that says so, no post goes to
// this machine or a private network.
func TestServiceWebhookStaysOutside(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was dialled") }))
	defer srv.Close()
	p := services.NewPoster(func(string) []byte { return nil }, nil, false, time.Now)
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "https://"), ":")
	for _, to := range []string{srv.URL, "https://localhost:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://10.0.0.1:1/"} {
		if err := p.Post(t.Context(), to, "other", "test-sensor", &readers.Page{}); err == nil || !strings.Contains(err.Error(), "not a public one") {
			t.Errorf("%s: %v", to, err)
		}
	}
}
