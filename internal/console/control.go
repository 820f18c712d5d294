package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

type controlView struct {
	State   assurance.ControlState
	Mark    mark
	Section assurance.Section
	Kinds   []string
	Cites   []cite
	Rows    []rowView
	May     bool // ask for a waiver
}

// cite is where another standard asks for the same.
type cite struct {
	Standard string
	Ids      []string
}

type rowView struct {
	assurance.RowState
	Mark   mark
	Says   string // why, where its checks do not say it
	Checks []checkView
	Waive  bool // it may be worth asking
}

type checkView struct {
	assurance.CheckState
	Key      string // names it on its page
	Mark     mark
	KindText string
	ToDo     string
	Place    place
	Since    time.Time
	Whole    bool // Since is when it began, and not how far the memory reaches
	Proofs   []proofView
	Red      time.Time     // when it was last seen red by the violation that is longest ago; zero: not by each
	Age      time.Duration // how long an observation counts, for the products in force
	Shorter  string        // why that is shorter than the check says itself; "": it is not
	Counts   time.Time     // until when the observation counts
}

type proofView struct {
	check.Proof
	Good bool
}

func (c *Console) controlPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, cancel := within(r)
	defer cancel()
	st, err := c.d.Proof.State(ctx)
	if err != nil {
		return fmt.Errorf("work out verdicts: %w", err)
	}
	cs := st.Control(assurance.ControlID(r.PathValue("control")))
	if cs == nil {
		return core.E(core.Unknown, "no-such-control", "the guide has no such recommendation", "choose one of the 63")
	}
	if err := c.memory.recall(ctx, c.d.Proof); err != nil {
		return err
	}
	view := controlView{State: *cs, Mark: markOfControl(cs), Cites: cites(&cs.Control), May: v.Holds("waiver.ask")}
	for _, s := range assurance.Sections() {
		if s.ID == cs.Control.Section {
			view.Section = s
		}
	}
	for _, k := range cs.Control.Kinds {
		view.Kinds = append(view.Kinds, string(k))
	}
	places := newPlaces(c.d.Proof, c.d.Ledger)
	facts, err := c.facts(ctx)
	if err != nil {
		return err
	}
	for _, row := range cs.Rows {
		rv := rowView{RowState: row, Mark: markOf(row.Verdict), Waive: view.May && row.Waiver == nil && (row.Verdict == assurance.Failing || row.Verdict == assurance.Unproven)}
		switch row.Verdict {
		case assurance.NotApplicable, assurance.Tampered, assurance.Waived:
			rv.Says = sentence(row.Why)
		case assurance.Met, assurance.Attested, assurance.Failing, assurance.Errored, assurance.Stale, assurance.Unproven:
		}
		for _, k := range row.Checks {
			cv, err := c.checkOf(ctx, places, facts, k)
			if err != nil {
				return err
			}
			cv.Key = string(row.Row.ID) + "-" + k.ID
			rv.Checks = append(rv.Checks, cv)
		}
		view.Rows = append(view.Rows, rv)
	}
	return c.show(w, r, v, http.StatusOK, "control", page{
		Title: cs.Control.Says, Here: "/", Up: []link{{"Is it true today?", "/"}, {view.Section.Title, "/#" + url.PathEscape(view.Section.ID)}}, Data: view,
	})
}

// facts are those of the declarations in force.
func (c *Console) facts(ctx context.Context) (assurance.Facts, error) {
	all, err := c.d.Declarations.All(ctx)
	if err != nil {
		return assurance.Facts{}, fmt.Errorf("read declarations in force: %w", err)
	}
	return assurance.FactsOf(all), nil
}

// checkOf is one check with where its evidence lies and since when it is so.
func (c *Console) checkOf(ctx context.Context, places *places, facts assurance.Facts, k assurance.CheckState) (checkView, error) {
	cv := checkView{CheckState: k, Key: k.ID, Mark: markOf(k.Verdict), KindText: kindWords(k.Kind), ToDo: todo(&k)}
	for _, p := range k.Proofs {
		cv.Proofs = append(cv.Proofs, proofView{p, p.OK()})
	}
	cv.Age = facts.Age(k.Declared)
	if cv.Age < k.MaxAge && len(k.Rows) > 0 {
		cv.Shorter = facts.Strict(k.Rows[0]).Why
	}
	if k.Observation == nil {
		return cv, nil
	}
	cv.Counts = k.Observation.Began.Add(cv.Age)
	var err error
	if cv.Place, err = places.of(ctx, k.Observation.Taken); err != nil {
		return cv, err
	}
	cv.Since, cv.Whole = since(c.memory.of(k.ID, k.Observation))
	return cv, nil
}

// todo is what to do about a check as it stands: what it says itself where
// something is wrong, and otherwise what would prove that nothing is.
func todo(k *assurance.CheckState) string {
	switch {
	case k.Missing != "":
		return "" // nobody here can
	case k.Verdict == assurance.Failing:
		return k.Do
	case k.Verdict == assurance.Errored:
		return "see in the server's log why it could not look, and have it look again: `hawser check run " + k.ID + "`"
	case k.Verdict == assurance.Stale || k.Observation == nil && k.Verdict == assurance.Unproven:
		return "have it look: `hawser check run " + k.ID + "`"
	case k.Verdict != assurance.Unproven:
		return ""
	case k.Observation.Outcome == check.Empty:
		return "nothing is wrong; it is proved when there is something to look at"
	default:
		return "nothing is wrong; it is proved when its violations were tried on a twin, which the server does by itself with each new version, or now: `hawser check selftest`"
	}
}

type historyView struct {
	Check  checkView
	Rows   []rowLink
	Sights []sightView // newest first
	Strip  []stripPart // oldest first
	More   bool
}

type rowLink struct{ Row, Control string }

type sightView struct {
	sight
	Mark mark
}

// stripPart is one observation in the drawing of the past.
type stripPart struct{ X, Class, H, Y string }

const (
	sightsOnPage = 60
	stripParts   = 120
)

func (c *Console) checkPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, cancel := within(r)
	defer cancel()
	id := r.PathValue("check")
	st, err := c.d.Proof.State(ctx)
	if err != nil {
		return fmt.Errorf("work out verdicts: %w", err)
	}
	found, rows := findCheck(&st, id)
	if found == nil {
		return core.E(core.Unknown, "no-such-check", "there is no such check", "choose one from the page of a control")
	}
	if err := c.memory.recall(ctx, c.d.Proof); err != nil {
		return err
	}
	view := historyView{Rows: rows}
	facts, err := c.facts(ctx)
	if err != nil {
		return err
	}
	if view.Check, err = c.checkOf(ctx, newPlaces(c.d.Proof, c.d.Ledger), facts, *found); err != nil {
		return err
	}
	all := c.memory.of(id, found.Observation)
	if i := slices.IndexFunc(all, func(s sight) bool { return s.Began.Before(v.From) }); i >= 0 {
		all = all[:i] // newest first: the rest is from before an assessor's period
	}
	for _, s := range all[:min(len(all), sightsOnPage)] {
		view.Sights = append(view.Sights, sightView{s, outcomeMark(s.Outcome)})
	}
	view.More = len(all) > sightsOnPage
	view.Strip = strip(all[:min(len(all), stripParts)])
	up := []link{{"Is it true today?", "/"}}
	if len(rows) > 0 {
		up = append(up, link{rows[0].Control, "/control/" + rows[0].Control + "#row-" + rows[0].Row})
	}
	return c.show(w, r, v, http.StatusOK, "check", page{Title: found.Says, Here: "/", Up: up, Data: view})
}

func findCheck(st *assurance.State, id string) (*assurance.CheckState, []rowLink) {
	var found *assurance.CheckState
	var rows []rowLink
	for i := range st.Controls {
		for j := range st.Controls[i].Rows {
			for k := range st.Controls[i].Rows[j].Checks {
				if x := &st.Controls[i].Rows[j].Checks[k]; x.ID == id {
					found = x
					rows = append(rows, rowLink{string(st.Controls[i].Rows[j].Row.ID), string(st.Controls[i].Control.ID)})
				}
			}
		}
	}
	return found, rows
}

// strip draws the past, the oldest at the left: what passed is low, what did
// not stands up.
func strip(list []sight) []stripPart {
	var out []stripPart
	for i := len(list) - 1; i >= 0; i-- {
		p := stripPart{X: coord(720 - float64(i+1)*6), Class: outcomeMark(list[i].Outcome).Class, H: "10", Y: "22"}
		if list[i].Outcome != check.Pass {
			p.H, p.Y = "26", "6"
		}
		out = append(out, p)
	}
	return out
}
