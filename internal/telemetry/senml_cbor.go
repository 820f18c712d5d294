package telemetry

// labelOfKey is the label of an integer key, -1-n if negative (RFC 8428 §6,
// table 4).
func labelOfKey(negative bool, n uint64) senmlLabel {
	if negative {
		if n <= 5 {
			return [...]senmlLabel{labelVersion, labelBaseName, labelBaseTime, labelBaseUnit, labelBaseValue, labelBaseSum}[n]
		}
		return labelNone
	}
	if n <= 8 {
		return [...]senmlLabel{labelName, labelUnit, labelValue, labelText, labelBoolean, labelSum, labelTime, labelUpdate, labelData}[n]
	}
	return labelNone
}

// senmlCBOR reads a pack of SenML in CBOR (RFC 8428 §6): the array with that
// head, whose first item begins at b[i].
func (sp *StreamPlan) senmlCBOR(j *Judged, b []byte, first byte, arg uint64, i int) Reason {
	p := pack{sp: sp, j: j, b: b, cbor: true}
	items := newItems(first, arg)
	for {
		more, end := items.next(b, i)
		switch {
		case end < 0:
			return ReasonNotCBOR
		case !more && end != len(b):
			return ReasonNotCBOR
		case !more:
			p.close()
			return ""
		}
		var why Reason
		if i, why = p.recordCBOR(i); why == "" {
			why = p.end()
		}
		if why != "" {
			return why
		}
	}
}

// recordCBOR reads the record that begins at p.b[i].
func (p *pack) recordCBOR(i int) (end int, why Reason) {
	b := p.b
	p.begin()
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return 0, ReasonNotCBOR
	}
	if first>>5 != majorMap {
		if _, why = skipCBOR(b, i, 1); why == "" {
			why = ReasonNotSenML
		}
		return 0, why
	}
	items := newItems(first, arg)
	for i = head; ; {
		more, end := items.next(b, i)
		if end < 0 {
			return 0, ReasonNotCBOR
		}
		if !more {
			return end, ""
		}
		if i, why = p.memberCBOR(i); why != "" {
			return 0, why
		}
	}
}

// memberCBOR takes the pair whose key begins at p.b[i]. A label of RFC 8428
// that is spelt in text instead of its integer refuses the message: it would
// be read by some and not by others.
func (p *pack) memberCBOR(i int) (end int, why Reason) {
	b := p.b
	first, arg, head := cborHead(b, i)
	if head < 0 {
		return 0, ReasonNotCBOR
	}
	l := labelNone
	switch first >> 5 {
	case majorUint, majorNegative:
		l = labelOfKey(first>>5 == majorNegative, arg)
		i = head
		if l == labelNone {
			p.j.strange([]byte(strayKey))
		}
	case majorText:
		s, end := scanCBORText(b, first, arg, head)
		if end < 0 {
			return 0, ReasonNotCBOR
		}
		i = end
		name := p.j.plain(s)
		if labelOf(name) != labelNone {
			return 0, ReasonNotSenML
		}
		if why = p.unknown(name); why != "" {
			return 0, why
		}
	default:
		if i, why = skipCBOR(b, i, 2); why != "" {
			return 0, why
		}
		p.j.strange([]byte(strayKey))
	}
	if l == labelNone {
		return skipCBOR(b, i, 2)
	}
	if why = p.label(l); why != "" {
		return 0, why
	}
	if 1<<l&labelsOfValue != 0 {
		p.from = i
		return skipCBOR(b, i, 2)
	}
	if first, arg, head = cborHead(b, i); head < 0 {
		return 0, ReasonNotCBOR
	}
	if 1<<l&labelsOfText != 0 {
		if first>>5 == majorText {
			s, end := scanCBORText(b, first, arg, head)
			if end < 0 {
				return 0, ReasonNotCBOR
			}
			p.text(l, s)
			return end, ""
		}
	} else if d, end, ok := scanCBORNumber(b, first, arg, head); ok {
		return end, p.number(l, d)
	}
	if _, why = skipCBOR(b, i, 2); why == "" {
		why = ReasonNotSenML // of another type than RFC 8428's table 1 says
	}
	return 0, why
}

// judgeCBOR judges the record's value, which is CBOR.
func (p *pack) judgeCBOR(f *fieldPlan, label uint16) bool {
	first, arg, head := cborHead(p.b, p.from)
	switch {
	case label == 1<<labelText && first>>5 == majorText, label == 1<<labelBoolean && (first == cborTrue || first == cborFalse):
		_, good, _ := f.cbor(p.j, p.b, p.from)
		return good
	case label == 1<<labelValue:
		d, _, ok := scanCBORNumber(p.b, first, arg, head)
		return ok && p.sum(f, d)
	}
	return false
}
