package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// productLine is a product in the list of all.
type productLine struct {
	Policy  *declaration.Policy
	Level   string
	Devices int
	Ended   bool // of support
}

func (c *Console) productsPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	all, err := c.d.Declarations.All(r.Context())
	if err != nil {
		return fmt.Errorf("read declarations in force: %w", err)
	}
	var out []productLine
	for _, p := range all {
		n := c.d.Devices.Find(identity.Query{Product: p.Product, Limit: 1}).Matching
		out = append(out, productLine{p, p.Factors().Level.String(), n, p.SupportUntil.Before(c.d.Now())})
	}
	return c.show(w, r, v, http.StatusOK, "products", page{
		Title: "Products", Here: "/products", Lead: "What each product collects, shows and talks to stands in its declaration. The server enforces it, and this is what it says.", Data: out,
	})
}

// productView is one product: what is declared, and what came of it.
type productView struct {
	Policy   *declaration.Policy
	Since    time.Time // the version shown came in force
	Old      bool      // a later version is in force
	InForce  int
	Factors  declaration.Factors
	Devices  int
	Counted  Counted
	Versions []versionLine
	From, To int // versions compared; 0: none
	Changes  []changeLine
	Claims   []claimView
	Asked    []askedTally // rows that its four factors ask for, by verdict
	AskedN   int
	RowsN    int
	NotAsked []notAsked
}

// claimView is a public promise and what it stands on.
type claimView struct {
	assurance.ClaimState
	Rests []restView
}

type restView struct {
	assurance.ClaimRest
	Mark mark
}

type askedTally struct {
	Mark mark
	N    int
}

// notAsked is a row that is not asked of a product, and why.
type notAsked struct{ Row, Control, Must, Why string }

type versionLine struct {
	Version int
	Hash    string
	Since   time.Time
	Widens  int
	Narrows int
	First   bool
	InForce bool
	Before  int // the version before
}

type changeLine struct {
	declaration.Change
	Class string // of its tag
	Word  string
}

func (c *Console) productPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx := r.Context()
	id := core.ProductID(r.PathValue("product"))
	if !id.Valid() {
		return core.E(core.Unknown, "no-such-product", "there is no such product", "choose one from the list")
	}
	history, err := c.d.Declarations.History(ctx, id)
	if err != nil {
		return fmt.Errorf("read versions of %s: %w", id, err)
	}
	if len(history) == 0 {
		return core.E(core.Unknown, "no-such-product", "there is no product "+string(id), "choose one from the list, or publish its declaration")
	}
	view := productView{InForce: history[len(history)-1].Policy.Version}
	shown := history[len(history)-1]
	if q := r.URL.Query().Get("version"); q != "" {
		i := versionIndex(history, q)
		if i < 0 {
			return core.E(core.Unknown, "no-such-version", "this product has no version "+q, "choose one of its versions")
		}
		shown = history[i]
	}
	view.Policy, view.Since, view.Factors = shown.Policy, shown.Since, shown.Policy.Factors()
	view.Old = shown.Policy.Version != view.InForce
	view.Devices = c.d.Devices.Find(identity.Query{Product: id, Limit: 1}).Matching
	if view.Counted, err = c.d.Running.Counts(ctx, id); err != nil {
		return fmt.Errorf("read counts of %s: %w", id, err)
	}
	view.Versions = versionLines(history)
	if err := c.proved(ctx, &view); err != nil {
		return err
	}
	if err := view.compare(history, r.URL.Query().Get("from"), r.URL.Query().Get("to")); err != nil {
		return err
	}
	return c.show(w, r, v, http.StatusOK, "product", page{Title: shown.Policy.Name, Here: "/products", Up: []link{{"Products", "/products"}}, Data: view})
}

// proved fills in how the product's promises stand, and what is asked of it.
func (c *Console) proved(ctx context.Context, p *productView) error {
	claims, err := c.d.Proof.Claims(ctx)
	if err != nil {
		return fmt.Errorf("read claims: %w", err)
	}
	for _, x := range claims {
		if x.Product != p.Policy.Product {
			continue
		}
		cv := claimView{ClaimState: x}
		for _, rest := range x.RestsOn {
			cv.Rests = append(cv.Rests, restView{rest, markOf(rest.Verdict)})
		}
		p.Claims = append(p.Claims, cv)
	}
	st, err := c.d.Proof.State(ctx)
	if err != nil {
		return fmt.Errorf("work out verdicts: %w", err)
	}
	asked := assurance.RequiredRows(p.Policy)
	facts := assurance.FactsOf([]*declaration.Policy{p.Policy})
	tally := map[assurance.Verdict]int{}
	for _, row := range assurance.Rows() {
		p.RowsN++
		if slices.Contains(asked, row.ID) {
			p.AskedN++
			if s := st.Row(row.ID); s != nil {
				tally[s.Verdict]++
			}
			continue
		}
		why := "asked for only from a higher level on"
		if ok, because := facts.Applies(row.ID); !ok {
			why = because
		}
		p.NotAsked = append(p.NotAsked, notAsked{string(row.ID), string(row.Control), row.Must, why})
	}
	for _, v := range slices.Backward(assurance.Verdicts()) {
		if tally[v] > 0 {
			p.Asked = append(p.Asked, askedTally{markOf(v), tally[v]})
		}
	}
	return nil
}

func versionIndex(history []declaration.Version, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(history, func(x declaration.Version) bool { return x.Policy.Version == n })
}

// versionLines are the versions, newest first, each with what it changed.
func versionLines(history []declaration.Version) []versionLine {
	var out []versionLine
	for i, x := range history {
		l := versionLine{Version: x.Policy.Version, Hash: x.Policy.Hash.String(), Since: x.Since, First: i == 0, InForce: i == len(history)-1}
		if i > 0 {
			l.Before = history[i-1].Policy.Version
			for _, ch := range declaration.Diff(history[i-1].Policy, x.Policy) {
				switch ch.Direction {
				case declaration.Widening:
					l.Widens++
				case declaration.Narrowing:
					l.Narrows++
				case declaration.Neutral:
				}
			}
		}
		out = append(out, l)
	}
	slices.Reverse(out)
	return out
}

// compare fills in the step between two versions, when both are named.
func (p *productView) compare(history []declaration.Version, from, to string) error {
	if from == "" && to == "" {
		return nil
	}
	a, b := versionIndex(history, from), versionIndex(history, to)
	if a < 0 || b < 0 {
		return core.E(core.Unknown, "no-such-version", "one of the two versions does not exist", "choose two of its versions")
	}
	p.From, p.To = history[a].Policy.Version, history[b].Policy.Version
	for _, ch := range declaration.Diff(history[a].Policy, history[b].Policy) {
		l := changeLine{Change: ch, Word: ch.Direction.String()}
		switch ch.Direction {
		case declaration.Widening:
			l.Class = "hot"
		case declaration.Narrowing:
			l.Class = "good"
		case declaration.Neutral:
		}
		p.Changes = append(p.Changes, l)
	}
	return nil
}

// Bounds says what values of a field are taken.
func (productView) Bounds(f declaration.Field) string {
	var s []string
	switch f.Type {
	case declaration.Number, declaration.Integer:
		s = append(s, strconv.FormatFloat(f.Min, 'g', -1, 64)+" to "+strconv.FormatFloat(f.Max, 'g', -1, 64))
		if f.Unit != "" && f.Unit != "1" {
			s[0] += " " + f.Unit
		}
		if f.Precision > 0 {
			s = append(s, "rounded to "+strconv.FormatFloat(f.Precision, 'g', -1, 64))
		}
	case declaration.String:
		s = append(s, fmt.Sprintf("%d to %d characters", f.MinLength, f.MaxLength))
	case declaration.Enum:
		s = append(s, strings.Join(f.Values, ", "))
	case declaration.Boolean, declaration.Timestamp:
	}
	return strings.Join(s, ", ")
}

// Guards says what guards a field beyond its sealing.
func (productView) Guards(f declaration.Field) string {
	var s []string
	for _, p := range f.Protection {
		s = append(s, string(p))
	}
	return strings.Join(s, ", ")
}

// Private reports whether a class says something about somebody.
func (productView) Private(c declaration.Class) string {
	switch {
	case c >= declaration.Sensitive:
		return "bad"
	case c == declaration.Personal:
		return "hot"
	}
	return ""
}

// Window is when updates are installed.
func (p productView) Window() string {
	u := p.Policy.Updates
	if u.WindowStart == u.WindowEnd {
		return "at any time"
	}
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	return "between " + clock(u.WindowStart) + " and " + clock(u.WindowEnd) + " by the device's own clock"
}

// Parts are the names of some of the fields.
func (p productView) Parts(of []int) string {
	var s []string
	for _, i := range of {
		s = append(s, p.Policy.Fields[i].Name)
	}
	return list(s)
}
