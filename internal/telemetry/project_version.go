package telemetry

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// versions finds readings that were filed before under another version of the
// declaration. A version may move a field to another group or keep-time; the
// same reading, sent again after that, has its parts in other places, where
// the unique key does not see the first copy (design, section 5: a reading is
// stored once).
//
// Only readings from before a change can have a copy from before it, so
// whatever is newer than the last change costs one comparison.
type versions struct {
	load  func(context.Context, core.ProductID) ([]declaration.Version, error)
	known map[core.Hash]map[string][]elsewhere // by policy and stream
	high  map[heldKey]number
	used  bool // since the last tidy
}

// elsewhere is a place where another version files readings of a stream.
type elsewhere struct {
	keep, length time.Duration
	group        uint8
	until        int64 // Unix milliseconds: no reading after it has a copy here
}

// heldKey is a series in one partition.
type heldKey struct {
	epoch  core.Epoch
	series Series
}

// probe is one place where a row may have been filed before.
type probe struct {
	row int
	key heldKey
}

// overlap is how long after a version came in force readings of that time may
// still be judged by the one before: a device's clock may go ahead, and a
// message may be on its way.
const overlap = clockAhead + 5*time.Minute

func newVersions(load func(context.Context, core.ProductID) ([]declaration.Version, error)) versions {
	return versions{load: load, known: map[core.Hash]map[string][]elsewhere{}, high: map[heldKey]number{}}
}

// mark gives the rows of s that were filed before under another version their
// fate and leaves the others alone. receipts are the partitions with rows
// filed by their time of receipt.
func (v *versions) mark(ctx context.Context, files Partitions, receipts map[core.Epoch]struct{}, s *slot) error {
	probes, err := v.probes(ctx, receipts, s)
	if err != nil || len(probes) == 0 {
		return err
	}
	v.used = true
	if err := v.learn(ctx, files, probes); err != nil {
		return err
	}
	for _, p := range probes {
		r := &s.rows[p.row]
		if s.fate[p.row] != FateNone || (number{r.Reading.Boot, r.Reading.Seq}).above(v.high[p.key]) {
			continue
		}
		copied := Row{Reading: r.Reading, Part: Part{Epoch: p.key.epoch, Group: p.key.series.Group}}
		held, found, err := files.Find(ctx, p.key.epoch, &copied)
		if _, broken := AsBroken(err); broken {
			continue
		}
		if err != nil {
			return err
		}
		// Another part of this same reading is no copy of it.
		if found && held.Reading.Policy != r.Reading.Policy {
			s.fate[p.row] = FateDuplicate
		}
	}
	return nil
}

// probes are the places to look at for the rows of s.
func (v *versions) probes(ctx context.Context, receipts map[core.Epoch]struct{}, s *slot) ([]probe, error) {
	var out []probe
	var policy core.Hash
	var stream string
	var places []elsewhere
	for i := range s.rows {
		rd := &s.rows[i].Reading
		if !rd.HasSeq || s.fate[i] != FateNone {
			continue
		}
		if policy != rd.Policy || stream != rd.Stream {
			var err error
			if places, err = v.places(ctx, rd); err != nil {
				return nil, err
			}
			policy, stream = rd.Policy, rd.Stream
		}
		for _, p := range places {
			series := Series{Subject: rd.Subject, Stream: rd.Stream, Group: p.group}
			if rd.Flags&FlagWrongClock == 0 {
				if rd.T <= p.until {
					e := core.EpochAt(p.keep, p.length, time.UnixMilli(rd.T))
					out = append(out, probe{i, heldKey{e, series}})
				}
				continue
			}
			// Filed by its time of receipt, the copy is wherever it was then.
			for e := range receipts {
				if e.Keep == p.keep && e.Start*1000 <= p.until {
					out = append(out, probe{i, heldKey{e, series}})
				}
			}
		}
	}
	return out, nil
}

// places says where versions other than rd's file readings of its stream.
func (v *versions) places(ctx context.Context, rd *Reading) ([]elsewhere, error) {
	streams, ok := v.known[rd.Policy]
	if !ok {
		list, err := v.load(ctx, rd.Product)
		if err != nil {
			return nil, err
		}
		// All versions of the product anew: the older ones have one more
		// neighbour now.
		for i := range list {
			v.known[list[i].Policy.Hash] = neighbours(list, i)
		}
		if streams, ok = v.known[rd.Policy]; !ok {
			v.known[rd.Policy] = nil // of no version that is known here
		}
	}
	return streams[rd.Stream], nil
}

// neighbours are the places of all versions in list but the one at self, for
// each stream that one of them files otherwise.
func neighbours(list []declaration.Version, self int) map[string][]elsewhere {
	out := map[string][]elsewhere{}
	me := list[self]
	for i, other := range list {
		if i == self {
			continue
		}
		since := me.Since
		if other.Since.After(since) {
			since = other.Since
		}
		until := since.Add(overlap).UnixMilli()
		for _, s := range me.Policy.Streams {
			theirs := layout(other.Policy, s.Name)
			if sameLayout(layout(me.Policy, s.Name), theirs) {
				continue
			}
			for _, p := range theirs {
				out[s.Name] = withPlace(out[s.Name], elsewhere{p.keep, declaration.EpochLength(p.keep), p.group, until})
			}
		}
	}
	return out
}

// withPlace adds p to list, or keeps the later end of the two.
func withPlace(list []elsewhere, p elsewhere) []elsewhere {
	for i := range list {
		if q := &list[i]; q.keep == p.keep && q.group == p.group {
			q.until = max(q.until, p.until)
			return list
		}
	}
	return append(list, p)
}

// fieldPlace is where a version files one field.
type fieldPlace struct {
	keep  time.Duration
	group uint8
}

// layout says where a version files each field of a stream; nil when it does
// not declare the stream.
func layout(p *declaration.Policy, stream string) map[string]fieldPlace {
	var out map[string]fieldPlace
	for i := range p.Fields {
		f := &p.Fields[i]
		if f.Stream != stream {
			continue
		}
		if out == nil {
			out = map[string]fieldPlace{}
		}
		out[f.Name] = fieldPlace{f.Keep, uint8(f.Group)}
	}
	return out
}

func sameLayout(a, b map[string]fieldPlace) bool {
	if len(a) != len(b) {
		return false
	}
	for name, p := range a {
		if q, ok := b[name]; !ok || p != q {
			return false
		}
	}
	return true
}

// learn reads the highest numbers of series that are not in memory.
func (v *versions) learn(ctx context.Context, files Partitions, probes []probe) error {
	if len(v.high) > maxSeries {
		clear(v.high)
	}
	missing := map[core.Epoch][]Series{}
	for _, p := range probes {
		if _, ok := v.high[p.key]; !ok {
			v.high[p.key] = number{}
			missing[p.key.epoch] = append(missing[p.key.epoch], p.key.series)
		}
	}
	for e, series := range missing {
		highest, err := files.Highest(ctx, e, series)
		if _, broken := AsBroken(err); broken {
			continue
		}
		if err != nil {
			clear(v.high) // known only in part is not known
			return err
		}
		for i, h := range highest {
			v.high[heldKey{e, series[i]}] = number{h[0], h[1]}
		}
	}
	return nil
}

// filed notes rows that were filed.
func (v *versions) filed(s *slot) {
	if len(v.high) == 0 {
		return
	}
	for i := range s.rows {
		r := &s.rows[i]
		if s.fate[i] != FateStored && s.fate[i] != FateRepeated || !r.Reading.HasSeq {
			continue
		}
		k := heldKey{s.epoch, seriesOf(r)}
		old, known := v.high[k]
		if n := (number{r.Reading.Boot, r.Reading.Seq}); known && n.above(old) {
			v.high[k] = n
		}
	}
}

// tidy forgets what nothing has asked for since the last time.
func (v *versions) tidy() {
	if !v.used {
		clear(v.high)
	}
	v.used = false
}
