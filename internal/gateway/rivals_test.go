package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// goodbye is how a client ends a connection that was taken from it.
type goodbye uint8

const (
	byTLS goodbye = iota // as most do: close_notify, then the end of TCP
	byTCP                // as some do: the end of TCP alone
)

// holder is somebody with a certificate who wants its session: whenever it is
// taken from him, he takes it back.
type holder struct {
	cert tls.Certificate
	v    mqtt.Version
	from string // his address; empty: the usual one
	bye  goodbye
}

func (h holder) dialer() *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if h.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(h.from)}
	}
	return d
}

// open takes the session.
func (h holder) open(d *door, addr string) (*client, net.Conn, error) {
	raw, err := h.dialer().Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	c := &client{t: d.t, c: tls.Client(raw, d.config(h.cert)), v: h.v}
	b, err := mqtt.Append(nil, h.v, &mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: h.v, CleanStart: true, KeepAlive: 60, ClientID: []byte("x")}})
	if err == nil {
		_, err = c.c.Write(b)
	}
	if err == nil {
		c.ack, err = c.next(10 * time.Second)
	}
	if err == nil && c.ack.Code != mqtt.Success {
		err = errors.New("refused")
	}
	if err != nil {
		_ = raw.Close() // the error above is the one to tell
		return nil, nil, err
	}
	return c, raw, nil
}

// insist keeps taking the session until stop is closed.
func (h holder) insist(d *door, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(30 * time.Millisecond):
		}
		c, raw, err := h.open(d, d.addr)
		if err != nil {
			continue
		}
		end := time.AfterFunc(20*time.Second, func() { _ = raw.Close() })
		go func() {
			<-stop
			_ = raw.Close() // wakes the reader
		}()
		for {
			if p, err := c.next(20 * time.Second); err != nil || p.Type == mqtt.DISCONNECT {
				break
			}
		}
		end.Stop()
		if h.bye == byTLS {
			_ = c.c.Close() // it is over either way
		}
		_ = raw.Close() // it is over either way
	}
}

// fight lets two holders insist until done says so, or a while has passed.
func fight(t *testing.T, d *door, a, b holder, within time.Duration, done func() bool) {
	t.Helper()
	stop := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { a.insist(d, stop) })
	both.Go(func() { b.insist(d, stop) })
	for end := time.Now().Add(within); !done() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	both.Wait()
}

func (d *door) suspected(id core.DeviceID) bool {
	d.t.Helper()
	return d.deviceState(id) == identity.StateQuarantined
}

// Two machines with the certificate that is good now take the session from
// each other for ever: the device is put in quarantine, and the ledger says
// why (CC 3.2).
func TestTwoHoldersOfOneCertificateAreFound(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b holder
	}{
		{"5.0", holder{v: mqtt.V5}, holder{v: mqtt.V5}},
		{"3.1.1", holder{v: mqtt.V311}, holder{v: mqtt.V311}},
		{"3.1.1 against 5.0", holder{v: mqtt.V311}, holder{v: mqtt.V5}},
		{"without the end of TLS, from two places", holder{v: mqtt.V5, bye: byTCP}, holder{v: mqtt.V5, bye: byTCP, from: "127.0.0.2"}},
		{"the same in 3.1.1", holder{v: mqtt.V311, bye: byTCP}, holder{v: mqtt.V311, bye: byTCP, from: "127.0.0.2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.b.from != "" && !canDialFrom(t, c.b.from) {
				t.Skipf("this machine has no address %s", c.b.from)
			}
			d := newDoor(t)
			c.a.cert = d.enrol("A1")
			c.b.cert = c.a.cert
			fight(t, d, c.a, c.b, 40*time.Second, func() bool { return d.suspected("A1") })
			if !d.suspected("A1") {
				t.Fatalf("after %d take-overs nobody has noticed", d.g.Stats().TakeOvers)
			}
			dev := must[identity.Device](t)(d.ids.Device("A1"))
			if dev.Suspicion != rivalsReason {
				t.Errorf("suspicion %q", dev.Suspicion)
			}
			if n := d.records(identity.RecordQuarantined); n != 1 {
				t.Errorf("%d records of the quarantine, want 1", n)
			}
			if s := d.g.Stats(); s.Rivals == 0 {
				t.Error("not counted")
			}
		})
	}
}

func canDialFrom(t *testing.T, ip string) bool {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return false
	}
	_ = l.Close() // it was only to see
	return true
}

// records counts the ledger's records of a kind.
func (d *door) records(kind core.RecordKind) (n int) {
	d.t.Helper()
	err := d.store.View(d.t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(d.t.Context(), 10_000)
		for i := range pending {
			r, err := ledger.ParseLeaf(pending[i].Leaf)
			if err != nil {
				return err
			}
			if r.Kind == kind {
				n++
			}
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// innocent waits until every old connection was looked at, and says whether
// the device kept its good name.
func (d *door) innocent(t *testing.T, takeOvers uint64) {
	t.Helper()
	eventually(t, "all old connections are closed", func() bool { s := d.g.Stats(); return s.Open <= s.Sessions })
	if s := d.g.Stats(); s.TakeOvers < takeOvers || s.Rivals != 0 {
		t.Errorf("%d take-overs, want at least %d; found to be fought over: %d", s.TakeOvers, takeOvers, s.Rivals)
	}
	if d.suspected("A1") {
		t.Error("an honest device is in quarantine")
	}
}

// An honest device that comes back again and again, because its network or its
// address went away and the server has not noticed, is never accused.
func TestHonestDevicesAreNotAccused(t *testing.T) {
	const losses = 2*rivalTakeOvers + 2
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		// The old connection is open, and nobody is at its other end.
		t.Run("lost "+v.String(), func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			cert := d.enrol("A1")
			for range losses {
				d.connect(cert, v, "x")
			}
			d.innocent(t, losses-1)
		})
		// The same, with another address each time: two networks, or a NAT that
		// forgets.
		t.Run("roaming "+v.String(), func(t *testing.T) {
			t.Parallel()
			if !canDialFrom(t, "127.0.0.2") {
				t.Skip("this machine has no address 127.0.0.2")
			}
			d := newDoor(t)
			cert := d.enrol("A1")
			for i := range losses {
				h := holder{cert: cert, v: v, from: []string{"127.0.0.1", "127.0.0.2"}[i%2]}
				_, raw, err := h.open(d, d.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = raw.Close() }) // the server has closed it long ago
			}
			d.innocent(t, losses-1)
		})
		// A proxy or a mobile operator ends TCP for the device that is gone, as
		// soon as it cannot hand on what the server says.
		t.Run("behind a proxy "+v.String(), func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			cert := d.enrol("A1")
			p := newProxy(t, d.addr)
			for range losses {
				h := holder{cert: cert, v: v}
				_, raw, err := h.open(d, p.addr)
				if err != nil {
					t.Fatal(err)
				}
				p.lose() // what is open now
				t.Cleanup(func() { _ = raw.Close() })
			}
			d.innocent(t, losses-1)
		})
		// A server that does not read for a while: its client loses patience,
		// says goodbye as it should, and comes anew. The server finds the goodbye
		// only after the take-over.
		t.Run("impatient "+v.String(), func(t *testing.T) {
			t.Parallel()
			slow := &stalling{}
			d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { slow.Intake = deps.Intake; deps.Intake = slow } })
			cert := d.enrol("A1")
			for i := range losses {
				slow.stall()
				c := d.connect(cert, v, "x")
				c.publish(1, "telemetry/light", level(i))
				eventually(t, "the server is busy", slow.busy)
				_ = c.c.Close() // in good order; nobody reads it yet
				next := make(chan *client)
				go func() { next <- d.tryConnect(cert, v, "x") }()
				eventually(t, "the session is taken over", func() bool { return d.g.Stats().TakeOvers > uint64(i) })
				slow.free()
				n := <-next
				n.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
				n.closed()
				eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
				d.advance(time.Minute)
			}
			d.innocent(t, losses)
		})
	}
}

// A row is broken by one take-over at which nobody was there, and by a death
// of silence; and what lies far apart is no row.
func TestOnlyARowAccuses(t *testing.T) {
	here, there, third := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("203.0.113.1/32")
	six := netip.MustParsePrefix("2001:db8::/64")
	type step struct {
		a       answer
		old, by netip.Prefix
	}
	spoke := step{answerSpoke, here, here}
	turn, back := step{answerClosed, here, there}, step{answerClosed, there, here}
	for _, c := range []struct {
		name  string
		every time.Duration
		steps []step
		want  bool
	}{
		{"five in a row", time.Minute, []step{spoke, spoke, spoke, spoke, spoke}, true},
		{"four", time.Minute, []step{spoke, spoke, spoke, spoke}, false},
		{"one between at which nobody was there", time.Minute, []step{spoke, spoke, spoke, spoke, {answerNone, here, here}, spoke, spoke, spoke, spoke}, false},
		{"too far apart", 20 * time.Minute, []step{spoke, spoke, spoke, spoke, spoke, spoke, spoke}, false},
		{"two places in turn", time.Minute, []step{turn, back, turn, back, turn}, true},
		{"one place, ends of TCP", time.Minute, []step{{answerClosed, here, here}, {answerClosed, here, here}, {answerClosed, here, here}, {answerClosed, here, here}, {answerClosed, here, here}}, false},
		{"three places", time.Minute, []step{turn, {answerClosed, there, third}, {answerClosed, third, here}, turn, {answerClosed, there, third}, {answerClosed, third, here}}, false},
		{"both families of one device", time.Minute, []step{{answerClosed, here, six}, {answerClosed, six, here}, {answerClosed, here, six}, {answerClosed, six, here}, {answerClosed, here, six}}, false},
		{"one side is silent", time.Minute, []step{turn, {answerNone, there, here}, turn, {answerNone, there, here}, turn, {answerNone, there, here}, turn}, false},
	} {
		var r rivals
		got := false
		for i, s := range c.steps {
			got = r.note(s.a, s.old, s.by, int64(i)*int64(c.every)) || got
		}
		if got != c.want {
			t.Errorf("%s: accused %v, want %v", c.name, got, c.want)
		}
	}
	d := &device{}
	for range rivalTakeOvers - 1 {
		d.rivals.note(answerSpoke, here, here, 0)
	}
	d.calm()
	if d.rivals.note(answerSpoke, here, here, 0) {
		t.Error("a death of silence does not break the row")
	}
}

// stalling is the real intake, which takes its time when told to.
type stalling struct {
	Intake
	mu   sync.Mutex
	gate chan struct{}
	in   bool
}

func (s *stalling) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate, s.in = make(chan struct{}), false
}

func (s *stalling) free() { close(s.gate) }

func (s *stalling) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}

func (s *stalling) Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict {
	s.mu.Lock()
	gate := s.gate
	s.in = true
	s.mu.Unlock()
	<-gate
	return s.Intake.Message(src, stream, payload, c, token)
}

// proxy hands bytes on, and ends the server's side of a connection whose
// device is gone as soon as it cannot.
type proxy struct {
	addr string
	mu   sync.Mutex
	gone map[net.Conn]bool // device's side
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	p := &proxy{addr: l.Addr().String(), gone: map[net.Conn]bool{}}
	var work sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	work.Go(func() {
		for {
			dev, err := l.Accept()
			if err != nil {
				return
			}
			srv, err := net.Dial("tcp", to)
			if err != nil {
				_ = dev.Close() // nowhere to go
				continue
			}
			p.mu.Lock()
			p.gone[dev] = false
			p.mu.Unlock()
			work.Go(func() {
				_, _ = io.Copy(srv, dev) // ends with either side
				_ = srv.Close()          // wakes the other direction
			})
			work.Go(func() {
				defer srv.Close()
				defer dev.Close()
				b := make([]byte, 4096)
				for {
					n, err := srv.Read(b)
					if err != nil {
						return
					}
					p.mu.Lock()
					gone := p.gone[dev]
					p.mu.Unlock()
					if gone {
						return
					}
					if _, err := dev.Write(b[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return p
}

// lose makes every device that is connected now unreachable.
func (p *proxy) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.gone {
		p.gone[c] = true
	}
}
