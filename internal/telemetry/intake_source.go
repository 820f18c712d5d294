package telemetry

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// SourceInfo is who sends, as identity has found it.
type SourceInfo struct {
	Device     core.DeviceID
	Product    core.ProductID
	Subject    core.Subject // zero: nobody owns the device
	OwnedSince time.Time    // earlier readings are not this owner's
	Sender     Sender       // serial of the certificate
	Series     [16]byte     // of a child: its link to the hub that sends; zero: the device speaks for itself
}

// Source is one session's sender. It is made anew when ownership changes, and
// is not for concurrent use.
type Source struct {
	in         *Intake
	slot       *planSlot
	product    core.ProductID
	subject    core.Subject
	ownedSince int64 // Unix milliseconds
	sender     Sender
	numbering  bool
	boot       uint64 // of readings that have no number; see Number
	next       uint64 // of the next one; see NumberNext
	judged     Reason // what the last Message gave and Refuse has not had yet
	series     [16]byte
	counted    [2]uint64 // of a child: the boot that its hub gave last, and what it is stored as; zero: none yet

	mu      sync.Mutex // the journal tells of records from a goroutine of its own; guards what follows
	piles   []*pile
	flushed time.Time // when what nobody waits for went into the journal last
}

// NewSource makes the source of one session.
func (in *Intake) NewSource(i SourceInfo) *Source {
	return &Source{
		in: in, slot: in.slot(i.Product), product: i.Product, subject: i.Subject,
		ownedSince: i.OwnedSince.UnixMilli(), sender: i.Sender, series: i.Series,
	}
}

// FirstSeries is the first of the numbers that Source.Number gives readings in
// place of a boot. No device has started so often.
const FirstSeries = 1 << 63

// Number gives readings that bring no number of their own one, of the
// series and the token that Message is called with. Whoever sends again what may
// have been stored before gives both again, and it is stored once. Readers do not see such a number.
func (s *Source) Number(series uint64) { s.numbering, s.boot = true, series|FirstSeries }

// NumberNext gives the next message, if it brings no number of its own, the one
// of series. Whoever sends again what may have been stored before gives it
// again, and it is stored once.
func (s *Source) NumberNext(series uint64) { s.next = series | FirstSeries }

// ofLink is a boot as it is stored. A reading is stored once by subject, stream,
// boot and seq; a hub that counts for its child begins anew with every link,
// and what it counts must not pass for what the hub before has counted. So each
// link has a series of its own: the boot of a child is a number made of it and
// of the hub's, by which the same message is still the same. What the hub
// cannot know it cannot aim at: no series of a link is ever told.
func (s *Source) ofLink(boot uint64) uint64 {
	if s.series == [16]byte{} {
		return boot
	}
	if s.counted[0] != boot || s.counted[1] == 0 {
		var b [24]byte
		copy(b[:], s.series[:])
		binary.BigEndian.PutUint64(b[16:], boot)
		sum := sha256.Sum256(b[:])
		s.counted = [2]uint64{boot, binary.BigEndian.Uint64(sum[:8])&^FirstSeries | boot&FirstSeries}
	}
	return s.counted[1]
}

// Close puts what was counted last into the journal. The source is not used
// after it.
func (s *Source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}

// declared is the name of a stream if the product declares it, else "".
func (s *Source) declared(stream []byte) string {
	if plan := s.slot.plan.Load(); plan != nil {
		if sp := plan.Stream(stream); sp != nil {
			return sp.stream.Name
		}
	}
	return ""
}
