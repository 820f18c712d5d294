package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// lastingMemory is the store's Memory, which can fail.
type lastingMemory struct {
	d      *door
	broken *atomic.Bool
}

func (m lastingMemory) Remember(ctx context.Context, list []command.Listening) error {
	if m.broken.Load() {
		return errors.New("no disk")
	}
	return m.d.store.Update(ctx, func(tx *store.Tx) error { return tx.Remember(ctx, list) })
}

// newLastingDoor is a door whose sessions are kept on disk.
func newLastingDoor(t *testing.T) (*door, *atomic.Bool) {
	t.Helper()
	broken := new(atomic.Bool)
	d := newDoor(t, func(d *door) { d.wrap = func(p *Deps) { p.Memory = lastingMemory{d, broken} } })
	return d, broken
}

func stays(p *mqtt.Packet) { p.Connect.CleanStart = false }

// exactly sends a message at QoS 2 and does not wait.
func (c *client) exactly(id uint16, dup bool, payload string) {
	c.t.Helper()
	c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: mqtt.ExactlyOnce, Dup: dup, ID: id, Topic: []byte("telemetry/light"), Payload: []byte(payload)})
}

func (c *client) rel(id uint16) {
	c.t.Helper()
	c.write(&mqtt.Packet{Type: mqtt.PUBREL, ID: id})
}

// hears waits for an acknowledgement of some kind.
func (c *client) hears(kind mqtt.Type, id uint16) {
	c.t.Helper()
	if p := c.read(); p.Type != kind || p.ID != id {
		c.t.Fatalf("%v %d instead of %v %d", p.Type, p.ID, kind, id)
	}
}

// different counts the readings that are not the same one under the same
// number.
func different(readings []telemetry.Reading) int {
	seen := map[[2]uint64]bool{}
	for _, r := range readings {
		seen[[2]uint64{r.Boot, r.Seq}] = true
	}
	return len(seen)
}

// Each message at QoS 2 is stored once, whatever is sent again, and its packet
// identifier serves for another one after its PUBCOMP (3.1.1, section 4.3.3).
func TestExactlyOnce(t *testing.T) {
	for name, kept := range map[string]bool{"kept session": true, "clean session": false} {
		t.Run(name, func(t *testing.T) {
			d, _ := newLastingDoor(t)
			c := d.connect(d.enrol("A1"), mqtt.V311, "x", func(p *mqtt.Packet) { p.Connect.CleanStart = !kept })
			stored := func(what string, want int) {
				t.Helper()
				got, _ := d.stored()
				if n := different(got); n != want {
					t.Fatalf("%s: %d readings, want %d", what, n, want)
				}
			}
			c.exactly(7, false, level(1))
			c.hears(mqtt.PUBREC, 7)
			stored("one", 1)
			c.exactly(7, true, level(1))
			c.hears(mqtt.PUBREC, 7)
			if got, _ := d.stored(); len(got) != 1 {
				t.Fatalf("sent again after its PUBREC: %d records", len(got))
			}
			c.rel(7)
			c.hears(mqtt.PUBCOMP, 7)
			c.rel(7) // its PUBCOMP was lost
			c.hears(mqtt.PUBCOMP, 7)
			c.rel(99) // nobody knows it
			c.hears(mqtt.PUBCOMP, 99)
			c.exactly(7, false, level(1)) // the same payload, and another message
			c.hears(mqtt.PUBREC, 7)
			stored("the identifier again", 2)
			c.exactly(8, false, "not JSON")
			c.publish(9, "telemetry/light", level(2))
			c.exactly(10, false, level(3))
			c.hears(mqtt.PUBREC, 8) // 3.1.1 knows no refusal
			c.hears(mqtt.PUBACK, 9) // in the order of arrival
			c.hears(mqtt.PUBREC, 10)
			got, refused := d.stored()
			if different(got[2:]) != 2 || len(refused) != 1 || refused[0].Reason != telemetry.ReasonNotJSON {
				t.Errorf("%d readings, refused %+v", len(got), refused)
			}
			for i, r := range got {
				if numbered := i != 2; r.HasSeq != numbered || numbered && r.Boot < telemetry.FirstSeries {
					t.Errorf("reading %d: numbered %t, boot %d", i, r.HasSeq, r.Boot)
				}
			}
		})
	}
}

// A reading that brings its own number keeps it.
func TestExactlyOnceOwnNumber(t *testing.T) {
	d, _ := newLastingDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V311, "x", stays)
	c.exactly(1, false, `{"level":1,"boot":3,"seq":4}`)
	c.hears(mqtt.PUBREC, 1)
	c.publish(2, "telemetry/light", level(2)) // what follows at QoS 1 gets none
	c.hears(mqtt.PUBACK, 2)
	got, _ := d.stored()
	if len(got) != 2 || got[0].Boot != 3 || got[0].Seq != 4 || got[1].HasSeq {
		t.Errorf("%+v", got)
	}
}

// What was not answered before the connection was lost comes again, under the
// same number; what an amnesiac client sends under an identifier that is taken
// is another message.
func TestExactlyOnceResumed(t *testing.T) {
	d, broken := newLastingDoor(t)
	cert := d.enrol("A1")
	c := d.connect(cert, mqtt.V311, "x", stays)
	c.exactly(1, false, level(1))
	c.exactly(2, false, level(2))
	c.exactly(3, false, level(3))
	c.hears(mqtt.PUBREC, 1)
	c.hears(mqtt.PUBREC, 2)
	c.hears(mqtt.PUBREC, 3)
	c.rel(2)
	c.hears(mqtt.PUBCOMP, 2)
	_ = c.c.Close()
	c = d.connect(cert, mqtt.V311, "x", stays)
	if !c.ack.SessionPresent {
		t.Error("its session is not kept")
	}
	c.exactly(1, true, level(1))
	c.hears(mqtt.PUBREC, 1)
	if got, _ := d.stored(); len(got) != 3 {
		t.Errorf("%d records, want 3", len(got))
	}
	c.exactly(2, true, level(4)) // released: it names another message
	c.hears(mqtt.PUBREC, 2)
	c.exactly(3, false, level(5)) // not marked: its client has forgotten the other
	c.hears(mqtt.PUBREC, 3)
	got, _ := d.stored()
	if len(got) != 5 || different(got) != 5 {
		t.Errorf("%d records of %d readings, want 5", len(got), different(got))
	}
	// What the disk does not have is not answered.
	broken.Store(true)
	c.rel(1)
	if p, err := c.next(5e9); err == nil {
		t.Errorf("%v %d though it could not be written", p.Type, p.ID)
	}
	broken.Store(false)
	c = d.connect(cert, mqtt.V311, "x", stays)
	c.rel(1)
	c.hears(mqtt.PUBCOMP, 1)
}

// Who breaks the rules of QoS 2 is sent away; 5.0 clients have none of it.
func TestExactlyOnceMisused(t *testing.T) {
	for name, c := range map[string]struct {
		v    mqtt.Version
		send func(*client)
		why  refusal
	}{
		"identifier in use": {mqtt.V311, func(c *client) { c.exactly(1, false, level(1)); c.exactly(1, false, level(2)) }, endQoS2},
		"too many": {mqtt.V311, func(c *client) {
			for i := range uint16(maxTaken + 1) {
				c.exactly(i+1, false, level(int(i)))
			}
		}, endQoS2},
		"PUBREC":        {mqtt.V311, func(c *client) { c.write(&mqtt.Packet{Type: mqtt.PUBREC, ID: 1}) }, endMisplaced},
		"PUBCOMP":       {mqtt.V311, func(c *client) { c.write(&mqtt.Packet{Type: mqtt.PUBCOMP, ID: 1}) }, endMisplaced},
		"5.0, PUBREL":   {mqtt.V5, func(c *client) { c.rel(1) }, endMisplaced},
		"5.0, publishs": {mqtt.V5, func(c *client) { c.exactly(1, false, level(1)) }, endQoS2},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := newLastingDoor(t)
			cl := d.connect(d.enrol("A1"), c.v, "x", stays)
			c.send(cl)
			cl.closed()
			eventually(t, "the end", func() bool { return d.ended(c.why) == 1 })
			if got, _ := d.stored(); len(got) > maxTaken {
				t.Errorf("%d stored", len(got))
			}
		})
	}
}

// The server dies at any moment, and messages come again as the standard has
// it: what was stored has as many numbers as there were messages, and nobody's
// PUBCOMP is forgotten. Bytes are what happens.
func FuzzInbox(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		b := make([]byte, 64)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		x := newInbox()
		disk := []byte(nil)           // what the last writing left
		stored := map[uint64]string{} // by number, as the store does
		under := map[uint16]string{}  // the client's messages without PUBCOMP
		released := map[uint16]bool{} // of these, those whose PUBREL was sent
		sent := map[string]bool{}
		next := 0
		write := func() { disk = x.bytes() }
		wait := func() { write(); x.onto = true }
		publish := func(id uint16, dup bool, m string) {
			o, note, err := x.take(id, dup)
			if err != nil {
				t.Fatalf("%d, again %t: %v", id, dup, err)
			}
			if note {
				wait()
			}
			if o.again {
				return
			}
			if was, ok := stored[o.series]; ok && was != m {
				t.Fatalf("%q got the number of %q", m, was)
			}
			stored[o.series] = m
			x.decided(id, o.round)
		}
		for i := 0; i+1 < len(ops); i += 2 {
			id := uint16(ops[i+1] % 8)
			if ops[i] >= 224 {
				x.release(id + 100 + uint16(ops[i])) // what nobody knows: turns come quickly
				write()
				continue
			}
			comes := func() { // the client comes back [MQTT-4.4.0-1]; of what it knows the PUBREC it sends the PUBREL, and that first or last
				var rels []uint16
				for id := range under {
					if released[id] || ops[i+1]>>(id%8)&1 == 1 {
						rels = append(rels, id)
					}
				}
				rel := func() {
					for _, id := range rels {
						x.release(id)
						write()
						delete(under, id)
						delete(released, id)
					}
				}
				if ops[i]&16 == 0 {
					rel()
				}
				for id, m := range under {
					if !released[id] && !slices.Contains(rels, id) {
						publish(id, true, m)
					}
				}
				if ops[i]&16 != 0 {
					rel()
				}
			}
			switch _, busy := under[id]; ops[i] % 8 {
			case 0, 1, 2: // a new message, if the identifier is free
				if !busy {
					m := fmt.Sprint("message ", next)
					next++
					under[id], sent[m] = m, true
					publish(id, false, m)
				}
			case 3, 4: // PUBREL and its PUBCOMP
				if busy {
					x.release(id)
					write()
					delete(under, id)
					delete(released, id)
				}
			case 5: // PUBREL, another message, and the server dies before the release is on disk
				if busy {
					x.release(id)
					released[id] = true
				}
				if other := uint16(ops[i+1]/8%8) + 8; under[other] == "" {
					m := fmt.Sprint("message ", next)
					next++
					under[other], sent[m] = m, true
					publish(other, false, m)
				}
				fallthrough
			case 6: // the server dies
				if x = newInbox(); disk != nil {
					var err error
					if x, err = readInbox(disk); err != nil {
						t.Fatal(err)
					}
				}
				comes()
			case 7: // the connection is lost
				x.resume()
				comes()
			}
		}
		seen := map[string]int{}
		for _, m := range stored {
			seen[m]++
		}
		for m := range sent {
			if seen[m] != 1 {
				t.Errorf("%q is stored %d times", m, seen[m])
			}
		}
	})
}

// What is read back from a disk may be anything.
func FuzzReadInbox(f *testing.F) {
	x := newInbox()
	_, _, _ = x.take(1, false)
	_, _, _ = x.take(2, false)
	f.Add(x.bytes())
	f.Add([]byte{})
	f.Add(make([]byte, inboxHead+1))
	f.Add(make([]byte, inboxHead+inboxStep*(maxTaken+1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readInbox(b)
		if err != nil {
			return
		}
		ids := map[uint16]bool{}
		for at := inboxHead; at < len(b); at += inboxStep {
			ids[binary.BigEndian.Uint16(b[at:])] = true
		}
		again := x.bytes()
		if len(again) != inboxHead+inboxStep*len(ids) || !slices.Equal(again[:inboxHead], b[:inboxHead]) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}
