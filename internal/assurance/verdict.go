package assurance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// Verdict is what can be said of a row or a control at a time. It is worked
// out from observations, proofs, waivers, facts and the time, and from nothing
// else: nobody can set one (design, section 9).
type Verdict string

// The verdicts, worst first.
const (
	Tampered      Verdict = "tampered" // what it would rest on was changed
	Failing       Verdict = "failing"  // a check saw something that is not as it should be
	Errored       Verdict = "error"    // a check could not look
	Stale         Verdict = "stale"    // nobody looked lately
	Unproven      Verdict = "unproven" // nobody ever looked, or there was nothing to look at, or the check was never seen red
	Waived        Verdict = "waived"   // failing or unproven, and accepted for a while by two persons; never counted as met
	Attested      Verdict = "attested" // a named person says so; never counted as met
	NotApplicable Verdict = "n/a"      // a fact in the declarations makes it moot
	Met           Verdict = "met"      // every check is fresh, passes, and can turn red
)

// Verdicts are all of them, worst first.
func Verdicts() []Verdict {
	return []Verdict{Tampered, Failing, Errored, Stale, Unproven, Waived, Attested, NotApplicable, Met}
}

// worse reports whether a is worse than b.
func worse(a, b Verdict) bool {
	return slices.Index(Verdicts(), a) < slices.Index(Verdicts(), b)
}

// Declared is what a check declares of itself: the part of it that travels
// with the evidence.
type Declared struct {
	ID         string        `json:"id"`
	Version    int           `json:"version"`
	Rows       []RowID       `json:"rows"`
	Kind       check.Kind    `json:"kind"`
	Says       string        `json:"says"`
	Do         string        `json:"do,omitempty"`
	MaxAge     time.Duration `json:"max_age_ns,omitempty"`
	Missing    string        `json:"missing,omitempty"`
	Violations []string      `json:"violations,omitempty"`
}

// Declare is what c declares.
func Declare(c *check.Check) Declared {
	d := Declared{ID: c.ID, Version: c.Version, Kind: c.Kind, Says: c.Says, Do: c.Do, MaxAge: c.MaxAge, Missing: c.Missing}
	for _, r := range c.Rows {
		d.Rows = append(d.Rows, RowID(r))
	}
	for _, v := range c.Violations {
		d.Violations = append(d.Violations, v.ID)
	}
	return d
}

// Input is everything that verdicts are worked out from.
type Input struct {
	At      time.Time  `json:"at"`
	Program string     `json:"program"` // the version that judges: a proof of another counts no more
	Facts   Facts      `json:"facts"`
	Checks  []Declared `json:"checks"`
	Waivers []Waiver   `json:"waivers,omitempty"`
	// Broken says what of the evidence itself was found changed; every row is
	// tampered while there is any.
	Broken []string `json:"broken,omitempty"`
	// Latest is the newest observation of each check, Proofs the newest proof
	// of each of its violations. They travel in the rounds.
	Latest map[string]check.Observation `json:"-"`
	Proofs map[string][]check.Proof     `json:"-"`
	// Recorded is what the ledger holds of waivers, oldest first. It travels as
	// the ledger's own leaves.
	Recorded []WaiverRecord `json:"-"`
}

// CheckState is how one check stands.
type CheckState struct {
	Declared
	Verdict     Verdict            `json:"verdict"`
	Why         string             `json:"why"`
	Observation *check.Observation `json:"observation,omitempty"`
	Proofs      []check.Proof      `json:"proofs,omitempty"`
}

// RowState is how one row stands.
type RowState struct {
	Row      Row          `json:"row"`
	Required bool         `json:"required"` // by the four factors of a product in force (row 0.1)
	Verdict  Verdict      `json:"verdict"`
	Why      string       `json:"why"`
	Checks   []CheckState `json:"checks,omitempty"`
	Waiver   *Waiver      `json:"waiver,omitempty"`
}

// How says how a met control is known.
type How string

// The ways of knowing, for headlines that never mix them.
const (
	Live     How = "live"     // seen on the running system
	OnBench  How = "bench"    // seen on a device, for one firmware
	ByPerson How = "attested" // said by a named person
)

// ControlState is how one recommendation of the guide stands.
type ControlState struct {
	Control Control    `json:"control"`
	Verdict Verdict    `json:"verdict"`
	How     How        `json:"how,omitempty"` // of a met one
	Why     string     `json:"why"`
	Rows    []RowState `json:"rows"`
}

// Headline counts the controls, each way of knowing for itself.
type Headline struct {
	Live          int `json:"live"`
	Bench         int `json:"bench"`
	Attested      int `json:"attested"`
	NotProved     int `json:"not_proved"`
	Failing       int `json:"failing"`
	NotApplicable int `json:"not_applicable"`
}

// String is the headline in one line: five numbers, never one.
func (h Headline) String() string {
	s := fmt.Sprintf("%d proved live · %d proved on the bench · %d attested · %d not proved · %d failing", h.Live, h.Bench, h.Attested, h.NotProved, h.Failing)
	if h.NotApplicable > 0 {
		s += fmt.Sprintf(" · %d not applicable", h.NotApplicable)
	}
	return s
}

// State is how everything stands at one time.
type State struct {
	At       time.Time      `json:"at"`
	Program  string         `json:"program"`
	Headline Headline       `json:"headline"`
	Rows     Tally          `json:"rows"`
	Controls []ControlState `json:"controls"`
}

// Tally counts rows by verdict.
type Tally map[Verdict]int

// Row is the state of one row, or nil.
func (s *State) Row(id RowID) *RowState {
	for i := range s.Controls {
		for j := range s.Controls[i].Rows {
			if s.Controls[i].Rows[j].Row.ID == id {
				return &s.Controls[i].Rows[j]
			}
		}
	}
	return nil
}

// Control is the state of one control, or nil.
func (s *State) Control(id ControlID) *ControlState {
	for i := range s.Controls {
		if s.Controls[i].Control.ID == id {
			return &s.Controls[i]
		}
	}
	return nil
}

// Judge works out how every row and control stands. It depends on nothing but
// its input: the same input gives the same state, bit for bit, anywhere.
func Judge(in Input) State {
	out := State{At: in.At, Program: in.Program, Rows: Tally{}}
	states := map[string]CheckState{}
	byRow := map[RowID][]string{}
	for _, d := range in.Checks {
		states[d.ID] = judgeCheck(&in, d)
		for _, r := range d.Rows {
			byRow[r] = append(byRow[r], d.ID)
		}
	}
	rows := map[RowID]*RowState{}
	for _, r := range Rows() {
		rs := judgeRow(&in, r, byRow[r.ID], states)
		rows[r.ID] = &rs
	}
	applyWaivers(&in, rows)
	for _, c := range Controls() {
		cs := ControlState{Control: c}
		for _, r := range RowsOf(c.ID) {
			cs.Rows = append(cs.Rows, *rows[r.ID])
			out.Rows[rows[r.ID].Verdict]++
		}
		cs.Verdict, cs.How, cs.Why = judgeControl(cs.Rows)
		count(&out.Headline, &cs)
		out.Controls = append(out.Controls, cs)
	}
	return out
}

// judgeCheck is how one check stands by its newest observation and its proofs.
func judgeCheck(in *Input, d Declared) CheckState {
	cs := CheckState{Declared: d}
	say := func(v Verdict, format string, args ...any) CheckState {
		cs.Verdict, cs.Why = v, fmt.Sprintf(format, args...)
		return cs
	}
	for _, p := range in.Proofs[d.ID] {
		if p.Version == d.Version {
			cs.Proofs = append(cs.Proofs, p)
		}
	}
	slices.SortFunc(cs.Proofs, func(a, b check.Proof) int { return strings.Compare(a.Violation, b.Violation) })
	if d.Missing != "" {
		return say(Unproven, "no check yet: %s", d.Missing)
	}
	o, seen := in.Latest[d.ID]
	if !seen || o.Version != d.Version {
		return say(Unproven, "never looked at")
	}
	cs.Observation = &o
	expires := o.Began.Add(in.Facts.Age(d))
	switch {
	case o.Began.After(in.At.Add(clockSlack)):
		return say(Errored, "the observation is of %s, which is still to come: a clock was set back", stamp(o.Began))
	case o.Outcome == check.Fail:
		return say(Failing, "%s", failing(&o))
	case in.At.After(expires):
		return say(Stale, "last looked at %s, which counted until %s", stamp(o.Began), stamp(expires))
	case o.Outcome == check.Error:
		return say(Errored, "it could not look: %s", o.Error)
	case o.Outcome == check.Empty:
		return say(Unproven, "there was nothing to look at")
	case o.Outcome != check.Pass:
		return say(Errored, "the outcome %q is unknown", o.Outcome)
	}
	if d.Kind == check.Attestation {
		return say(Attested, "a person says so until %s", stamp(expires))
	}
	if why := unseen(in, d, cs.Proofs); why != "" {
		return say(Unproven, "%s", why)
	}
	return say(Met, "%d of %d as they should be, seen %s", o.Passing, o.Population-o.Excluded, stamp(o.Began))
}

// clockSlack is how far an observation may lie ahead of the judge's time.
const clockSlack = 2 * time.Second

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func failing(o *check.Observation) string {
	s := fmt.Sprintf("%d of %d not as they should be", o.Failing, max(o.Population, o.Failing))
	if len(o.Findings) > 0 {
		s += ": " + o.Findings[0].Subject + ": " + o.Findings[0].Text
	}
	return s
}

// unseen says which violation of a check was not seen to turn it red lately,
// by this very program; empty when each was.
func unseen(in *Input, d Declared, proofs []check.Proof) string {
	if len(d.Violations) == 0 {
		return "never seen red: the check has no violation"
	}
	for _, v := range d.Violations {
		i := slices.IndexFunc(proofs, func(p check.Proof) bool { return p.Violation == v })
		switch {
		case i < 0:
			return "never seen red by " + v
		case !proofs[i].OK():
			return "its trial by " + v + " did not go green, red, green: " + tried(&proofs[i])
		case proofs[i].Program != in.Program:
			return "last seen red by " + v + " in another version of the program: " + proofs[i].Program
		case in.At.After(proofs[i].Expires):
			return "last seen red by " + v + " at " + stamp(proofs[i].Taken) + ", too long ago"
		case proofs[i].Taken.After(in.At.Add(clockSlack)):
			return "its proof is of a time to come: a clock was set back"
		}
	}
	return ""
}

func tried(p *check.Proof) string {
	if p.Error != "" {
		return p.Error
	}
	return fmt.Sprintf("%s, %s, %s", p.Before, p.Red, p.After)
}

// judgeRow is the worst of a row's checks, unless a fact makes it moot.
func judgeRow(in *Input, r Row, checks []string, states map[string]CheckState) RowState {
	rs := RowState{Row: r, Required: in.Facts.Requires(r.ID), Verdict: Unproven, Why: "no check looks at it yet"}
	slices.Sort(checks)
	for i, id := range checks {
		cs := states[id]
		rs.Checks = append(rs.Checks, cs)
		if i == 0 || worse(cs.Verdict, rs.Verdict) {
			rs.Verdict, rs.Why = cs.Verdict, cs.ID+": "+cs.Why
		}
	}
	if len(in.Broken) > 0 {
		rs.Verdict, rs.Why = Tampered, in.Broken[0]
		return rs
	}
	// What fails is failing, whatever a declaration says of it.
	if ok, because := in.Facts.Applies(r.ID); !ok && rs.Verdict != Failing {
		rs.Verdict, rs.Why = NotApplicable, because
	}
	if rs.Verdict == Met {
		rs.Why = fmt.Sprintf("%d of %d checks pass", len(rs.Checks), len(rs.Checks))
	}
	return rs
}

// judgeControl is the worst of a control's rows; rows that do not apply are
// left out.
func judgeControl(rows []RowState) (Verdict, How, string) {
	v, why := NotApplicable, ""
	how := Live
	applying := 0
	for _, r := range rows {
		if r.Verdict == NotApplicable {
			if why == "" {
				why = r.Why
			}
			continue
		}
		if applying++; applying == 1 || worse(r.Verdict, v) {
			v, why = r.Verdict, "row "+string(r.Row.ID)+": "+r.Why
		}
		for _, c := range r.Checks {
			if c.Kind == check.Bench {
				how = OnBench
			}
		}
	}
	switch v {
	case Met:
		return v, how, fmt.Sprintf("all %d rows are met", applying)
	case Attested:
		return v, ByPerson, why
	}
	return v, "", why
}

func count(h *Headline, c *ControlState) {
	switch c.Verdict {
	case Met:
		if c.How == OnBench {
			h.Bench++
		} else {
			h.Live++
		}
	case Attested:
		h.Attested++
	case NotApplicable:
		h.NotApplicable++
	case Failing, Tampered:
		h.Failing++
	case Errored, Stale, Unproven, Waived:
		h.NotProved++
	}
}

// Age is how long an observation of a check counts for the products in force:
// shorter where a product asks for more (row 0.1).
func (f Facts) Age(d Declared) time.Duration {
	age := d.MaxAge
	if d.MaxAge <= check.Critical {
		return age // no product asks for more than that
	}
	for _, r := range d.Rows {
		age = min(age, max(time.Duration(float64(d.MaxAge)*f.Strict(r).MaxAgeFactor), check.Critical))
	}
	return age
}

// compareRows orders row ids as the mission does: 1.2 before 1.10.
func compareRows(a, b RowID) int {
	ga, na, _ := strings.Cut(string(a), ".")
	gb, nb, _ := strings.Cut(string(b), ".")
	return cmp.Or(cmp.Compare(len(ga), len(gb)), cmp.Compare(ga, gb), cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb))
}
