package telemetry_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// version is one of aria-thermostat's: where it files the fields of climate.
func version(n byte, since time.Time, fields map[string]declaration.Group, groups ...declaration.Group) declaration.Version {
	p := &declaration.Policy{Product: "aria-thermostat", Version: int(n), Hash: core.Hash{n}, Groups: groups, Streams: []declaration.Stream{{Name: "climate"}}}
	for name, g := range fields {
		i := slices.IndexFunc(groups, func(o declaration.Group) bool { return o.ID == g.ID })
		p.Fields = append(p.Fields, declaration.Field{Name: name, Stream: "climate", Group: i, Keep: g.Keep})
	}
	return declaration.Version{Policy: p, Since: since}
}

// under is r as version n of the declaration files it: one part for each group,
// given by its number and keep-time.
func (m *maker) under(n byte, r telemetry.Reading, parts map[uint8]time.Duration) telemetry.Reading {
	r = m.again(r, time.UnixMilli(r.Received))
	r.Policy, r.Parts = core.Hash{n}, nil
	for g := range uint8(3) {
		if keep, ok := parts[g]; ok {
			e := core.EpochAt(keep, epochLength(keep), time.UnixMilli(r.T))
			r.Parts = append(r.Parts, telemetry.Part{Epoch: e, Group: g, Sealed: []byte{n, g, byte(r.Seq), byte(m.counter), 16: 0}})
		}
	}
	return r
}

// A device that sends a reading again after a version has moved its fields has
// not made a second reading (design, section 5).
func TestProjectorStoresOnceOverVersions(t *testing.T) {
	short := declaration.Group{ID: "a", Keep: 10 * time.Hour}
	long := declaration.Group{ID: "b", Keep: month}
	extra := declaration.Group{ID: "c", Keep: month}
	change := projectStart.Add(time.Hour)
	v1 := version(1, projectStart.Add(-day), map[string]declaration.Group{"warm": short, "loud": long}, short, long)
	one := map[uint8]time.Duration{0: 10 * time.Hour, 1: month}
	for name, c := range map[string]struct {
		second declaration.Version
		parts  map[uint8]time.Duration
	}{
		"a field moves to another keep-time": {
			version(2, change, map[string]declaration.Group{"warm": long, "loud": long}, short, long), map[uint8]time.Duration{1: month},
		},
		"a field moves to another group": {
			version(2, change, map[string]declaration.Group{"warm": short, "loud": extra}, short, long, extra),
			map[uint8]time.Duration{0: 10 * time.Hour, 2: month},
		},
		"all fields move": {
			version(2, change, map[string]declaration.Group{"warm": extra, "loud": extra}, short, long, extra), map[uint8]time.Duration{2: month},
		},
		"a field is new": {
			version(2, change, map[string]declaration.Group{"warm": short, "loud": long, "bright": extra}, short, long, extra),
			map[uint8]time.Duration{0: 10 * time.Hour, 1: month, 2: month},
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newWorks(t)
				w.versions = []declaration.Version{v1}
				var m maker
				at := projectStart.Add(50 * time.Minute)
				w.advance(55 * time.Minute)
				first := m.under(1, m.reading(ann, at, 1), one)
				third := m.under(1, m.reading(ann, at.Add(2*time.Second), 3), one)
				clockless := m.under(1, unclocked(m.reading(ann, at, 4), at.Add(time.Minute)), one)
				w.tape.add(encode(first, third, clockless)...)
				w.project()
				if restart {
					w.reopen()
				}
				w.versions = append(w.versions, c.second)
				w.advance(10 * time.Minute)
				// Never filed, though older than what was.
				second := m.under(2, m.reading(ann, at.Add(time.Second), 2), c.parts)
				fresh := m.under(2, m.reading(ann, w.clock(), 5), c.parts)
				w.tape.add(encode(
					m.under(2, first, c.parts), second, fresh, m.under(2, third, c.parts), m.under(2, fresh, c.parts),
					m.under(2, unclocked(clockless, w.clock()), c.parts),
				)...)
				w.project()
				want := wantRows(first, third, clockless, second, fresh)
				got := w.rows(ann)
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("rows\n%q\nwant\n%q", got, want)
				}
				if tot := w.totals(); tot.Stored != 5 || tot.Duplicates != 4 || tot.Accepted != 9 {
					t.Errorf("totals %+v", tot)
				}
				// The journal read once more changes nothing.
				w.reopen()
				w.tape.add(encode(m.under(2, first, c.parts), m.under(2, clockless, c.parts))...)
				w.project()
				if got := w.rows(ann); len(got) != len(want) {
					t.Errorf("%d rows after sending once more, want %d", len(got), len(want))
				}
			})
		}
	}
}
