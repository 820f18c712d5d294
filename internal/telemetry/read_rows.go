package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// reader runs one session: it merges the partitions of all keep-times by time,
// opens what the view allows and puts the parts of a reading together again.
type reader struct {
	s        *ReadService
	v        *view
	subject  core.Subject
	from, to time.Time
	done     *ReadDone
	yield    func(*OpenReading) error

	slice []*piece // of one instant
	free  []*piece
	plain []byte
	aad   []byte
	out   OpenReading
}

// piece is one opened part of a reading.
type piece struct {
	reading Reading
	place   Place
	sender  Sender
	names   []string // that may be seen
	object  []byte   // of its fields
}

// maxSlice bounds how many parts of one instant are held before they are
// handed out: a device may give all its readings the same time.
const maxSlice = 4096

var errStop = errors.New("the reader has stopped")

// source is the rows of one keep-time, by time.
type source struct {
	next func() (*Row, error, bool)
	stop func()
	row  *Row
}

func (r *reader) run(ctx context.Context) error {
	var sources []*source
	defer func() {
		for _, s := range sources {
			s.stop()
		}
	}()
	for _, k := range r.v.keeps {
		next, stop := iter.Pull2(r.rows(ctx, k))
		s := &source{next: next, stop: stop}
		sources = append(sources, s)
		if err := s.advance(); err != nil {
			return err
		}
	}
	for {
		best := -1
		for i, s := range sources {
			if s.row != nil && (best < 0 || s.row.Reading.T < sources[best].row.Reading.T) {
				best = i
			}
		}
		if best < 0 {
			return r.flush()
		}
		row := sources[best].row
		if len(r.slice) > 0 && (row.Reading.T != r.slice[0].reading.T || len(r.slice) >= maxSlice) {
			if err := r.flush(); err != nil {
				return err
			}
		}
		if err := r.take(ctx, row); err != nil {
			return err
		}
		if err := sources[best].advance(); err != nil {
			return err
		}
	}
}

func (s *source) advance() error {
	row, err, ok := s.next()
	if !ok {
		s.row = nil
		return nil
	}
	s.row = row
	return err
}

// rows yields what one keep-time holds, epoch by epoch. What is due is not
// shown, whether or not expiry has come to it (CC 4.4).
func (r *reader) rows(ctx context.Context, k keepTime) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		now := r.s.d.Now()
		first := now.Add(-k.keep)
		if r.from.After(first) {
			first = r.from
		}
		q := Query{Subject: r.subject, From: first, To: r.to, Want: r.v.want}
		for e := core.EpochAt(k.keep, k.length, first); time.Unix(e.Start, 0).Before(r.to); e.Start += int64(k.length / time.Second) {
			if !now.Before(e.Due()) {
				continue
			}
			err := r.s.d.Partitions.Scan(ctx, e, &q, func(row *Row) error {
				if !yield(row, nil) {
					return errStop
				}
				return nil
			})
			if b, ok := AsBroken(err); ok {
				r.done.Damaged = append(r.done.Damaged, b.Epoch.String())
				continue
			}
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// take opens a row and keeps it for its instant.
func (r *reader) take(ctx context.Context, row *Row) error {
	var sender Sender
	var object []byte
	key, err := r.s.d.Keys.Lease(r.subject, row.Part.Epoch)
	if err == nil {
		r.aad = AppendAAD(r.aad[:0], &row.Reading, &row.Part)
		r.plain, err = key.Open(r.plain[:0], row.Part.Sealed, r.aad)
		if errors.Is(err, seal.ErrLeaseOver) { // a minute passed since the line before
			return r.take(ctx, row)
		}
	}
	if err == nil {
		sender, object, err = CutPlain(r.plain)
	}
	switch {
	case err == nil:
	case core.ReasonOf(err) == "no-epoch-key":
		return nil // it expired while we read
	case core.KindOf(err) == core.Invalid:
		r.done.Unreadable++
		r.s.d.Log.ErrorContext(ctx, "a stored reading does not open", slog.String("epoch", row.Part.Epoch.String()), slog.Int64("row", row.ID))
		return nil
	default:
		return fmt.Errorf("open readings: %w", err)
	}
	p := r.piece()
	p.reading, p.place, p.sender = row.Reading, row.Place, sender
	p.names = r.v.policies[row.Reading.Policy][lane{row.Reading.Stream, row.Part.Group}]
	p.object = append(p.object[:0], object...)
	r.slice = append(r.slice, p)
	return nil
}

func (r *reader) piece() *piece {
	if n := len(r.free); n > 0 {
		p := r.free[n-1]
		r.free = r.free[:n-1]
		return p
	}
	return new(piece)
}

// flush hands out the readings of one instant.
func (r *reader) flush() error {
	if len(r.slice) > 1 {
		slices.SortStableFunc(r.slice, func(a, b *piece) int {
			x, y := &a.reading, &b.reading
			return cmp.Or(cmp.Compare(x.Boot, y.Boot), cmp.Compare(x.Seq, y.Seq),
				cmp.Compare(a.place.Journal, b.place.Journal), cmp.Compare(a.place.Seq, b.place.Seq), cmp.Compare(a.place.Index, b.place.Index),
				slices.Compare(x.Gateway[:], y.Gateway[:]), cmp.Compare(x.Counter, y.Counter))
		})
	}
	for i := 0; i < len(r.slice); {
		j := i + 1
		for j < len(r.slice) && sameReading(&r.slice[i].reading, &r.slice[j].reading) {
			j++
		}
		if err := r.emit(r.slice[i:j]); err != nil {
			return err
		}
		i = j
	}
	r.free = append(r.free, r.slice...)
	r.slice = r.slice[:0]
	return nil
}

// sameReading: a gateway's counter names one message for ever.
func sameReading(a, b *Reading) bool { return a.Counter == b.Counter && a.Gateway == b.Gateway }

type jsonMember struct{ name, whole []byte }

// emit puts the parts of one reading together: the members that may be seen,
// by name.
func (r *reader) emit(parts []*piece) error {
	var members []jsonMember
	for _, p := range parts {
		err := eachMember(p.object, func(m jsonMember) {
			if slices.Contains(p.names, string(m.name)) {
				members = append(members, m)
			} else if !r.v.declared[p.reading.Policy][string(m.name)] {
				r.done.Undeclared++
			}
		})
		if err != nil {
			r.done.Unreadable++
		}
	}
	if len(members) == 0 {
		return nil // it had only fields that were not asked for
	}
	slices.SortFunc(members, func(a, b jsonMember) int { return slices.Compare(a.name, b.name) })
	rd := &parts[0].reading
	r.out = OpenReading{
		Time: time.UnixMilli(rd.T).UTC(), Received: time.UnixMilli(rd.Received).UTC(), Stream: rd.Stream,
		HasSeq: rd.HasSeq && rd.Boot < FirstSeries, Boot: rd.Boot, Seq: rd.Seq, WrongClock: rd.Flags&FlagWrongClock != 0, Sender: parts[0].sender,
		Policy: rd.Policy, Values: append(r.out.Values[:0], '{'),
	}
	for i, m := range members {
		if i > 0 {
			r.out.Values = append(r.out.Values, ',')
		}
		r.out.Values = append(r.out.Values, m.whole...)
	}
	r.out.Values = append(r.out.Values, '}')
	r.done.Readings++
	return r.yield(&r.out)
}

var errNotOurs error = core.E(core.Invalid, "not-ours", "not a part that the intake seals", "")

// eachMember goes through the members of a part's object. Declared names
// need no escapes.
func eachMember(b []byte, fn func(jsonMember)) error {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return errNotOurs
	}
	for i := 1; i < len(b)-1; {
		from := i
		if b[i] != '"' {
			return errNotOurs
		}
		name, end := scanString(b, i)
		if end < 0 || end >= len(b) || b[end] != ':' {
			return errNotOurs
		}
		end, why := skipValue(b, end+1, 1)
		if why != "" {
			return errNotOurs
		}
		fn(jsonMember{name: name.raw, whole: b[from:end]})
		if i = end; i < len(b)-1 {
			if b[i] != ',' {
				return errNotOurs
			}
			i++
		}
	}
	return nil
}
