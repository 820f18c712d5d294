package console

import (
	"fmt"
	"net/http"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

type reviewsView struct{ Reviews []reviewLine }

// reviewLine is one version that widens what was declared.
type reviewLine struct {
	declaration.ReviewState
	Class  string
	Words  string
	Vouch  bool // the visitor may answer for it
	Decide bool // the visitor may
	Own    bool // the visitor wants it
}

func (c *Console) reviewsPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	all, err := c.d.Reviews.Reviews(r.Context())
	if err != nil {
		return fmt.Errorf("read reviews: %w", err)
	}
	var view reviewsView
	for i := range all {
		if !all[i].Decided.IsZero() && all[i].Decided.Before(v.From) {
			continue // it was over before the assessor's period
		}
		x := reviewLine{ReviewState: all[i], Own: all[i].Requester() == v.Actor}
		switch x.State() {
		case "open":
			x.Class, x.Words = "hot", "waits for a second person"
			if x.Requester() == (core.Actor{}) {
				x.Vouch, x.Words = v.Holds("review.decide"), "waits for two people"
			}
		case "approved":
			x.Class, x.Words = "good", "approved"
		case "superseded":
			x.Words = "overtaken by another version"
		case "rejected":
			x.Class, x.Words = "bad", "rejected"
		default:
			x.Words = "taken back"
		}
		x.Decide = x.Open() && !x.Own && v.Holds("review.decide")
		view.Reviews = append(view.Reviews, x)
	}
	return c.show(w, r, v, http.StatusOK, "reviews", page{
		Title: "Reviews", Here: "/reviews", Data: view,
		Lead: "A version that takes more from people, or opens something, is blocked until somebody else than who asked for it has looked.",
	})
}

func (c *Console) vouchForReview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.decide(w, r, v, c.d.Reviews.VouchForReview(r.Context(), v.Actor, r.PathValue("review")))
}

func (c *Console) approveReview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.decide(w, r, v, c.d.Reviews.ApproveReview(r.Context(), v.Actor, r.PathValue("review")))
}

func (c *Console) rejectReview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.decide(w, r, v, c.d.Reviews.RejectReview(r.Context(), v.Actor, r.PathValue("review")))
}

func (c *Console) decide(w http.ResponseWriter, r *http.Request, _ Visitor, err error) error {
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/reviews", http.StatusSeeOther)
	return nil
}
