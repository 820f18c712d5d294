package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// TestStorm lets everything meet: connects and take-overs of the same devices,
// messages, lost connections, refreshes, cuts, new declarations, and a
// shutdown in the middle of it. What was acknowledged is stored; nothing
// hangs, and nothing is left behind.
func TestStorm(t *testing.T) {
	// Several clients of one device that take over from each other are what it
	// is about.
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Identity = trusting{deps.Identity} } })
	const devices = 4
	certs := make([]tls.Certificate, devices)
	for i := range certs {
		certs[i] = d.enrol(core.DeviceID(fmt.Sprintf("S%d", i)))
	}
	var acked sync.Map // seq → true
	var seq, connects atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for w := range 3 * devices {
		wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				i := (w + round) % devices
				d.device(fmt.Sprintf("S%d", i)).forgive()
				d.storm(certs[i], []mqtt.Version{mqtt.V5, mqtt.V311}[w%2], fmt.Sprint("c", w%3), &seq, &acked, &connects)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			id := core.DeviceID(fmt.Sprintf("S%d", rand.IntN(devices)))
			switch rand.IntN(4) {
			case 0:
				d.g.kick(id)
			case 1:
				d.g.Refresh(id)
			case 2:
				p := *d.policy
				d.g.SetPolicy(&p)
			default:
				_ = d.g.Stats()
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	eventually(t, "some sessions and messages", func() bool { return connects.Load() > 50 && seq.Load() > 300 })
	end, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.g.Shutdown(end); err != nil {
		t.Error(err)
	}
	stop()
	wg.Wait()
	if s := d.g.Stats(); s.Open != 0 || s.Unauthenticated != 0 || s.Sessions != 0 {
		t.Errorf("left behind: %d open, %d unauthenticated, %d sessions", s.Open, s.Unauthenticated, s.Sessions)
	}
	got, _ := d.stored()
	stored := map[uint64]bool{}
	for _, r := range got {
		stored[r.Seq] = true
	}
	lost, n := 0, 0
	acked.Range(func(k, _ any) bool {
		n++
		if !stored[k.(uint64)] {
			lost++
		}
		return true
	})
	if lost > 0 || n == 0 {
		t.Errorf("%d of %d acknowledged messages are not stored", lost, n)
	}
	t.Logf("%d sessions, %d messages acknowledged, %d stored", connects.Load(), n, len(stored))
}

func (d *door) device(id string) *device { return d.g.table.get(core.DeviceID(id), d.now()) }

// forgive lets a device connect as often as a test wants.
func (d *device) forgive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outUntil, d.strikes = 0, 0
	d.connects = fullBucket(connectRate(), time.Now())
}

// storm is one short life of a connection.
func (d *door) storm(cert tls.Certificate, v mqtt.Version, id string, seq *atomic.Uint64, acked *sync.Map, connects *atomic.Uint64) {
	c, err := tls.Dial("tcp", d.addr, d.config(cert))
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	defer c.Close()
	cl := &client{t: d.t, c: c, v: v}
	say := func(p *mqtt.Packet) bool {
		b, err := mqtt.Append(nil, v, p)
		if err != nil {
			d.t.Error(err)
			return false
		}
		_, err = c.Write(b)
		return err == nil
	}
	if !say(&mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: v, CleanStart: rand.IntN(2) == 0, KeepAlive: 30, ClientID: []byte(id)}}) {
		return
	}
	p, err := cl.next(10 * time.Second)
	if err != nil || p.Type != mqtt.CONNACK || p.Code != 0 {
		return
	}
	connects.Add(1)
	sent := map[uint16]uint64{}
	for i := range uint16(rand.IntN(40)) {
		n := seq.Add(1)
		sent[i+1] = n
		if !say(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: i + 1, Topic: []byte("telemetry/light"), Payload: fmt.Appendf(nil, `{"level":1,"boot":1,"seq":%d}`, n)}) {
			break
		}
	}
	for last := uint16(0); len(sent) > 0; {
		p, err := cl.next(10 * time.Second)
		if err != nil {
			return
		}
		if p.Type != mqtt.PUBACK {
			continue
		}
		if p.ID != last+1 {
			d.t.Errorf("PUBACK %d after %d", p.ID, last)
		}
		last = p.ID
		if p.Code == 0 {
			acked.Store(sent[p.ID], true)
		}
		delete(sent, p.ID)
		if rand.IntN(50) == 0 {
			return // lost in the middle
		}
	}
}

// trusting is the real register, but for suspicions.
type trusting struct{ Identity }

func (trusting) Suspect(context.Context, core.DeviceID, string) error { return nil }
