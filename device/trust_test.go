package device

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func nan() float64 { return math.NaN() }

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wrongServers are servers that a device must not talk to, and why.
func wrongServers(t *testing.T, a *authority) map[string]struct {
	tls  *tls.Config // nil: no TLS at all
	want Reason
} {
	now := time.Now()
	good := a.goodServer(t)
	selfSigned := newAuthority(t) // another maker's installation
	with := func(c tls.Certificate) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}}
	}
	old := with(good)
	old.MaxVersion = tls.VersionTLS12
	bare := good
	bare.Certificate = bare.Certificate[:1]
	return map[string]struct {
		tls  *tls.Config
		want Reason
	}{
		"wrong CA":                  {with(selfSigned.goodServer(t)), ServerForeign},
		"no intermediate":           {with(bare), ServerForeign},
		"expired":                   {with(a.serverCert(t, "127.0.0.1", now.Add(-48*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageServerAuth)), ServerExpired},
		"not valid yet":             {with(a.serverCert(t, "127.0.0.1", now.Add(time.Hour), now.Add(48*time.Hour), x509.ExtKeyUsageServerAuth)), ServerNotYetValid},
		"wrong name":                {with(a.serverCert(t, "gateway.example", now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageServerAuth)), ServerWrongName},
		"wrong address":             {with(a.serverCert(t, "127.0.0.2", now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageServerAuth)), ServerWrongName},
		"a device posing as server": {with(a.serverCert(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageClientAuth)), ServerBadCert},
		"TLS 1.2 only":              {old, ServerOldTLS},
		"no TLS":                    {nil, ServerNotTLS},
	}
}

// listen serves c on loopback, and says how much anybody told it after the
// handshake.
func listen(t *testing.T, c *tls.Config) (addr string, told func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bytes := make(chan int, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if c == nil {
				_, _ = conn.Write([]byte("220 hello, no TLS here\r\n"))
			} else {
				conn = tls.Server(conn, c)
			}
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			b := make([]byte, 4096)
			n, _ := conn.Read(b)
			if c != nil && n > 0 {
				bytes <- n
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String(), func() int { return len(bytes) }
}

// TestWrongServerIsRefused: mission row 3.4, "present a wrong-CA or expired
// server to the agent: it refuses". For both doors, before and after the
// device has an identity, with and without a clock. Nothing is said to a
// wrong server, least of all the enrolment code.
func TestWrongServerIsRefused(t *testing.T) { // CC 3.4
	b := newBench(t)
	enrolled := b.open(t)
	if err := enrolled.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, err := enrolled.keep.all()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range wrongServers(t, b.auth) {
		t.Run(name, func(t *testing.T) {
			addr, told := listen(t, c.tls)

			// The enrolment door.
			cfg := b.cfg
			cfg.StateDir, cfg.EnrolServer = t.TempDir(), addr
			d, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() // a test's device
			_, _, err = d.est.enrol(t.Context(), "code-of-A1")
			isReason(t, err, c.want)
			if err != nil && !strings.Contains(err.Error(), addr) {
				t.Errorf("the error does not name the server: %v", err)
			}

			// The message door.
			d.cfg.Server = addr
			_, end := d.connect(t.Context(), ids[0])
			isReason(t, end.err, c.want)
			if n := told(); n != 0 {
				t.Errorf("the wrong server was told something %d times", n)
			}
		})
	}
	t.Run("the right one", func(t *testing.T) {
		s, end := enrolled.connect(t.Context(), ids[0])
		if end.err != nil {
			t.Fatal(end.err)
		}
		_ = s.conn.Close()
	})
}

// TestRunTellsAboutWrongServer: before the first certificate Run gives up with
// the reason; afterwards it goes on trying, and says why in Status.
func TestRunTellsAboutWrongServer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := newAuthority(t)
	cfg := b.cfg
	cfg.StateDir, cfg.Roots = t.TempDir(), other.bundle()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test's device
	isReason(t, d.Run(t.Context()), ServerForeign)
	if len(b.est.issued) != 0 {
		t.Error("a certificate was issued")
	}

	d = b.open(t)
	if err := d.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.cfg.Server, _ = listen(t, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{other.goodServer(t)}})
	stop := start(t, d)
	eventually(t, "the reason in Status", func() bool { return strings.Contains(d.Status().LastError, "not vouched for") })
	mustSend(t, d, 1) // the device lives on
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if d.Status().Queued != 1 {
		t.Error("a reading is gone")
	}
}

// TestWithoutAClock: a device that starts in 1970 still verifies, at the
// floor or the newest NotBefore of the chain, and sends readings without a
// time.
func TestWithoutAClock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	booted := time.Now()
	b.cfg.Now = func() time.Time { return time.Unix(0, 0).Add(time.Since(booted)) }
	d := b.open(t)
	mustSend(t, d, 3)
	stop := start(t, d)
	eventually(t, "three readings", func() bool { return len(b.mqtt.taken()) == 3 })
	for _, g := range b.mqtt.taken() {
		if strings.Contains(g.Payload, `"t":`) {
			t.Errorf("a reading with a time nobody knows: %s", g.Payload)
		}
	}
	if d.Status().ClockTrusted {
		t.Error("a clock of 1970 is trusted")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The floor is now the server certificate's beginning, an hour ago, also
	// after a restart.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = b.open(t)
	at, trusted := d.clock.read()
	if age := time.Since(at); trusted || age < 30*time.Minute || age > 2*time.Hour {
		t.Errorf("after a restart the time is %s (trusted %t)", at, trusted)
	}
	t.Run("expired before the floor", func(t *testing.T) {
		now := time.Now()
		old := b.auth.serverCert(t, "127.0.0.1", now.Add(-48*time.Hour), now.Add(-3*time.Hour), x509.ExtKeyUsageServerAuth)
		addr, _ := listen(t, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{old}})
		d.cfg.Server = addr
		ids, err := d.keep.all()
		if err != nil {
			t.Fatal(err)
		}
		_, end := d.connect(t.Context(), ids[0])
		isReason(t, end.err, ServerExpired)
	})
	t.Run("foreign", func(t *testing.T) {
		addr, _ := listen(t, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{newAuthority(t).goodServer(t)}})
		d.cfg.Server = addr
		ids, err := d.keep.all()
		if err != nil {
			t.Fatal(err)
		}
		_, end := d.connect(t.Context(), ids[0])
		isReason(t, end.err, ServerForeign)
	})
}

// TestTimeFloor: only what a verified server proves moves the floor; a foreign
// certificate from the future beside a good chain does not.
func TestTimeFloor(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pool, err := parseRoots(a.bundle())
	if err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(5 * 365 * 24 * time.Hour)
	path := filepath.Join(t.TempDir(), "time")
	c := openClock(path, func() time.Time { return time.Unix(0, 0) }, time.Time{})
	tr := &trust{roots: pool, clock: c}
	good := a.goodServer(t)
	leaf, between := mustParse(t, good.Certificate[0]), mustParse(t, good.Certificate[1])
	stranger := newCA(t, "Stranger", nil, elliptic.P256(), future, future.Add(time.Hour)).cert
	if err := tr.verify([]*x509.Certificate{leaf, between, stranger}, "127.0.0.1", "s"); reasonOf(err) != ServerExpired {
		t.Errorf("a certificate from the future moved the time of judgement, but the chain passed: %v", err)
	}
	if at, _ := c.read(); at.After(time.Now()) {
		t.Errorf("the floor moved to %s", at)
	}
	if err := tr.verify([]*x509.Certificate{leaf, between}, "127.0.0.1", "s"); err != nil {
		t.Fatal(err)
	}
	if at, trusted := c.read(); trusted || !at.Equal(leaf.NotBefore) {
		t.Errorf("the floor is %s, want %s", at, leaf.NotBefore)
	}
	// Damaged, the file costs strictness, not the device.
	if err := os.WriteFile(path, []byte("yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	if at, _ := openClock(path, func() time.Time { return time.Unix(0, 0) }, time.Time{}).read(); at.Unix() != neverSet {
		t.Errorf("the floor from a damaged file is %s", at)
	}
	built := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if at, _ := openClock(path, func() time.Time { return time.Unix(0, 0) }, built).read(); !at.Equal(built) {
		t.Errorf("the floor is %s, but the firmware is of %s", at, built)
	}
}

// TestLearnOnlyOwn: of the authorities that a server names, only those under a
// pinned root count, and a root never comes from the network.
func TestLearnOnlyOwn(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	pool, err := parseRoots(a.bundle())
	if err != nil {
		t.Fatal(err)
	}
	tr := &trust{roots: pool, clock: openClock(filepath.Join(t.TempDir(), "time"), time.Now, time.Time{})}
	leaf := mustParse(t, a.goodServer(t).Certificate[0])
	got := tr.learn([]*x509.Certificate{other.root.cert, other.server.cert, a.root.cert, a.device.cert, leaf, a.server.cert})
	if len(got) != 2 || !got[0].Equal(a.device.cert) || !got[1].Equal(a.server.cert) {
		t.Errorf("learnt %d certificates", len(got))
	}
}

// TestClockGoesOn: a clock that was never set tells how much time has passed
// since it was last known how late it is, so that a device without a battery
// renews before its certificate runs out; on disk it moves now and then.
func TestClockGoesOn(t *testing.T) {
	c := openClock(filepath.Join(t.TempDir(), "time"), func() time.Time { return time.Unix(0, 0) }, time.Time{})
	known := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	c.proved(known)
	if at, trusted := c.read(); trusted || at.Sub(known) > time.Minute {
		t.Errorf("at first %s, %t", at, trusted)
	}
	c.since = c.since.Add(-30 * 24 * time.Hour)
	if at, trusted := c.read(); trusted || at.Before(known.Add(30*24*time.Hour)) {
		t.Errorf("after thirty days %s, %t", at, trusted)
	}
	c.proved(known.Add(30 * 24 * time.Hour))
	again := openClock(c.path, c.now, time.Time{})
	if at, _ := again.read(); at.Before(known.Add(30*24*time.Hour)) || at.After(known.Add(31*24*time.Hour)) {
		t.Errorf("after a restart %s", at)
	}
}
