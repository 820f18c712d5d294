package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// Reviews knows the versions that wait for a second person. Deciding is a
// person's, with a passkey, in the console.
type Reviews interface {
	Reviews(context.Context) ([]declaration.ReviewState, error)
	TakeReviewBack(ctx context.Context, by core.Actor, id string) error
}

// Review is a version of a declaration that widens something.
type Review struct {
	Review  string     `json:"review"`
	Product string     `json:"product"`
	Version int        `json:"version"`
	Hash    string     `json:"hash"`
	Against string     `json:"against"` // hash of the version in force when it was asked for
	State   string     `json:"state"`   // open, approved, rejected, taken-back or superseded
	Asked   time.Time  `json:"asked"`
	AskedBy string     `json:"asked_by"`
	Vouched *time.Time `json:"vouched,omitempty"` // when a person answered for what was asked for on the machine itself
	Voucher string     `json:"voucher,omitempty"`
	Decided *time.Time `json:"decided,omitempty"`
	By      string     `json:"by,omitempty"`
	Changes []Change   `json:"changes"`
}

func reviewOf(r *declaration.ReviewState) Review {
	out := Review{
		Review: r.ID, Product: string(r.Product), Version: r.Version, Hash: r.Hash.String(), Against: r.Against, State: r.State(),
		Asked: r.Asked, AskedBy: r.AskedBy.String(), Changes: []Change{},
	}
	if !r.Vouched.IsZero() {
		out.Vouched, out.Voucher = &r.Vouched, r.Voucher.String()
	}
	if r.Decision != declaration.Undecided {
		out.Decided, out.By = &r.Decided, r.By.String()
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, ChangeOf(c))
	}
	return out
}

func reviewRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/reviews", "declaration.list", h.reviews},
		{"POST /v1/reviews/{review}/take-back", "declaration.publish", h.takeReviewBack},
	}
}

func (h handlers) reviews(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Reviews.Reviews(r.Context())
	if err != nil {
		return err
	}
	out := []Review{}
	for i := range all {
		out = append(out, reviewOf(&all[i]))
	}
	return writeJSON(w, out)
}

// TakenBack names a review that was taken back.
type TakenBack struct {
	Review string `json:"taken_back"`
}

func (h handlers) takeReviewBack(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id := r.PathValue("review")
	if err := h.Reviews.TakeReviewBack(r.Context(), by, id); err != nil {
		return err
	}
	return writeJSON(w, TakenBack{id})
}
