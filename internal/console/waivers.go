package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
)

type waiversView struct {
	Waivers  []waiverLine
	Rows     []waivable // that may be asked for now
	Met      []assurance.Control
	Row      string
	MayAsk   bool
	MostDays int
}

type waiverLine struct {
	assurance.Waiver
	State   string // in a word
	Class   string
	Control string
	Must    string
	Approve bool // the visitor may
	End     bool // the visitor may
	Own     bool // the visitor asked for it
}

type waivable struct{ Row, Must, Verdict string }

func (c *Console) waiversPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	st, err := c.d.Proof.State(r.Context())
	if err != nil {
		return fmt.Errorf("work out verdicts: %w", err)
	}
	all, err := c.d.Proof.Waivers(r.Context())
	if err != nil {
		return fmt.Errorf("read waivers: %w", err)
	}
	view := waiversView{MayAsk: v.Holds("waiver.ask"), MostDays: int(assurance.MaxWaiver / (24 * time.Hour))}
	for i := range all {
		if ended(&all[i]).Before(v.From) {
			continue // it was over before the assessor's period
		}
		view.Waivers = append(view.Waivers, waiverLineOf(&all[i], c.d.Now(), v))
	}
	for i := range st.Controls {
		cs := &st.Controls[i]
		if cs.Verdict == assurance.Met {
			view.Met = append(view.Met, cs.Control)
		}
		for _, row := range cs.Rows {
			if row.Verdict == assurance.Failing || row.Verdict == assurance.Unproven {
				view.Rows = append(view.Rows, waivable{string(row.Row.ID), cut(80, row.Row.Must), string(row.Verdict)})
			}
		}
	}
	if row, ok := assurance.FindRow(assurance.RowID(r.URL.Query().Get("row"))); ok {
		view.Row = string(row.ID)
	}
	return c.show(w, r, v, http.StatusOK, "waivers", page{
		Title: "Waivers", Here: "/waivers", Data: view,
		Lead: "What is not as it should be and is accepted for a while, with something else that makes up for it. A waiver never makes a row met.",
	})
}

// ended is when a waiver counted for nothing any more, at the latest.
func ended(w *assurance.Waiver) time.Time {
	if !w.Ended.IsZero() && w.Ended.Before(w.Ends) {
		return w.Ended
	}
	return w.Ends
}

func waiverLineOf(w *assurance.Waiver, now time.Time, v Visitor) waiverLine {
	l := waiverLine{Waiver: *w, Own: w.AskedBy == v.Actor}
	if row, ok := assurance.FindRow(w.Row); ok {
		l.Control, l.Must = string(row.Control), row.Must
	}
	open := w.Ended.IsZero() && now.Before(w.Ends)
	switch {
	case !w.Ended.IsZero():
		l.State = "taken back"
	case !open:
		l.State = "over"
	case w.Approved.IsZero():
		l.State, l.Class = "waits for a second person", "hot"
	case w.Void != "":
		l.State, l.Class = "void", "bad"
	default:
		l.State, l.Class = "counts", "good"
	}
	l.Approve = open && w.Approved.IsZero() && !l.Own && v.Holds("waiver.approve")
	l.End = open && v.Holds("waiver.ask")
	return l
}

func (c *Console) askWaiver(w http.ResponseWriter, r *http.Request, v Visitor) error {
	days, err := strconv.Atoi(r.PostFormValue("days"))
	if err != nil {
		return core.E(core.Invalid, "waiver-end", "the number of days is no number", "give 1 to 90")
	}
	q := assurance.WaiverRequest{
		Row: assurance.RowID(r.PostFormValue("row")), Reason: r.PostFormValue("reason"), Instead: assurance.ControlID(r.PostFormValue("instead")), Days: days,
	}
	for _, s := range strings.Split(strings.ReplaceAll(r.PostFormValue("subjects"), "\r", ""), "\n") {
		if s = strings.TrimSpace(s); s != "" {
			q.Subjects = append(q.Subjects, s)
		}
	}
	slices.SortFunc(q.Subjects, cmp.Compare)
	if _, err := c.d.Proof.AskWaiver(r.Context(), v.Actor, q); err != nil {
		return err
	}
	http.Redirect(w, r, "/waivers", http.StatusSeeOther)
	return nil
}

func (c *Console) approveWaiver(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if _, err := c.d.Proof.ApproveWaiver(r.Context(), v.Actor, r.PathValue("waiver")); err != nil {
		return err
	}
	http.Redirect(w, r, "/waivers", http.StatusSeeOther)
	return nil
}

func (c *Console) endWaiver(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if _, err := c.d.Proof.EndWaiver(r.Context(), v.Actor, r.PathValue("waiver")); err != nil {
		return err
	}
	http.Redirect(w, r, "/waivers", http.StatusSeeOther)
	return nil
}
