package telemetry

import (
	"math"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// clockAhead is how far a device's clock may be ahead of ours (design, section
// 5, Time).
const clockAhead = 5 * time.Minute

// Judged is what Judge made of a message. It is reused from one message to the
// next; what it gives out is valid until then. The zero value is ready.
type Judged struct {
	T          int64 // Unix milliseconds: the reading's own time, or that of receipt
	WrongClock bool  // the message had no possible time: T is the time of receipt
	HasSeq     bool
	Boot, Seq  uint64
	Undeclared int // fields dropped because the stream does not declare them
	Bad        int // declared fields dropped because of their value

	parts   []JudgedPart
	stray   []byte // name of the first undeclared field, with JSON's escapes; part of the payload, or odd
	odd     [maxUndeclaredName]byte
	hasT    bool
	hasBoot bool
	seen    [5]uint64 // by index in StreamPlan.fields
	good    [5]uint64
	spans   []span // of the good fields' values, in values
	values  []byte // canonical values, in the order of the message
	out     []byte // the parts' plaintexts, one after the other
	scratch []byte // unescaped text
	prefix  []byte // how the names of a SenML pack begin
}

// JudgedPart is the accepted fields of one group.
type JudgedPart struct {
	Group  uint8
	Keep   time.Duration
	Length time.Duration // of an epoch
	Fields int
	Plain  []byte // compact JSON object, fields in declaration order
	from   int
}

type span struct{ from, to int }

// Parts is what is left of the message, one part for each group, in the order
// of the policy. It is empty unless the message was accepted.
func (j *Judged) Parts() []JudgedPart { return j.parts }

// saturate is n as a record counts it.
func saturate(n int) uint16 { return uint16(min(n, math.MaxUint16)) }

// Wipe overwrites what the message said. Judge overwrites it too, but may not
// be called again for long.
func (j *Judged) Wipe() {
	j.values, j.out, j.scratch, j.prefix = wiped(j.values), wiped(j.out), wiped(j.scratch), wiped(j.prefix)
	j.parts, j.stray = j.parts[:0], nil
	j.odd = [maxUndeclaredName]byte{}
}

// wiped is b, empty and overwritten to its end; one that a rare large message
// has grown is let go of.
func wiped(b []byte) []byte {
	clear(b[:cap(b)])
	if cap(b) > 8192 {
		return nil
	}
	return b[:0]
}

func (j *Judged) reset(sp *StreamPlan, received time.Time) {
	j.T, j.WrongClock = received.UnixMilli(), true
	j.HasSeq, j.Boot, j.Seq, j.hasT, j.hasBoot = false, 0, 0, false, false
	j.Undeclared, j.Bad = 0, 0
	j.parts, j.stray = j.parts[:0], nil
	j.seen, j.good = [5]uint64{}, [5]uint64{}
	if cap(j.spans) < len(sp.fields) {
		j.spans = make([]span, len(sp.fields))
	}
	j.spans = j.spans[:len(sp.fields)]
	j.values, j.out, j.scratch = j.values[:0], j.out[:0], j.scratch[:0]
}

// Judge reads payload once, received at the given time, and leaves in j what
// the declaration allows to be kept: declared fields with good values, rounded
// to their precision, by group. The empty Reason means that something is left;
// any other refuses the whole message.
//
// The payload is one JSON object (RFC 8259), one CBOR map (RFC 8949), or one
// SenML pack in JSON or CBOR (RFC 8428), told apart by how it begins. Names are
// compared after unescaping, exactly and with case. Names that the stream does
// not declare are dropped (CC 1.2, 4.3), their values only checked to be well
// formed. A declared name that stands twice refuses the message, because
// parsers disagree about which one counts (RFC 8259 §4, RFC 8949 §5.6) and a
// device and its maker must not see different values.
func (sp *StreamPlan) Judge(j *Judged, payload []byte, received time.Time) Reason {
	j.reset(sp, received)
	if len(payload) > sp.stream.MaxBytes {
		return ReasonTooLarge
	}
	var why Reason
	if isCBOR(payload) {
		why = sp.cbor(j, payload)
	} else {
		why = sp.object(j, payload)
	}
	if why != "" {
		return why
	}
	if j.Bad > 0 && sp.stream.OnBad == declaration.BadMessage {
		return ReasonBadField
	}
	// A time that cannot be is no time: that of receipt is used instead.
	if j.hasT {
		if t := j.T; t < sp.plan.declared || t > received.Add(clockAhead).UnixMilli() {
			j.T = received.UnixMilli()
		} else {
			j.WrongClock = false
		}
	}
	if !j.HasSeq {
		j.Boot = 0 // alone it names nothing
	}
	sp.assemble(j)
	if len(j.parts) == 0 {
		return ReasonNothingLeft
	}
	return ""
}

// object reads the payload's members.
func (sp *StreamPlan) object(j *Judged, b []byte) Reason {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		if i < len(b) && b[i] == '[' {
			if k := skipSpace(b, i+1); k < len(b) && b[k] == '{' {
				return sp.senmlJSON(j, b, k)
			}
		}
		return notObject(b, i)
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return atEnd(b, i+1)
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return ReasonNotJSON
		}
		name, end := scanString(b, i)
		if end < 0 {
			return ReasonNotJSON
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return ReasonNotJSON
		}
		end, why := sp.member(j, name, b, skipSpace(b, i+1))
		if why != "" {
			return why
		}
		if i = skipSpace(b, end); i >= len(b) {
			return ReasonNotJSON
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case '}':
			return atEnd(b, i+1)
		default:
			return ReasonNotJSON
		}
	}
}

func atEnd(b []byte, i int) Reason {
	if skipSpace(b, i) != len(b) {
		return ReasonNotJSON
	}
	return ""
}

// notObject tells JSON of another kind from what is no JSON.
func notObject(b []byte, i int) Reason {
	end, why := skipValue(b, i, 0)
	if why == "" {
		why = atEnd(b, end)
	}
	if why == "" {
		why = ReasonNotObject
	}
	return why
}

// member judges the value at b[i] of the given name; end is after the value.
func (sp *StreamPlan) member(j *Judged, name text, b []byte, i int) (end int, why Reason) {
	n := sp.find(j.plain(name))
	if n < 0 {
		if j.Undeclared++; j.Undeclared == 1 {
			j.stray = name.raw
		}
		return skipValue(b, i, 1)
	}
	if j.again(n) {
		return 0, ReasonDuplicateKey
	}
	from := len(j.values)
	end, good, why := sp.fields[n].value(j, b, i)
	if why != "" {
		return 0, why
	}
	j.settle(n, from, good)
	return end, ""
}

// again notes that field n stands in the message, and whether it did before.
func (j *Judged) again(n int) bool {
	word, bit := n>>6, uint64(1)<<(n&63)
	before := j.seen[word] & bit
	j.seen[word] |= bit
	return before != 0
}

// settle notes what became of field n, whose value begins at from in values.
func (j *Judged) settle(n, from int, good bool) {
	if !good {
		j.values = j.values[:from]
		j.Bad++
		return
	}
	j.good[n>>6] |= 1 << (n & 63)
	j.spans[n] = span{from, len(j.values)}
}

// strange counts a field that is not declared. name may lie in a buffer: of
// the first one, as much is kept as is ever shown.
func (j *Judged) strange(name []byte) {
	if j.Undeclared++; j.Undeclared == 1 {
		j.stray = append(j.odd[:0], name[:min(len(name), len(j.odd))]...)
	}
}

// assemble writes the parts.
func (sp *StreamPlan) assemble(j *Judged) {
	for k := range sp.groups {
		g := &sp.groups[k]
		from, fields := len(j.out), 0
		for _, n := range g.fields {
			if j.good[n>>6]&(1<<(n&63)) == 0 {
				continue
			}
			if len(j.out) == from {
				j.out = append(j.out, '{')
			} else {
				j.out = append(j.out, ',')
			}
			fields++
			j.out = append(j.out, sp.fields[n].quoted...)
			s := j.spans[n]
			j.out = append(j.out, j.values[s.from:s.to]...)
		}
		if len(j.out) > from {
			j.out = append(j.out, '}')
			j.parts = append(j.parts, JudgedPart{Group: g.group, Keep: g.time.keep, Length: g.time.length, Fields: fields, from: from})
		}
	}
	// Only now: out may have moved while it grew.
	end := len(j.out)
	for k := len(j.parts) - 1; k >= 0; k-- {
		p := &j.parts[k]
		p.Plain, end = j.out[p.from:end:end], p.from
	}
}
