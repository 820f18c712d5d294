package gateway

import (
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// maxSessions is how many client ids of one device may be connected at a time
// (design, section 6).
const maxSessions = 2

const shardCount = 64

// table finds devices by id. It is sharded so that a storm of connections does
// not queue at one lock. An entry outlives its sessions: it holds what keeps a
// device honest across reconnects. There are never more entries than devices
// with a certificate and children of hubs.
type table struct{ shards [shardCount]shard }

type shard struct {
	mu sync.Mutex
	by map[core.DeviceID]*device
}

func (t *table) shard(id core.DeviceID) *shard {
	h := uint32(2166136261) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return &t.shards[h%shardCount]
}

// get finds the device's entry, or makes it.
func (t *table) get(id core.DeviceID, now time.Time) *device {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.by[id]
	if d == nil {
		if s.by == nil {
			s.by = map[core.DeviceID]*device{}
		}
		d = &device{patience: fullBucket(patienceRate(), now), connects: fullBucket(connectRate(), now)}
		s.by[id] = d
	}
	return d
}

// find is get without making.
func (t *table) find(id core.DeviceID) *device {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[id]
}

// each calls f for every device; f must not call the table.
func (t *table) each(f func(core.DeviceID, *device)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for id, d := range s.by {
			f(id, d)
		}
		s.mu.Unlock()
	}
}

func (t *table) counts() (sessions, devices int) {
	t.each(func(_ core.DeviceID, d *device) {
		devices++
		d.mu.Lock()
		for _, c := range d.sessions {
			if c != nil {
				sessions++
			}
		}
		d.mu.Unlock()
	})
	return sessions, devices
}

// forget drops entries that say nothing any more: their device was away for
// longer than it could make up for, and its session has ended.
func (t *table) forget(now time.Time) {
	limit := now.Add(-maxOffline).UnixNano()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for id, d := range s.by {
			d.mu.Lock()
			if d.sessions == [maxSessions]*conn{} && d.left < limit && d.touched < limit {
				delete(s.by, id)
			}
			d.mu.Unlock()
		}
		s.mu.Unlock()
	}
}

// device is what the gateway remembers of one device.
type device struct {
	arrivals, bytes pacer // what arrives, messages and bytes

	mu        sync.Mutex
	sessions  [maxSessions]*conn
	kept      [maxSessions]*kept // state of sessions that may be resumed
	rows      []remembered       // what Memory has of them; most have none
	wills     []*waitingWill     // whose delay runs; at most maxSessions
	rates     *rates             // those that buckets are of
	buckets   []bucket
	patience  bucket  // see patiencePoints
	connects  bucket  // how often it connects
	touched   int64   // when it last connected or sent, Unix nanoseconds
	left      int64   // when its last session ended; 0: never
	proposals *bucket // of a hub that proposes children; nil: never
	reports   *bucket // how often it says how it is set; nil: never
	strikes   int     // violations in a row
	struckAt  int64
	outUntil  int64 // Unix nanoseconds
	told      findings
	rivals    rivals
	carried   map[string]Balance // of streams, from another gateway, until the buckets are made
	ceded     uint64             // by the last session that began at another gateway; see Handed.Token
}

// findings are what was already said once of a device.
type findings uint8

const toldPassword findings = 1

// kept is the state of a session between two connections [MQTT-3.1.2-4]: its
// subscriptions, the messages to the device that it has not acknowledged, and
// the packet ids of the last messages taken, so that what is sent again is not
// charged to the device's rate twice.
type kept struct {
	clientID string
	until    int64 // Unix nanoseconds
	subs     subscriptions
	recent   [window]uint16
	down     [downWindow]sentDown // on their way to the device
	config   uint64               // see downward
	inbox    *inbox               // nil: it never sent at QoS 2
}

// connectRate bounds how often one device may connect: 30 at once, then one
// every two seconds. A full handshake costs a millisecond of processor.
func connectRate() rate { return rate{every: int64(2 * time.Second), burst: 30} }

func fullBucket(r rate, now time.Time) bucket {
	return bucket{content: r.capacity(), at: now.UnixNano()}
}

// admit says whether the device may connect now.
func (d *device) admit(now time.Time) refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := now.UnixNano()
	d.touched = n
	if n < d.outUntil {
		return refuseBackOff
	}
	if !d.connects.take(connectRate(), n) {
		return refuseConnects
	}
	return ""
}

// strike keeps the device out for a while that grows with each violation, and
// shrinks again when it behaves.
func (d *device) strike(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := now.UnixNano()
	for quiet := n - d.struckAt; d.strikes > 0 && quiet > int64(10*time.Minute); quiet -= int64(10 * time.Minute) {
		d.strikes--
	}
	d.strikes++
	d.struckAt = n
	wait := backOff(d.strikes)
	d.outUntil = n + int64(wait)
	return wait
}

// spend takes points of patience. When none are left it gives back a full
// measure, for the time after the back-off, and reports the end.
func (d *device) spend(points int, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := patienceRate()
	for range points {
		if !d.patience.take(r, now.UnixNano()) {
			d.patience = bucket{content: r.capacity() / 4, at: now.UnixNano()}
			return false
		}
	}
	return true
}

// enter makes c one of the device's sessions. It returns the sessions that
// have to end for that, and the state that c goes on with, if any.
func (d *device) enter(c *conn, now time.Time) (out [maxSessions]*conn, why [maxSessions]refusal, resumed *kept) {
	d.mu.Lock()
	defer d.mu.Unlock()
	place := -1
	for i, o := range d.sessions {
		if o != nil && o.clientID == c.clientID {
			out[i], why[i], place = o, endTakeOver, i
		}
	}
	if place < 0 {
		oldest := 0
		for i, o := range d.sessions {
			if o == nil {
				place = i
				break
			}
			if o.since.Before(d.sessions[oldest].since) {
				oldest = i
			}
		}
		if place < 0 {
			place = oldest
			out[place], why[place] = d.sessions[place], endThird
		}
	}
	alone := d.sessions == [maxSessions]*conn{}
	d.sessions[place] = c
	d.claimWill(c)
	if alone {
		if r := c.product.rates.Load(); r != nil {
			d.back(r, c.id, now)
		}
	}
	for i, k := range d.kept {
		if k != nil && (k.clientID == c.clientID || k.until < now.UnixNano()) {
			if k.clientID == c.clientID && k.until >= now.UnixNano() && !c.clean {
				resumed = k
			}
			d.kept[i] = nil
		}
	}
	// A session that is taken over while it lives leaves its state to the new
	// one [MQTT-3.1.4-3].
	if o := out[place]; o != nil && why[place] == endTakeOver && !c.clean {
		resumed = o.state(now)
	}
	return out, why, resumed
}

// back gives the device what it may make up for after its time away. How long
// it was away is not known after a restart of the server: then it counts from
// the beginning of its ownership, before which it has nothing to send.
func (d *device) back(r *rates, id identity.Identified, now time.Time) {
	n := now.UnixNano()
	d.fit(r, n)
	for i := range d.buckets {
		if d.left == 0 {
			since := n
			if !id.Subject.IsZero() {
				since = min(id.OwnedSince.UnixNano(), n)
			}
			d.buckets[i] = bucket{content: r.by[i].capacity(), at: since}
		}
		d.buckets[i].makeUp(r.by[i], n)
	}
}

// fit makes the buckets those of r, after a new declaration by name.
func (d *device) fit(r *rates, now int64) {
	if d.rates == r {
		return
	}
	old, oldBuckets := d.rates, d.buckets
	d.rates, d.buckets = r, make([]bucket, len(r.by))
	for i := range d.buckets {
		d.buckets[i] = bucket{content: r.by[i].capacity(), at: now}
	}
	if old == nil {
		for name, i := range r.index {
			if b, ok := d.carried[name]; ok {
				d.buckets[i] = b.bucket()
			}
		}
		d.carried = nil
		return
	}
	for name, i := range r.index {
		if j, ok := old.index[name]; ok {
			d.buckets[i] = oldBuckets[j].convert(old.by[j], r.by[i])
		}
	}
}

// take pays for one message of a stream, or says that it is over its rate.
// A stream that is not declared has no rate: telemetry refuses it.
func (d *device) take(r *rates, stream []byte, now int64) bool {
	i, ok := r.index[string(stream)]
	if !ok {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fit(r, now)
	d.touched = now
	return d.buckets[i].take(r.by[i], now)
}

// leave takes c out. The last one to leave marks the time.
func (d *device) leave(c *conn, k *kept, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := now.UnixNano()
	for i, o := range d.sessions {
		if o != c {
			continue
		}
		d.sessions[i] = nil
		if k != nil {
			d.keep(k, n)
		}
	}
	if d.sessions == [maxSessions]*conn{} {
		d.left = n
		// What a quarantine kept a device from sending it may make up for, so
		// its time counts like time away.
		if !c.id.Quarantined {
			for i := range d.buckets {
				d.buckets[i].fill(d.rates.by[i], n)
			}
		}
	}
}

// makeUp gives the device what it may make up for now.
func (d *device) makeUp(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.buckets {
		d.buckets[i].makeUp(d.rates.by[i], now.UnixNano())
	}
}

// keep stores a session's state in place of the one of the same name, else of
// an empty place, else of the one that ends first. The lock is held.
func (d *device) keep(k *kept, now int64) {
	place := 0
	for i, o := range d.kept {
		switch p := d.kept[place]; {
		case o != nil && o.clientID == k.clientID:
			d.kept[i] = k
			return
		case o == nil || o.until < now:
			place = i
		case p != nil && p.until >= now && o.until < p.until:
			place = i
		}
	}
	d.kept[place] = k
}

// calm notes that a connection of the device died of silence: what was taken
// over before it may have been dead, too.
func (d *device) calm() {
	d.mu.Lock()
	d.rivals.n = 0
	d.mu.Unlock()
}

// live are the device's sessions now.
func (d *device) live() []*conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*conn
	for _, c := range d.sessions {
		if c != nil {
			out = append(out, c)
		}
	}
	return out
}

// drop forgets the sessions that could be resumed.
func (d *device) drop() []remembered {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.wills {
		x.timer.Stop()
	}
	rows := d.rows
	d.wills = nil
	d.kept, d.rows = [maxSessions]*kept{}, nil
	return rows
}

// rates are the rates of one product's streams, by one declaration.
type rates struct {
	index map[string]int
	by    []rate
}

func newRates(p *declaration.Policy) *rates {
	r := &rates{index: make(map[string]int, len(p.Streams)), by: make([]rate, len(p.Streams))}
	for i := range p.Streams {
		s := &p.Streams[i]
		r.index[s.Name] = i
		r.by[i] = rate{every: int64(s.Every), burst: int64(s.Burst)}
	}
	return r
}
