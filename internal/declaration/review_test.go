package declaration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

func second() core.Actor { return core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"} }
func third() core.Actor  { return core.Actor{Kind: core.ActorStaff, ID: "pmnopqrstuvwx"} }

// waiting publishes a widening version and gives its review.
func (p *publishing) waiting(t *testing.T, next *declaration.Policy) declaration.ReviewState {
	t.Helper()
	p.now = p.now.Add(time.Second)
	err := p.Publish(t.Context(), staff(), next)
	if core.ReasonOf(err) != "widening" {
		t.Fatalf("published: %v", err)
	}
	all := p.reviews(t)
	if len(all) == 0 || !strings.Contains(err.Error(), all[0].ID) {
		t.Fatalf("%v names none of %d reviews", err, len(all))
	}
	return all[0]
}

func (p *publishing) reviews(t *testing.T) []declaration.ReviewState {
	t.Helper()
	all, err := p.Reviews(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReview: what widens opens one review and waits; another person's yes puts
// exactly it in force, and nobody decides twice (CC 4.12).
func TestReview(t *testing.T) {
	p := newPublishing(t, core.Live)
	one, two := version(t, "1"), version(t, "2", "keep: 7d", "keep: 8d")
	p.must(t, one)
	r := p.waiting(t, two)
	if !r.Open() || r.AskedBy != staff() || r.Version != 2 || !declaration.Widens(r.Changes) {
		t.Errorf("%+v", r)
	}
	if again := p.waiting(t, two); again.ID != r.ID || len(p.reviews(t)) != 1 {
		t.Error("asked twice, there are two reviews")
	}
	if now, err := p.Current(t.Context(), one.Product); err != nil || now.Hash != one.Hash {
		t.Fatalf("in force is %v, %v", now, err)
	}
	if _, err := p.ApproveReview(t.Context(), staff(), r.ID); core.ReasonOf(err) != "review-person" {
		t.Errorf("by nobody who signed in: %v", err)
	}
	three := version(t, "3", "keep: 7d", "keep: 9d")
	if err := p.Publish(t.Context(), second(), three); core.ReasonOf(err) != "widening" {
		t.Fatal(err)
	}
	for _, x := range p.reviews(t) {
		if x.AskedBy != second() {
			continue
		}
		if _, err := p.ApproveReview(t.Context(), second(), x.ID); core.ReasonOf(err) != "review-self" {
			t.Errorf("by who asked: %v", err)
		}
		if err := p.TakeReviewBack(t.Context(), second(), x.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.ApproveReview(t.Context(), second(), "rnone"); core.ReasonOf(err) != "no-such-review" {
		t.Errorf("of no review: %v", err)
	}
	// staff() acts on the machine, where nobody knows which person that is.
	if _, err := p.ApproveReview(t.Context(), second(), r.ID); core.ReasonOf(err) != "review-unvouched" {
		t.Errorf("nobody vouched: %v", err)
	}
	if err := p.VouchForReview(t.Context(), staff(), r.ID); core.ReasonOf(err) != "review-person" {
		t.Errorf("vouched for on the machine: %v", err)
	}
	if err := p.VouchForReview(t.Context(), third(), r.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.VouchForReview(t.Context(), second(), r.ID); core.ReasonOf(err) != "review-vouched" {
		t.Errorf("vouched for twice: %v", err)
	}
	if _, err := p.ApproveReview(t.Context(), third(), r.ID); core.ReasonOf(err) != "review-self" {
		t.Errorf("by who vouched: %v", err)
	}
	got, err := p.ApproveReview(t.Context(), second(), r.ID)
	if err != nil || got.Hash != two.Hash {
		t.Fatalf("approved: %v, %v", got, err)
	}
	if now, err := p.Current(t.Context(), one.Product); err != nil || now.Hash != two.Hash {
		t.Errorf("in force is %v, %v", now, err)
	}
	if _, err := p.ApproveReview(t.Context(), second(), r.ID); core.ReasonOf(err) != "review-decided" {
		t.Errorf("a second time: %v", err)
	}
	for _, x := range p.reviews(t) {
		if x.ID == r.ID && (x.Decision != declaration.Approved || x.By != second() || x.Open()) {
			t.Errorf("%s by %s", x.Decision, x.By)
		}
	}
	p.must(t, two) // in force: changes nothing
}

// TestReviewEnds: rejected, taken back, or overtaken by another version, it puts
// nothing in force (CC 4.12).
func TestReviewEnds(t *testing.T) {
	p := newPublishing(t, core.Live)
	p.must(t, version(t, "1"))
	wider := version(t, "2", "keep: 7d", "keep: 8d")
	r := p.waiting(t, wider)
	if err := p.RejectReview(t.Context(), second(), r.ID); err != nil {
		t.Fatal(err)
	}
	if r = p.waiting(t, wider); len(p.reviews(t)) != 2 {
		t.Error("asked again after a no, there is no new review")
	}
	if err := p.TakeReviewBack(t.Context(), staff(), r.ID); err != nil {
		t.Fatal(err)
	}
	r = p.waiting(t, wider)
	p.must(t, version(t, "3", "keep: 7d", "keep: 6d"))
	for _, x := range p.reviews(t) {
		if x.Open() {
			t.Errorf("%s is open", x.ID)
		}
		if _, err := p.ApproveReview(t.Context(), second(), x.ID); core.KindOf(err) != core.Conflict {
			t.Errorf("%s (%s): %v", x.ID, x.Decision, err)
		}
	}
	if all := p.reviews(t); all[0].ID != r.ID || !all[0].Superseded {
		t.Errorf("%+v", all[0])
	}
	if now, err := p.Current(t.Context(), "door-bell"); err != nil || now.Version != 3 {
		t.Errorf("in force is version %d, %v", now.Version, err)
	}
}

// TestReviewAskedAs: who asked, who vouched and for what are what the ledger
// has of it, whatever the database says.
func TestReviewAskedAs(t *testing.T) {
	p := newPublishing(t, core.Live)
	p.must(t, version(t, "1"))
	r := p.waiting(t, version(t, "2", "keep: 7d", "keep: 8d"))
	if err := p.VouchForReview(t.Context(), second(), r.ID); err != nil {
		t.Fatal(err)
	}
	r = p.reviews(t)[0]
	if why := r.AskedAs(p.records(t)); why != "" {
		t.Fatalf("untouched: %s", why)
	}
	for name, edit := range map[string]func(*declaration.Review){
		"another asked":   func(r *declaration.Review) { r.AskedBy = third() },
		"another vouched": func(r *declaration.Review) { r.Voucher = third() },
		"nobody vouched":  func(r *declaration.Review) { r.Voucher = core.Actor{} },
		"another version": func(r *declaration.Review) { r.Hash[0]++ },
		"never asked for": func(r *declaration.Review) { r.ID = "rnone" },
	} {
		x := r.Review
		edit(&x)
		if x.AskedAs(p.records(t)) == "" {
			t.Errorf("%s, and nothing is said", name)
		}
	}
	if why := r.AskedAs(p.records(t)[:1]); why == "" {
		t.Error("the records are missing, and nothing is said")
	}
}
