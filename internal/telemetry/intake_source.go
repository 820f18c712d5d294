package telemetry

import (
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
	judged     Reason // what the last Message gave and Refuse has not had yet

	mu      sync.Mutex // the journal tells of records from a goroutine of its own; guards what follows
	piles   []*pile
	flushed time.Time // when what nobody waits for went into the journal last
}

// NewSource makes the source of one session.
func (in *Intake) NewSource(i SourceInfo) *Source {
	return &Source{
		in: in, slot: in.slot(i.Product), product: i.Product, subject: i.Subject,
		ownedSince: i.OwnedSince.UnixMilli(), sender: i.Sender,
	}
}

// FirstSeries is the first of the numbers that Source.Number gives readings in
// place of a boot. No device has started so often.
const FirstSeries = 1 << 63

// Number gives readings that bring no number of their own one, of the
// series and the token that Message is called with. Whoever sends again what may
// have been stored before gives both again, and it is stored once. Readers do not see such a number.
func (s *Source) Number(series uint64) { s.numbering, s.boot = true, series|FirstSeries }

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
