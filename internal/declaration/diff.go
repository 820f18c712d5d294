package declaration

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Direction says for whom a change is: does it take more from the people whom
// data is about, or open something, or the opposite?
type Direction uint8

// The directions.
const (
	Neutral   Direction = iota
	Narrowing           // collects, shows or keeps less, or closes something
	Widening            // collects, shows or keeps more, or opens something
)

// String is the direction in a word.
func (d Direction) String() string { return [...]string{"neutral", "narrows", "widens"}[d] }

// Change is one difference between two versions of a product's declaration.
type Change struct {
	Direction Direction
	What      string // what it is about: collection, class, purpose, reader, share, keep-time, end, protection, rate, command, setting, interface, network, update, support, identity, hub, legacy, claim, text
	Where     string // "data.room_temperature"
	Text      string // in words
}

// Widens reports whether any change widens.
func Widens(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Direction == Widening })
}

// Diff says what the step from an old to a new version of a declaration widens
// and what it narrows: widening changes first, then narrowing, then the rest,
// each by place. What it cannot weigh (another type, another unit) counts as
// widening. CC 4.12: a widening asks for review.
func Diff(old, next *Policy) []Change {
	d := &differ{}
	d.data(old, next)
	d.streams(old, next)
	d.services(old, next)
	d.shares(old, next)
	d.commands(old, next)
	d.settings(old, next)
	d.interfaces(old, next)
	d.network(&old.Network, &next.Network)
	d.updates(&old.Updates, &next.Updates)
	d.whole(old, next)
	slices.SortStableFunc(d.list, func(a, b Change) int {
		return cmp.Or(cmp.Compare(b.Direction, a.Direction), strings.Compare(a.Where, b.Where))
	})
	return d.list
}

type differ struct{ list []Change }

func (d *differ) add(dir Direction, what, where, format string, args ...any) {
	d.list = append(d.list, Change{dir, what, where, fmt.Sprintf(format, args...)})
}

// more adds a change of something of which more is wider.
func more[T cmp.Ordered](d *differ, what, where, name string, a, b T, show func(T) string) {
	switch {
	case a < b:
		d.add(Widening, what, where, "%s from %s to %s", name, show(a), show(b))
	case a > b:
		d.add(Narrowing, what, where, "%s from %s to %s", name, show(a), show(b))
	}
}

// less adds a change of something of which less is wider.
func less[T cmp.Ordered](d *differ, what, where, name string, a, b T, show func(T) string) {
	switch {
	case a > b:
		d.add(Widening, what, where, "%s from %s to %s", name, show(a), show(b))
	case a < b:
		d.add(Narrowing, what, where, "%s from %s to %s", name, show(a), show(b))
	}
}

// sets adds what came to and went from a list; dir is the direction of what
// came.
func (d *differ) sets(came, went Direction, what, where, name string, a, b []string) {
	for _, x := range b {
		if !slices.Contains(a, x) {
			d.add(came, what, where, "%s %s is new", name, x)
		}
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			d.add(went, what, where, "%s %s is gone", name, x)
		}
	}
}

// pairs visits what two lists have under one name, and what only one has.
func pairs[T any](a, b []T, name func(*T) string, gone, came func(*T), both func(x, y *T)) {
	find := func(list []T, n string) *T {
		for i := range list {
			if name(&list[i]) == n {
				return &list[i]
			}
		}
		return nil
	}
	for i := range a {
		if y := find(b, name(&a[i])); y != nil {
			both(&a[i], y)
		} else {
			gone(&a[i])
		}
	}
	for i := range b {
		if find(a, name(&b[i])) == nil {
			came(&b[i])
		}
	}
}

func (d *differ) changed(dir Direction, what, where, name, a, b string) {
	if a != b {
		d.add(dir, what, where, "%s from %s to %s", name, blank(a), blank(b))
	}
}

func blank(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func plain(n int) string      { return fmt.Sprint(n) }
func spanText(n int64) string { return span(time.Duration(n)) }

func (d *differ) data(old, next *Policy) {
	pairs(
		old.Fields, next.Fields, func(f *Field) string { return f.Name },
		func(f *Field) { d.add(Narrowing, "collection", "data."+f.Name, "the field is gone") },
		func(f *Field) {
			d.add(Widening, "collection", "data."+f.Name, "a new field: %s, %s, kept %s, for %s", f.Type, f.Class, span(f.Keep), strings.Join(f.Readers, ", "))
		},
		func(a, b *Field) {
			dir := Neutral
			if x, y := old.Stream(a.Stream), next.Stream(b.Stream); x == nil || y == nil || y.Every < x.Every || y.Burst > x.Burst {
				dir = Widening // it comes more often
			}
			d.changed(dir, "collection", "data."+b.Name, "stream", a.Stream, b.Stream)
			d.field(a, b)
		},
	)
}

func (d *differ) field(a, b *Field) {
	at := "data." + b.Name
	d.value(
		"collection", at,
		&Param{Type: a.Type, Unit: a.Unit, Values: a.Values, HasRange: a.HasRange, Min: a.Min, Max: a.Max, MinLength: a.MinLength, MaxLength: a.MaxLength},
		&Param{Type: b.Type, Unit: b.Unit, Values: b.Values, HasRange: b.HasRange, Min: b.Min, Max: b.Max, MinLength: b.MinLength, MaxLength: b.MaxLength},
	)
	if a.Type == b.Type && a.Unit == b.Unit {
		step := func(p float64) string {
			if p == 0 {
				return "as fine as it comes"
			}
			return number(p)
		}
		less(d, "collection", at, "precision", a.Precision, b.Precision, step)
	}
	// A higher class means that more personal data is collected; a lower one
	// that the same data is guarded less. Both are for a person to decide.
	d.changed(Widening, "class", at, "class", a.Class.String(), b.Class.String())
	d.sets(Widening, Narrowing, "purpose", at, "purpose", a.Purposes, b.Purposes)
	more(d, "keep-time", at, "keep-time", int64(a.Keep), int64(b.Keep), spanText)
	d.sets(Widening, Narrowing, "reader", at, "reader", a.Readers, b.Readers)
	d.end(at, a.WhenDone, b.WhenDone)
	words := func(list []Protection) []string {
		var out []string
		for _, p := range list {
			out = append(out, string(p))
		}
		return out
	}
	d.sets(Narrowing, Widening, "protection", at, "protection", words(a.Protection), words(b.Protection))
	d.changed(Neutral, "text", at, "about", a.About, b.About)
}

func (d *differ) end(at, a, b string) {
	if a == b {
		return
	}
	ka, _ := aggregate(a)
	kb, byB := aggregate(b)
	_, byA := aggregate(a)
	finest := func(by string) int { return slices.Index([]string{"month", "week", "day", "hour"}, by) }
	dir := Narrowing
	if kb > 0 && (ka == 0 || kb < ka || finest(byB) > finest(byA)) {
		dir = Widening
	}
	d.changed(dir, "end", at, "when_done", a, b)
}

func (d *differ) value(what, at string, a, b *Param) {
	if a.Type != b.Type {
		d.add(Widening, what, at, "type from %s to %s", a.Type, b.Type)
		return
	}
	if a.Unit != b.Unit {
		d.add(Widening, what, at, "unit from %s to %s", a.Unit, b.Unit)
		return
	}
	less(d, what, at, "least value", a.Min, b.Min, number)
	more(d, what, at, "greatest value", a.Max, b.Max, number)
	d.sets(Widening, Narrowing, what, at, "value", a.Values, b.Values)
	if !slices.Equal(a.Values, b.Values) && slices.Equal(slices.Sorted(slices.Values(a.Values)), slices.Sorted(slices.Values(b.Values))) {
		d.add(Neutral, what, at, "the values stand in another order")
	}
	less(d, what, at, "min_length", a.MinLength, b.MinLength, plain)
	more(d, what, at, "max_length", a.MaxLength, b.MaxLength, plain)
}

func (d *differ) streams(old, next *Policy) {
	pairs(
		old.Streams, next.Streams, func(s *Stream) string { return s.Name },
		func(s *Stream) { d.add(Narrowing, "rate", "streams."+s.Name, "the stream is gone") },
		func(s *Stream) {
			d.add(Widening, "rate", "streams."+s.Name, "a new stream: a message every %s, at most %d bytes", span(s.Every), s.MaxBytes)
		},
		func(a, b *Stream) {
			at := "streams." + b.Name
			less(d, "rate", at, "every", int64(a.Every), int64(b.Every), spanText)
			more(d, "rate", at, "burst", a.Burst, b.Burst, plain)
			more(d, "rate", at, "max_bytes", a.MaxBytes, b.MaxBytes, plain)
			less(d, "collection", at, "on_bad", uint8(a.OnBad), uint8(b.OnBad), func(n uint8) string { return OnBad(n).String() })
		},
	)
}

func (d *differ) services(old, next *Policy) {
	pairs(
		old.Services, next.Services, func(s *OwnService) string { return s.Name },
		func(s *OwnService) { d.add(Narrowing, "reader", "services."+s.Name, "the service is gone") },
		func(s *OwnService) {
			d.add(Widening, "reader", "services."+s.Name, "a new service for %s", strings.Join(s.Purposes, ", "))
		},
		func(a, b *OwnService) {
			d.sets(Widening, Narrowing, "purpose", "services."+b.Name, "purpose", a.Purposes, b.Purposes)
			d.changed(Neutral, "text", "services."+b.Name, "what", a.What, b.What)
		},
	)
}

func (d *differ) shares(old, next *Policy) {
	names := func(p *Policy, s *Share) []string {
		var out []string
		for _, i := range s.Fields {
			out = append(out, p.Fields[i].Name)
		}
		return out
	}
	pairs(
		old.Shares, next.Shares, func(s *Share) string { return s.Name },
		func(s *Share) { d.add(Narrowing, "share", "shares."+s.Name, "the share is gone") },
		func(s *Share) {
			d.add(Widening, "share", "shares."+s.Name, "a new share: %s for %s until %s", strings.Join(names(next, s), ", "), s.Purpose, date(s.ContractUntil))
		},
		func(a, b *Share) {
			at := "shares." + b.Name
			d.sets(Widening, Narrowing, "share", at, "field", names(old, a), names(next, b))
			d.changed(Widening, "share", at, "purpose", a.Purpose, b.Purpose)
			d.transforms(at, a.Transform, b.Transform)
			more(d, "share", at, "contract_until", a.ContractUntil.Unix(), b.ContractUntil.Unix(), func(n int64) string { return date(time.Unix(n, 0)) })
		},
	)
}

// transforms narrow when steps are only added; anything else may show more.
func (d *differ) transforms(at string, a, b []string) {
	if slices.Equal(a, b) {
		return
	}
	dir := Narrowing
	for _, x := range a {
		if !slices.Contains(b, x) {
			dir = Widening
		}
	}
	if slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
		dir = Widening // another order computes something else
	}
	d.changed(dir, "share", at, "transform", strings.Join(a, ", "), strings.Join(b, ", "))
}
