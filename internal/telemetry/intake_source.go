package telemetry

import (
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

	judged  Reason         // refused by the last Message and not yet by Refuse
	tallies []refusalTally // counted, not yet in the journal
	flushed time.Time      // when the last of them went there
}

// refusalTally is refusals that go into the journal as one record.
type refusalTally struct {
	stream string
	reason Reason
	since  int64
	count  uint32
}

// A device that is refused over and over grows the journal by a few records a
// second at most.
const (
	tallyEvery = time.Second
	maxTallies = 8
)

// NewSource makes the source of one session.
func (in *Intake) NewSource(i SourceInfo) *Source {
	return &Source{
		in: in, slot: in.slot(i.Product), product: i.Product, subject: i.Subject,
		ownedSince: i.OwnedSince.UnixMilli(), sender: i.Sender,
	}
}

// Close puts what was counted last into the journal. The source is not used
// after it.
func (s *Source) Close() { s.flush() }

// Refuse records that a message was refused, content-free. Call it after every
// Message with the action Refuse, with the reason that it gave, and for what
// the gateway refuses by itself (rate, topic). stream is named in the record
// only if the product declares it.
//
// With a completion the record is submitted now and c.Done(token, …) is called
// once it is on disk: an MQTT 3.1.1 client gets its PUBACK only then. Without
// one, records of the same kind are gathered for up to a second. An error is
// our own trouble; c is then not called.
func (in *Intake) Refuse(src *Source, stream []byte, r Reason, c Completion, token uint64) error {
	now := in.d.Now()
	name := src.declared(stream)
	if r == src.judged {
		src.judged = "" // Message has counted it
	} else {
		count(&in.counts.refused, r)
		src.tally(name, r, now)
	}
	if c == nil {
		src.flushDue(now)
		return nil
	}
	for i := range src.tallies {
		if t := &src.tallies[i]; t.reason == r && t.stream == name {
			if err := src.submit(t, c, token); err != nil {
				in.counts.trouble.Add(1)
				return err
			}
			src.tallies = append(src.tallies[:i], src.tallies[i+1:]...)
			return nil
		}
	}
	// It went out with others a moment ago; this one is for the completion.
	return src.submit(&refusalTally{stream: name, reason: r, since: now.UnixMilli()}, c, token)
}

// refuse is Message's verdict of refusal.
func (in *Intake) refuse(src *Source, stream string, r Reason, now time.Time) Verdict {
	count(&in.counts.refused, r)
	src.tally(stream, r, now)
	src.judged = r
	return Verdict{Refuse, r}
}

// drop is Message's verdict of not storing what need not be refused.
func (in *Intake) drop(src *Source, stream []byte, r Reason, now time.Time) Verdict {
	count(&in.counts.dropped, r)
	src.tally(src.declared(stream), r, now)
	src.flushDue(now)
	return Verdict{AckNow, r}
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

func (s *Source) tally(stream string, r Reason, now time.Time) {
	for i := range s.tallies {
		if t := &s.tallies[i]; t.reason == r && t.stream == stream {
			if t.count < 1<<32-1 {
				t.count++
			}
			return
		}
	}
	if len(s.tallies) >= maxTallies {
		s.flush()
	}
	if len(s.tallies) < maxTallies { // else the journal is in trouble
		s.tallies = append(s.tallies, refusalTally{stream: stream, reason: r, since: now.UnixMilli(), count: 1})
	}
}

// flushDue empties the tallies if that was not done within the last second.
func (s *Source) flushDue(now time.Time) {
	if d := now.Sub(s.flushed); d >= tallyEvery || d < 0 {
		s.flushed = now
		s.flush()
	}
}

// flush submits all tallies. What the journal does not take stays for the next
// time.
func (s *Source) flush() {
	kept := s.tallies[:0]
	for i := range s.tallies {
		if s.submit(&s.tallies[i], nil, 0) != nil {
			kept = append(kept, s.tallies[i])
		}
	}
	s.tallies = kept
}

func (s *Source) submit(t *refusalTally, c Completion, token uint64) error {
	var buf [512]byte // holds the longest refusal
	return s.in.d.Journal.Submit(AppendRefusal(buf[:0], &Refusal{
		Product: s.product, Subject: s.subject,
		Stream: t.stream, Reason: t.reason, Received: t.since, Count: t.count,
	}), c, token)
}
