package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// declaredChecks hold that declarations are as they were published, that the
// doors enforce them, and that everything in them ends.
func (s *server) declaredChecks() []check.Check {
	const mend = "Find out who writes to control.db; bring it back from a backup (`hawser restore`), and keep the present one for whoever investigates."
	return []check.Check{
		{
			ID: "keep.declared", Version: 1, Rows: []string{"4.4", "4.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.4, 4.7
			Says: "Every field in force, as stored, has a keep-time that ends within ten years and a way in which it ends.",
			Do:   "Publish the declaration anew. " + mend,
			Look: s.lookAtKeeps,
			Violations: []check.Violation{
				{ID: "kept-for-ever", Says: "Makes a field kept for ever in the stored declaration behind the program's back.", Do: editCanonical(`"keep":"30d"`, `"keep":"for ever"`)},
				{ID: "disposal-removed", Says: "Takes the way in which fields end out of the stored declaration behind the program's back.", Do: editCanonical(`"when_done":"shred"`, `"when_done":""`)},
			},
		},
		{
			ID: "declarations.intact", Version: 1, Rows: []string{"1.17", "1.2"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.2, 1.17
			Says: "Every version of every declaration that the ledger has a record of is stored with the very bytes that were published, and there is no other.",
			Do:   mend,
			Look: s.lookAtVersions,
			Violations: []check.Violation{
				{ID: "version-edited", Says: "Changes a published declaration behind the program's back.", Do: editCanonical(`"name":"Twin Sensor"`, `"name":"Twin Camera"`)},
				{ID: "version-rewritten", Says: "Changes a published declaration and its hash behind the program's back.", Do: own(rewriteVersion)},
				{ID: "version-added", Says: "Adds a version that was never published behind the program's back.", Do: own(addVersion)},
			},
		},
		{
			ID: "inventory.enforced", Version: 1, Rows: []string{"1.2"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.2
			Says: "What the doors judge messages by is the newest stored declaration of each product.",
			Do:   "Restart the server: it enforces what is stored. If nobody published it, find out who writes to control.db.",
			Look: s.lookAtPlans,
			Violations: []check.Violation{
				{ID: "not-enforced", Says: "Adds a newer version behind the program's back, which the doors know nothing of.", Do: own(addVersion)},
			},
		},
	}
}

// keeps is as much of a stored declaration as says how long and how: read
// here, and not by the code that would refuse what is wrong in it.
type keeps struct {
	Data map[string]struct {
		Keep     string `json:"keep"`
		WhenDone string `json:"when_done"`
	} `json:"data"`
}

func (s *server) lookAtKeeps(ctx context.Context, l *check.Look) error {
	stored, err := s.storedDeclarations(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: declaration")
	// How many fields there are say the doors, not the bytes looked at.
	for _, d := range stored {
		if p := s.intake.Plan(d.Product); p != nil {
			l.Expect("fields that the doors judge messages by", p.Fields())
		}
		var k keeps
		if err := json.Unmarshal(d.Canonical, &k); err != nil {
			l.Fail(string(d.Product), "version %d as stored cannot be read", d.Version)
			continue
		}
		for name, f := range k.Data {
			why := ""
			keep, ok := days(f.Keep)
			switch {
			case !ok || keep < declaration.MinKeep || keep > declaration.MaxKeep:
				why = "has no keep-time that ends within ten years"
			case f.WhenDone != "shred" && !strings.HasPrefix(f.WhenDone, "aggregate("):
				why = "has no way in which it ends"
			}
			l.Holds(why == "", string(d.Product)+"."+name, "%s", why)
		}
	}
	return nil
}

// days reads a span as declarations write it: a number and s, m, h, d or y.
func days(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	const day = 24 * time.Hour
	unit, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': day, 'y': 365 * day}[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if !ok || err != nil || n > uint64(1<<62)/uint64(unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

func (s *server) storedDeclarations(ctx context.Context) (stored []declaration.Published, err error) {
	err = s.store.View(ctx, func(tx *store.Tx) error { stored, err = tx.CurrentDeclarations(ctx); return err })
	if err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	return stored, nil
}

// lookAtVersions compares what is stored with what the ledger says was
// published.
func (s *server) lookAtVersions(ctx context.Context, l *check.Look) error {
	published, err := s.recordsOf(ctx, declaration.RecordPublished, 0, 1<<62)
	if err != nil {
		return err
	}
	l.Touch("source", "ledger, records of kind "+string(declaration.RecordPublished))
	l.Touch("table", "control.db: declaration")
	l.Expect("versions that the ledger has a record of", len(published))
	stored := map[core.Hash]declaration.Published{}
	var products []core.ProductID
	for i := range published {
		if p := published[i].Record.Product; !slices.Contains(products, p) {
			products = append(products, p)
		}
	}
	err = s.store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.CurrentDeclarations(ctx)
		for _, d := range all {
			if !slices.Contains(products, d.Product) {
				products = append(products, d.Product)
			}
		}
		for _, p := range products {
			list, perr := tx.Declarations(ctx, p)
			for _, d := range list {
				stored[d.Hash] = d
			}
			err = errors.Join(err, perr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	for i := range published {
		r := &published[i].Record
		name := fmt.Sprintf("%s version %s", r.Product, factOf(r, "version"))
		d, ok := stored[r.Policy]
		delete(stored, r.Policy)
		switch {
		case !ok:
			l.Fail(name, "was published, and is not stored")
		case sha256.Sum256(d.Canonical) != r.Policy:
			l.Fail(name, "as stored is not what was published")
		case d.Product != r.Product || strconv.Itoa(d.Version) != factOf(r, "version"):
			l.Fail(name, "is stored as version %d of %s", d.Version, d.Product)
		default:
			l.Pass(1)
		}
	}
	for _, d := range stored {
		if l.Now.Sub(d.At) < time.Minute {
			continue // its record may not have its place yet
		}
		l.Expect("", 1)
		l.Fail(fmt.Sprintf("%s version %d", d.Product, d.Version), "is stored, and was never published")
	}
	return nil
}

// lookAtPlans compares what is in memory with what is stored.
func (s *server) lookAtPlans(ctx context.Context, l *check.Look) error {
	stored, err := s.storedDeclarations(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: declaration")
	l.Touch("memory", "what the intake judges messages by")
	l.Expect("products with a stored declaration", len(stored))
	for _, d := range stored {
		p := s.intake.Plan(d.Product)
		switch {
		case p == nil:
			l.Fail(string(d.Product), "is declared, and nothing judges its messages")
		case p.Policy() != d.Hash:
			l.Fail(string(d.Product), "version %d is stored, and messages are judged by another one", d.Version)
		default:
			l.Pass(1)
		}
	}
	return nil
}

func rewriteVersion(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var before, hash []byte
	if err := t.Query(ctx, "control.db", `SELECT canonical, hash FROM declaration WHERE product = ?`, []any{string(check.TwinProduct)}, &before, &hash); err != nil {
		return nil, fmt.Errorf("find the declaration: %w", err)
	}
	after := []byte(strings.Replace(string(before), `"name":"Twin Sensor"`, `"name":"Twin Camera"`, 1))
	sum := sha256.Sum256(after)
	const set = `UPDATE declaration SET canonical = ?, hash = ? WHERE product = ?`
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", set, before, hash, string(check.TwinProduct))
	}, t.Exec(ctx, "control.db", set, after, sum[:], string(check.TwinProduct))
}

// addVersion adds version 2, an hour old, with one more field's worth of keep-time.
func addVersion(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var before []byte
	if err := t.Query(ctx, "control.db", `SELECT canonical FROM declaration WHERE product = ?`, []any{string(check.TwinProduct)}, &before); err != nil {
		return nil, fmt.Errorf("find the declaration: %w", err)
	}
	after := strings.Replace(strings.Replace(string(before), `"keep":"10d"`, `"keep":"20d"`, 1), `"version":1`, `"version":2`, 1)
	sum := sha256.Sum256([]byte(after))
	t.Touch("declaration", "version 2, "+hex.EncodeToString(sum[:4]))
	return func(ctx context.Context) error {
			return t.Exec(ctx, "control.db", `DELETE FROM declaration WHERE hash = ?`, sum[:])
		}, t.Exec(ctx, "control.db", `INSERT INTO declaration (product, version, hash, canonical, published_us) VALUES (?, 2, ?, ?, ?)`,
			string(check.TwinProduct), sum[:], []byte(after), t.Now().Add(-time.Hour).UnixMicro())
}
