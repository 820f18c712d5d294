package telemetry

// senmlJSON reads a pack of SenML in JSON (RFC 8428 §5) whose first record
// begins at b[i].
func (sp *StreamPlan) senmlJSON(j *Judged, b []byte, i int) Reason {
	p := pack{sp: sp, j: j, b: b}
	for {
		if i >= len(b) || b[i] != '{' {
			_, why := skipValue(b, i, 1)
			if why == "" {
				why = ReasonNotSenML
			}
			return why
		}
		end, why := p.recordJSON(i)
		if why == "" {
			why = p.end()
		}
		if why != "" {
			return why
		}
		if i = skipSpace(b, end); i >= len(b) {
			return ReasonNotJSON
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case ']':
			p.close()
			return atEnd(b, i+1)
		default:
			return ReasonNotJSON
		}
	}
}

// recordJSON reads the record that begins at p.b[i].
func (p *pack) recordJSON(i int) (end int, why Reason) {
	b := p.b
	p.begin()
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, ""
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return 0, ReasonNotJSON
		}
		name, end := scanString(b, i)
		if end < 0 {
			return 0, ReasonNotJSON
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return 0, ReasonNotJSON
		}
		if i, why = p.memberJSON(name, skipSpace(b, i+1)); why != "" {
			return 0, why
		}
		if i = skipSpace(b, i); i >= len(b) {
			return 0, ReasonNotJSON
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case '}':
			return i + 1, ""
		default:
			return 0, ReasonNotJSON
		}
	}
}

// memberJSON takes the value at p.b[i] of the given name.
func (p *pack) memberJSON(name text, i int) (end int, why Reason) {
	b := p.b
	plain := p.j.plain(name)
	l := labelOf(plain)
	if l == labelNone {
		if why = p.unknown(plain); why != "" {
			return 0, why
		}
		return skipValue(b, i, 2)
	}
	if why = p.label(l); why != "" {
		return 0, why
	}
	switch bit := 1 << l; {
	case bit&labelsOfValue != 0:
		p.from = i
		return skipValue(b, i, 2)
	case i < len(b) && bit&labelsOfText != 0 && b[i] == '"':
		s, end := scanString(b, i)
		if end < 0 {
			return 0, ReasonNotJSON
		}
		p.text(l, s)
		return end, ""
	case i < len(b) && bit&labelsOfText == 0 && (b[i] == '-' || isDigit(b[i])):
		d, end := scanNumber(b, i)
		if end < 0 {
			return 0, ReasonNotJSON
		}
		return end, p.number(l, d)
	}
	if _, why = skipValue(b, i, 2); why == "" {
		why = ReasonNotSenML // of another type than RFC 8428's table 1 says
	}
	return 0, why
}

// judgeJSON judges the record's value, which is JSON.
func (p *pack) judgeJSON(f *fieldPlan, label uint16) bool {
	i := p.from
	c := p.b[i]
	switch {
	case label == 1<<labelText && c == '"', label == 1<<labelBoolean && (c == 't' || c == 'f'):
	case label == 1<<labelValue && (c == '-' || isDigit(c)):
		if p.value.mant == 0 {
			break
		}
		d, end := scanNumber(p.b, i)
		return end-i <= maxNumber && p.sum(f, d)
	default:
		return false
	}
	_, good, _ := f.value(p.j, p.b, i)
	return good
}
