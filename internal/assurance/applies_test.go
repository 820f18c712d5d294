package assurance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// product is a product with some factors; everything else is fixed.
func product(t testing.TB, name, harm, exposure, audience, class, every string, shares bool) *declaration.Policy {
	t.Helper()
	p, err := try(name, harm, exposure, audience, class, every, shares)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// try fails where the rules of declarations do not let factors stand together.
func try(name, harm, exposure, audience, class, every string, shares bool) (*declaration.Policy, error) {
	protect, share := "", ""
	if class == "sensitive" || class == "child" || class == "health" {
		protect = ", protection: [step-up]"
	}
	if shares {
		share = "shares:\n  research: {fields: [value], purpose: research.energy, transform: [hour], contract_until: 2099-06-30, reidentify: never}\n"
	}
	purposes, readers := "[service.control]", "[owner]"
	if shares {
		purposes, readers = "[service.control, research.energy]", "[owner, share:research]"
	}
	health := ""
	if class == "health" {
		health = "health: true\n"
	}
	src := fmt.Sprintf(health+`declaration: 1
product: %s
name: A Product
version: 1
risk: {purpose: comfort, harm: %s, exposure: %s}
audience: %s
identity: {life: 30d, may_sleep: until-end-of-support}
data:
  value: {stream: main, type: number, unit: "1", range: [0, 100], precision: 1, class: %s, purposes: %s, keep: 30d, readers: %s, when_done: shred%s}
streams:
  main: {every: %s, burst: 10, max_bytes: 512, on_bad: field}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network: {talks_to: [{service: gateway}]}
updates: {automatic: true, check_every: 6h, window: "02:00-05:00", deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2099-12-31, afterwards: "Works without the cloud."}
%scontacts: {security: security@northwind.example, help: help@northwind.example}
`, name, harm, exposure, audience, class, purposes, readers, protect, every, share)
	d, err := declaration.Parse(name+".yaml", []byte(src))
	if err != nil {
		return nil, err
	}
	return declaration.Compile(d)
}

// TestBulbAndCamera: what is asked follows from the four factors (CC 0.1).
func TestBulbAndCamera(t *testing.T) {
	bulb := product(t, "bulb", "low", "home", "general", "public", "1h", false)
	camera := product(t, "camera", "medium", "home", "mixed", "sensitive", "10s", false)
	less, more := RequiredRows(bulb), RequiredRows(camera)
	if len(less) >= len(more) {
		t.Errorf("a bulb must hold %d rows, a camera %d", len(less), len(more))
	}
	for _, r := range less {
		if !slices.Contains(more, r) {
			t.Errorf("row %s is asked of a bulb and not of a camera", r)
		}
	}
	if !slices.Contains(less, "1.9") || !slices.Contains(more, "2.13") || slices.Contains(less, "2.13") {
		t.Errorf("bulb %v, camera %v", less, more)
	}
	b, c := FactsOf([]*declaration.Policy{bulb}), FactsOf([]*declaration.Policy{camera})
	if b.Strict("4.3").MaxAgeFactor <= c.Strict("4.3").MaxAgeFactor {
		t.Error("an observation counts as long for a camera as for a bulb")
	}
}

// TestHigherFactorsNeverAskForLess walks random pairs of products of which one
// is at least as high in each factor.
func TestHigherFactorsNeverAskForLess(t *testing.T) {
	harms, exposures, audiences := []string{"low", "medium", "high"}, []string{"home", "public"}, []string{"general", "mixed", "child"}
	classes, rates := []string{"public", "personal", "sensitive", "child", "health"}, []string{"1h", "10s"}
	r := rand.New(rand.NewPCG(1, 2))
	two := func(n int) (low, high int) {
		a, b := r.IntN(n), r.IntN(n)
		return min(a, b), max(a, b)
	}
	grew, pairs := 0, 0
	for range 400 {
		h1, h2 := two(3)
		e1, e2 := two(2)
		a1, a2 := two(3)
		c1, c2 := two(5)
		r1, r2 := two(2)
		s1, s2 := two(2)
		low, err1 := try("p", harms[h1], exposures[e1], audiences[a1], classes[c1], rates[r1], s1 == 1)
		high, err2 := try("p", harms[h2], exposures[e2], audiences[a2], classes[c2], rates[r2], s2 == 1)
		if err1 != nil || err2 != nil {
			continue
		}
		pairs++
		less, more := RequiredRows(low), RequiredRows(high)
		for _, row := range less {
			if !slices.Contains(more, row) {
				t.Errorf("row %s is asked of %+v and not of %+v", row, low.Factors(), high.Factors())
			}
		}
		if len(more) > len(less) {
			grew++
		}
	}
	if grew < 20 || pairs < 60 {
		t.Errorf("only %d of %d pairs differed: the walk looks at nothing", grew, pairs)
	}
}

// TestNotApplicableNeedsAFact: without a declaration nothing is moot, and where
// something is, the sentence names product and fact.
func TestNotApplicableNeedsAFact(t *testing.T) {
	for _, r := range Rows() {
		if ok, _ := (Facts{}).Applies(r.ID); !ok {
			t.Errorf("row %s is moot, and nobody said anything", r.ID)
		}
	}
	f := FactsOf([]*declaration.Policy{product(t, "bulb", "low", "home", "general", "public", "1h", false)})
	for _, m := range moots() {
		ok, because := f.Applies(m.row)
		if ok || !strings.HasPrefix(because, "bulb ") {
			t.Errorf("row %s for a bulb: %v %q", m.row, ok, because)
		}
	}
	in := allMet()
	in.Facts = f
	in.change("of.2.13", fails("x"))
	if v := in.verdict("2.13"); v != Failing {
		t.Errorf("a row that fails is %s because a declaration says that it is moot", v)
	}
	in = allMet()
	in.Facts = f
	delete(in.Latest, "of.2.13")
	if v := in.verdict("2.13"); v != NotApplicable {
		t.Errorf("row 2.13 for a bulb is %s", v)
	}
}

func (in *Input) verdict(row RowID) Verdict {
	s := Judge(*in)
	return s.Row(row).Verdict
}
