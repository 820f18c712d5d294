package bundle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

// guide is where the recommendations come from.
const guide = "https://www.ftc.gov/business-guidance/resources/careful-connections-keeping-internet-things-secure"

// line makes a text one line without outer space, as OSCAL asks of strings;
// what is empty becomes a dash.
func line(s string) string {
	if s = strings.Join(strings.Fields(s), " "); s != "" {
		return s
	}
	return "-"
}

func prop(name, value string) oProp { return oProp{name, oscalNS, line(value)} }

func count(name string, n int) oProp { return prop(name, strconv.Itoa(n)) }

// method is how a check looks, in the words of OSCAL.
func method(k check.Kind) string {
	switch k {
	case check.Attestation:
		return "INTERVIEW"
	case check.Artefact:
		return "EXAMINE"
	case check.Query, check.Probe, check.Bench:
	}
	return "TEST"
}

// rowToken is a row as OSCAL may name it.
func rowToken(r assurance.RowID) string { return "row-" + string(r) }

func (e *evidence) metadata(title string) oMetadata {
	return oMetadata{
		Title: title, LastModified: e.state.At, Version: line(e.state.At.Format("2006-01-02T15:04:05.999999Z")), OSCAL: oscalVersion,
		Props:   []oProp{prop("ledger-origin", e.Origin), prop("program", e.state.Program), prop("catalogue", e.Catalogue)},
		Remarks: "Says what was seen, and certifies nothing.",
	}
}

// results is the bundle as OSCAL assessment-results. OSCAL has two states where
// there are nine: only met is satisfied, and the verdict stands in a property.
func (e *evidence) results() oResultsFile {
	id := func(parts ...string) string {
		return uuid(append([]string{e.Origin, strconv.FormatUint(e.Last, 10)}, parts...)...)
	}
	h := e.state.Headline
	plan := id("plan")
	res := oResult{
		UUID: id("result"), Title: "What was seen from round " + strconv.FormatUint(e.First, 10) + " to " + strconv.FormatUint(e.Last, 10),
		Description: "Every check that the program runs on itself, and what it saw last: " + h.String() + ".",
		Start:       e.began(), End: e.state.At,
		Props: []oProp{
			count("proved-live", h.Live), count("proved-on-the-bench", h.Bench), count("attested", h.Attested),
			count("not-proved", h.NotProved), count("failing", h.Failing), count("not-applicable", h.NotApplicable),
			count("observations", e.fold.observations), count("rounds", int(e.Last-e.First)+1),
		},
		Local: &oLocalDefinitions{[]oSystemComponent{{
			UUID: id("system"), Type: "this-system", Title: "This installation",
			Description: "The running system of ledger " + line(e.Origin) + ".", Status: oStatus{State: "operational"},
		}}},
	}
	sel := oSelection{Description: "All recommendations of the guide, without those that a fact in the declarations makes moot."}
	for i := range e.state.Controls {
		c := &e.state.Controls[i]
		ref := oControlRef{string(c.Control.ID)}
		if c.Verdict == assurance.NotApplicable {
			sel.Exclude = append(sel.Exclude, ref)
			continue
		}
		sel.Include = append(sel.Include, ref)
	}
	if len(sel.Include) == 0 {
		sel.Include, sel.Exclude = sel.Exclude, nil // OSCAL cannot say "none"
	}
	res.Reviewed = oReviewed{"The recommendations of the guide (" + guide + ").", []oSelection{sel}}
	for _, d := range e.Input.Checks {
		if o, ok := e.fold.latest[d.ID]; ok {
			res.Observations = append(res.Observations, e.observation(&d, &o, id))
		}
	}
	for i := range e.state.Controls {
		res.Findings = append(res.Findings, findings(&e.state.Controls[i], e.fold, id)...)
	}
	return oResultsFile{oAssessmentResults{
		UUID: id("assessment-results"), Metadata: e.metadata("Evidence of " + line(e.Origin)),
		ImportAP: oImportAP{"#" + plan, "There is no plan apart: every check runs all the time."},
		Results:  []oResult{res},
		BackMatter: oBackMatter{[]oResource{{
			UUID: plan, Title: "How this was assessed", Description: "What the files of this bundle are, and how to verify them.",
			RLinks: []oRLink{{"../" + nameReadme}},
		}}},
	}}
}

func (e *evidence) observation(d *assurance.Declared, o *check.Observation, id func(...string) string) oObservation {
	seen := e.fold.seen[d.ID]
	out := oObservation{
		UUID: id("observation", d.ID), Title: line(d.ID), Description: line(d.Says),
		Props: []oProp{
			prop("check", d.ID), count("check-version", o.Version), prop("kind", string(o.Kind)), prop("outcome", string(o.Outcome)),
			count("population", o.Population), count("passing", o.Passing), count("failing", o.Failing), count("excluded", o.Excluded),
			prop("population-from", o.Source), count("looks", seen.Looks), count("looks-passing", seen.Passing), count("looks-failing", seen.Failing),
		},
		Methods: []string{method(o.Kind)}, Types: []string{"control-objective"},
		Origins:  []oOrigin{{[]oActor{{"tool", uuid("program", o.Program)}}}},
		Evidence: []oEvidence{{Href: "../" + nameVerdicts, Description: "The observation as it stands in its round."}},
		// The end of an observation is the judge's affair; this is what the
		// observation itself says.
		Collected: o.Taken.UTC(), Expires: o.Expires.UTC(),
	}
	for _, t := range o.Touched {
		out.Evidence = append(out.Evidence, oEvidence{Description: line("touched " + t.What + " " + t.Name)})
	}
	if o.Error != "" {
		out.Remarks = line(o.Error)
	} else if len(o.Findings) > 0 {
		out.Remarks = line(o.Findings[0].Subject + ": " + o.Findings[0].Text)
	}
	return out
}

// findings are those of a control and of its rows.
func findings(c *assurance.ControlState, f *fold, id func(...string) string) []oFinding {
	one := oFinding{
		UUID: id("finding", string(c.Control.ID)), Title: line(string(c.Control.ID) + " " + c.Control.Says), Description: line(c.Why),
		Props:  []oProp{prop("of", "control"), prop("verdict", string(c.Verdict))},
		Target: target(string(c.Control.ID), c.Verdict),
	}
	if c.How != "" {
		one.Props = append(one.Props, prop("known", string(c.How)))
	}
	var out []oFinding
	for i := range c.Rows {
		r := &c.Rows[i]
		row := oFinding{
			UUID: id("finding", rowToken(r.Row.ID)), Title: line("Row " + string(r.Row.ID) + " " + r.Row.Must), Description: line(r.Why),
			Props:  []oProp{prop("of", "row"), prop("verdict", string(r.Verdict)), prop("control", string(c.Control.ID))},
			Target: target(rowToken(r.Row.ID), r.Verdict),
		}
		for j := range r.Checks {
			if _, ok := f.latest[r.Checks[j].ID]; ok {
				row.Related = append(row.Related, oRelated{id("observation", r.Checks[j].ID)})
			}
		}
		for _, x := range row.Related {
			if !slices.Contains(one.Related, x) {
				one.Related = append(one.Related, x)
			}
		}
		if r.Verdict != assurance.NotApplicable {
			out = append(out, row)
		}
	}
	if c.Verdict == assurance.NotApplicable {
		return nil
	}
	return append([]oFinding{one}, out...)
}

func target(id string, v assurance.Verdict) oTarget {
	t := oTarget{"objective-id", id, oStatus{State: "not-satisfied", Reason: "other"}}
	switch v {
	case assurance.Met:
		t.Status = oStatus{State: "satisfied", Reason: "pass"}
	case assurance.Failing, assurance.Tampered:
		t.Status.Reason = "fail"
	case assurance.Errored, assurance.Stale, assurance.Unproven, assurance.Waived, assurance.Attested, assurance.NotApplicable:
	}
	return t
}

// components says which controls the program holds by checks, as an OSCAL
// component-definition.
func (e *evidence) components() oComponentsFile {
	byRow := map[assurance.RowID][]assurance.Declared{}
	for _, d := range e.Input.Checks {
		for _, r := range d.Rows {
			byRow[r] = append(byRow[r], d)
		}
	}
	imp := oImplementation{
		UUID: uuid("implementation", guide), Source: guide,
		Description: "What the program does for each recommendation of the guide, and by which checks it sees that it does.",
	}
	for _, c := range assurance.Controls() {
		r := oRequirement{UUID: uuid("requirement", string(c.ID)), ControlID: string(c.ID), Description: line(c.Says)}
		for _, row := range assurance.RowsOf(c.ID) {
			r.Description += "\n\n" + line("Row "+string(row.ID)+": "+row.Must)
			for _, d := range byRow[row.ID] {
				p := prop("check", d.ID)
				switch {
				case d.Missing != "":
					p = prop("check-missing", fmt.Sprintf("%s: %s", d.ID, d.Missing))
				case slices.Contains(r.Props, p):
					continue
				}
				r.Props = append(r.Props, p)
			}
		}
		imp.Requirements = append(imp.Requirements, r)
	}
	return oComponentsFile{oComponentDefinition{
		UUID: uuid("component-definition", e.state.Program, e.Origin), Metadata: e.metadata("Hawser"),
		Components: []oComponent{{
			UUID: uuid("program", e.state.Program), Type: "software", Title: "Hawser " + line(e.state.Program),
			Description:     "Secure back end, device agent and tooling for a maker of connected products.",
			Props:           []oProp{prop("program", e.state.Program)},
			Implementations: []oImplementation{imp},
		}},
	}}
}
