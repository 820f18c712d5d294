package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

// maxHigh bounds the series of one partition whose largest number is kept in
// memory. The others are looked up.
const maxHigh = 1 << 17

// pgNumber is a number of a reading as the index orders it.
type pgNumber struct {
	boot, seq int64
	some      bool // there is one
}

func (n pgNumber) below(boot, seq int64) bool {
	return !n.some || n.boot < boot || n.boot == boot && n.seq < seq
}

func (n *numbers) series() uint64 { return uint64(n.subject)<<32 | uint64(n.lane) }

// sift gives the rows that are there already their fate and returns those to be
// filed, in order. Asking the database to leave out what it has (ON CONFLICT)
// costs it a third more for every row, and rules out COPY. But hardly a row is
// there: one whose number is above all that its series has is not, and only the
// others need to be looked for.
func (p *pgPart) sift(ctx context.Context, tx pgx.Tx, a *telemetry.Append, order []int, nums []numbers) ([]int, error) {
	if err := p.loadHigh(ctx, tx, order, nums); err != nil {
		return nil, err
	}
	var doubtful []int
	in := map[uint64]bool{} // their series
	for _, i := range order {
		n := &nums[i]
		if high := p.high[n.series()]; high.below(n.boot, n.seq) {
			p.high[n.series()] = pgNumber{n.boot, n.seq, true}
		} else {
			doubtful, in[n.series()] = append(doubtful, i), true
		}
	}
	if len(doubtful) == 0 {
		return order, nil
	}
	heads, err := p.there(ctx, tx, doubtful, nums)
	if err != nil {
		return nil, err
	}
	mine := map[numbers]int{} // rows of this append by key, of the series in question
	fresh := order[:0:0]
	for _, i := range order {
		n := nums[i]
		n.context = 0
		if !in[n.series()] {
			fresh = append(fresh, i)
			continue
		}
		rd := &a.Rows[i].Reading
		if head, there := heads[i]; there {
			h, ok := parseRowHead(head)
			a.Fate[i] = telemetry.FateDuplicate
			if ok && p.dict.contextsAt[h.context].gateway == rd.Gateway && h.counter == rd.Counter {
				a.Fate[i] = telemetry.FateRepeated
			}
			continue
		}
		if first, there := mine[n]; there {
			f := &a.Rows[first].Reading
			a.Fate[i] = telemetry.FateDuplicate
			if f.Gateway == rd.Gateway && f.Counter == rd.Counter {
				a.Fate[i] = telemetry.FateRepeated
			}
			continue
		}
		mine[n] = i
		fresh = append(fresh, i)
	}
	return fresh, nil
}

// loadHigh reads the largest numbers of series that are not in memory.
func (p *pgPart) loadHigh(ctx context.Context, tx pgx.Tx, order []int, nums []numbers) error {
	if len(p.high) > maxHigh {
		clear(p.high)
	}
	var subjects, lanes []int32
	for _, i := range order {
		n := &nums[i]
		k := n.series()
		if _, known := p.high[k]; known {
			continue
		}
		p.high[k] = pgNumber{}
		if p.head.Rows > 0 && !p.dict.fresh[n.subject] {
			subjects, lanes = append(subjects, int32(n.subject)), append(lanes, int32(n.lane))
		}
	}
	for len(subjects) > 0 {
		some := min(len(subjects), pgAskAtOnce)
		err := pgEach(ctx, tx, p.sql(`SELECT q.subject::bigint, q.lane::bigint, r.boot, r.seq FROM unnest($1::integer[], $2::integer[]) AS q (subject, lane)
			CROSS JOIN LATERAL (SELECT boot, seq FROM {e}.rows WHERE subject = q.subject AND lane = q.lane ORDER BY boot DESC, seq DESC LIMIT 1) r`),
			[]any{pgPlain, subjects[:some], lanes[:some]}, func(scan scanner) error {
				var n numbers
				if err := scan(&n.subject, &n.lane, &n.boot, &n.seq); err != nil {
					return err
				}
				p.high[n.series()] = pgNumber{n.boot, n.seq, true}
				return nil
			})
		if err != nil {
			return err
		}
		subjects, lanes = subjects[some:], lanes[some:]
	}
	return nil
}

// pgAskAtOnce bounds the keys of one question.
const pgAskAtOnce = 1 << 14

// there gives the heads of those rows whose key is in the partition.
func (p *pgPart) there(ctx context.Context, tx pgx.Tx, rows []int, nums []numbers) (map[int][]byte, error) {
	heads := map[int][]byte{}
	for some := range slices.Chunk(rows, pgAskAtOnce) {
		var at, subject, lane []int32
		var boot, seq []int64
		for _, i := range some {
			n := &nums[i]
			at, subject, lane = append(at, int32(i)), append(subject, int32(n.subject)), append(lane, int32(n.lane))
			boot, seq = append(boot, n.boot), append(seq, n.seq)
		}
		// LATERAL with a limit looks each key up by itself: no plan reads the
		// whole partition.
		err := pgEach(ctx, tx, p.sql(`SELECT q.at, r.head FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[]) AS q (at, subject, lane, boot, seq)
			CROSS JOIN LATERAL (SELECT head FROM {e}.rows WHERE subject = q.subject AND lane = q.lane AND boot = q.boot AND seq = q.seq LIMIT 1) r`),
			[]any{pgPlain, at, subject, lane, boot, seq}, func(scan scanner) error {
				var i int32
				var head []byte
				err := scan(&i, &head)
				heads[int(i)] = head
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return heads, nil
}
