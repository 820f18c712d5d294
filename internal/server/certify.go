package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

// units certifies units.
type units struct{ s *server }

// Certify compares a unit's credentials with everybody's, now, and writes what
// came of it so that an outsider can verify it offline (CC 2.15). What is not
// so is not certified, and not recorded.
func (u units) Certify(ctx context.Context, by core.Actor, id core.DeviceID) ([]byte, error) {
	s := u.s
	st, err := s.statement(ctx, id)
	if err != nil {
		return nil, err
	}
	if why := st.Wrong(); len(why) > 0 {
		return nil, core.E(core.Conflict, "not-certified", "the unit cannot be certified: "+why[0], "revoke every unit that shares it (`hawser device revoke`), and enrol this one anew (`hawser device code`)")
	}
	rounds, err := s.roundsNow(ctx, bundle.UnitChecks())
	if err != nil {
		return nil, err
	}
	// Of now: the rounds are older.
	st.At = s.opt.Now().UTC().Truncate(time.Microsecond)
	digest, err := st.Digest()
	if err != nil {
		return nil, err
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		return tx.Record(ctx, core.Record{Time: st.At, Kind: bundle.RecordUnitCertified, Actor: by, Product: st.Product, Facts: []core.Fact{{Name: "digest", Value: digest.String()}}})
	})
	if err != nil {
		return nil, fmt.Errorf("record a unit's certificate: %w", err)
	}
	if err := s.sequenced(ctx); err != nil {
		return nil, err
	}
	at, err := s.certified(ctx, digest.String(), rounds[0].Position)
	if err != nil {
		return nil, err
	}
	if _, err := s.ledger.Checkpoint(ctx); err != nil {
		return nil, err
	}
	return s.unitCertificate(ctx, &st, at, rounds)
}

// statement is what there is to say about a unit.
func (s *server) statement(ctx context.Context, id core.DeviceID) (bundle.UnitStatement, error) {
	if d, err := s.devices.Device(id); err == nil && d.Child {
		return bundle.UnitStatement{}, core.E(core.Conflict, "child", "a child has no credentials that could be its own: a hub vouches for it", "certify its hub; see `hawser device show`")
	}
	c, err := s.devices.Credentials(ctx, id)
	if err != nil {
		return bundle.UnitStatement{}, err
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	st := bundle.UnitStatement{
		Salt: hex.EncodeToString(salt), Program: s.opt.Version, Serial: c.Device, Product: c.Product, Unit: c.Unit, Added: c.Added.UTC(),
		Code: bundle.UnitCode{Bits: c.CodeBits, Spent: c.CodeSpent, Compared: c.Units, Same: c.SameCode},
		Keys: []bundle.UnitKey{},
	}
	for _, k := range c.Keys {
		st.Keys = append(st.Keys, bundle.UnitKey{SHA256: k.Key.String(), Certified: k.Certified.UTC(), Units: k.Units})
	}
	return st, nil
}

// kept is a closed round and where the ledger has it.
type kept struct {
	assurance.StoredRound
	Position uint64
}

// roundsNow looks with some checks and closes the round: each must pass. The
// rounds are in the ledger's order.
func (s *server) roundsNow(ctx context.Context, checks []string) ([]kept, error) {
	for _, id := range checks {
		o, err := s.rounds.run(ctx, s.rounds.registry.Find(id))
		if err != nil {
			return nil, err
		}
		if o.Outcome == check.Empty {
			return nil, core.E(core.Unready, "nothing-to-compare", "no unit can be certified yet: "+id+" has nothing to look at", "let a unit of the register connect first")
		}
		if o.Outcome != check.Pass {
			return nil, core.E(core.Conflict, "not-certified", fmt.Sprintf("no unit can be certified: %s is not as it should be: %s", id, why(&o)), s.rounds.registry.Find(id).Do)
		}
	}
	if err := s.assure.CloseRound(ctx); err != nil {
		return nil, err
	}
	if err := s.sequenced(ctx); err != nil {
		return nil, err
	}
	var out []kept
	for _, id := range checks {
		seen, err := s.assure.History(ctx, id, 1)
		if err != nil {
			return nil, err
		}
		if len(seen) == 0 || seen[0].Round == 0 {
			return nil, core.E(core.Unready, "no-round", "the observation of "+id+" has no round yet", "ask again in a minute")
		}
		if slices.ContainsFunc(out, func(k kept) bool { return k.Number == seen[0].Round }) {
			continue
		}
		stored, err := s.assure.Rounds(ctx, seen[0].Round, 1)
		if err != nil {
			return nil, err
		}
		if len(stored) == 0 || stored[0].Number != seen[0].Round {
			return nil, core.E(core.Unready, "no-round", fmt.Sprintf("round %d cannot be read", seen[0].Round), "ask again in a minute")
		}
		rec, err := roundsIn{l: s.ledger}.Round(ctx, stored[0].Number, stored[0].From)
		if err != nil {
			return nil, err
		}
		out = append(out, kept{stored[0], rec.Position})
	}
	slices.SortFunc(out, func(a, b kept) int { return int(a.Number) - int(b.Number) })
	return out, nil
}

// certified is the position of the record of a certificate, which is behind
// another.
func (s *server) certified(ctx context.Context, digest string, from uint64) (uint64, error) {
	for {
		found, next, err := s.ledger.List(ctx, ledger.Filter{Kind: bundle.RecordUnitCertified}, from, ledger.MaxRange)
		if err != nil {
			return 0, err
		}
		for i := range found {
			if factOf(&found[i].Record, "digest") == digest {
				return found[i].Position, nil
			}
		}
		if next == 0 {
			return 0, core.E(core.Internal, "no-record", "the record of a unit's certificate is not in the ledger", "")
		}
		from = next
	}
}

func (s *server) unitCertificate(ctx context.Context, st *bundle.UnitStatement, at uint64, rounds []kept) ([]byte, error) {
	const tries = 5 // the ledger may be signed meanwhile
	for n := 1; ; n++ {
		record, err := s.ledger.Prove(ctx, at)
		if err != nil {
			return nil, err
		}
		var proven []bundle.ProvenRound
		for _, r := range rounds {
			p, err := s.ledger.Prove(ctx, r.Position)
			if err != nil {
				return nil, err
			}
			proven = append(proven, bundle.ProvenRound{Encoded: r.Encoded, Proof: p})
		}
		b, err := bundle.UnitCertificate(*st, record, proven, s.ledger.VerifierKey())
		if core.KindOf(err) != core.Unready || n == tries {
			return b, err
		}
	}
}

// unitChecks holds that any unit can be certified (CC 2.15).
func (s *server) unitChecks() []check.Check {
	c := &certifier{s: s}
	return []check.Check{{
		ID: "unit.certifiable", Version: 1, Rows: []string{"2.15"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 2.15
		Says: "Whichever units are picked, each can be certified: code and keys are its own, compared with every other.",
		Do:   "`hawser device certify` says what stands in the way of a unit.",
		Look: c.look,
		Violations: []check.Violation{
			{ID: "key-of-another", Says: "Ties one unit's public key to a second unit behind the program's back.", Do: own(tieKey)},
			{ID: "birth-forgotten", Says: "Takes the strength of its code out of a unit's birth record behind the program's back.", Do: own(forgetBirth)},
		},
	}}
}

// certifier picks units in turn.
type certifier struct {
	s *server

	mu   sync.Mutex    // guards what follows
	last core.DeviceID // where the turn has come to
}

// unitsAtOnce bounds a look: each unit is compared with the whole register.
const unitsAtOnce = 5

func (c *certifier) look(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: device, device_birth, device_key, certificate")
	c.mu.Lock()
	defer c.mu.Unlock()
	some, err := c.s.devices.Devices(ctx, c.last, unitsAtOnce)
	if err == nil && len(some) == 0 && c.last != "" {
		some, err = c.s.devices.Devices(ctx, "", unitsAtOnce)
	}
	if err != nil {
		return err
	}
	if len(some) > 0 {
		c.last = some[len(some)-1].ID
	}
	l.Expect("the next units of the register, in turn", len(some))
	for _, d := range some {
		if d.Child {
			l.Exclude(c.s.devices.UnitName(d.ID), "is a child: it has no credentials, a hub vouches for it")
			continue
		}
		st, err := c.s.statement(ctx, d.ID)
		if err != nil {
			return err
		}
		why := st.Wrong()
		l.Holds(len(why) == 0, c.s.devices.UnitName(d.ID), "cannot be certified: %s", strings.Join(why, "; "))
	}
	return nil
}

func tieKey(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var key []byte
	one, two := string(t.units[0].ID), string(t.units[1].ID)
	if err := t.Query(ctx, "control.db", `SELECT spki FROM device_key WHERE device = ? LIMIT 1`, []any{one}, &key); err != nil {
		return nil, err
	}
	const stmt = `UPDATE device_key SET device = ? WHERE spki = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", stmt, one, key) }, t.Exec(ctx, "control.db", stmt, two, key)
}

func forgetBirth(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var bits int
	id := string(t.units[0].ID)
	if err := t.Query(ctx, "control.db", `SELECT code_bits FROM device_birth WHERE device = ?`, []any{id}, &bits); err != nil {
		return nil, err
	}
	const stmt = `UPDATE device_birth SET code_bits = ? WHERE device = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", stmt, bits, id) }, t.Exec(ctx, "control.db", stmt, 0, id)
}
