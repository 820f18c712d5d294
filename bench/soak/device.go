package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/hawser-iot/hawser/internal/core"
)

// boot is the devices' own restart counter: they never restart, only the
// server does.
const boot = 1

// reading is one that was made and not acknowledged yet.
type reading struct {
	seq uint64
	t   int64 // Unix ms, growing by at least 1 with each reading
}

// device sends readings without end, at most window of them on their way, and
// sends again, in the same order, what a lost connection left open
// [MQTT-4.4.0-1]. It is an honest device: a reading keeps its boot, seq, time
// and content whatever happens.
type device struct {
	id     core.DeviceID
	number int
	tls    *tls.Config
	door   func() string // where the server is; "" while it is not
	book   *book
	window int
	every  time.Duration
	drain  <-chan struct{} // closed: nothing new, come to an end

	open    []reading // made and not acknowledged, oldest first
	last    reading
	next    time.Time // no new reading before
	resent  int
	refused int
}

// run sends until drain is closed and all is acknowledged, or ctx is done.
func (d *device) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.session(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errNoServer = errors.New("no server")

// session is one connection; nil is the end of all.
func (d *device) session(ctx context.Context) error {
	addr := d.door()
	if addr == "" {
		return errNoServer
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	dial, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: d.tls}).DialContext(dial, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // wakes the reader
	in := bufio.NewReader(conn)
	hello := packets.NewControlPacket(packets.CONNECT).Content.(*packets.Connect)
	hello.ClientID, hello.CleanStart, hello.KeepAlive = string(d.id), true, 60
	if _, err := hello.WriteTo(conn); err != nil {
		return err
	}
	p, err := packets.ReadPacket(in)
	if err != nil {
		return err
	}
	if ack, ok := p.Content.(*packets.Connack); !ok || ack.ReasonCode != 0 {
		return fmt.Errorf("CONNECT answered by %s", p)
	}
	acks, gone := make(chan *packets.Puback, d.window), make(chan error, 1)
	go func() { gone <- pubacks(ctx, in, acks) }()
	defer func() {
		cancel()
		_ = conn.Close()
		<-gone // who starts a goroutine waits for it
	}()
	return d.exchange(conn, acks, gone)
}

// pubacks reads until the connection ends.
func pubacks(ctx context.Context, in io.Reader, acks chan<- *packets.Puback) error {
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			return err
		}
		if a, ok := p.Content.(*packets.Puback); ok {
			select {
			case acks <- a:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		return fmt.Errorf("unexpected %s", p)
	}
}

func (d *device) exchange(conn net.Conn, acks <-chan *packets.Puback, gone chan error) error {
	ids := map[uint16]uint64{} // packet id → seq
	var id uint16
	send := func(r reading) error {
		if id++; id == 0 {
			id = 1
		}
		ids[id] = r.seq
		body := fmt.Sprintf(`{"t":%d,"boot":%d,"seq":%d,"number":%d,"text":"%s"}`, r.t, boot, r.seq, r.seq, said(d.id, r.seq))
		_, err := (&packets.Publish{Topic: "telemetry/work", QoS: 1, PacketID: id, Payload: []byte(body), Properties: &packets.Properties{}}).WriteTo(conn)
		return err
	}
	for _, r := range d.open {
		d.resent++
		if err := send(r); err != nil {
			return err
		}
	}
	drain := d.drain
	for {
		var pace <-chan time.Time
		select {
		case <-drain:
			if len(d.open) == 0 {
				return nil
			}
			drain = nil
		default:
			if drain != nil && len(d.open) < d.window {
				pace = time.After(time.Until(d.next))
			}
		}
		select {
		case <-drain:
			if len(d.open) == 0 {
				return nil
			}
			drain = nil
		case <-pace:
			r := reading{seq: d.last.seq + 1, t: max(time.Now().UnixMilli(), d.last.t+1)}
			d.last, d.open = r, append(d.open, r)
			d.next = time.Now().Add(d.every)
			if err := send(r); err != nil {
				return err
			}
		case a := <-acks:
			if err := d.settle(ids, a); err != nil {
				return err
			}
			if drain == nil && len(d.open) == 0 {
				return nil
			}
		case err := <-gone:
			gone <- err // session waits for it too
			for {       // what came before the end counts
				select {
				case a := <-acks:
					if err := d.settle(ids, a); err != nil {
						return err
					}
					continue
				default:
				}
				return err
			}
		}
	}
}

// settle notes an acknowledgement.
func (d *device) settle(ids map[uint16]uint64, a *packets.Puback) error {
	seq, ok := ids[a.PacketID]
	if !ok {
		return fmt.Errorf("PUBACK of %d, which was not sent", a.PacketID)
	}
	delete(ids, a.PacketID)
	for i, r := range d.open {
		if r.seq != seq {
			continue
		}
		d.open = append(d.open[:i:i], d.open[i+1:]...)
		if a.ReasonCode >= 0x80 {
			d.refused++
			return nil
		}
		d.book.add(entry{device: d.id, seq: seq, hash: digest(d.id, seq, r.t, seq, said(d.id, seq))})
		return nil
	}
	return fmt.Errorf("PUBACK of reading %d, which is not open", seq)
}
