package device

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

func TestFromNothingToReadings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var log bytes.Buffer
	b.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	d := b.open(t)
	mustSend(t, d, 5) // before there is a network or an identity
	stop := start(t, d)
	eventually(t, "five readings", func() bool { return len(b.mqtt.taken()) == 5 })
	mustSend(t, d, 20)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	st := d.Status()
	if !st.Connected || st.Queued != 0 || st.Acked != 25 || st.Sent != 25 || st.Refused != 0 || st.NotAfter.IsZero() || !st.ClockTrusted {
		t.Errorf("status %+v", st)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	wantOnce(t, b.mqtt.taken(), 25)
	eventually(t, "an orderly end", func() bool { return b.mqtt.orderly() == 1 })
	b.mqtt.set(func() {
		if got := fmt.Sprint(b.mqtt.subscribed); got != "[refused]" {
			t.Errorf("subscribed to %s", got)
		}
	})
	g := b.mqtt.taken()[0]
	var m map[string]any
	if err := json.Unmarshal([]byte(g.Payload), &m); err != nil || m["t"] == nil || m["n"] != 0.0 || g.Topic != "telemetry/climate" {
		t.Errorf("reading %+v, %v", g, err)
	}
	if st := d.Status(); st.Connected {
		t.Error("still connected after Run")
	}
	if strings.Contains(log.String(), "code-of-A1") {
		t.Error("the enrolment code is in the log")
	}
}

// TestKeysAreTheOwners: what is on disk is for the device's user alone, and the
// key is there once.
func TestKeysAreTheOwners(t *testing.T) {
	b := newBench(t)
	d := b.open(t)
	if err := d.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Enrol(t.Context()); err != nil { // again is no error and asks nothing
		t.Fatal(err)
	}
	if len(b.est.issued) != 1 {
		t.Errorf("%d certificates were issued, want 1", len(b.est.issued))
	}
	err := filepath.Walk(b.cfg.StateDir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if path != b.cfg.StateDir && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, fi.Mode())
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("code-of-A1")) {
			t.Errorf("%s holds the enrolment code", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecondStartKeepsIdentityAndQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := b.open(t)
	if err := d.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustSend(t, d, 7)
	if _, err := Open(b.cfg); reasonOf(err) != StateInUse {
		t.Errorf("a second process got in: %v", err)
	}
	first := d.Status().Boot
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Send("climate", NewReading(time.Now()).Int("n", 1)); reasonOf(err) != Closed {
		t.Errorf("Send after Close: %v", err)
	}
	b.cfg.EnrolmentCode = nil // not needed any more
	d = b.open(t)
	if st := d.Status(); st.Queued != 7 || st.Boot <= first {
		t.Errorf("second start: %d queued, boot %d after %d", st.Queued, st.Boot, first)
	}
	mustSend(t, d, 3)
	start(t, d)
	eventually(t, "ten readings", func() bool { return len(b.mqtt.taken()) == 10 })
	wantOnce(t, b.mqtt.taken(), 10)
}

// TestAcksAreFinal: a PUBACK takes a reading out of the queue whatever it says,
// and what it says reaches the program.
func TestAcksAreFinal(t *testing.T) {
	for _, code := range []mqtt.ReasonCode{mqtt.PayloadFormatInvalid, mqtt.QuotaExceeded, mqtt.NotAuthorized, mqtt.UnspecifiedError} {
		t.Run(fmt.Sprintf("%#x", uint8(code)), func(t *testing.T) {
			b := newBench(t)
			var mu sync.Mutex
			var refused []Refusal
			b.cfg.Refused = func(r Refusal) { mu.Lock(); defer mu.Unlock(); refused = append(refused, r) }
			b.mqtt.judge = func(p *mqtt.Packet, g got) verdict {
				switch g.Seq {
				case 2:
					return verdict{code: code, reason: "bad-field", notice: &wire.Refusal{Reason: "bad-field", Text: "A field is out of range.", Stream: "climate", PacketID: p.ID, Time: 1}}
				case 3:
					return verdict{code: code}
				case 4:
					return verdict{notice: &wire.Refusal{Reason: "undeclared-field", Stream: "climate", Dropped: true, PacketID: p.ID, Time: 1}}
				case 5:
					return verdict{notice: &wire.Refusal{Reason: "bad-field", Stream: "climate", Count: 7, Time: 1}}
				}
				return verdict{}
			}
			d := b.open(t)
			mustSend(t, d, 5)
			start(t, d)
			eventually(t, "an empty queue", func() bool { return d.Status().Queued == 0 })
			wantOnce(t, b.mqtt.taken(), 5)
			if got := len(b.mqtt.taken()); got != 5 {
				t.Errorf("%d messages were sent, want 5: a refusal was repeated", got)
			}
			if st := d.Status(); st.Refused != 2 || st.Acked != 3 {
				t.Errorf("status %+v", st)
			}
			boot := d.Status().Boot
			want := []Refusal{
				{Via: ByAck, Reason: "bad-field", Text: "A field is out of range.", Stream: "climate", Count: 1, Boot: boot, Seq: 2},
				{Via: ByAck, Reason: fmt.Sprintf("0x%x", uint8(code)), Stream: "climate", Count: 1, Boot: boot, Seq: 3},
				{Via: ByNotice, Reason: "undeclared-field", Stream: "climate", Dropped: true, Count: 1, Boot: boot, Seq: 4},
				{Via: ByNotice, Reason: "bad-field", Stream: "climate", Count: 7},
			}
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(refused) != fmt.Sprint(want) {
				t.Errorf("refused\n got %+v\nwant %+v", refused, want)
			}
		})
	}
}

// TestWindow: never more under way than the server's Receive Maximum allows.
func TestWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	under := make(chan uint16, 1000)
	b.mqtt.connack = func(*x509.Certificate) (mqtt.ReasonCode, uint16) { return mqtt.Success, 3 }
	b.mqtt.judge = func(p *mqtt.Packet, _ got) verdict { under <- p.ID; return verdict{silent: true} }
	d := b.open(t)
	mustSend(t, d, 20)
	start(t, d)
	eventually(t, "a full window", func() bool { return len(under) == 3 })
	time.Sleep(100 * time.Millisecond) // time to do wrong
	if n := len(under); n != 3 {
		t.Errorf("%d messages under way, the server allows 3", n)
	}
	if st := d.Status(); st.Queued != 20 {
		t.Errorf("%d readings left without an ack, want 20", st.Queued)
	}
}

// TestLostAcks: a connection that breaks anywhere loses nothing, and what is
// sent again has its old name.
func TestLostAcks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := 0
	b.mqtt.judge = func(*mqtt.Packet, got) verdict {
		n++
		switch {
		case n%17 == 0:
			return verdict{cut: true}
		case n%13 == 0:
			return verdict{silent: true}
		case n == 30:
			return verdict{bye: mqtt.ServerShuttingDown}
		}
		return verdict{}
	}
	d := b.open(t)
	d.pause = time.Millisecond
	mustSend(t, d, 60)
	stop := start(t, d)
	// The silent ones are only noticed when nothing answers any more: the
	// window fills up with them, and the connection is cut.
	eventually(t, "most messages seen", func() bool {
		done := false
		b.mqtt.set(func() { done = n > 55 })
		if !done && b.mqtt.idle(time.Second) {
			b.mqtt.cut()
		}
		return done
	})
	b.mqtt.set(func() { b.mqtt.judge = nil })
	b.mqtt.cut()
	eventually(t, "an empty queue", func() bool { return d.Status().Queued == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, g := range b.mqtt.taken() {
		seen[g.Seq] = true
	}
	if len(seen) != 60 {
		t.Errorf("%d of 60 readings arrived", len(seen))
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.est.life = 4 * time.Second // renewed at about 2.7 s
	d := b.open(t)
	start(t, d)
	eventually(t, "a session", func() bool { return len(b.mqtt.sessions()) == 1 })
	mustSend(t, d, 10)
	b.est.mu.Lock()
	b.est.life = time.Hour
	b.est.mu.Unlock()
	eventually(t, "a session with the new certificate", func() bool { return len(b.mqtt.sessions()) == 2 })
	mustSend(t, d, 10)
	eventually(t, "twenty readings", func() bool { return d.Status().Queued == 0 })
	wantOnce(t, b.mqtt.taken(), 20)
	s := b.mqtt.sessions()
	if s[0] == s[1] {
		t.Error("the second session used the first certificate")
	}
	ids, err := d.keep.all()
	if err != nil || len(ids) != 1 || ids[0].leaf().SerialNumber.String() != s[1] || !ids[0].proven {
		t.Errorf("on disk: %d identities, %v", len(ids), err)
	}
	if len(b.est.keys) != 2 {
		t.Errorf("%d keys for two certificates", len(b.est.keys))
	}
	if st := d.Status(); st.Renewals != 1 || time.Until(st.NotAfter) < 30*time.Minute {
		t.Errorf("status %+v", st)
	}
	eventually(t, "an orderly end of the old session", func() bool { return b.mqtt.orderly() == 1 })
}

// TestNewCertificateRefused: the old one is still there, and opens.
func TestNewCertificateRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.est.life = 6 * time.Second // renewed at about 4 s
	d := b.open(t)
	var first string
	b.mqtt.refuseCert = func(c *x509.Certificate) error {
		if first == "" {
			first = c.SerialNumber.String()
		}
		if c.SerialNumber.String() != first {
			return errors.New("not this one")
		}
		return nil
	}
	stop := start(t, d)
	eventually(t, "a session", func() bool { return len(b.mqtt.sessions()) == 1 })
	eventually(t, "a renewal and a return to the old certificate", func() bool { return len(b.mqtt.sessions()) >= 2 })
	if s := b.mqtt.sessions(); s[1] != first {
		t.Errorf("second session with %s, want %s", s[1], first)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	ids, err := d.keep.all()
	if err != nil || len(ids) < 2 {
		t.Errorf("%d identities kept, %v: the old one must stay until a new one is proven", len(ids), err)
	}
}

// TestExpiredIsRenewed: a device that slept through its certificate's end
// still gets the next one, if the server allows that, and nothing else.
func TestExpiredIsRenewed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.est.life = time.Second
	d := b.open(t)
	if err := d.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.est.life = time.Hour
	time.Sleep(1500 * time.Millisecond)
	mustSend(t, d, 1)
	start(t, d)
	eventually(t, "a reading under a new certificate", func() bool { return len(b.mqtt.taken()) == 1 })
	if len(b.est.issued) != 2 || len(b.mqtt.sessions()) != 1 || b.mqtt.sessions()[0] != b.est.issued[1] {
		t.Errorf("issued %v, sessions %v", b.est.issued, b.mqtt.sessions())
	}
}

// TestServersReasonIsHonoured: what the server says at the end of a session
// sets how long the device stays away, and is told.
func TestServersReasonIsHonoured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		bye     mqtt.ReasonCode // in a DISCONNECT
		connack mqtt.ReasonCode // in the CONNACK
		least   time.Duration
		want    Reason
	}{
		{"busy", mqtt.ServerBusy, 0, 10 * time.Second, ServerBusy},
		{"quota", mqtt.QuotaExceeded, 0, 10 * time.Second, ServerBusy},
		{"taken over", mqtt.SessionTakenOver, 0, 30 * time.Second, ServerBusy},
		{"not authorised", mqtt.NotAuthorized, 0, time.Minute, IdentityRefused},
		{"refused at once", 0, mqtt.NotAuthorized, time.Minute, IdentityRefused},
		{"busy at once", 0, mqtt.ServerUnavailable, 10 * time.Second, ServerBusy},
		{"shutting down", mqtt.ServerShuttingDown, 0, 2 * time.Second, ServerBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var log syncBuffer
			b.cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
			b.mqtt.connack = func(*x509.Certificate) (mqtt.ReasonCode, uint16) { return c.connack, 0 }
			b.mqtt.judge = func(*mqtt.Packet, got) verdict { return verdict{bye: c.bye} }
			d := b.open(t)
			mustSend(t, d, 1)
			stop := start(t, d)
			var line struct {
				Reason Reason        `json:"reason"`
				Again  time.Duration `json:"again_in"`
			}
			eventually(t, "a word on the end of the session", func() bool {
				for _, l := range strings.Split(log.String(), "\n") {
					if strings.Contains(l, "no session") {
						return json.Unmarshal([]byte(l), &line) == nil
					}
				}
				return false
			})
			if line.Again < c.least || line.Again > 2*c.least || line.Reason != c.want {
				t.Errorf("again in %s for %q, want at least %s for %q", line.Again, line.Reason, c.least, c.want)
			}
			if err := stop(); err != nil { // a long pause does not hold up the end
				t.Error(err)
			}
			if d.Status().Queued != 1 {
				t.Error("the reading is gone")
			}
		})
	}
}

func TestPublishRaw(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mqtt.judge = func(p *mqtt.Packet, _ got) verdict {
		if string(p.Topic) == "devices/B2/telemetry/climate" {
			return verdict{code: mqtt.NotAuthorized}
		}
		return verdict{}
	}
	d := b.open(t)
	if _, err := d.PublishRaw(t.Context(), "telemetry/climate", []byte("{}")); reasonOf(err) != NotConnected {
		t.Errorf("without a session: %v", err)
	}
	start(t, d)
	eventually(t, "a session", func() bool { return d.Status().Connected })
	if code, err := d.PublishRaw(t.Context(), "telemetry/climate", []byte("{}")); code != 0 || err != nil {
		t.Errorf("own topic: %#x, %v", code, err)
	}
	if code, err := d.PublishRaw(t.Context(), "devices/B2/telemetry/climate", []byte("{}")); code != 0x87 || err != nil {
		t.Errorf("another device's topic: %#x, %v", code, err)
	}
	if _, err := d.PublishRaw(t.Context(), "a/#", []byte("{}")); reasonOf(err) != BadReading {
		t.Errorf("no topic: %v", err)
	}
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := b.open(t)
	now := time.Now()
	for _, c := range []struct {
		name, stream string
		r            *Reading
	}{
		{"no field", "climate", NewReading(now)},
		{"nil", "climate", nil},
		{"NaN", "climate", NewReading(now).Float("x", nan())},
		{"integer beyond 2^53", "climate", NewReading(now).Int("x", 1<<53)},
		{"field twice", "climate", NewReading(now).Int("x", 1).Bool("x", true)},
		{"library's field", "climate", NewReading(now).Int("seq", 1)},
		{"not UTF-8", "climate", NewReading(now).String("x", "\xff")},
		{"no name", "climate", NewReading(now).Int("", 1)},
		{"stream with a slash", "a/b", NewReading(now).Int("x", 1)},
		{"stream with a wildcard", "#", NewReading(now).Int("x", 1)},
		{"no stream", "", NewReading(now).Int("x", 1)},
		{"too large", "climate", NewReading(now).String("x", strings.Repeat("y", wire.MaxPayload))},
	} {
		if err := d.Send(c.stream, c.r); reasonOf(err) != BadReading {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if st := d.Status(); st.Queued != 0 {
		t.Errorf("%d readings queued", st.Queued)
	}
}

func TestBadConfig(t *testing.T) {
	b := newBench(t)
	leaf := b.auth.goodServer(t)
	for name, change := range map[string]func(*Config){
		"no serial":         func(c *Config) { c.Serial = "" },
		"serial of a path":  func(c *Config) { c.Serial = "../x" },
		"no server":         func(c *Config) { c.Server = "" },
		"no state folder":   func(c *Config) { c.StateDir = "" },
		"no roots":          func(c *Config) { c.Roots = nil },
		"roots of nothing":  func(c *Config) { c.Roots = []byte("hello") },
		"a leaf as root":    func(c *Config) { c.Roots = encodePEM([]*x509.Certificate{mustParse(t, leaf.Certificate[0])}) },
		"a tiny queue":      func(c *Config) { c.QueueBytes = 1000 },
		"a negative window": func(c *Config) { c.Window = -1 },
		"no keep-alive":     func(c *Config) { c.KeepAlive = time.Millisecond },
	} {
		cfg := b.cfg
		change(&cfg)
		if d, err := Open(cfg); reasonOf(err) != BadConfig {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = d.Close()
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"gateway.example": "gateway.example:8883", "gateway.example:1": "gateway.example:1",
		"10.0.0.1": "10.0.0.1:8883", "::1": "[::1]:8883", "[::1]:9": "[::1]:9",
	} {
		if got, _, err := address(in, 8883); got != want || err != nil {
			t.Errorf("address(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":8883"} {
		if got, _, err := address(in, 8883); err == nil {
			t.Errorf("address(%q) = %q, want an error", in, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, draw := range []float64{0, 0.5, 0.999} {
		b := backoff{first: firstPause, draw: func() float64 { return draw }}
		var last time.Duration
		for i := range 40 {
			d := b.next(0)
			if d < last || d > longestWait || i == 0 && d < firstPause/2 {
				t.Errorf("pause %d after %s is %s", i, last, d)
			}
			last = d
		}
		if last < longestWait/2 {
			t.Errorf("the longest pause is %s", last)
		}
		b.reset()
		if d := b.next(0); d > firstPause {
			t.Errorf("after a good session the pause is %s", d)
		}
		for _, floor := range []time.Duration{refusedWait, time.Hour} {
			if d := b.next(floor); d < floor || d > 2*floor {
				t.Errorf("pause of at least %s is %s", floor, d)
			}
		}
	}
	// Two devices that were cut off together come back apart.
	seen := map[time.Duration]bool{}
	for range 50 {
		b := backoff{first: firstPause, draw: random}
		seen[b.next(0)] = true
	}
	if len(seen) < 45 {
		t.Errorf("50 devices share %d pauses", len(seen))
	}
	for code, least := range map[mqtt.ReasonCode]time.Duration{
		mqtt.Success: 0, mqtt.ServerBusy: 10 * time.Second, mqtt.QuotaExceeded: 10 * time.Second,
		mqtt.SessionTakenOver: 30 * time.Second, mqtt.NotAuthorized: time.Minute, mqtt.ServerMoved: time.Minute,
	} {
		if got := floorFor(code); got != least {
			t.Errorf("least pause after %#x is %s, want %s", uint8(code), got, least)
		}
	}
}
