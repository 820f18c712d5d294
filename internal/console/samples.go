package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// Samples draws random samples with an assessor's nonce.
type Samples interface {
	Begin(ctx context.Context, by core.Actor, q sampling.Request) (sampling.Sampling, error)
	Draw(ctx context.Context, by core.Actor, id string, nonce []byte) (sampling.Sampling, error)
	List(context.Context) ([]sampling.Sampling, error)
	Look(ctx context.Context, id string) (sampling.Sampling, []sampling.Item, error)
}

// itemsOnPage keeps a page with a large sample small.
const itemsOnPage = 300

// sampleLine is one sampling in a list.
type sampleLine struct {
	sampling.Sampling
	Done bool // it is drawn
}

type sampleView struct {
	sampling.Sampling
	LastDay time.Time // of the period that records are of
	Digest  string    // as the ledger holds it
	Items   []sampling.Item
	More    int  // drawn, and not on the page
	Done    bool // it is drawn
	May     bool // draw it
	Own     bool // the visitor began it
}

// sampleLines are the samplings that a visitor may know of.
func (c *Console) sampleLines(ctx context.Context, v Visitor) (out []sampleLine, err error) {
	all, err := c.d.Samples.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	for _, s := range all {
		if !s.Begun.Before(v.From) {
			out = append(out, sampleLine{s, s.IsDrawn()})
		}
	}
	return out, nil
}

func (c *Console) beginSample(w http.ResponseWriter, r *http.Request, v Visitor) error {
	q := sampling.Request{Of: r.PostFormValue("of")}
	var err error
	if q.Size, err = strconv.Atoi(r.PostFormValue("size")); err != nil {
		return core.E(core.Invalid, "sample-size", "the size is no number", "draw 1 to 1,000")
	}
	if _, records := sampling.KindOf(q.Of); records {
		if q.From, err = time.Parse(time.DateOnly, r.PostFormValue("from")); err != nil {
			return core.E(core.Invalid, "from", "the first day is no day", "write it as in 2026-11-01; days are those of UTC")
		}
		if q.Until, err = time.Parse(time.DateOnly, r.PostFormValue("until")); err != nil {
			return core.E(core.Invalid, "until", "the last day is no day", "write it as in 2026-11-30; days are those of UTC")
		}
		q.Until = q.Until.AddDate(0, 0, 1)
		if q.From.Before(v.From.Truncate(24 * time.Hour)) {
			return core.E(core.Denied, "period", "this begins before your period", "draw from what is of your period")
		}
	}
	s, err := c.d.Samples.Begin(r.Context(), v.Actor, q)
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/evidence/samples/"+s.ID, http.StatusSeeOther)
	return nil
}

func (c *Console) drawSample(w http.ResponseWriter, r *http.Request, v Visitor) error {
	nonce, err := sampling.ParseNonce(r.PostFormValue("nonce"))
	if err != nil {
		return err
	}
	s, err := c.d.Samples.Draw(r.Context(), v.Actor, r.PathValue("sample"), nonce)
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/evidence/samples/"+s.ID, http.StatusSeeOther)
	return nil
}

func (c *Console) samplePage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, cancel := within(r)
	defer cancel()
	s, items, err := c.d.Samples.Look(ctx, r.PathValue("sample"))
	if err != nil {
		return err
	}
	if s.Begun.Before(v.From) {
		return core.E(core.Unknown, "no-such-sample", "there is no such sample in your period", "see the page Evidence")
	}
	view := sampleView{Sampling: s, Items: items, Done: s.IsDrawn(), Digest: s.Digest().String(), May: v.Holds("evidence.sample") && !s.IsDrawn(), Own: s.By == v.Actor}
	view.Population = nil
	if n := len(items); n > itemsOnPage {
		view.Items, view.More = items[:itemsOnPage], n-itemsOnPage
	}
	if !s.Until.IsZero() {
		view.LastDay = s.Until.Add(-time.Second)
	}
	return c.show(w, r, v, http.StatusOK, "sample", page{
		Title: "Sample " + s.ID, Here: "/evidence", Up: []link{{"Evidence", "/evidence#samples"}}, Data: view,
		Lead: "Drawn at random, so that neither side chooses what is looked at.",
	})
}
