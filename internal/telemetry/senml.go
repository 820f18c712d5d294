package telemetry

// A SenML pack (RFC 8428) is one reading: an array of records, each with the
// value of one field. What both of its forms, JSON and CBOR, have in common is
// here.
//
//   - A record is named by the base name and its own name, one after the other
//     (§4.5.1). The field is what follows the last ':' or '/' of that; what
//     stands before says of which device or part it is. It must be alike in all
//     records, and is forgotten: who sends, the certificate says.
//   - The time of the reading is that of its records, base time and own time
//     together; a pack with several is several readings, and one message can
//     only be one. Below 2^28 it is in seconds from the receipt (§4.5.3).
//   - Records named boot and seq number the reading, as in an object; theirs is
//     no time. A record named t is undeclared like any other.
//   - A unit must be the declared one. Sums are values that nobody declared.

// senmlLabel is what a member of a record says (RFC 8428 §4.3).
type senmlLabel uint8

const (
	labelVersion senmlLabel = iota
	labelBaseName
	labelBaseTime
	labelBaseUnit
	labelBaseValue
	labelBaseSum
	labelName
	labelUnit
	labelValue
	labelText
	labelBoolean
	labelSum
	labelTime
	labelUpdate // how soon the next one comes at the latest: the stream says that
	labelData
	labelNone // not of RFC 8428
)

// Sets of labels.
const (
	labelsOfText  = 1<<labelBaseName | 1<<labelBaseUnit | 1<<labelName | 1<<labelUnit
	labelsOfValue = 1<<labelValue | 1<<labelText | 1<<labelBoolean | 1<<labelData
	labelsOfBase  = 1<<labelVersion | 1<<labelBaseName | 1<<labelBaseTime | 1<<labelBaseUnit | 1<<labelBaseValue | 1<<labelBaseSum
)

// labelOf is the label that is spelt so in JSON.
func labelOf(name []byte) senmlLabel {
	switch string(name) {
	case "n":
		return labelName
	case "v":
		return labelValue
	case "u":
		return labelUnit
	case "t":
		return labelTime
	case "vs":
		return labelText
	case "vb":
		return labelBoolean
	case "vd":
		return labelData
	case "bn":
		return labelBaseName
	case "bt":
		return labelBaseTime
	case "bu":
		return labelBaseUnit
	case "bv":
		return labelBaseValue
	case "s":
		return labelSum
	case "bs":
		return labelBaseSum
	case "ut":
		return labelUpdate
	case "bver":
		return labelVersion
	}
	return labelNone
}

// pack is what a pack has said so far.
type pack struct {
	sp   *StreamPlan
	j    *Judged
	b    []byte
	cbor bool

	base, unit  text
	time, value decimal
	begun       bool    // a declared field was named: j.prefix is how
	timed       bool    // at is the reading's time, in seconds
	at          decimal // trimmed

	// The record that is being read.
	has     uint16 // labels
	name    text
	recUnit text
	recTime decimal
	from    int // where its value begins
}

// begin begins a record.
func (p *pack) begin() {
	p.has, p.name, p.recTime = 0, text{}, decimal{}
}

// label notes that a record has a label. One that stands twice refuses the
// message, as a declared name in an object does.
func (p *pack) label(l senmlLabel) Reason {
	if p.has&(1<<l) != 0 {
		return ReasonDuplicateKey
	}
	p.has |= 1 << l
	return ""
}

// unknown is of a label that RFC 8428 does not know: nobody declared what it
// says. One that ends in '_' must be understood (§4.4).
func (p *pack) unknown(name []byte) Reason {
	if len(name) > 0 && name[len(name)-1] == '_' {
		return ReasonNotSenML
	}
	p.j.strange(name)
	return ""
}

// text takes what a label of text says.
func (p *pack) text(l senmlLabel, s text) {
	switch l {
	case labelBaseName:
		p.base = s
	case labelBaseUnit:
		p.unit = s
	case labelName:
		p.name = s
	case labelUnit:
		p.recUnit = s
	}
}

// The versions of SenML: those up to that of RFC 8428, and that with its
// secondary units (RFC 9100 §3), which are compared like any other.
const (
	senmlVersion        = 10
	senmlSecondaryUnits = senmlVersion + 1<<4
)

// number takes what a label of a number says.
func (p *pack) number(l senmlLabel, d decimal) Reason {
	switch l {
	case labelVersion:
		n, ok := d.integer()
		if !ok || d.neg || n == 0 || n > senmlVersion && n != senmlSecondaryUnits {
			return ReasonNotSenML // §4.4
		}
	case labelBaseTime:
		d.trim() // once, and not with each record: sameTime relies on it
		p.time = d
	case labelBaseValue:
		p.value = d
	case labelTime:
		p.recTime = d
	case labelBaseSum:
		p.j.strange([]byte("bs"))
	case labelSum:
		p.j.strange([]byte("s"))
	}
	return ""
}

// end judges the record that was read.
func (p *pack) end() Reason {
	value := p.has & labelsOfValue
	switch {
	case value&(value-1) != 0:
		return ReasonNotSenML // §4.2: one value
	case value == 0 && (p.has&(1<<labelSum) != 0 || p.has != 0 && p.has&^labelsOfBase == 0):
		return "" // a sum, or bases of the records to come
	case value == 0:
		return ReasonNotSenML
	}
	j := p.j
	prefix, name := p.resolve()
	if len(prefix)+len(name) == 0 {
		return ReasonNotSenML // §4.5.1
	}
	n := p.sp.find(name)
	if n < 0 || p.sp.fields[n].kind == kindT {
		j.strange(name)
		return ""
	}
	f := &p.sp.fields[n]
	if !p.begun {
		p.begun = true
		j.prefix = append(j.prefix[:0], prefix...)
	} else if string(prefix) != string(j.prefix) {
		return ReasonSeveralNames
	}
	if f.kind < kindT && !p.sameTime() {
		return ReasonSeveralTimes
	}
	if j.again(n) {
		return ReasonDuplicateKey
	}
	from := len(j.values)
	j.settle(n, from, p.unitIs(f.unit) && p.judge(f, value))
	return ""
}

// resolve is the record's name (§4.6) in two pieces, good until j.scratch is
// used again.
func (p *pack) resolve() (prefix, name []byte) {
	base, n := &p.base, &p.name
	if !base.escaped && !base.chunked && !n.escaped && !n.chunked &&
		afterLast(n.raw) == 0 && afterLast(base.raw) == len(base.raw) {
		return base.raw, n.raw
	}
	j := p.j
	j.scratch = n.append(base.append(j.scratch[:0]))
	at := afterLast(j.scratch)
	return j.scratch[:at], j.scratch[at:]
}

// afterLast is the index after the last ':' or '/' of b, neither of which is
// in a field's name.
func afterLast(b []byte) int {
	for i := len(b); i > 0; i-- {
		if c := b[i-1]; c == ':' || c == '/' {
			return i
		}
	}
	return 0
}

// sameTime reports whether the record's time is that of the reading.
func (p *pack) sameTime() bool {
	at := p.time // trimmed
	if p.recTime.mant != 0 {
		at = at.plus(p.recTime)
		at.trim()
	}
	if !p.timed {
		p.timed, p.at = true, at
		return true
	}
	return at == p.at
}

// unitIs reports whether the record's unit is the declared one, or one of the
// two says nothing.
func (p *pack) unitIs(declared string) bool {
	u := p.unit
	if p.has&(1<<labelUnit) != 0 {
		u = p.recUnit
	}
	return declared == "" || len(u.raw) == 0 || string(p.j.plain(u)) == declared
}

// judge judges the record's value, which stands under that label.
func (p *pack) judge(f *fieldPlan, label uint16) bool {
	if p.cbor {
		return p.judgeCBOR(f, label)
	}
	return p.judgeJSON(f, label)
}

// sum judges a number to which the base value was added (§4.5.4).
func (p *pack) sum(f *fieldPlan, d decimal) bool {
	if p.value.mant != 0 {
		d = d.plus(p.value)
	}
	return f.takesNumber() && f.number(p.j, d, nil)
}

// close gives the reading its time. None, and 0, say that the device does not
// know it (§4.5.3); one that no calendar has is bad.
func (p *pack) close() {
	if !p.timed || p.at.mant == 0 {
		return
	}
	t, ok := p.at.unix()
	if !ok {
		p.j.Bad++
		return
	}
	at := t.UnixMilli()
	if t.Unix() < 1<<28 {
		at += p.j.T // of receipt
	}
	p.j.T, p.j.hasT = at, true
}
