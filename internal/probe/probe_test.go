package probe

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TestGoodInstallation: nothing is wrong with what is as it should be, the
// second look proves that the ledger grew, and what was not asked is said.
func TestGoodInstallation(t *testing.T) {
	w := newWorld(t, nil)
	first := w.probe(nil)
	// httptest's certificate is good for decades; ours are not.
	known := []string{"https certificate-end", "devices certificate-end", "console certificate-end"}
	check := func(r *Report) {
		t.Helper()
		for id, came := range outcomes(r, Bad) {
			if !slices.Contains(known, id) {
				t.Errorf("%s: %s", id, came)
			}
		}
		if mute := outcomes(r, Mute); len(mute) > 0 {
			t.Errorf("no answer: %v", mute)
		}
	}
	check(first)
	if first.Connected > maxConns || first.Connected < 40 {
		t.Errorf("%d connections", first.Connected)
	}
	w.grow(500, "entry")
	second := w.probe(nil)
	check(second)
	if came := outcomes(second, Good)["https ledger-memory"]; !strings.HasPrefix(came, "500 entries more") {
		t.Errorf("the second look says of the ledger: %q", came)
	}
	bare := w.probe(func(o *Options) { o.Devices, o.Console, o.LedgerKey, o.State, o.Roots = "", "", "", "", nil })
	for _, want := range []string{"--devices", "--console", "--ledger-key", "--state"} {
		if !slices.ContainsFunc(bare.NotAsked, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("it does not say that %s was not asked", want)
		}
	}
	if came := outcomes(bare, Seen)["https certificate"]; !strings.Contains(came, "not publicly trusted") {
		t.Errorf("without roots it says of the certificate: %q", came)
	}
}

// TestGentle: a server that asks itself makes no wrong try at a credential, and
// says that it did not; and it dials as it is told.
func TestGentle(t *testing.T) {
	dialled := 0
	w := newWorld(t, func(w *world) { w.enrol = http.StatusOK })
	r := w.probe(func(o *Options) {
		o.Gentle = true
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	for _, a := range r.Answers {
		if a.ID == "default-enrolment" || a.ID == "console-users" {
			t.Errorf("asked %s: %s", a.ID, a.Came)
		}
	}
	if dialled != r.Connected || dialled < 40 {
		t.Errorf("%d connections of %d by the given way", dialled, r.Connected)
	}
	if !slices.ContainsFunc(r.NotAsked, func(s string) bool { return strings.Contains(s, "known defaults") }) {
		t.Errorf("it does not say what it left out: %q", r.NotAsked)
	}
}

// TestWhatIsWrongIsSeen spoils one thing at a time.
func TestWhatIsWrongIsSeen(t *testing.T) {
	cases := []struct {
		name   string
		spoil  func(*world)
		change func(*Options)
		want   []string // answers that must be bad
	}{
		{"old TLS", func(w *world) { w.conf.MinVersion = tls.VersionTLS10 }, nil, []string{"https tls-1.1", "https tls-1.0", "devices tls-1.1"}},
		{"weak suites", func(w *world) {
			w.conf = &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}
		}, nil, []string{"https tls-1.2-weak"}},
		{"no TLS 1.3", func(w *world) { w.conf = &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12} }, nil, []string{"https tls-1.3", "https tls-hybrid"}},
		{"no hybrid", func(w *world) { w.conf.CurvePreferences = []tls.CurveID{tls.CurveP256} }, nil, []string{"https tls-hybrid"}},
		{"name", nil, func(o *Options) { o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1) }, []string{"https certificate"}},
		{"expired", nil, func(o *Options) { o.Now = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) } }, []string{"https certificate", "https certificate-end"}},
		{"anonymous devices", func(w *world) { w.mutual, w.mqtt = false, connack }, nil, []string{"devices no-certificate", "devices password", "devices foreign-authority", "devices expired", "devices other-environment"}},
		{"defaults enrol", func(w *world) { w.enrol = http.StatusOK }, nil, []string{"https default-enrolment"}},
		{"security.txt", func(w *world) { w.txt = "Contact: mailto:a@b\nExpires: 2001-01-01T00:00:00Z\n" }, nil, []string{"https security-txt"}},
		{"headers", func(w *world) { w.head.Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'") }, nil, []string{"console console-headers"}},
		{"cookie", func(w *world) { w.head.Set("Set-Cookie", "session=x") }, nil, []string{"console console-headers"}},
		{"default user", func(w *world) { w.answer = func(string) (int, string) { return http.StatusSeeOther, "" } }, nil, []string{"console console-users"}},
		{"users told apart", func(w *world) {
			w.answer = func(user string) (int, string) {
				if strings.HasPrefix(user, "admin@") {
					return http.StatusForbidden, "wrong password"
				}
				return http.StatusForbidden, "no such user"
			}
		}, nil, []string{"console console-users"}},
		{"tiles", func(w *world) {
			w.tile = func(_ string, b []byte) []byte { b[0] ^= 1; return b }
		}, nil, []string{"https tiles"}},
		{"ledger's key", nil, func(o *Options) {
			o.LedgerKey = strings.Replace(o.LedgerKey, "maker", "other", 1)
		}, []string{"https checkpoint"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bad := outcomes(newWorld(t, c.spoil).probe(c.change), Bad)
			for _, id := range c.want {
				if bad[id] == "" {
					t.Errorf("%s is not seen; bad are %v", id, bad)
				}
			}
		})
	}
}

func connack(c *tls.Conn) {
	var b [64]byte
	if _, err := c.Read(b[:]); err == nil {
		_, _ = c.Write([]byte{0x20, 2, 0, 0}) // the probe sees whether it came
	}
}

// TestLyingLedger: a ledger that forgot, forked, was rewritten, or is another
// one is told loudly, both checkpoints are kept, and what was remembered stays.
func TestLyingLedger(t *testing.T) {
	for name, lie := range map[string]func(*world){
		"forgot":    func(w *world) { w.size, w.hashes = 0, nil; w.grow(299, "entry") },
		"forked":    func(w *world) { w.size, w.hashes = 0, nil; w.grow(300, "other") },
		"rewritten": func(w *world) { w.size, w.hashes = 0, nil; w.grow(400, "other") },
		"another":   func(w *world) { w.origin = "maker.example/other" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.probe(nil)
			honest := w.checkpoint()
			lie(w)
			for range 2 {
				r := w.probe(nil)
				if !r.Accuses || outcomes(r, Bad)["https ledger-memory"] == "" {
					t.Errorf("it is not seen: %v", outcomes(r, Bad))
				}
			}
			b, err := os.ReadFile(w.state)
			if err != nil {
				t.Fatal(err)
			}
			var m memories
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			if len(m.Contradictions) != 1 || m.Contradictions[0].Before != honest || m.Contradictions[0].After != w.checkpoint() {
				t.Errorf("kept %d contradictions, want one with both checkpoints", len(m.Contradictions))
			}
			if m.Seen[w.https.URL].Note != honest {
				t.Error("what was remembered is gone")
			}
		})
	}
}

// TestLedgerThatProvesNothing: tiles that are spoilt or missing are no proof of
// growth, and no accusation either.
func TestLedgerThatProvesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.probe(nil)
	w.grow(10, "entry")
	w.tile = func(_ string, b []byte) []byte { return make([]byte, len(b)) }
	r := w.probe(nil)
	if r.Accuses || outcomes(r, Bad)["https ledger-memory"] == "" {
		t.Errorf("accuses %v, bad %v", r.Accuses, outcomes(r, Bad))
	}
}

// TestDamagedState: a state file that a probe did not write is not overwritten.
func TestDamagedState(t *testing.T) {
	w := newWorld(t, nil)
	for _, text := range []string{"", "{}", "null", `{"version":2,"seen":{}}`, strings.Repeat("x", 100)} {
		if err := os.WriteFile(w.state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := w.probe(nil)
		if outcomes(r, Mute)["https ledger-memory"] == "" {
			t.Errorf("%q is taken for a state", text)
		}
		if b, err := os.ReadFile(w.state); err != nil || string(b) != text {
			t.Errorf("%q was overwritten", text)
		}
	}
}

// TestNobodyThere: what does not answer proves nothing, and a probe ends.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{URL: "https://" + addr, Devices: addr, Console: "https://" + addr, Cleartext: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes(r, Mute)["https tls-1.3"] == "" || outcomes(r, Good)["devices no-certificate"] != "" {
		t.Errorf("good: %v", outcomes(r, Good))
	}
	for _, bad := range []string{"http://x", "maker.example", "https://", "https://u:p@x", "https://x?y", "://"} {
		if _, err := Run(t.Context(), Options{URL: bad}); err == nil {
			t.Errorf("%q is asked", bad)
		}
	}
}

// TestClearAnswers: only a refusal or the way to TLS may come in clear.
func TestClearAnswers(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "\x15\x03\x01": true, "HTTP/1.1 400 Bad Request\r\n\r\n": true, "HTTP/1.0 200 OK\r\n\r\nhello": false,
		"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n": true, "HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n": false,
		"HTTP/1.1 500 Oh\r\n\r\n": false, "HTTP/": true,
	} {
		if ok, came := clearAnswer([]byte(text)); ok != want {
			t.Errorf("%q: %v %s", text, ok, came)
		}
	}
}

// TestSecurityTXT goes by RFC 9116.
func TestSecurityTXT(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	plain := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	good := "# ours\nContact: mailto:a@b\nExpires: 2027-01-01T00:00:00Z\n"
	for _, c := range []struct {
		name, text string
		h          http.Header
		ok         bool
	}{
		{"good", good, plain, true},
		{"type", good, http.Header{}, false},
		{"contact", "Expires: 2027-01-01T00:00:00Z\n", plain, false},
		{"no end", "Contact: x\n", plain, false},
		{"two ends", good + "Expires: 2028-01-01T00:00:00Z\n", plain, false},
		{"over", "Contact: x\nExpires: 2026-01-01T00:00:00Z\n", plain, false},
		{"no date", "Contact: x\nExpires: soon\n", plain, false},
	} {
		if why := judgeSecurityTXT(c.h, []byte(c.text), now); (why == "") != c.ok {
			t.Errorf("%s: %q", c.name, why)
		}
	}
}

// TestHello reads the first record of servers.
func TestHello(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		want   Hello
	}{
		"nothing": {"", Hello{}}, "http": {"HTTP/1.1 400 Bad", Hello{}}, "alert": {"\x15\x03\x03\x00\x02\x02\x46", Hello{TLS: true, Refused: true}},
		"short": {"\x16\x03\x03\x00\x30\x02\x00\x00\x2c\x03\x03", Hello{}},
		"psk": {
			"\x16\x03\x03\x00\x38\x02\x00\x00\x34\x03\x03" + strings.Repeat("r", 32) + "\x00\x13\x01\x00\x00\x0c\x00\x2b\x00\x02\x03\x04\x00\x29\x00\x02\x00\x00",
			Hello{TLS: true, Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, PSK: true},
		},
		"retry": {
			"\x16\x03\x03\x00\x32\x02\x00\x00\x2e\x03\x03" + string(retryRandom()) + "\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04",
			Hello{TLS: true, Retry: true},
		},
	} {
		if got := parseHello([]byte(c.record)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x46"))
	f.Add([]byte("\x16\x03\x03\x00\x38\x02\x00\x00\x34\x03\x03" + strings.Repeat("r", 32) + "\x00\x13\x01\x00\x00\x0c\x00\x2b\x00\x02\x03\x04\x00\x29\x00\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := parseHello(b)
		if !h.TLS && h != (Hello{}) {
			t.Errorf("%+v of what is no TLS", h)
		}
		_ = h.String()
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add("Contact: x\nExpires: 2027-01-01T00:00:00Z\n")
	f.Add("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n")
	f.Fuzz(func(_ *testing.T, s string) {
		clearAnswer([]byte(s))
		judgeSecurityTXT(http.Header{"Content-Type": {"text/plain"}}, []byte(s), time.Now())
		judgeHeaders(http.Header{"Content-Security-Policy": {s}, "Set-Cookie": {s}, "Server": {s}})
	})
}

var _ tlog.HashReader = (*world)(nil)
