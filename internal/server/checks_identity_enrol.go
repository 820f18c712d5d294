package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// enrolChecks hold that nothing is enrolled before it is declared (CC 1.1).
func (s *server) enrolChecks() []check.Check {
	return []check.Check{{
		ID: "enrolment.declared-first", Version: 1, Rows: []string{"1.1"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "A device of a product without a declaration is refused, with what is missing; and every product with enrolled devices has its risk, its inventory of data and its list of interfaces declared, as stored.",
		Do:   "Publish the declaration of the product that the finding names; if it was published before, find out who writes to control.db and bring it back from a backup. If an undeclared product is not refused, stop the server and report it.",
		Look: s.lookAtEnrolment,
		Violations: []check.Violation{
			{ID: "enrolled-undeclared", Says: "Has the twin enrol without asking for a declaration, and enrols a device of an undeclared product over its door.", Do: own(enrolUndeclared)},
			{ID: "declaration-removed", Says: "Deletes the declaration of a product with devices behind the program's back.", Do: dropDeclaration},
			{ID: "interfaces-removed", Says: "Takes the list of interfaces out of the stored declaration behind the program's back.", Do: editCanonical(`"interfaces":`, `"were":`)},
		},
	}}
}

// termsOf is who says what a product's declaration says of its devices: the
// declarations, unless a twin's trial has somebody else in place.
type termsOf struct {
	declared identity.Policies
	other    atomic.Pointer[identity.Policies]
}

// Terms asks whoever is in place.
func (t *termsOf) Terms(ctx context.Context, product core.ProductID) (identity.Terms, error) {
	if p := t.other.Load(); p != nil {
		return (*p).Terms(ctx, product)
	}
	return t.declared.Terms(ctx, product)
}

// foundations is as much of a stored declaration as must stand before the
// first device: read here, and not by the code that would refuse without.
type foundations struct {
	Risk       map[string]json.RawMessage `json:"risk"`
	Data       map[string]json.RawMessage `json:"data"`
	Interfaces []json.RawMessage          `json:"interfaces"`
}

func (s *server) lookAtEnrolment(ctx context.Context, l *check.Look) error {
	unknown := core.ProductID("look-" + strings.ToLower(rand.Text()[:8]))
	l.Touch("source", "the enrolment door's own decision about the product "+string(unknown))
	l.Touch("source", "the register of devices, from memory")
	l.Touch("table", "control.db: declaration")
	err := s.devices.MayEnrol(ctx, unknown)
	l.Expect("products of enrolled devices, and one that is not declared", 1)
	switch {
	case err == nil:
		l.Fail("a product that is not declared", "may have devices")
	case core.KindOf(err) != core.Unready: // 409 at the door
		return fmt.Errorf("ask about a product that is not declared: %w", err)
	default:
		l.Holds(strings.Contains(err.Error(), "missing") && strings.Contains(err.Error(), string(unknown)), "the refusal", "does not say what is missing: %v", err)
	}
	stored, err := s.storedDeclarations(ctx)
	if err != nil {
		return err
	}
	for product, devices := range s.devices.Enrolled() {
		l.Expect("", 1)
		i := slices.IndexFunc(stored, func(d declaration.Published) bool { return d.Product == product })
		if i < 0 {
			l.Fail(string(product), "has %d enrolled devices and no declaration", devices)
			continue
		}
		var f foundations
		missing := ""
		switch err := json.Unmarshal(stored[i].Canonical, &f); {
		case err != nil:
			missing = "readable declaration"
		case len(f.Risk) < 3:
			missing = "risk"
		case len(f.Data) == 0:
			missing = "inventory of data"
		case len(f.Interfaces) == 0:
			missing = "list of interfaces"
		}
		l.Holds(missing == "", string(product), "has %d enrolled devices and no %s, as stored", devices, missing)
	}
	return nil
}

// anybody says that every product may have devices.
type anybody struct{}

// Terms asks for nothing.
func (anybody) Terms(context.Context, core.ProductID) (identity.Terms, error) {
	return identity.Terms{Life: 30 * 24 * time.Hour}, nil
}

// enrolUndeclared enrols a device that should wait.
func enrolUndeclared(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var lax identity.Policies = anybody{}
	t.Touch("door", "enrolment without a declaration")
	t.s.terms.other.Store(&lax)
	id := core.DeviceID("UNDECLARED-" + rand.Text()[:6])
	undo := func(ctx context.Context) error {
		t.s.terms.other.Store(nil)
		return t.Call(ctx, "POST", "/v1/devices/"+string(id)+"/revoke", map[string]string{"reason": "the trial is over"}, nil)
	}
	_, err := t.strange(ctx, core.ProductID("undeclared-"+strings.ToLower(rand.Text()[:6])), id)
	return undo, err
}

func dropDeclaration(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	const columns = `product, version, hash, canonical, published_us`
	row, into := make([]any, 5), make([]any, 5)
	for i := range row {
		into[i] = &row[i]
	}
	if err := t.Query(ctx, "control.db", `SELECT `+columns+` FROM declaration WHERE product = ?`, []any{string(check.TwinProduct)}, into...); err != nil {
		return nil, fmt.Errorf("find the declaration: %w", err)
	}
	if err := t.Exec(ctx, "control.db", `DELETE FROM declaration WHERE product = ?`, string(check.TwinProduct)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `INSERT INTO declaration (`+columns+`) VALUES (?,?,?,?,?)`, row...)
	}, nil
}
