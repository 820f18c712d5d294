package gate

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

// row is a counter in memory.
type row struct {
	until   instant // when everything is forgiven
	last    instant // the latest try that counts
	since   instant // the first
	wrong   int32
	open    int32 // tickets under way, of machineMade sources; not kept
	account *account
}

// account is what is known beside the count of an account.
type account struct {
	told, noted instant
	refused     int32
	nets        sketch
}

// level is how many tries of a bucket are not forgiven yet.
func (r *row) level(b Budget, now instant) float64 {
	return max(0, float64(r.until-now)/float64(b.Refill.Microseconds()))
}

// wait is how long a bucket must drain until one more try fits; 0: it fits.
func (r *row) wait(b Budget, burst int, now instant) time.Duration {
	return max(0, max(r.until, now).sub(now)+b.Refill-time.Duration(burst)*b.Refill)
}

// charge counts one try in a bucket.
func (r *row) charge(b Budget, now instant) {
	r.until = max(r.until, now).add(b.Refill)
	r.count(now)
}

func (r *row) count(now instant) {
	if r.wrong == 0 {
		r.since = now
	}
	r.last = now
	if r.wrong < math.MaxInt32 {
		r.wrong++
	}
}

// refund gives a try back that was charged at a moment, less what of it was
// forgiven since: otherwise it would forgive somebody else's.
func (r *row) refund(b Budget, charged, now instant) {
	r.until -= instant(max(0, b.Refill-now.sub(charged)).Microseconds())
	r.wrong = max(0, r.wrong-1)
}

// over reports whether a row says nothing any more. What its owner may have to
// hear of an account is kept a little longer than its tries count.
func (r *row) over(now instant, tellEvery time.Duration) bool {
	a := r.account
	return r.until <= now && (a == nil || max(r.last, a.told, a.noted).add(tellEvery) <= now)
}

// table is the rows of one scope, at most max of them.
type table struct {
	scope Scope
	max   int
	rows  map[Key]*row
	// floored tables let a new row begin where the last one ended that was
	// pushed out: whoever fills the table gives nobody fresh tries.
	floored bool
	floor   instant
}

// place is where a row lies.
type place struct {
	t   *table
	key Key
}

// look gives the row of a key, or what a new one would begin with.
func (t *table) look(k Key) row {
	if r := t.rows[k]; r != nil {
		return *r
	}
	return row{until: t.start()}
}

func (t *table) start() instant {
	if !t.floored {
		return 0
	}
	return t.floor
}

// make gives the row of a key, a new one when there is none. dropped is told
// which rows had to go for it.
func (t *table) make(k Key, now instant, tellEvery time.Duration, dropped func(Key)) *row {
	if r := t.rows[k]; r != nil && !r.over(now, tellEvery) {
		return r
	} else if r == nil && len(t.rows) >= t.max {
		t.shrink(now, tellEvery, dropped)
	}
	r := &row{since: now, until: t.start()}
	if t.scope == Account || t.scope == MadeAccount {
		r.account = &account{}
	}
	t.rows[k] = r
	return r
}

// shrink makes room: what says nothing any more goes first, then what would be
// forgiven first, so that a full table costs one pass in many.
func (t *table) shrink(now instant, tellEvery time.Duration, dropped func(Key)) {
	t.sweep(now, tellEvery, math.MaxInt, dropped)
	over := len(t.rows) - t.max*7/8
	if over <= 0 {
		return
	}
	type entry struct {
		key   Key
		until instant
	}
	all := make([]entry, 0, len(t.rows))
	for k, r := range t.rows {
		all = append(all, entry{k, r.until})
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.until, b.until) })
	for _, e := range all[:over] {
		t.floor = max(t.floor, e.until)
		delete(t.rows, e.key)
		dropped(e.key)
	}
}

// sweep drops up to n rows that say nothing any more, and says how many.
func (t *table) sweep(now instant, tellEvery time.Duration, n int, dropped func(Key)) (done int) {
	for k, r := range t.rows {
		if done >= n {
			break
		}
		if r.over(now, tellEvery) {
			delete(t.rows, k)
			dropped(k)
			done++
		}
	}
	return done
}

// sketch counts distinct keys roughly, in a fixed space (linear counting).
type sketch [4]uint64

func (s *sketch) add(k Key) {
	b := k[0]
	s[b>>6] |= 1 << (b & 63)
}

// estimate is exact for a few, some percent off for hundreds, and ends at 1420.
func (s *sketch) estimate() int {
	set := 0
	for _, w := range s {
		set += bits.OnesCount64(w)
	}
	const m = 256
	return int(math.Round(-m * math.Log(float64(max(1, m-set))/m)))
}

func (s *sketch) bytes() []byte {
	out := make([]byte, 0, 32)
	for _, w := range s {
		for i := range 8 {
			out = append(out, byte(w>>(8*i)))
		}
	}
	return out
}

func (s *sketch) fill(b []byte) {
	if len(b) != 32 {
		return
	}
	for i, c := range b {
		s[i/8] |= uint64(c) << (8 * (i % 8))
	}
}
