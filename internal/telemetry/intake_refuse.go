package telemetry

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// What is not stored is counted, and the count is a record of the journal like
// a reading: an acknowledgement means decided and recorded (design, section 5,
// Messages). Counts of one kind share records, so that a device that is refused
// over and over grows the journal little.
const (
	lazyEvery = time.Second // how often at most counts go out that nobody waits for
	maxPiles  = 32          // kinds of one source that share records
)

// pile is messages of one source and kind that were not stored. One record of
// it at a time is on its way; meanwhile the next one gathers.
type pile struct {
	src     *Source
	subject core.Subject
	stream  string
	reason  Reason

	// src.mu guards what follows.
	since  int64    // Unix milliseconds, of the first one that gathers
	count  uint32   // that gather
	waits  []waiter // of them
	flying bool     // a record is on its way
	riders []waiter // who waits for that
	due    bool     // the next one goes after it, though nobody waits
}

// waiter is a completion that rides on a record.
type waiter struct {
	c     Completion
	token uint64
}

func tell(ws []waiter, err error) {
	for _, w := range ws {
		w.c.Done(w.token, err)
	}
}

// Refuse records that a message was not stored, content-free. Call it after
// every Message with the action Refuse or Drop, with the reason that it gave,
// and for what the gateway refuses by itself (rate, topic). stream is named in
// the record only if the product declares it.
//
// With a completion, c.Done(token, …) is called once, when the record that
// counts the message is on disk: acknowledge then (an MQTT 3.1.1 client gets
// its PUBACK only so). Without one, records of the same kind are gathered for
// up to a second. An error is our own trouble; c is then not called.
func (in *Intake) Refuse(src *Source, stream []byte, r Reason, c Completion, token uint64) error {
	if r != src.judged { // else Message has counted it
		count(&in.counts.refused, r)
	}
	src.judged = ""
	now := in.d.Now()
	err := src.pile(src.declared(stream), r, now, c, token)
	if err != nil {
		in.counts.trouble.Add(1)
	}
	return err
}

// pile adds one message to the pile of its kind.
func (s *Source) pile(stream string, r Reason, now time.Time, c Completion, token uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.kind(stream, r)
	if p == nil { // so many kinds at once: it goes alone
		lone := pile{src: s, subject: s.subject, stream: stream, reason: r, since: now.UnixMilli(), count: 1}
		return lone.submit(c, token)
	}
	if p.count == 0 {
		p.since = now.UnixMilli()
	}
	if c == nil {
		p.count += min(1, ^uint32(0)-p.count)
		if d := now.Sub(s.flushed); d >= lazyEvery || d < 0 {
			s.flushed = now
			s.flush()
		}
		return nil
	}
	p.count++
	p.waits = append(p.waits, waiter{c, token})
	if p.flying {
		return nil
	}
	err := p.launch()
	if err != nil {
		p.count--
		p.waits = p.waits[:len(p.waits)-1]
	}
	return err
}

// kind is the pile of a kind, nil when there is no room for one more. s.mu is
// held.
func (s *Source) kind(stream string, r Reason) *pile {
	for _, p := range s.piles {
		if p.reason == r && p.stream == stream && p.subject == s.subject {
			return p
		}
	}
	if len(s.piles) >= maxPiles {
		s.flush()
		kept := s.piles[:0]
		for _, p := range s.piles {
			if p.flying || p.count > 0 {
				kept = append(kept, p)
			}
		}
		clear(s.piles[len(kept):])
		s.piles = kept
	}
	if len(s.piles) >= maxPiles {
		return nil
	}
	p := &pile{src: s, subject: s.subject, stream: stream, reason: r}
	s.piles = append(s.piles, p)
	return p
}

// flush sends off every pile, at once or behind its record that is on its way.
// What the journal does not take stays for the next time. s.mu is held.
func (s *Source) flush() {
	for _, p := range s.piles {
		switch {
		case p.count == 0:
		case p.flying:
			p.due = true
		default:
			_ = p.launch() // stays for the next time
		}
	}
}

// launch submits what has gathered. src.mu is held.
func (p *pile) launch() error {
	if err := p.submit(p, 0); err != nil {
		return err
	}
	p.flying, p.riders, p.waits, p.count, p.due = true, p.waits, nil, 0, false
	return nil
}

func (p *pile) submit(c Completion, token uint64) error {
	var buf [512]byte // holds the longest refusal
	return p.src.in.d.Journal.Submit(AppendRefusal(buf[:0], &Refusal{
		Product: p.src.product, Subject: p.subject, Stream: p.stream, Reason: p.reason, Received: p.since, Count: p.count,
	}), c, token)
}

// Done hears from the journal what became of the record on its way, sends the
// next one after it if anybody waits for that, and passes the word on.
func (p *pile) Done(_ uint64, err error) {
	s := p.src
	s.mu.Lock()
	landed := p.riders
	p.flying, p.riders = false, nil
	var stuck []waiter
	var why error
	if len(p.waits) > 0 || p.due {
		if why = p.launch(); why != nil {
			// They are not acknowledged, so they come again and are counted then.
			stuck, p.waits = p.waits, nil
			p.count -= uint32(len(stuck))
		}
	}
	s.mu.Unlock()
	tell(landed, err)
	if len(stuck) > 0 {
		s.in.counts.trouble.Add(uint64(len(stuck)))
		tell(stuck, why)
	}
}
