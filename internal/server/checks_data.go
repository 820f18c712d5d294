package server

import (
	"context"
	"slices"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// dataChecks hold what lies on disk: that it is what was declared and filed,
// that nobody reads it without its keys, that the keys lie elsewhere, and that
// it ends.
func (s *server) dataChecks() []check.Check {
	return slices.Concat(
		telemetry.Checks(telemetry.CheckDeps{
			Rows: s.telem.files, Roots: s.telem.roots, Keys: s.ring, Policy: s.decl.ByHash,
			Sealed: s.telem.sealed.Roots, SealedEpochs: s.telem.sealed.Epochs, View: view[telemetry.ProjectionTx](s.store),
		}),
		s.keyChecks(), s.canaryChecks(), s.declaredChecks(), s.ledgerChecks(), s.readChecks(), s.endChecks(), s.journalChecks(), dataGaps(),
	)
}

// dataGaps are the parts of rows about data that nothing looks at yet.
func dataGaps() []check.Check {
	gap := func(id, row, says, why string) check.Check {
		return check.Check{ID: id, Version: 1, Rows: []string{row}, Kind: check.Query, Says: says, Missing: why}
	}
	bench := gap("reset.verified", "4.8", "After a factory reset nothing of its owner is left on the device.", "no device on a bench is tried yet")
	bench.Kind = check.Bench
	return []check.Check{
		bench,
		gap("declarations.reviewed", "1.17", "Every declaration is reviewed before its date.", "declarations have no date of review yet"),
		gap("reads.shown", "3.15", "Owners see who read their data and why; vendors read by purpose, too.", "owners have no page yet, and no vendor reads"),
		gap("fields.used", "4.5", "A field that nobody has used for 30 days is reported, with a proposal to stop collecting it.", "what fields are used for is not counted yet"),
		gap("destinations.seen", "5.11", "Devices send to nobody else than declared.", "nothing sees yet what devices say to others"),
	}
}

// journalChecks hold that an acknowledgement means what it says (CC 3.3).
func (s *server) journalChecks() []check.Check {
	return []check.Check{{
		ID: "journal.filed", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.Critical, // CC 3.3
		Says: "What is acknowledged is on disk, nothing of it was lost, and it gets filed.",
		Do:   "`hawser doctor` says what stands in the way, and what to do: most often it is the disk.",
		Look: s.lookAtJournal,
		Violations: []check.Violation{{
			ID: "nothing-is-filed", Says: "Lets the control database refuse what the projector writes, behind the program's back, while a device sends.", Do: stopFiling,
		}},
	}}
}

// behindBatches is how far filing may be behind the journal.
const behindBatches = 1000

func (s *server) lookAtJournal(ctx context.Context, l *check.Look) error {
	st, p := s.journal.State(), s.telem.projector.State()
	l.Touch("journal", s.journal.Incarnation())
	l.Expect("stages of a reading's way, as wired at start", 4)
	l.Holds(st.Trouble == nil, "journal", "takes nothing at present: %v", st.Trouble)
	lost := p.Lost.Missing + p.Lost.Damaged + p.Lost.Records
	l.Holds(st.Damage == "" && lost == 0, "journal", "lost %d batches or records that were acknowledged %s", lost, st.Damage)
	l.Holds(p.Trouble == nil, "projector", "files nothing at present: %v", p.Trouble)
	// How far it came stands in control.db; what there is to file, in the journal.
	var mark telemetry.Mark
	err := view[telemetry.ProjectionTx](s.store)(ctx, func(tx telemetry.ProjectionTx) (err error) { mark, err = tx.ProjectorMark(ctx); return err })
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: telemetry_mark")
	behind := st.Last > mark.Seq && st.Last-mark.Seq > behindBatches
	ahead := mark.Journal == s.journal.Incarnation() && mark.Seq > s.journal.Durable()
	switch {
	case ahead:
		l.Fail("projector", "says that it has filed batch %d; the journal's newest is %d", mark.Seq, st.Last)
	case behind:
		l.Fail("projector", "is %d batches behind the journal", st.Last-mark.Seq)
	default:
		l.Pass(1)
	}
	return nil
}

func stopFiling(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	err := t.Exec(ctx, "control.db", `CREATE TRIGGER nothing_filed BEFORE INSERT ON telemetry_mark BEGIN SELECT RAISE(ABORT, 'not now'); END`)
	if err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, settle/8)
	defer cancel()
	_ = t.Publish(short, t.Devices()[0], "climate", `{"temp":21.5}`) // it is acknowledged, and cannot be filed
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", `DROP TRIGGER nothing_filed`) }, nil
}

// recordsOf are the entries of one kind in a span of positions.
func (s *server) recordsOf(ctx context.Context, kind core.RecordKind, from, to uint64) ([]ledger.Entry, error) {
	var out []ledger.Entry
	for {
		found, next, err := s.ledger.List(ctx, ledger.Filter{Kind: kind}, from, ledger.MaxRange)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if found[i].Position >= to {
				return out, nil
			}
			out = append(out, found[i])
		}
		if next == 0 {
			return out, nil
		}
		from = next
	}
}

// turn goes round a long list a stretch at a time.
type turn struct{ at uint64 }

// next is the next stretch of up to n of the numbers below end; it begins anew
// where the last one ended.
func (t *turn) next(end, n uint64) (from, to uint64) {
	if t.at >= end {
		t.at = 0
	}
	from, to = t.at, min(t.at+n, end)
	t.at = to
	return from, to
}
