package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
)

// choice is a filter of the list of controls.
type choice struct {
	ID   string
	Mark mark
	N    int
	On   bool
	URL  string
}

type todayView struct {
	At       time.Time
	Program  string
	Tiles    []tile
	Finer    []choice // parts of "not proved", and what does not apply
	Shown    string   // "": all
	Word     string   // of the filter
	Sections []sectionView
	Rows     assurance.Tally
	Tampered string // what of the evidence was changed; "": nothing
	Never    bool   // nothing was ever looked at
}

type tile struct {
	choice
	Text string
}

type sectionView struct {
	assurance.Section
	Controls []controlLine
	Good     int
	All      int
}

type controlLine struct {
	ID, Says, Why string
	Mark          mark
}

// groupOf is the tile that a control belongs to.
func groupOf(c *assurance.ControlState) string {
	switch c.Verdict {
	case assurance.Met:
		if c.How == assurance.OnBench {
			return "bench"
		}
		return "live"
	case assurance.Attested:
		return "attested"
	case assurance.Failing, assurance.Tampered:
		return "failing"
	case assurance.NotApplicable:
		return "n-a"
	case assurance.Errored, assurance.Stale, assurance.Unproven, assurance.Waived:
	}
	return "not-proved"
}

// finerGroup is one verdict as a filter of its own.
type finerGroup struct {
	id      string
	verdict assurance.Verdict
}

// finer are the filters below the tiles.
func finer() []finerGroup {
	return []finerGroup{
		{"unproven", assurance.Unproven},
		{"stale", assurance.Stale},
		{"error", assurance.Errored},
		{"waived", assurance.Waived},
		{"tampered", assurance.Tampered},
		{"n-a", assurance.NotApplicable},
	}
}

func (c *Console) todayPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	st, err := c.d.Proof.State(r.Context())
	if err != nil {
		return fmt.Errorf("work out verdicts: %w", err)
	}
	return c.show(w, r, v, http.StatusOK, "today", page{
		Title: "Is it true today?", Here: "/", Data: todayOf(&st, r.URL.Query().Get("show")),
		Lead: "What the guide recommends, in 63 controls, looked at all the time. Each counts only while its checks are fresh, pass, and were seen to turn red.",
	})
}

func todayOf(st *assurance.State, shown string) todayView {
	h := st.Headline
	view := todayView{At: st.At, Program: st.Program, Rows: st.Rows}
	at := func(id string) string {
		if id == shown {
			return "/"
		}
		return "/?show=" + url.QueryEscape(id)
	}
	add := func(id string, n int, m mark, text string) {
		if id == shown {
			view.Shown, view.Word = id, m.Word
		}
		view.Tiles = append(view.Tiles, tile{choice{id, m, n, id == shown, at(id)}, text})
	}
	add("live", h.Live, mark{"met", "met", "Proved live"}, "seen on the running system")
	add("bench", h.Bench, mark{"bench", "bench", "Proved on the bench"}, "seen on a device, for this firmware")
	add("attested", h.Attested, mark{"attested", "attested", "Attested"}, "a named person says so")
	add("not-proved", h.NotProved, mark{"unproven", "unproven", "Not proved"}, "nobody looked, or not lately")
	add("failing", h.Failing, mark{"failing", "failing", "Failing"}, "a check saw that it is not so")
	for _, f := range finer() {
		n := 0
		for i := range st.Controls {
			if st.Controls[i].Verdict == f.verdict {
				n++
			}
		}
		m := markOf(f.verdict)
		if f.verdict == assurance.Unproven {
			m.Word = "Never proved"
		}
		if f.id == shown {
			view.Shown, view.Word = shown, m.Word
		}
		if n > 0 || f.id == shown {
			view.Finer = append(view.Finer, choice{f.id, m, n, f.id == shown, at(f.id)})
		}
	}
	view.Never = true
	for _, s := range assurance.Sections() {
		sec := sectionView{Section: s}
		for i := range st.Controls {
			cs := &st.Controls[i]
			if cs.Control.Section != s.ID {
				continue
			}
			sec.All++
			if cs.Verdict == assurance.Met {
				sec.Good++
			}
			if cs.Verdict == assurance.Tampered {
				view.Tampered = cs.Why
			}
			view.Never = view.Never && !slices.ContainsFunc(cs.Rows, looked)
			if view.Shown == "" || view.Shown == groupOf(cs) || slices.Contains(finer(), finerGroup{view.Shown, cs.Verdict}) {
				sec.Controls = append(sec.Controls, controlLine{string(cs.Control.ID), cs.Control.Says, cut(150, cs.Why), markOfControl(cs)})
			}
		}
		if len(sec.Controls) > 0 {
			view.Sections = append(view.Sections, sec)
		}
	}
	return view
}

func looked(r assurance.RowState) bool {
	return slices.ContainsFunc(r.Checks, func(c assurance.CheckState) bool { return c.Observation != nil })
}
