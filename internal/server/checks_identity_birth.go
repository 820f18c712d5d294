package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

// birthChecks hold that it is known of every unit where it comes from (CC 1.7).
func (s *server) birthChecks() []check.Check {
	b := &births{s: s}
	return []check.Check{{
		ID: "devices.birth", Version: 1, Rows: []string{"1.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.7
		Says: "Every unit of the register has a birth record: station, operator, time, by which door it came and, once it enrolled, where its key was made; and it says what the ledger has had of it since.",
		Do:   "`hawser device show` takes the name in the finding. A birth record is written once: find out who wrote to control.db, and bring it back from a backup.",
		Look: b.look,
		Violations: []check.Violation{
			{ID: "birth-removed", Says: "Deletes the birth record of a unit behind the program's back.", Do: own(removeBirth)},
			{ID: "operator-changed", Says: "Writes another operator into a unit's birth record behind the program's back.", Do: own(changeBirth("operator", "os:nobody(0)"))},
			{ID: "station-forgotten", Says: "Empties the station of a unit's birth record behind the program's back.", Do: own(changeBirth("station", ""))},
			{ID: "key-origin-forgotten", Says: "Takes out of a unit's birth record where its key was made, behind the program's back.", Do: own(changeBirth("key_origin", ""))},
			{ID: "unit-smuggled-in", Says: "Adds a unit with a birth record of its own to the register behind the program's back.", Do: own(smuggle)},
		},
	}}
}

// birthsAtOnce is how many of the ledger's registrations a look takes, in turn.
const birthsAtOnce = ledger.MaxRange

// births looks at what is stored of all units, and at some of what the ledger
// has of them.
type births struct {
	s *server

	mu   sync.Mutex // guards what follows
	from uint64     // where in the ledger the turn has come to
}

func (b *births) look(ctx context.Context, l *check.Look) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.Touch("table", "control.db: device, device_birth, device_key")
	l.Touch("table", "control.db: ledger_entry")
	if err := b.stored(ctx, l); err != nil {
		return err
	}
	return b.recorded(ctx, l)
}

// stored looks at the birth of every unit, as the store has it.
func (b *births) stored(ctx context.Context, l *check.Look) error {
	var bad []breach
	var good, units, registered int
	const tries = 4 // units are registered while a check runs
	for n := 1; ; n++ {
		err := b.s.store.View(ctx, func(tx *store.Tx) error {
			bad, good = nil, 0
			var err error
			if registered, err = tx.LedgerCount(ctx, identity.RecordAdded); err != nil {
				return err
			}
			return tx.EachBirth(ctx, func(x identity.BirthStanding) error {
				if why := b.wrong(&x); why != "" {
					bad = append(bad, breach{nameOfUnit(x.Unit), why})
					return nil
				}
				good++
				return nil
			})
		})
		if err != nil {
			return err
		}
		if units = b.s.devices.Counts().Devices; units == good+len(bad) || n == tries {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
	l.Expect("units in the memory of the doors, and the ledger's registrations in turn", units+1)
	l.Pass(good)
	for _, w := range bad {
		l.Fail(w.subject, "%s", w.text)
	}
	l.Holds(registered == good+len(bad), "the register", "has %d units; the ledger has %d registrations", good+len(bad), registered)
	return nil
}

// wrong says what is missing of a unit's birth.
func (b *births) wrong(x *identity.BirthStanding) string {
	r := &x.Row
	enrolled := !r.Enrolled.IsZero()
	if d, err := b.s.devices.Device(x.Device); err == nil && !d.Serial.IsZero() {
		enrolled = true
	}
	switch {
	case !x.Born:
		return "has no birth record"
	case r.Operator == "" || r.Time.IsZero():
		return "its birth record does not say by whom or when it was registered"
	case r.Salt != [16]byte{} && r.Station == "":
		return "its birth record does not say where it was registered"
	case r.Salt != [16]byte{} && !slices.Contains(identity.BirthDoors(), r.Door):
		return "its birth record does not say by which door it came"
	case !enrolled:
		return ""
	case r.KeyOrigin == "" || r.Key.IsZero() || r.Enrolled.IsZero():
		return "it enrolled, and its birth record does not say where its key was made"
	case x.Tied != x.Device:
		return "the first key in its birth record was never shown by it"
	}
	return ""
}

// recorded holds some of the ledger's registrations against the store, the
// next ones in turn.
func (b *births) recorded(ctx context.Context, l *check.Look) error {
	some, next, err := b.s.ledger.List(ctx, ledger.Filter{Kind: identity.RecordAdded}, b.from, birthsAtOnce)
	if err != nil {
		return err
	}
	b.from = next
	l.Expect("", len(some))
	for i := range some {
		name := factOf(&some[i].Record, "unit")
		want := factOf(&some[i].Record, "birth")
		if want == "" {
			l.Exclude("unit "+name, "was registered by a version that kept less of it")
			continue
		}
		why, err := b.differs(ctx, name, want)
		if err != nil {
			return err
		}
		l.Holds(why == "", "unit "+name, "%s", why)
	}
	return nil
}

func (b *births) differs(ctx context.Context, name, want string) (why string, err error) {
	unit, err := core.ParseSubject(name)
	if err != nil {
		return "its registration in the ledger names no unit", nil
	}
	var x identity.BirthStanding
	err = b.s.store.View(ctx, func(tx *store.Tx) error {
		x, err = tx.BirthOf(ctx, unit)
		return err
	})
	switch {
	case core.KindOf(err) == core.Unknown:
		return "was registered as the ledger says, and is not in the register", nil
	case err != nil:
		return "", err
	case x.Row.Digest().String() != want:
		return "its birth record is not the one that the ledger has", nil
	}
	return "", nil
}

// nameOfUnit is how findings name a unit: see identity.Service.ByUnit.
func nameOfUnit(unit [16]byte) string { return "unit " + core.Subject(unit).String() }

func removeBirth(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if len(t.units) == 0 {
		return nil, errors.New("the twin has no unit")
	}
	id := string(t.units[0].ID)
	const columns = `device, station, operator, time_us, code_bits, key_origin, spki, enrolled_us, door, hardware, batch, source, salt`
	row := make([]any, 13)
	into := make([]any, len(row))
	for i := range row {
		into[i] = &row[i]
	}
	if err := t.Query(ctx, "control.db", `SELECT `+columns+` FROM device_birth WHERE device = ?`, []any{id}, into...); err != nil {
		return nil, fmt.Errorf("find a birth record: %w", err)
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `INSERT INTO device_birth (`+columns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, row...)
	}, t.Exec(ctx, "control.db", `DELETE FROM device_birth WHERE device = ?`, id)
}

func changeBirth(column, to string) func(context.Context, *twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t *twin) (func(context.Context) error, error) {
		if len(t.units) == 0 {
			return nil, errors.New("the twin has no unit")
		}
		id := string(t.units[0].ID)
		var before string
		if err := t.Query(ctx, "control.db", `SELECT `+column+` FROM device_birth WHERE device = ?`, []any{id}, &before); err != nil {
			return nil, fmt.Errorf("find a birth record: %w", err)
		}
		set := `UPDATE device_birth SET ` + column + ` = ? WHERE device = ?`
		return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, before, id) }, t.Exec(ctx, "control.db", set, to, id)
	}
}

func smuggle(ctx context.Context, t *twin) (func(context.Context) error, error) {
	const id = "SMUGGLED-1"
	undo := func(ctx context.Context) error {
		return errors.Join(
			t.Exec(ctx, "control.db", `DELETE FROM device_birth WHERE device = ?`, id),
			t.Exec(ctx, "control.db", `DELETE FROM device WHERE id = ?`, id))
	}
	if err := t.Exec(ctx, "control.db", `INSERT INTO device (id, product, unit, revision, added_us, ownerships, suspicion) VALUES (?, ?, randomblob(16), 1, ?, 0, '')`,
		id, string(check.TwinProduct), t.Now().UnixMicro()); err != nil {
		return nil, err
	}
	return undo, t.Exec(ctx, "control.db", `INSERT INTO device_birth (device, station, operator, time_us, code_bits, key_origin, door, salt) VALUES (?, 'line-4', 'os:root(0)', ?, 135, '', 'enrolment-code', randomblob(16))`,
		id, t.Now().UnixMicro())
}
