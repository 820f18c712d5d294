package main

import (
	"bytes"
	"strconv"
	"time"
)

// payload is a message body with two optional places that change with every
// message: $T, the time in Unix milliseconds, and $SEQ, a number that grows
// from 1000000000. Both keep their width, so the length never changes.
type payload struct {
	body   []byte
	t, seq int // offsets of the places, -1 where absent
	n      int64
}

const seqBase = 1_000_000_000

func newPayload(template string) *payload {
	b := []byte(template)
	p := &payload{t: -1, seq: -1}
	if i := bytes.Index(b, []byte("$T")); i >= 0 {
		b = bytes.Replace(b, []byte("$T"), []byte("0000000000000"), 1)
		p.t = i
	}
	if i := bytes.Index(b, []byte("$SEQ")); i >= 0 {
		if p.t > i {
			p.t += len("0000000000") - len("$SEQ")
		}
		b = bytes.Replace(b, []byte("$SEQ"), []byte("0000000000"), 1)
		p.seq = i
	}
	p.body = b
	return p
}

func (p *payload) next(now time.Time) []byte {
	if p.t >= 0 {
		strconv.AppendInt(p.body[p.t:p.t], now.UnixMilli(), 10)
	}
	if p.seq >= 0 {
		strconv.AppendInt(p.body[p.seq:p.seq], seqBase+p.n, 10)
		p.n++
	}
	return p.body
}
