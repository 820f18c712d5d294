package telemetry

import "sync/atomic"

// counters is what the intake has done since the process began. It is for
// metrics and `doctor`; what must survive a restart is in the journal.
type counters struct {
	accepted, parts                        atomic.Uint64
	undeclaredFields, badFields, oldFields atomic.Uint64
	wrongClock                             atomic.Uint64
	trouble                                atomic.Uint64
	refused, dropped                       [reasonCount]atomic.Uint64
}

// Counters is a copy of the intake's counts.
type Counters struct {
	Accepted         uint64 // messages handed to the journal
	Parts            uint64 // sealed parts in them
	UndeclaredFields uint64 // dropped from accepted messages
	BadFields        uint64 // dropped from accepted messages
	OldFields        uint64 // dropped from accepted messages, being past their keep-time
	WrongClock       uint64 // accepted messages filed by their time of receipt
	Trouble          uint64 // messages that our own trouble kept from being taken
	Refused          map[Reason]uint64
	Dropped          map[Reason]uint64 // acknowledged and not stored, by rule
}

func (c *counters) read() Counters {
	out := Counters{
		Accepted: c.accepted.Load(), Parts: c.parts.Load(),
		UndeclaredFields: c.undeclaredFields.Load(), BadFields: c.badFields.Load(), OldFields: c.oldFields.Load(),
		WrongClock: c.wrongClock.Load(), Trouble: c.trouble.Load(),
		Refused: map[Reason]uint64{}, Dropped: map[Reason]uint64{},
	}
	for i := range reasonCount {
		if n := c.refused[i].Load(); n > 0 {
			out.Refused[reasonAt(i)] = n
		}
		if n := c.dropped[i].Load(); n > 0 {
			out.Dropped[reasonAt(i)] = n
		}
	}
	return out
}

func count(by *[reasonCount]atomic.Uint64, r Reason) {
	if i := reasonIndex(r); i >= 0 {
		by[i].Add(1)
	}
}
