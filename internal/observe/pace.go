package observe

import "time"

// rungs are the spans between which a stream's rate is declared.
func rungs() []time.Duration {
	const s, m, h = time.Second, time.Minute, time.Hour
	return []time.Duration{
		time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
		s, 2 * s, 5 * s, 10 * s, 15 * s, 30 * s, m, 2 * m, 5 * m, 10 * m, 15 * m, 30 * m, h, 2 * h, 6 * h, 12 * h, 24 * h,
	}
}

// pace is how fast one device sends on one topic.
type pace struct {
	n           uint64
	first, last time.Time
	level       [23]float64 // of a bucket that leaks once in a rung, by rung
	most        [23]float64 // that it ever held
}

func (p *pace) take(at time.Time) {
	since := time.Duration(0)
	if p.n == 0 {
		p.first, p.last = at, at
	} else if at.After(p.last) {
		since, p.last = at.Sub(p.last), at
	}
	p.n++
	for i, r := range rungs() {
		p.level[i] = max(0, p.level[i]-float64(since)/float64(r)) + 1
		p.most[i] = max(p.most[i], p.level[i])
	}
}

// add puts the pace of the same device on another topic beside this one: what
// both need together is at most what each needs.
func (p *pace) add(o *pace) {
	if o.n == 0 {
		return
	}
	if p.n == 0 {
		*p = *o
		return
	}
	p.n += o.n
	if o.first.Before(p.first) {
		p.first = o.first
	}
	if o.last.After(p.last) {
		p.last = o.last
	}
	for i := range p.most {
		p.level[i] += o.level[i]
		p.most[i] += o.most[i]
	}
}

// mean is the time between two messages; 0 where too few came to say.
func (p *pace) mean() time.Duration {
	if p.n < 3 {
		return 0
	}
	return p.last.Sub(p.first) / time.Duration(p.n-1)
}

// declared is the rate that lets everything through that these devices sent:
// one message in a span, and so many at once. A span of 0: too few came to say.
func declared(all []*pace) (every time.Duration, burst int) {
	list := rungs()
	fastest, known := list[len(list)-1], false
	for _, p := range all {
		known = known || p.n > 1
		if m := p.mean(); m > 0 {
			fastest = min(fastest, m)
		} else if p.n == 2 {
			fastest = min(fastest, p.last.Sub(p.first))
		}
	}
	if !known {
		return 0, 0
	}
	rung := 0
	for i, r := range list {
		if r <= fastest {
			rung = i
		}
	}
	need := 1.0
	for _, p := range all {
		need = max(need, p.most[rung])
	}
	return list[rung], min(10_000, int(need*1.5)+3)
}
