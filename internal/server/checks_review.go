package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// reviewChecks hold that nothing was widened by one person alone (CC 4.12).
func (s *server) reviewChecks() []check.Check {
	return []check.Check{{
		ID: "review.blocks", Version: 1, Rows: []string{"4.12"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.12
		Says: "No version of a declaration came into force that widened the one before, unless another person than who asked for it, or vouched for it, approved it, in store and ledger.",
		Do:   "Publish a version without the widening, and find out who writes to control.db; bring it back from a backup (`hawser restore`) where records are missing.",
		Look: s.lookAtReviews,
		Violations: []check.Violation{
			{ID: "wider-behind-the-back", Says: "Puts a declaration with a longer keep-time in force behind the program's back.", Do: own(widenBehind)},
			{ID: "approved-behind-the-back", Says: "Has a review say that somebody approved it, behind the program's back, and puts its version in force.", Do: own(approveBehind)},
			{ID: "approved-by-who-asked", Says: "Has an approved review say that who approved it vouched for it, behind the program's back.", Do: own(approveOwn)},
			{ID: "asked-by-another", Says: "Has a review say that somebody else vouched for it, behind the program's back, and who did approves it.", Do: own(askedByAnother)},
		},
	}, {
		ID: "review.pen-tests", Version: 1, Rows: []string{"4.12"}, Kind: check.Query, Says: "New uses, upgrades and new connections are tested by somebody who attacks them.",
		Missing: "there are no releases yet whose reviews could name a penetration test",
	}}
}

func (s *server) lookAtReviews(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: declaration, declaration_review")
	l.Touch("source", "ledger, records of reviews")
	inForce, err := s.decl.All(ctx)
	if err != nil {
		return err
	}
	all, err := s.decl.Reviews(ctx)
	if err != nil {
		return err
	}
	asked, err := s.recordsOfReviews(ctx)
	if err != nil {
		return err
	}
	approved, err := s.recordsOf(ctx, declaration.RecordReviewApproved, 0, 1<<62)
	if err != nil {
		return err
	}
	for _, p := range inForce {
		versions, err := s.decl.Versions(ctx, p.Product)
		if err != nil {
			return err
		}
		l.Expect("versions of the products in force", len(versions))
		for i, v := range versions {
			name := fmt.Sprintf("%s version %d", v.Product, v.Version)
			switch {
			case i == 0 || !declaration.Widens(declaration.Diff(versions[i-1], v)):
				l.Pass(1)
			case s.inst.Environment != core.Live:
				l.Exclude(name, "a test installation asks nobody")
			default:
				why := unapproved(v.Hash, all, asked, approved)
				l.Holds(why == "", name, "%s", why)
			}
		}
	}
	return nil
}

// unapproved says why a widening version should not be in force, or nothing.
func unapproved(hash core.Hash, all []declaration.ReviewState, asked []core.Record, approved []ledger.Entry) string {
	why := "widens what was declared, and no review of it was opened"
	for i := range all {
		r := &all[i]
		if r.Hash != hash {
			continue
		}
		why = "widens what was declared, and its review is " + r.State()
		if r.Decision != declaration.Approved {
			continue
		}
		switch who := r.Requester(); {
		case who == (core.Actor{}):
			return "widens what was declared, and no person asked for it"
		case r.By == who || r.By.Kind != core.ActorStaff:
			return "widens what was declared, and who asked for it approved it, or no person did"
		}
		if why := r.AskedAs(asked); why != "" {
			return "widens what was declared, and its review was altered: " + why
		}
		for j := range approved {
			rec := &approved[j].Record
			if factOf(rec, "review") == r.ID && factOf(rec, "hash") == hash.String() && rec.Actor == r.By {
				return ""
			}
		}
		return "widens what was declared, and the ledger has no record that its review was approved"
	}
	return why
}

// wider is the twin's declaration with a longer keep-time.
func wider(version int) (*declaration.Policy, string, error) {
	src := strings.NewReplacer("version: 1\n", fmt.Sprintf("version: %d\n", version), "keep: 10d", fmt.Sprintf("keep: %dd", 10+version)).Replace(twinDeclaration)
	d, err := declaration.Parse("wider.yaml", []byte(src))
	if err != nil {
		return nil, "", err
	}
	p, err := declaration.Compile(d)
	return p, src, err
}

const dropVersion = `DELETE FROM declaration WHERE hash = ?`

func putBehind(ctx context.Context, t *twin, p *declaration.Policy) error {
	return t.Exec(ctx, "control.db", `INSERT INTO declaration (product, version, hash, canonical, published_us) VALUES (?, ?, ?, ?, ?)`,
		string(p.Product), p.Version, p.Hash[:], p.Canonical, t.Now().UnixMicro())
}

func widenBehind(ctx context.Context, t *twin) (func(context.Context) error, error) {
	p, _, err := wider(2)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", dropVersion, p.Hash[:]) }, putBehind(ctx, t, p)
}

// asked publishes a wider version, which opens its review and waits.
func (t *twin) asked(ctx context.Context, version int) (*declaration.Policy, error) {
	p, src, err := wider(version)
	if err != nil {
		return nil, err
	}
	err = t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "wider.yaml", Source: src}, nil)
	if err == nil {
		return nil, fmt.Errorf("a version that widens was published without a review")
	}
	if !strings.Contains(err.Error(), "waits for review") {
		return nil, err
	}
	return p, nil
}

const (
	setReview  = `UPDATE declaration_review SET body = json_set(CAST(body AS TEXT), '$.decision', 'approved', '$.decided', '2026-01-01T00:00:00Z', '$.by', json(?)) WHERE canonical = ?`
	dropReview = `DELETE FROM declaration_review WHERE canonical = ?`
)

func approveBehind(ctx context.Context, t *twin) (func(context.Context) error, error) {
	p, err := t.asked(ctx, 3)
	if err != nil {
		return nil, err
	}
	if err := t.Exec(ctx, "control.db", setReview, `{"Kind":"staff","ID":"pabcdefghijkl"}`, p.Canonical); err != nil {
		return nil, err
	}
	return t.dropped(p), putBehind(ctx, t, p)
}

// dropped takes a version and its review out of the database.
func (t *twin) dropped(p *declaration.Policy) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := t.Exec(ctx, "control.db", dropVersion, p.Hash[:]); err != nil {
			return err
		}
		return t.Exec(ctx, "control.db", dropReview, p.Canonical)
	}
}

// wanted has a version asked for, and vouched for by a person.
func (t *twin) wanted(ctx context.Context, version int, by core.Actor) (*declaration.Policy, string, error) {
	p, err := t.asked(ctx, version)
	if err != nil {
		return nil, "", err
	}
	all, err := t.s.decl.Reviews(ctx)
	if err != nil {
		return nil, "", err
	}
	for i := range all {
		if r := &all[i]; r.Hash == p.Hash && r.Open() {
			return p, r.ID, declarations{t.s}.VouchForReview(ctx, by, r.ID)
		}
	}
	return nil, "", fmt.Errorf("no review waits for version %d", version)
}

const setVoucher = `UPDATE declaration_review SET body = json_set(CAST(body AS TEXT), '$.voucher', json(?)) WHERE canonical = ?`

func jsonActor(a core.Actor) string { return fmt.Sprintf(`{"Kind":%q,"ID":%q}`, a.Kind, a.ID) }

// two are a person and another.
func two() (core.Actor, core.Actor) {
	return core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"}, core.Actor{Kind: core.ActorStaff, ID: "pmnopqrstuvwx"}
}

// approveOwn has a version approved by the rules, and then says who wanted it.
func approveOwn(ctx context.Context, t *twin) (func(context.Context) error, error) {
	ada, bea := two()
	p, id, err := t.wanted(ctx, 4, ada)
	if err != nil {
		return nil, err
	}
	if err := (declarations{t.s}).ApproveReview(ctx, bea, id); err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", setVoucher, jsonActor(ada), p.Canonical)
	}
	return undo, t.Exec(ctx, "control.db", setVoucher, jsonActor(bea), p.Canonical)
}

// askedByAnother has who wanted a version approve it, after the database says
// that it was somebody else. The server itself would refuse that, and must not
// be the only one who notices.
func askedByAnother(ctx context.Context, t *twin) (func(context.Context) error, error) {
	ada, bea := two()
	p, id, err := t.wanted(ctx, 5, ada)
	if err != nil {
		return nil, err
	}
	if err := t.Exec(ctx, "control.db", setVoucher, jsonActor(bea), p.Canonical); err != nil {
		return nil, err
	}
	if err := (declarations{t.s}).ApproveReview(ctx, ada, id); core.ReasonOf(err) != "review-altered" {
		return nil, fmt.Errorf("who vouched approved an altered review: %v", err)
	}
	if _, err := t.s.decl.ApproveReview(ctx, ada, id); err != nil {
		return nil, err
	}
	return t.dropped(p), nil
}
