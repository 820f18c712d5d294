package telemetry

import (
	"context"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxSeries bounds the series whose highest number is kept in memory.
const maxSeries = 1 << 18

// repeats finds readings that were filed before under another epoch. With a
// time of its own a reading falls into the same epoch whenever it is sent;
// one that is filed by its time of receipt does not. So only files with rows
// of that kind need to be looked at, and only for readings that are not newer
// than all such that their series has seen.
type repeats struct {
	files map[core.Epoch]struct{} // those with rows filed by time of receipt
	high  map[repeatKey]number
}

type repeatKey struct {
	keep   int64
	series Series
}

type number struct{ boot, seq uint64 }

func (n number) above(m number) bool { return n.boot > m.boot || n.boot == m.boot && n.seq > m.seq }

func (x *repeats) begin(live []EpochInfo) {
	x.files, x.high = map[core.Epoch]struct{}{}, map[repeatKey]number{}
	for _, i := range live {
		if i.Head.WrongClock > 0 {
			x.files[i.Epoch] = struct{}{}
		}
	}
}

func seriesOf(r *Row) Series {
	return Series{Subject: r.Reading.Subject, Stream: r.Reading.Stream, Group: r.Part.Group}
}

// others are the files of e's keep-time that may hold an earlier copy.
func (x *repeats) others(e core.Epoch) (all []core.Epoch, without int) {
	for f := range x.files {
		if f.Keep != e.Keep {
			continue
		}
		all = append(all, f)
		if f != e {
			without++
		}
	}
	return all, without
}

// mark gives the rows of s that were filed before under another epoch their
// fate and leaves the others alone.
func (x *repeats) mark(ctx context.Context, files Partitions, s *slot) error {
	all, without := x.others(s.epoch)
	if without == 0 {
		return nil
	}
	if err := x.load(ctx, files, s, all); err != nil {
		return err
	}
	for i := range s.rows {
		r := &s.rows[i]
		if !r.Reading.HasSeq || s.fate[i] != FateNone {
			continue
		}
		high := x.high[repeatKey{int64(s.epoch.Keep), seriesOf(r)}]
		if (number{r.Reading.Boot, r.Reading.Seq}).above(high) {
			continue
		}
		for _, f := range all {
			if f == s.epoch {
				continue
			}
			_, found, err := files.Find(ctx, f, r)
			if _, broken := AsBroken(err); broken {
				continue
			}
			if err != nil {
				return err
			}
			if found {
				s.fate[i] = FateDuplicate
				break
			}
		}
	}
	return nil
}

// load reads the highest numbers of series that are not in memory.
func (x *repeats) load(ctx context.Context, files Partitions, s *slot, all []core.Epoch) error {
	if len(x.high) > maxSeries {
		clear(x.high)
	}
	var missing []Series
	keep := int64(s.epoch.Keep)
	for i := range s.rows {
		r := &s.rows[i]
		k := repeatKey{keep, seriesOf(r)}
		if _, ok := x.high[k]; !ok && r.Reading.HasSeq {
			x.high[k] = number{}
			missing = append(missing, k.series)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, f := range all {
		highest, err := files.Highest(ctx, f, missing)
		if _, broken := AsBroken(err); broken {
			continue
		}
		if err != nil {
			for _, q := range missing { // known only in part is not known
				delete(x.high, repeatKey{keep, q})
			}
			return err
		}
		for i, h := range highest {
			k := repeatKey{keep, missing[i]}
			if n := (number{h[0], h[1]}); n.above(x.high[k]) {
				x.high[k] = n
			}
		}
	}
	return nil
}

// filed notes rows that were filed and how far their file has come.
func (x *repeats) filed(s *slot, h Head) {
	if h.WrongClock == 0 {
		return
	}
	x.files[s.epoch] = struct{}{}
	for i := range s.rows {
		r := &s.rows[i]
		if s.fate[i] != FateStored && s.fate[i] != FateRepeated || !r.Reading.HasSeq || r.Reading.Flags&FlagWrongClock == 0 {
			continue
		}
		k := repeatKey{int64(s.epoch.Keep), seriesOf(r)}
		old, known := x.high[k]
		if n := (number{r.Reading.Boot, r.Reading.Seq}); known && n.above(old) {
			x.high[k] = n
		}
	}
}

// ended forgets a file that is gone.
func (x *repeats) ended(e core.Epoch) { delete(x.files, e) }
