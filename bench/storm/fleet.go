package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/hawser-iot/hawser/bench/soak/rig"
)

func pkcs8(c tls.Certificate) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(c.PrivateKey) }

// times are milliseconds.
type times []float64

func (t times) at(q float64) float64 {
	if len(t) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// unit is one device. It sends its next reading when the last is acknowledged.
type unit struct {
	tls  *tls.Config
	from net.IP // devices do not share an address
	door string

	mu    sync.Mutex // guards what follows
	conn  net.Conn
	seq   int
	acked int
	since time.Time // of the first attempt to come back
	again bool      // the reading was sent before
}

// fleet are devices that send.
type fleet struct {
	units []*unit
	wg    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	lat     times
	back    int
	failed  int
	slowest time.Duration
}

func newFleet(h *rig.Home, units []*rig.Unit) (*fleet, error) {
	f := &fleet{}
	for i, u := range units {
		conf, err := h.TLS(u)
		if err != nil {
			return nil, err
		}
		f.units = append(f.units, &unit{tls: conf, from: address(i), door: h.Devices()})
	}
	return f, nil
}

// address is the i-th of the loopback network, beginning at 127.1.0.1.
func address(i int) net.IP { return net.IPv4(127, 1, byte(i/250), byte(1+i%250)) }

func (f *fleet) run(ctx context.Context, every time.Duration) {
	for _, u := range f.units {
		f.wg.Go(func() { f.live(ctx, u, every) })
	}
}

func (f *fleet) wait() { f.wg.Wait() }

// take is what was measured since the last time.
func (f *fleet) take() times {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.lat
	f.lat = nil
	return t
}

func (f *fleet) acked() (out []int) {
	for _, u := range f.units {
		u.mu.Lock()
		out = append(out, u.acked)
		u.mu.Unlock()
	}
	return out
}

// live connects, sends, and comes back whenever it is cut off, at once, and
// then with a growing pause.
func (f *fleet) live(ctx context.Context, u *unit, every time.Duration) {
	failures := 0
	for ctx.Err() == nil {
		connected, _ := f.session(ctx, u, every)
		u.mu.Lock()
		u.conn = nil
		if u.since.IsZero() {
			u.since = time.Now()
		}
		u.mu.Unlock()
		if connected {
			failures = 0
			continue
		}
		failures++
		f.mu.Lock()
		f.failed++
		f.mu.Unlock()
		pause(ctx, time.Duration(rand.Int64N(int64(min(200*time.Millisecond<<min(failures, 6), 10*time.Second)))))
	}
}

func (f *fleet) session(ctx context.Context, u *unit, every time.Duration) (connected bool, err error) {
	dial, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	d := &tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: u.from}}, Config: u.tls}
	conn, err := d.DialContext(dial, "tcp", u.door)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in := bufio.NewReaderSize(conn, 512)
	hello := packets.NewControlPacket(packets.CONNECT).Content.(*packets.Connect)
	hello.ClientID, hello.CleanStart, hello.KeepAlive = "s", true, 600
	if _, err := hello.WriteTo(conn); err != nil {
		return false, err
	}
	p, err := packets.ReadPacket(in)
	if err != nil {
		return false, err
	}
	if ack, ok := p.Content.(*packets.Connack); !ok || ack.ReasonCode != 0 {
		return false, fmt.Errorf("CONNECT answered by %s", p)
	}
	u.mu.Lock()
	u.conn = conn
	since := u.since
	u.since = time.Time{}
	u.mu.Unlock()
	if !since.IsZero() {
		f.mu.Lock()
		f.back++
		f.slowest = max(f.slowest, time.Since(since))
		f.mu.Unlock()
	}
	first := true
	for {
		if wait := time.Duration(rand.Int64N(int64(every))) + every/2; !first || !u.again {
			if !pause(ctx, wait) {
				return true, ctx.Err()
			}
		}
		first = false
		if err := f.send(u, conn, in); err != nil {
			return true, err
		}
	}
}

func (f *fleet) send(u *unit, conn net.Conn, in *bufio.Reader) error {
	if !u.again {
		u.seq++
	}
	u.again = true
	body := fmt.Sprintf(`{"boot":1,"seq":%d,"number":%d}`, u.seq, u.seq)
	began := time.Now()
	if _, err := (&packets.Publish{Topic: "telemetry/work", QoS: 1, PacketID: uint16(u.seq%65535 + 1), Payload: []byte(body), Properties: &packets.Properties{}}).WriteTo(conn); err != nil {
		return err
	}
	p, err := packets.ReadPacket(in)
	if err != nil {
		return err
	}
	a, ok := p.Content.(*packets.Puback)
	if !ok || a.ReasonCode != 0 {
		return fmt.Errorf("answered by %s", p)
	}
	took := float64(time.Since(began)) / 1e6
	u.again = false
	u.mu.Lock()
	u.acked = u.seq
	u.mu.Unlock()
	f.mu.Lock()
	f.lat = append(f.lat, took)
	f.mu.Unlock()
	return nil
}

// tally is what the crowd says at its end.
type tally struct {
	Reconnects int     `json:"reconnects"`
	Failed     int     `json:"failed"`
	SlowestMS  float64 `json:"slowest_ms"`
	Acked      []int   `json:"acked"`
}

// crowd is the process that comes and goes. It reads what to do from its input,
// a line each, and answers each with a line.
func crowd(ctx context.Context, o *options) error {
	file, err := os.Open(o.crowd)
	if err != nil {
		return err
	}
	var s saved
	if err := errors.Join(gob.NewDecoder(bufio.NewReader(file)).Decode(&s), file.Close()); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	f := &fleet{}
	for i := range s.Cert {
		key, err := x509.ParsePKCS8PrivateKey(s.Key[i])
		if err != nil {
			return err
		}
		f.units = append(f.units, &unit{
			tls:  &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: s.Cert[i], PrivateKey: key}}},
			from: address(1000 + i), door: s.Door,
		})
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		word, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "all":
			f.run(ctx, o.rate)
			f.whole(ctx)
			f.mu.Lock()
			f.back, f.failed, f.slowest = 0, 0, 0
			f.mu.Unlock()
			fmt.Println("connected")
		case "part":
			share, err := strconv.ParseFloat(arg, 64)
			if err != nil {
				return err
			}
			n := f.cut(share)
			began := time.Now()
			f.whole(ctx)
			fmt.Printf("%d are back after %.1f s\n", n, time.Since(began).Seconds())
		case "end":
			stop()
			f.wait()
			if err := json.NewEncoder(os.Stdout).Encode(tally{f.back, f.failed, float64(f.slowest) / 1e6, f.acked()}); err != nil {
				return err
			}
		}
	}
}

// cut drops the connections of a part of the fleet, without a word.
func (f *fleet) cut(share float64) int {
	n := int(share * float64(len(f.units)))
	for _, i := range rand.Perm(len(f.units))[:n] {
		u := f.units[i]
		u.mu.Lock()
		if u.conn != nil {
			_ = u.conn.(*tls.Conn).NetConn().Close()
			u.conn = nil
		}
		u.mu.Unlock()
	}
	return n
}

// whole waits until everybody is connected.
func (f *fleet) whole(ctx context.Context) {
	for {
		out := 0
		for _, u := range f.units {
			u.mu.Lock()
			if u.conn == nil {
				out++
			}
			u.mu.Unlock()
		}
		if out == 0 || !pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}
