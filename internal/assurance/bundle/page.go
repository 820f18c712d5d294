package bundle

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

//go:embed page.tmpl
var pageText string

//go:embed page.css
var pageCSS string

// pageTemplate never changes; parsing it takes longer than filling it.
var pageTemplate = template.Must(template.New(namePage).Funcs(template.FuncMap{"time": stamp, "word": word, "class": class}).Parse(pageText))

// page is index.html: one static file without scripts that loads nothing.
// Whatever a device or a person has named stands in it as text.
func (e *evidence) page(p PublicKey) ([]byte, error) {
	sum := sha256.Sum256([]byte(pageCSS))
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		facts
		CSS       template.CSS
		CSSHash   template.HTMLAttr
		Sections  []pageSection
		Open      []pageOpen
		Claims    []assurance.ClaimState
		Samplings []sample
		Broken    []string
	}{
		// The style is this file's own text, known when it was built.
		facts: e.facts(p), CSS: template.CSS(pageCSS), //nolint:gosec // see above
		CSSHash:  template.HTMLAttr(`content="default-src 'none'; style-src 'sha256-` + base64.StdEncoding.EncodeToString(sum[:]) + `'"`), //nolint:gosec // a digest
		Sections: e.sections(), Open: e.open(), Claims: e.claims, Samplings: e.samplings, Broken: e.Input.Broken,
	})
	return b.Bytes(), err
}

type pageSection struct {
	assurance.Section
	Controls []pageControl
}

type pageControl struct {
	assurance.ControlState
	Rows []pageRow
}

type pageRow struct {
	assurance.RowState
	Checks []pageCheck
}

type pageCheck struct {
	assurance.CheckState
	Seen Seen
}

// pageOpen is one recommendation that is not proved.
type pageOpen struct {
	ID      assurance.ControlID
	Says    string
	Verdict assurance.Verdict
	Why     string
}

func (e *evidence) sections() []pageSection {
	var out []pageSection
	for _, s := range assurance.Sections() {
		ps := pageSection{Section: s}
		for i := range e.state.Controls {
			c := &e.state.Controls[i]
			if c.Control.Section != s.ID {
				continue
			}
			pc := pageControl{ControlState: *c}
			for _, r := range c.Rows {
				pr := pageRow{RowState: r}
				for _, k := range r.Checks {
					pr.Checks = append(pr.Checks, pageCheck{k, e.fold.seen[k.ID]})
				}
				pc.Rows = append(pc.Rows, pr)
			}
			ps.Controls = append(ps.Controls, pc)
		}
		out = append(out, ps)
	}
	return out
}

// open are the recommendations that are not proved, worst first.
func (e *evidence) open() []pageOpen {
	var out []pageOpen
	for _, v := range assurance.Verdicts() {
		if v == assurance.Met || v == assurance.NotApplicable {
			continue
		}
		for i := range e.state.Controls {
			if c := &e.state.Controls[i]; c.Verdict == v {
				out = append(out, pageOpen{c.Control.ID, c.Control.Says, v, c.Why})
			}
		}
	}
	return out
}

// word says a verdict to people.
func word(v assurance.Verdict) string {
	switch v {
	case assurance.Met:
		return "proved"
	case assurance.NotApplicable:
		return "not applicable"
	case assurance.Unproven:
		return "not proved"
	case assurance.Errored:
		return "could not look"
	case assurance.Tampered, assurance.Failing, assurance.Stale, assurance.Waived, assurance.Attested:
	}
	return string(v)
}

// class is how a verdict or an outcome is drawn; never the only sign of it.
func class(v any) string {
	switch v {
	case assurance.Met, check.Pass:
		return "good"
	case assurance.Failing, assurance.Tampered, check.Fail:
		return "bad"
	case assurance.NotApplicable:
		return "moot"
	}
	return "open"
}
