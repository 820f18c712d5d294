package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// keptSessions is a Memory on the door's store.
type keptSessions struct{ d *door }

func (k keptSessions) Remember(ctx context.Context, list []command.Listening) error {
	return k.d.store.Update(ctx, func(tx *store.Tx) error { return tx.Remember(ctx, list) })
}

func (k keptSessions) of(ctx context.Context, id core.DeviceID) (out []command.Listening, err error) {
	err = k.d.store.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.Remembered(ctx, k.d.now())
		for _, l := range all {
			if l.Device == id {
				out = append(out, l)
			}
		}
		return err
	})
	return out, err
}

// two are two gateways of one installation: a is the door's own.
type two struct {
	*door
	r *Registry
	b *door // the second, with everything but its gateway the first's
}

func newTwo(t *testing.T) *two {
	t.Helper()
	x := &two{}
	x.door = newDoor(t, func(d *door) {
		d.wrap = func(deps *Deps) {
			x.r = must[*Registry](t)(NewRegistry(RegistryDeps{Kept: keptSessions{d}.of, Suspect: d.ids.Suspect, Now: d.now}))
			deps.Sessions, deps.Memory = Here{x.r, "a"}, keptSessions{d}
		}
	})
	x.r.Join("a", x.g, nil)
	b := &door{t: t, env: x.env, ca: x.ca, store: x.store, keys: x.keys, jr: x.jr, ids: x.ids, intake: x.intake, policy: x.policy, roots: x.roots, log: &syncBuffer{}}
	cert := must[*identity.ServerCertificate](t)(identity.NewServerCertificate(x.ca, []string{"localhost", "127.0.0.1"}))
	b.g = must[*Gateway](t)(New(Deps{
		Config:      Config{DeviceMessagesPerSecond: -1, DeviceBytesPerSecond: -1},
		Environment: x.env, Certificate: cert.GetCertificate, DeviceCAs: x.ca.ClientPool, Memory: keptSessions{x.door},
		Identity: x.ids, Intake: x.intake, Sessions: Here{x.r, "b"}, Now: x.now, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}))
	b.g.SetPolicy(x.policy)
	x.r.Join("b", b.g, nil)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	b.addr = l.Addr().String()
	go func() { _ = b.g.Serve(context.Background(), l) }() // it ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.g.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if b.g.Stats().Panics > 0 {
			t.Errorf("panics:\n%s", b.log)
		}
	})
	x.b = b
	return x
}

func goingOn(p *mqtt.Packet) {
	p.Connect.CleanStart = false
	p.Props.SetNumber(mqtt.PropSessionExpiry, 3600)
}

// TestSessionMovesBetweenGateways: who connects at another gateway is told
// nothing new of itself: its session goes on, the one before ends as taken over,
// and what it had sent stays spent (design, section 8).
func TestSessionMovesBetweenGateways(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		t.Run(v.String(), func(t *testing.T) {
			x := newTwo(t)
			cert := x.enrol("lamp-1")
			change := func(p *mqtt.Packet) {
				if goingOn(p); v == mqtt.V311 {
					p.Props = mqtt.Properties{}
				}
			}
			at := []*door{x.door, x.b}
			first := x.connect(cert, v, "one", change)
			first.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 9, Filters: []mqtt.Filter{{Topic: []byte("refused"), QoS: mqtt.AtLeastOnce}}})
			if p := first.read(); p.Type != mqtt.SUBACK {
				t.Fatalf("%v instead of SUBACK", p.Type)
			}
			for i := range uint16(2) {
				first.publish(1+i, "telemetry/slow", `{"tick":1}`)
				first.acked(1 + i)
			}
			last := first
			for turn := range 4 {
				d := at[(turn+1)%2]
				next := d.connect(cert, v, "one", change)
				if !next.ack.SessionPresent {
					t.Errorf("turn %d: the session did not go on", turn)
				}
				if code := last.closed(); v == mqtt.V5 && code != mqtt.SessionTakenOver {
					t.Errorf("turn %d: the session before was told %#x", turn, code)
				}
				next.publish(7, "telemetry/slow", `{"tick":1}`)
				refused := false
				for range 2 { // its PUBACK, and the notice on the topic that it still listens to
					p := next.read()
					refused = refused || p.Type == mqtt.PUBLISH && string(p.Topic) == "refused"
				}
				if !refused {
					t.Errorf("turn %d: changing the gateway gave the device a new measure, or took what it listened to", turn)
				}
				last = next
			}
			if n := x.g.Connected("lamp-1") + x.b.g.Connected("lamp-1"); n != 1 {
				t.Errorf("%d sessions", n)
			}
			if got := x.r.At("lamp-1"); !slices.Equal(got, []string{"a"}) {
				t.Errorf("the device is at %v", got)
			}
		})
	}
}

// TestThirdSessionElsewhere: two sessions of a device are all that there may be,
// wherever they are.
func TestThirdSessionElsewhere(t *testing.T) {
	x := newTwo(t)
	cert := x.enrol("lamp-1")
	one := x.connect(cert, mqtt.V5, "one")
	x.b.connect(cert, mqtt.V5, "two")
	x.b.connect(cert, mqtt.V5, "three")
	if code := one.closed(); code != mqtt.QuotaExceeded && code != mqtt.SessionTakenOver {
		t.Errorf("the oldest was told %#x", code)
	}
	eventually(t, "two sessions", func() bool { return x.g.Connected("lamp-1") == 0 && x.b.g.Connected("lamp-1") == 2 })
}

// TestManyComeAtOnce: whoever comes where, one is left.
func TestManyComeAtOnce(t *testing.T) {
	x := newTwo(t)
	cert := x.enrol("lamp-1")
	var all sync.WaitGroup
	for i := range 24 {
		d := []*door{x.door, x.b}[i%2]
		h := holder{cert: cert, v: mqtt.V5}
		all.Go(func() {
			if _, raw, err := h.open(d, d.addr); err == nil {
				t.Cleanup(func() { _ = raw.Close() })
			}
		})
	}
	all.Wait()
	eventually(t, "one session", func() bool { return x.g.Connected("lamp-1")+x.b.g.Connected("lamp-1") == 1 })
}

// TestRivalsAtTwoGateways: two machines with one certificate are found out when
// each has a gateway of its own, too (CC 3.2).
func TestRivalsAtTwoGateways(t *testing.T) {
	x := newTwo(t)
	cert := x.enrol("lamp-1")
	stop := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { holder{cert: cert, v: mqtt.V5}.insist(x.door, stop) })
	both.Go(func() { holder{cert: cert, v: mqtt.V5, from: "127.0.0.9"}.insist(x.b, stop) })
	for end := time.Now().Add(20 * time.Second); !x.suspected("lamp-1") && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	both.Wait()
	if !x.suspected("lamp-1") {
		t.Error("nobody was accused")
	}
}

// stuck is a gateway that does not answer.
type stuck struct{ err error }

func (s stuck) Yield(context.Context, Yield) (Yielded, error) { return Yielded{}, s.err }

// TestGatewayNotReached: while another gateway may still have a session nobody
// else gets it, and afterwards whoever comes.
func TestGatewayNotReached(t *testing.T) {
	x := newTwo(t)
	cert := x.enrol("lamp-1")
	x.r.Join("c", stuck{errors.New("not reached")}, []Held{{"lamp-1", "one"}})
	if c := x.tryConnect(cert, mqtt.V5, "one"); c.ack.Code != mqtt.ServerUnavailable {
		t.Errorf("a session that another may have was given: %#x", c.ack.Code)
	}
	x.r.Join("c", stuck{ErrFenced}, []Held{{"lamp-1", "one"}})
	x.connect(cert, mqtt.V5, "one")
	x.r.Join("b", x.b.g, nil) // it begins anew
	x.b.connect(cert, mqtt.V5, "one")
	eventually(t, "one session", func() bool { return x.g.Connected("lamp-1") == 0 && x.b.g.Connected("lamp-1") == 1 })
}

// TestDoubt: a gateway that does not know who is welcome has nobody.
func TestDoubt(t *testing.T) {
	x := newTwo(t)
	cert := x.enrol("lamp-1")
	c := x.connect(cert, mqtt.V5, "one", goingOn)
	x.g.Doubt(true)
	if code := c.closed(); code != mqtt.ServerBusy {
		t.Errorf("told %#x", code)
	}
	if c := x.tryConnect(cert, mqtt.V5, "one"); c.ack.Code != mqtt.ServerBusy {
		t.Errorf("taken in, in doubt: %#x", c.ack.Code)
	}
	x.g.Doubt(false)
	x.connect(cert, mqtt.V5, "one")
}

// troubled is an intake whose journal takes nothing.
type troubled struct{ Intake }

func (troubled) Message(*telemetry.Source, []byte, []byte, telemetry.Completion, uint64) telemetry.Verdict {
	return telemetry.Verdict{Action: telemetry.Trouble, Reason: telemetry.ReasonTrouble}
}

// TestStopInTrouble: a gateway whose journal takes nothing stops at once: nobody
// waits for a decision that will not come.
func TestStopInTrouble(t *testing.T) {
	d := newDoor(t, func(d *door) { d.wrap = func(p *Deps) { p.Intake = troubled{p.Intake} } })
	c := d.connect(d.enrol("lamp-1"), mqtt.V5, "x")
	c.publish(1, "telemetry/light", level(1))
	time.Sleep(100 * time.Millisecond) // it is being tried
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := d.g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
