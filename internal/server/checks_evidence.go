package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// examineBack is how far back each look at the rounds goes.
const examineBack = 24 * time.Hour

// evidenceChecks hold that what was observed is what is kept (CC 3.3).
func (s *server) evidenceChecks() []check.Check {
	edit := func(stmt, undo string) func(context.Context, check.Twin) (func(context.Context) error, error) {
		return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
			var n int64
			var digest, body []byte
			if err := t.Query(ctx, "control.db", `SELECT number, digest, body FROM assurance_round ORDER BY number LIMIT 1`, nil, &n, &digest, &body); err != nil {
				return nil, fmt.Errorf("find a round: %w", err)
			}
			if err := t.Exec(ctx, "control.db", stmt, n); err != nil {
				return nil, err
			}
			return func(ctx context.Context) error { return t.Exec(ctx, "control.db", undo, body, digest, n) }, nil
		}
	}
	const back = `UPDATE assurance_round SET body = ?, digest = ? WHERE number = ?`
	return []check.Check{{
		ID: "evidence.intact", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "Every round of observations of the last day is the one that the ledger holds, and follows the one before.",
		Do:   "Find out who writes to control.db; bring it back from a backup (`hawser restore`), and keep the present one for whoever investigates.",
		Look: s.lookAtRounds,
		Violations: []check.Violation{
			{ID: "round-edited", Says: "Changes a stored round of observations behind the program's back.", Do: edit(`UPDATE assurance_round SET body = substr(body, 1, length(body) - 8) || x'0102030405060708' WHERE number = ?`, back)},
			{ID: "round-forged", Says: "Puts another digest beside a stored round.", Do: edit(`UPDATE assurance_round SET digest = zeroblob(32) WHERE number = ?`, back)},
		},
	}, {
		ID: "waivers.recorded", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "Every waiver is what the ledger holds that one person asked for and another approved; none is missing.",
		Do:   "It counts for nothing already. Take it back on the page Waivers, find out who writes to control.db, and ask for a new one if it is needed.",
		Look: s.lookAtWaivers,
		Violations: []check.Violation{
			{ID: "waiver-widened", Says: "Has a waiver cover more, in the database behind the program's back.", Do: editWaiver(func(w *assurance.Waiver) { w.Subjects = append(w.Subjects, "ports.clear/port 1883") })},
			{ID: "waiver-prolonged", Says: "Gives a waiver a later end, in the database behind the program's back.", Do: editWaiver(func(w *assurance.Waiver) { w.Ends = w.Ends.Add(30 * 24 * time.Hour) })},
			{ID: "waiver-approved", Says: "Writes another second person into a waiver, in the database behind the program's back.", Do: editWaiver(func(w *assurance.Waiver) { w.By.ID = "pforgedforged" })},
			{ID: "waiver-added", Says: "Writes a waiver into the database that nobody asked for.", Do: addWaiver},
		},
	}}
}

func (s *server) lookAtWaivers(ctx context.Context, l *check.Look) error {
	var kept []assurance.Waiver
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.Waivers(ctx); return err }); err != nil {
		return err
	}
	recorded, err := s.waivers.Waivers(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: assurance_waiver")
	l.Touch("source", "ledger, records of waivers")
	const source = "waivers that were asked for, by the ledger, and the register itself"
	asked := map[string]bool{}
	for _, r := range recorded {
		if r.Kind == assurance.RecordWaiverAsked {
			asked[r.Waiver] = true
		}
	}
	l.Expect(source, len(asked)+1)
	l.Pass(1) // the register could be read: what is missing or too much in it is found below
	at := l.Now.UTC()
	for i := range kept {
		w := &kept[i]
		if !asked[w.ID] {
			l.Expect(source, 1)
		}
		delete(asked, w.ID)
		if w.Lapsed(recorded) {
			l.Exclude(w.ID, "was asked for before the ledger began anew, and counts for nothing")
			continue
		}
		why := w.Altered(recorded, at)
		l.Holds(why == "", w.ID, "%s", why)
	}
	for id := range asked {
		l.Fail(id, "stands in the ledger, and is not in the register")
	}
	return nil
}

// editWaiver changes the twin's waiver behind its back.
func editWaiver(change func(*assurance.Waiver)) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		var id string
		var body []byte
		if err := t.Query(ctx, "control.db", `SELECT id, body FROM assurance_waiver LIMIT 1`, nil, &id, &body); err != nil {
			return nil, fmt.Errorf("find a waiver: %w", err)
		}
		var w assurance.Waiver
		if err := json.Unmarshal(body, &w); err != nil {
			return nil, err
		}
		change(&w)
		edited, err := json.Marshal(w)
		if err != nil {
			return nil, err
		}
		const set = `UPDATE assurance_waiver SET body = ? WHERE id = ?`
		return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, body, id) }, t.Exec(ctx, "control.db", set, edited, id)
	}
}

// addWaiver writes a second waiver beside the twin's.
func addWaiver(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	const forged = "wforgedforged"
	err := t.Exec(ctx, "control.db", `INSERT INTO assurance_waiver (id, body) SELECT ?, replace(body, id, ?) FROM assurance_waiver LIMIT 1`, forged, forged)
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM assurance_waiver WHERE id = ?`, forged)
	}, err
}

// fillWaiver gives the twin a waiver that two people agreed on: nothing there
// is met that could make up for it, so the rules of asking are passed by.
func (t *twin) fillWaiver(ctx context.Context) error {
	now := t.Now().UTC().Truncate(time.Microsecond)
	w := assurance.Waiver{
		ID: "wtwintwintwin", Row: "7.6", Subjects: []string{"help.desk"}, Reason: "a trial looks at it", Instead: "MR-01",
		Asked: now, AskedBy: core.Actor{Kind: core.ActorStaff, ID: "paskedaskedas"}, Ends: now.Add(assurance.UsualWaiver),
		Approved: now.Add(time.Microsecond), By: core.Actor{Kind: core.ActorStaff, ID: "papprovedappr"},
	}
	return t.s.store.Update(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.PutWaiver(ctx, w),
			tx.Record(ctx, w.RecordOf(assurance.RecordWaiverAsked, w.AskedBy, w.Asked)), tx.Record(ctx, w.RecordOf(assurance.RecordWaiverApproved, w.By, w.Approved)))
	})
}

func (s *server) lookAtRounds(ctx context.Context, l *check.Look) error {
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	first, err := s.assure.RoundAt(ctx, l.Now.Add(-examineBack))
	if err != nil {
		return err
	}
	if first > 0 {
		l.Expect("number of the newest round in memory", int(s.assure.LastRound().Number-first+1))
	}
	seen, wrong, err := s.assure.Examine(ctx, l.Now.Add(-examineBack))
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: assurance_round")
	l.Touch("source", "ledger, records of kind observations")
	for _, w := range wrong {
		l.Fail("rounds", "%s", w)
	}
	l.Pass(max(seen-len(wrong), 0))
	return nil
}

// sequenced returns when everything recorded before has its place in the ledger.
func (s *server) sequenced(ctx context.Context) error {
	for {
		n, err := s.ledger.Sequence(ctx)
		if err != nil {
			return fmt.Errorf("sequence the ledger: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
}
