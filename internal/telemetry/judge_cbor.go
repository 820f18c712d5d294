package telemetry

import "unicode/utf8"

// strayKey stands for the name of an undeclared field whose key is no text.
const strayKey = "key-that-is-no-text"

// cbor reads a payload that begins as CBOR does.
func (sp *StreamPlan) cbor(j *Judged, b []byte) Reason {
	i := 0
	if b[0] == selfDescribed[0] {
		i = len(selfDescribed)
	}
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return ReasonNotCBOR
	}
	if first>>5 == majorArray && head < len(b) && b[head]>>5 == majorMap {
		return sp.senmlCBOR(j, b, first, arg, head)
	}
	if first>>5 != majorMap {
		end, why := skipCBOR(b, i, 0)
		switch {
		case why != "":
			return why
		case end != len(b):
			return ReasonNotCBOR
		}
		return ReasonNotObject
	}
	items := newItems(first, arg)
	for i = head; ; {
		more, end := items.next(b, i)
		if end < 0 {
			return ReasonNotCBOR
		}
		if !more {
			if end != len(b) {
				return ReasonNotCBOR
			}
			return ""
		}
		var why Reason
		if i, why = sp.cborMember(j, b, i); why != "" {
			return why
		}
	}
}

// cborMember judges the pair whose key begins at b[i]. A key that is no text
// names nothing that could be declared.
func (sp *StreamPlan) cborMember(j *Judged, b []byte, i int) (end int, why Reason) {
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return 0, ReasonNotCBOR
	}
	if first>>5 != majorText {
		if i, why = skipCBOR(b, i, 1); why != "" {
			return 0, why
		}
		j.strange([]byte(strayKey))
		return skipCBOR(b, i, 1)
	}
	s, i := cutCBORText(b, first, arg, head)
	if i < 0 {
		return 0, ReasonNotCBOR
	}
	name := j.plain(s)
	n := sp.find(name)
	if n < 0 {
		if !utf8.Valid(name) { // a declared name is
			return 0, ReasonNotCBOR
		}
		j.strange(name)
		return skipCBOR(b, i, 1)
	}
	if j.again(n) {
		return 0, ReasonDuplicateKey
	}
	from := len(j.values)
	end, good, why := sp.fields[n].cbor(j, b, i)
	if why != "" {
		return 0, why
	}
	j.settle(n, from, good)
	return end, ""
}

// cbor judges the CBOR item at b[i] as value does JSON. Numbers are whole
// numbers, floats, bignums of at most 64 bits and decimal fractions; texts are
// text strings; times may carry tag 0 or 1 (RFC 8949 §3.4). Everything else is
// bad: byte strings, null and undefined, other tags, NaN and infinities.
func (f *fieldPlan) cbor(j *Judged, b []byte, i int) (end int, good bool, why Reason) {
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return 0, false, ReasonNotCBOR
	}
	switch first >> 5 {
	case majorText:
		if f.takesText() {
			s, end := scanCBORText(b, first, arg, head)
			if end < 0 {
				return 0, false, ReasonNotCBOR
			}
			return end, f.text(j, s), ""
		}
	case majorTag:
		if (f.kind == kindTimestamp || f.kind == kindT) && arg <= tagTime {
			if end, good, ok := f.taggedTime(j, b, arg, head); ok {
				return end, good, ""
			}
			break
		}
		fallthrough
	case majorUint, majorNegative:
		if f.takesNumber() {
			if d, end, ok := scanCBORNumber(b, first, arg, head); ok {
				return end, f.number(j, d, nil), ""
			}
		}
	case majorSimple:
		if f.kind == kindBoolean {
			switch first {
			case cborTrue:
				j.values = append(j.values, "true"...)
				return head, true, ""
			case cborFalse:
				j.values = append(j.values, "false"...)
				return head, true, ""
			}
		}
		if f.takesNumber() {
			if d, end, ok := scanCBORNumber(b, first, arg, head); ok {
				return end, f.number(j, d, nil), ""
			}
		}
	}
	end, why = skipCBOR(b, i, 1)
	return end, false, why
}

// taggedTime judges the time of tag 0 or 1 whose content begins at b[i]; ok is
// false when it is none.
func (f *fieldPlan) taggedTime(j *Judged, b []byte, tag uint64, i int) (end int, good, ok bool) {
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return 0, false, false
	}
	major := first >> 5
	if tag == tagTimeText {
		if major != majorText {
			return 0, false, false
		}
		s, end := scanCBORText(b, first, arg, head)
		return end, end >= 0 && f.text(j, s), end >= 0
	}
	if major > majorNegative && major != majorSimple {
		return 0, false, false // §3.4.2: no other form of number
	}
	d, end, ok := scanCBORNumber(b, first, arg, head)
	if !ok {
		return 0, false, false
	}
	t, ok := d.unix()
	return end, ok && f.moment(j, t), true
}
