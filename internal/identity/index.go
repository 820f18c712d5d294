package identity

import (
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// state is everything about one device, as it was committed at one revision.
// It is never changed once it is in the index.
type state struct {
	dev   DeviceRow
	certs []CertificateRow
	own   *OwnershipRow
	// legacy is the latest credential of the maker's, ended or not; nil: none.
	legacy *LegacyRow
	lost   bool     // its owner's key is gone from the keyring: nobody's
	link   *LinkRow // of a child: who speaks for it; nil: nobody

	vouched *Vouched // of a child with a hub and an owner; made when it is shown
}

// clone is a copy that a transaction may change.
func (st *state) clone() *state {
	c := *st
	c.certs = append([]CertificateRow(nil), st.certs...)
	if st.own != nil {
		o := *st.own
		c.own = &o
	}
	if st.legacy != nil {
		l := *st.legacy
		c.legacy = &l
	}
	return &c
}

// subject is whose the device is; zero when nobody's.
func (st *state) subject() core.Subject {
	if st.own == nil || !st.own.Done || st.lost {
		return core.Subject{}
	}
	return st.own.Subject
}

// actor is the device as the ledger names it.
func (st *state) actor() core.Actor {
	if s := st.subject(); !s.IsZero() {
		return core.Actor{Kind: core.ActorDevice, ID: s.String()}
	}
	return core.Job("identity")
}

func (st *state) cert(serial Serial) *CertificateRow {
	for i := range st.certs {
		if st.certs[i].Serial == serial {
			return &st.certs[i]
		}
	}
	return nil
}

// pending is the certificate that waits for its first handshake, if any.
func (st *state) pending() *CertificateRow {
	for i := range st.certs {
		if st.certs[i].State == Issued {
			return &st.certs[i]
		}
	}
	return nil
}

// confirmed is the one good certificate, if any.
func (st *state) confirmed() *CertificateRow {
	for i := range st.certs {
		if st.certs[i].State == Confirmed {
			return &st.certs[i]
		}
	}
	return nil
}

// index is all devices in memory.
type index struct {
	mu      sync.RWMutex
	devices map[core.DeviceID]*state
	serials map[Serial]*state
	legacy  legacyIndex
	hubs    map[core.DeviceID]map[core.DeviceID]*state // children, by hub
}

func newIndex() *index {
	return &index{
		devices: map[core.DeviceID]*state{}, serials: map[Serial]*state{}, legacy: newLegacyIndex(),
		hubs: map[core.DeviceID]map[core.DeviceID]*state{},
	}
}

func (x *index) device(id core.DeviceID) *state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.devices[id]
}

func (x *index) serial(s Serial) *state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.serials[s]
}

// apply shows a committed state, unless a later one is shown already.
func (x *index) apply(st *state) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.devices[st.dev.ID]; old != nil {
		if old.dev.Revision >= st.dev.Revision {
			return
		}
		for i := range old.certs {
			delete(x.serials, old.certs[i].Serial)
		}
		x.legacy.remove(old)
		x.unlink(old)
	}
	x.devices[st.dev.ID] = st
	x.link(st)
	for i := range st.certs {
		x.serials[st.certs[i].Serial] = st
	}
	x.legacy.add(st)
}

// snapshot lists the states of all devices, in no order.
func (x *index) snapshot() []*state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*state, 0, len(x.devices))
	for _, st := range x.devices {
		out = append(out, st)
	}
	return out
}

// trim forgets certificates that ran out before now, except those that are
// their device's only good one. Whoever shows one later is told that it ran
// out, which needs no memory.
func (x *index) trim(now time.Time) int {
	n := 0
	for _, st := range x.snapshot() {
		keep := keepLive(st.certs, now)
		if len(keep) == len(st.certs) {
			continue
		}
		c := st.clone()
		c.certs = keep
		x.mu.Lock()
		if x.devices[st.dev.ID] == st {
			for i := range st.certs {
				delete(x.serials, st.certs[i].Serial)
			}
			for i := range c.certs {
				x.serials[c.certs[i].Serial] = c
			}
			x.legacy.remove(st)
			x.legacy.add(c)
			x.devices[st.dev.ID] = c
			n += len(st.certs) - len(c.certs)
		}
		x.mu.Unlock()
	}
	return n
}

// KeepOverslept is how long a certificate is remembered that had run out when
// it was replaced: whoever shows it later holds the same key as who renewed it,
// and the true device may sleep for a year.
const KeepOverslept = 400 * 24 * time.Hour

// Overslept reports whether a certificate was replaced after it had run out, and
// is still worth remembering.
func (c *CertificateRow) Overslept(now time.Time) bool {
	return c.State == Superseded && c.Ended.After(c.NotAfter) && now.Sub(c.Ended) < KeepOverslept
}

// keepLive is certs without those that can tell nothing any more.
func keepLive(certs []CertificateRow, now time.Time) []CertificateRow {
	var out []CertificateRow
	for i := range certs {
		if c := &certs[i]; c.State == Confirmed || now.Before(c.NotAfter) || c.Overslept(now) {
			out = append(out, *c)
		}
	}
	return out
}
