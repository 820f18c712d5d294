package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hawser-iot/hawser/internal/check"
)

// doorChecks hold that nothing of ours can be reached without TLS (CC 2.8).
func (s *server) doorChecks() []check.Check {
	return []check.Check{{
		ID: "doors.cleartext", Version: 1, Rows: []string{"2.8", "5.10"}, Kind: check.Query, MaxAge: check.Critical,
		Says: "Every port that this program listens on speaks TLS, no older than declared, and nothing on this machine speaks MQTT without it.",
		Do:   "Find out with `ss -ltnp` which program opened the port, and end it; this program opens no door without TLS.",
		Look: s.lookAtDoors,
		Violations: []check.Violation{
			{ID: "mqtt-in-clear", Says: "Opens a listener beside the server that answers an MQTT CONNECT without TLS.", Do: listenInClear},
			{ID: "old-tls", Says: "Opens a listener beside the server that speaks TLS 1.1.", Do: listenOldTLS},
		},
	}}
}

// doorWait bounds what one port may take to answer that may have nothing to
// say. ownWait bounds what a door of ours may take, on a machine that has much
// else to do: that it is slow is no finding.
const (
	doorWait = 2 * time.Second
	ownWait  = 6 * time.Second
)

// maxForeignPorts bounds how many ports of others are asked in one look.
const maxForeignPorts = 64

func (s *server) lookAtDoors(ctx context.Context, l *check.Look) error {
	all, err := s.sockets.listeners()
	if err != nil {
		return err
	}
	l.Touch("file", "/proc/net/tcp, /proc/net/tcp6")
	doors := []string{s.addr.Devices, s.addr.HTTPS}
	if a := s.people.address(); a != "" {
		doors = append(doors, a)
	}
	if a := s.services.address(); a != "" {
		doors = append(doors, a)
	}
	if s.addr.Link != "" {
		doors = append(doors, s.addr.Link)
	}
	behind := slices.DeleteFunc([]string{s.addr.BalancedDevices, s.addr.BalancedHTTPS}, func(a string) bool { return a == "" })
	doors = append(doors, behind...)
	l.Expect("listening sockets in the kernel's table", len(all))
	foreign := 0
	for _, x := range all {
		name := x.addr.String()
		if !x.ours {
			if s.opt.still {
				l.Exclude(name, "another program's: a twin asks nobody")
				continue
			}
			if foreign++; foreign > maxForeignPorts {
				l.Exclude(name, "another program's, and many were asked")
				continue
			}
			if s.answers.clear(ctx, x, l.Now) {
				l.Fail(name, "another program on this machine takes MQTT without TLS here")
			} else {
				l.Exclude(name, "another program's, and it does not speak MQTT in clear")
			}
			continue
		}
		l.Touch("address", name)
		min := uint16(tls.VersionTLS13)
		if (x.is(s.addr.Devices) || x.is(s.addr.HTTPS)) && s.tls12Declared(ctx) {
			min = tls.VersionTLS12
		}
		if s.answers.believed(x.inode, l.Now) {
			l.Pass(1)
			continue
		}
		var why string
		if slices.ContainsFunc(behind, x.is) {
			why, err = s.lookBehind(ctx, x)
		} else {
			why, err = speaksTLS(ctx, x.reach(), min, slices.ContainsFunc(doors, x.is))
		}
		if err != nil {
			return err
		}
		if why == "" {
			s.answers.believe(x.inode, l.Now)
		}
		l.Holds(why == "", name, "%s", why)
	}
	for _, d := range doors {
		if !slices.ContainsFunc(all, func(x listener) bool { return x.ours && x.is(d) }) {
			l.Expect("", 1)
			l.Fail(d, "this door is configured and does not listen")
		}
	}
	return nil
}

// tls12Declared reports whether a declaration in force lets devices use TLS 1.2.
func (s *server) tls12Declared(ctx context.Context) bool {
	all, err := s.decl.All(ctx)
	if err != nil {
		return false
	}
	for _, p := range all {
		if p.Network.TLS == "1.2" {
			return true
		}
	}
	return false
}

// speaksTLS says what is wrong with how a port answers a TLS client, if
// anything: that it does not, or takes a version older than min. A door of ours
// is not asked for old versions: it would count the question among refused
// devices; `hawser probe` asks it.
func speaksTLS(ctx context.Context, addr string, min uint16, door bool) (wrong string, err error) {
	wait := doorWait
	if door {
		wait = ownWait
	}
	said, err := hello(ctx, addr, wait, tls.VersionTLS12, tls.VersionTLS13)
	if err == nil && said == 0 {
		// Neither is a machine that is busy for seconds a door in clear, nor a
		// port that was being closed just then.
		said, err = hello(ctx, addr, ownWait, tls.VersionTLS12, tls.VersionTLS13)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return "", nil
		}
	}
	switch {
	case err != nil:
		return "", err
	case said == 0:
		return "does not answer a TLS client: it speaks in clear", nil
	case door:
		return "", nil
	}
	if said, err = hello(ctx, addr, wait, tls.VersionTLS10, min-1); err != nil {
		return "", err
	}
	if said >= tls.VersionTLS10 && said < min {
		return "takes " + tls.VersionName(said), nil
	}
	return "", nil
}

// refusedTLS is what hello gives for a port that speaks TLS and refuses.
const refusedTLS = 1

// hello offers a range of versions and gives the one that the port chose,
// refusedTLS where it refused in TLS, 0 where it does not speak TLS. It hangs
// up after the first record.
func hello(ctx context.Context, addr string, wait time.Duration, from, to uint16) (uint16, error) {
	return helloAfter(ctx, nil, addr, wait, from, to)
}

// helloAfter is hello after some first bytes.
func helloAfter(ctx context.Context, first []byte, addr string, wait time.Duration, from, to uint16) (uint16, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	raw, err := dialOwn(ctx, "tcp", addr, wait)
	if errors.Is(err, syscall.ECONNRESET) {
		return 0, nil // shut at once
	}
	if err != nil {
		return 0, fmt.Errorf("reach %s: %w", addr, err)
	}
	defer func() { _ = raw.Close() }() // nothing was written that counts
	if _, err := raw.Write(first); err != nil {
		return 0, nil // shut at once
	}
	seen := &firstRecord{Conn: raw}
	c := tls.Client(seen, &tls.Config{
		InsecureSkipVerify: true, // what is asked is the protocol, not who speaks it
		ServerName:         "localhost", MinVersion: from, MaxVersion: to,
	})
	_ = c.HandshakeContext(ctx) // it always fails: there is no second record
	return chosen(seen.b), nil
}

// firstRecord lets one TLS record through and keeps it.
type firstRecord struct {
	net.Conn
	b []byte
}

func (f *firstRecord) Read(p []byte) (int, error) {
	if n := len(f.b); n >= 5 && n >= 5+int(f.b[3])<<8+int(f.b[4]) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := f.Conn.Read(p)
	f.b = append(f.b, p[:n]...)
	return n, err
}

// chosen is the version in a ServerHello (RFC 8446 §4.1.3).
func chosen(record []byte) uint16 {
	const alert, handshake, serverHello, supportedVersions = 21, 22, 2, 43
	s := cryptobyte.String(record)
	var typ, hs uint8
	var legacy, cipher uint16
	var body, msg, session, ext cryptobyte.String
	if !s.ReadUint8(&typ) || !s.Skip(2) || !s.ReadUint16LengthPrefixed(&body) {
		return 0
	}
	if typ == alert {
		return refusedTLS
	}
	if typ != handshake || !body.ReadUint8(&hs) || hs != serverHello || !body.ReadUint24LengthPrefixed(&msg) ||
		!msg.ReadUint16(&legacy) || !msg.Skip(32) || !msg.ReadUint8LengthPrefixed(&session) || !msg.ReadUint16(&cipher) || !msg.Skip(1) {
		return 0
	}
	if msg.ReadUint16LengthPrefixed(&ext) {
		for !ext.Empty() {
			var id, v uint16
			var data cryptobyte.String
			if !ext.ReadUint16(&id) || !ext.ReadUint16LengthPrefixed(&data) {
				return 0
			}
			if id == supportedVersions && data.ReadUint16(&v) {
				return v
			}
		}
	}
	return legacy
}

// connectPacket is the smallest MQTT 3.1.1 CONNECT (section 3.1): clean
// session, no name.
const connectPacket = "\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"

// speaksMQTT reports whether a port answers an MQTT CONNECT in clear.
func speaksMQTT(ctx context.Context, addr string) (bool, error) {
	c, err := dialOwn(ctx, "tcp", addr, doorWait/4)
	if err != nil {
		return false, fmt.Errorf("reach %s: %w", addr, err)
	}
	defer func() { _ = c.Close() }() // nothing was written that counts
	if err := c.SetDeadline(time.Now().Add(doorWait / 4)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, connectPacket); err != nil {
		return false, nil
	}
	var answer [2]byte
	_, err = io.ReadFull(c, answer[:])
	return err == nil && answer[0] == 0x20 && answer[1] == 2, nil // CONNACK (section 3.2)
}

// listener is one listening TCP socket of this machine.
type listener struct {
	addr  netip.AddrPort
	inode string
	ours  bool // this very process holds it
}

// reach is an address at which it can be dialled from here.
func (x listener) reach() string {
	if x.addr.Addr().IsUnspecified() {
		if x.addr.Addr().Is4() {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), x.addr.Port()).String()
		}
		return netip.AddrPortFrom(netip.IPv6Loopback(), x.addr.Port()).String()
	}
	return x.addr.String()
}

// is reports whether it is the door at an address as Addresses has it.
func (x listener) is(door string) bool {
	a, err := netip.ParseAddrPort(door)
	return err == nil && a.Port() == x.addr.Port()
}

// askAgain is how long a good answer of a port is believed. A socket does not
// change its ways, and most programs log a stranger's packet, so none is asked
// every few seconds.
const askAgain = time.Hour

// answers remembers which sockets answered well.
type answers struct {
	mu   sync.Mutex           // guards what follows
	good map[string]time.Time // by inode, until when it is believed
}

func (a *answers) believed(inode string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.good[inode])
}

func (a *answers) believe(inode string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.good == nil {
		a.good = map[string]time.Time{}
	}
	for i, until := range a.good {
		if !now.Before(until) {
			delete(a.good, i)
		}
	}
	a.good[inode] = now.Add(askAgain)
}

// clear reports whether another program's port takes MQTT without TLS.
func (a *answers) clear(ctx context.Context, x listener, now time.Time) bool {
	if a.believed(x.inode, now) {
		return false
	}
	clear, err := speaksMQTT(ctx, x.reach())
	if err == nil && clear {
		return true
	}
	a.believe(x.inode, now)
	return false
}

func listenInClear(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	return beside(ctx, t, func(c net.Conn) {
		var b [64]byte
		if n, _ := c.Read(b[:]); n > 0 && b[0] == 0x10 {
			_, _ = io.WriteString(c, "\x20\x02\x00\x00") // CONNACK; whoever asked may be gone
		}
	})
}

func listenOldTLS(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	cert := t.Devices()[0].Certificate
	return beside(ctx, t, func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{ // a trial; who asked leaves after the hello
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		}).HandshakeContext(ctx)
	})
}

// beside opens a port in the twin's process and serves each connection.
func beside(ctx context.Context, t check.Twin, serve func(net.Conn)) (func(context.Context) error, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen beside the twin: %w", err)
	}
	t.Touch("address", l.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(ownWait)) // a closed one is as good
			serve(c)
			_ = c.Close()
		}
	}()
	return func(context.Context) error { err := l.Close(); <-done; return err }, nil
}
