package probe

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/ledger"
)

// world is an installation that is as it should be, with places to spoil it.
// The hashing of its ledger is x/mod's.
type world struct {
	t       *testing.T
	origin  string
	key     ed25519.PrivateKey
	hashes  []tlog.Hash
	size    int64
	head    http.Header // of the console, changed by a test
	enrol   int         // status of an enrolment
	txt     string      // security.txt
	answer  func(user string) (int, string)
	mqtt    func(*tls.Conn) // what the devices' door does after a handshake
	mutual  bool            // the devices' door asks for a certificate
	tile    func(path string, b []byte) []byte
	https   *httptest.Server
	devices net.Listener
	conf    *tls.Config // of all doors
	state   string
}

func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	w := &world{
		t: t, origin: "maker.example/log", key: ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))), enrol: http.StatusUnauthorized,
		head: http.Header{
			"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"}, "Strict-Transport-Security": {"max-age=1"},
			"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"},
		},
		txt:    "Contact: mailto:security@maker.example\nExpires: 2999-01-01T00:00:00Z\n",
		answer: func(user string) (int, string) { return http.StatusForbidden, "no: " + user },
		mqtt:   func(*tls.Conn) {}, mutual: true, conf: &tls.Config{MinVersion: tls.VersionTLS13},
		state: filepath.Join(t.TempDir(), "state.json"),
	}
	w.grow(300, "entry")
	if change != nil {
		change(w)
	}
	w.https = httptest.NewUnstartedServer(w)
	w.https.TLS = w.conf.Clone()
	w.https.Config.ErrorLog = log.New(io.Discard, "", 0) // it says what was asked; the test knows
	w.https.StartTLS()
	t.Cleanup(w.https.Close)
	conf := w.https.TLS.Clone()
	conf.NextProtos = nil
	if w.mutual {
		conf.ClientAuth = tls.RequireAnyClientCert
		conf.VerifyConnection = func(tls.ConnectionState) error { return errors.New("nobody is known here") }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.devices = l
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, conf)
			if s.Handshake() == nil {
				w.mqtt(s)
			}
			_ = s.Close() // whoever asked has its answer
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return w
}

func (w *world) ReadHashes(is []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(is))
	for i, x := range is {
		if x >= int64(len(w.hashes)) {
			return nil, errors.New("no such hash")
		}
		out[i] = w.hashes[x]
	}
	return out, nil
}

func (w *world) grow(n int, kind string) {
	for range n {
		hs, err := tlog.StoredHashes(w.size, fmt.Appendf(nil, "%s %d", kind, w.size), w)
		if err != nil {
			w.t.Fatal(err)
		}
		w.hashes = append(w.hashes, hs...)
		w.size++
	}
}

func (w *world) verifier() string {
	return ledger.VerifierKey(w.origin, w.key.Public().(ed25519.PublicKey))
}

func (w *world) checkpoint() string {
	root, err := tlog.TreeHash(w.size, w)
	if err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", w.origin, w.size, base64.StdEncoding.EncodeToString(root[:]))
	var id uint32
	if _, err := fmt.Sscanf(w.verifier()[len(w.origin)+1:], "%08x", &id); err != nil {
		w.t.Fatal(err)
	}
	sig := append(binary.BigEndian.AppendUint32(nil, id), ed25519.Sign(w.key, []byte(text))...)
	return text + "\n— " + w.origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

func (w *world) ServeHTTP(a http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/checkpoint":
		_, _ = io.WriteString(a, w.checkpoint()) // the probe sees whether it came
	case strings.HasPrefix(path, "/tile/"):
		ref, err := ledger.ParseTilePath(strings.TrimPrefix(path, "/tile/"))
		if err != nil {
			http.NotFound(a, r)
			return
		}
		b, err := tlog.ReadTileData(tlog.Tile{H: 8, L: ref.Level, N: int64(ref.N), W: ref.Width}, w)
		if err != nil {
			http.NotFound(a, r)
			return
		}
		if w.tile != nil {
			b = w.tile(path, b)
		}
		_, _ = a.Write(b) // the probe sees whether it came
	case path == "/.well-known/security.txt" && w.txt != "":
		a.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(a, w.txt) // the probe sees whether it came
	case strings.HasPrefix(path, "/.well-known/est/"):
		a.WriteHeader(w.enrol)
	case path == "/sign-in":
		for k, v := range w.head {
			a.Header()[k] = v
		}
	case path == "/sign-in/password":
		status, text := w.answer(r.PostFormValue("mail"))
		if status >= 300 && status < 400 {
			a.Header().Set("Location", "/")
		}
		a.WriteHeader(status)
		_, _ = io.WriteString(a, text) // the probe sees whether it came
	case path == "/":
		http.Redirect(a, r, "/sign-in", http.StatusSeeOther)
	default:
		http.NotFound(a, r)
	}
}

func (w *world) options() Options {
	roots := x509.NewCertPool()
	roots.AddCert(w.https.Certificate())
	return Options{
		URL: w.https.URL, Devices: w.devices.Addr().String(), Console: w.https.URL, Roots: roots, LedgerKey: w.verifier(), State: w.state,
		Cleartext: []string{}, Now: time.Now,
	}
}

func (w *world) probe(change func(*Options)) *Report {
	w.t.Helper()
	o := w.options()
	if change != nil {
		change(&o)
	}
	r, err := Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// outcomes are the ids of all answers of an outcome, door and id, once each.
func outcomes(r *Report, o Outcome) map[string]string {
	out := map[string]string{}
	for _, a := range r.Answers {
		if a.Outcome == o {
			out[a.Door+" "+a.ID] = a.Came
		}
	}
	return out
}
