package assurance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
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

// grown is a product with n of: nothing to command, a command, a risky one; and
// with Wi-Fi or without.
func grown(p *declaration.Policy, n int, wifi bool) *declaration.Policy {
	p.Commands = []declaration.Command{{Name: "blink"}, {Name: "unlock", Risky: true}}[:n]
	if p.Network.WiFi = nil; wifi {
		p.Network.WiFi = []string{"wpa3"}
	}
	return p
}

// TestHigherFactorsNeverAskForLess walks random pairs of products of which one
// is at least as high in each factor, and raises each of them to health data.
func TestHigherFactorsNeverAskForLess(t *testing.T) {
	harms, exposures, audiences := []string{"low", "medium", "high"}, []string{"home", "public"}, []string{"general", "mixed", "child"}
	classes, rates := []string{"public", "personal", "sensitive", "child", "health"}, []string{"1h", "10s"}
	r := rand.New(rand.NewPCG(1, 2))
	two := func(n int) (low, high int) {
		a, b := r.IntN(n), r.IntN(n)
		return min(a, b), max(a, b)
	}
	holds := func(low, high *declaration.Policy) (grew bool) {
		less, more := RequiredRows(low), RequiredRows(high)
		for _, row := range less {
			if !slices.Contains(more, row) {
				t.Errorf("row %s is asked of %+v and not of %+v", row, low.Factors(), high.Factors())
			}
		}
		a, b := FactsOf([]*declaration.Policy{low}).Strict("1.9"), FactsOf([]*declaration.Policy{high}).Strict("1.9")
		if a.MaxAgeFactor < b.MaxAgeFactor || (a.Level < b.Level) != (a.MaxAgeFactor > b.MaxAgeFactor) {
			t.Errorf("evidence counts %v for %+v and %v for %+v", a, low.Factors(), b, high.Factors())
		}
		return len(more) > len(less)
	}
	grew, pairs, raised := 0, 0, 0
	for range 400 {
		h1, h2 := two(3)
		e1, e2 := two(2)
		a1, a2 := two(3)
		c1, c2 := two(5)
		r1, r2 := two(2)
		s1, s2 := two(2)
		n1, n2 := two(3)
		w1, w2 := two(2)
		low, err1 := try("p", harms[h1], exposures[e1], audiences[a1], classes[c1], rates[r1], s1 == 1)
		high, err2 := try("p", harms[h2], exposures[e2], audiences[a2], classes[c2], rates[r2], s2 == 1)
		if err1 != nil || err2 != nil {
			continue
		}
		pairs++
		if holds(grown(low, n1, w1 == 1), grown(high, n2, w2 == 1)) {
			grew++
		}
		ill := *low
		ill.Fields = slices.Clone(low.Fields)
		ill.Fields[0].Class = declaration.Health
		if more := holds(low, &ill); !low.Health && !more {
			t.Errorf("health data raises nothing for %+v", low.Factors())
		} else if more {
			raised++
		}
	}
	if grew < 20 || raised < 20 || pairs < 60 {
		t.Errorf("only %d of %d pairs differed, %d grew with health data: the walk looks at nothing", grew, pairs, raised)
	}
}

// TestNotApplicableNeedsAFact: for each row that a fact can make moot, a product
// without the fact, one with it, and both side by side.
func TestNotApplicableNeedsAFact(t *testing.T) {
	plain := func(change func(*declaration.Policy)) *declaration.Policy {
		p := &declaration.Policy{Product: "bulb", Fields: []declaration.Field{{Name: "lit", Class: declaration.Public, WhenDone: "shred"}}}
		change(p)
		return p
	}
	bulb := plain(func(*declaration.Policy) {})
	cases := []struct {
		row  RowID
		fact string // of the bulb
		has  func(*declaration.Policy)
	}{
		{"2.13", "audience is general", func(p *declaration.Policy) { p.Audience = declaration.MixedAudience }},
		{"2.13", "audience is general", func(p *declaration.Policy) { p.Audience = declaration.ChildAudience }},
		{"2.13", "audience is general", func(p *declaration.Policy) { // of two classes the higher does not hide the other
			p.Fields = []declaration.Field{{Class: declaration.Child}, {Class: declaration.Health}}
		}},
		{"2.14", "highest class is public", func(p *declaration.Policy) { p.Health = true }},
		{"2.14", "highest class is public", func(p *declaration.Policy) { p.Fields[0].Class = declaration.Health }},
		{"3.7", "no command", func(p *declaration.Policy) { p.Commands = []declaration.Command{{Name: "blink"}} }},
		{"3.8", "no command", func(p *declaration.Policy) { p.Commands = []declaration.Command{{Name: "blink"}} }},
		{"3.8", "no command", func(p *declaration.Policy) { p.Fields[0].Class = declaration.Sensitive }},
		{"3.8", "no command", func(p *declaration.Policy) { p.Fields[0].Protection = []declaration.Protection{declaration.StepUp} }},
		{"3.13", "no wifi", func(p *declaration.Policy) { p.Network.WiFi = []string{"wpa2"} }},
		{"4.11", "no share", func(p *declaration.Policy) { p.Shares = []declaration.Share{{Name: "x"}} }},
		{"4.11", "no share", func(p *declaration.Policy) { p.Fields[0].Class = declaration.Personal }},
		{"4.11", "no share", func(p *declaration.Policy) { p.Fields[0].WhenDone = "aggregate(k=20, by=day)" }},
		{"6.15", "no share", func(p *declaration.Policy) { p.Shares = []declaration.Share{{Name: "x"}} }},
	}
	tried := map[RowID]bool{}
	for _, c := range cases {
		tried[c.row] = true
		with := plain(func(p *declaration.Policy) { p.Product = "other"; c.has(p) })
		ok, because := FactsOf([]*declaration.Policy{bulb}).Applies(c.row)
		if ok || !strings.Contains(because, "(bulb: ") || !strings.Contains(because, c.fact) {
			t.Errorf("row %s for a bulb: %v %q, want n/a by %q", c.row, ok, because, c.fact)
		}
		for _, products := range [][]*declaration.Policy{{with}, {bulb, with}, {with, bulb}} {
			if ok, because := FactsOf(products).Applies(c.row); !ok || because != "" {
				t.Errorf("row %s with %+v: %v %q", c.row, products[0], ok, because)
			}
		}
	}
	for _, r := range Rows() {
		if ok, _ := (Facts{}).Applies(r.ID); !ok {
			t.Errorf("row %s is moot, and nobody said anything", r.ID)
		}
		if !(Facts{}).Requires(r.ID) {
			t.Errorf("row %s is asked of nobody, and nobody said anything", r.ID)
		}
		if ok, _ := FactsOf([]*declaration.Policy{bulb}).Applies(r.ID); ok == tried[r.ID] {
			t.Errorf("row %s for a bulb: applies is %v, and no case tries the fact", r.ID, ok)
		}
	}
	many := Facts{}
	for i := range 5 {
		many.Products = append(many.Products, ProductFacts{Product: core.ProductID(fmt.Sprintf("p%d", i)), Class: "public", Audience: "general"})
	}
	if _, because := many.Applies("6.15"); !strings.Contains(because, "p0") || strings.Contains(because, "p3") || !strings.Contains(because, "2 more") {
		t.Errorf("five products: %q", because)
	}
}

// TestMootRows: a fact makes a row moot in its verdict, and never hides what
// fails.
func TestMootRows(t *testing.T) {
	in := allMet()
	in.Facts = FactsOf([]*declaration.Policy{product(t, "bulb", "low", "home", "general", "public", "1h", false)})
	in.change("of.2.13", fails("x"))
	if v := in.verdict("2.13"); v != Failing {
		t.Errorf("a row that fails is %s because a declaration says that it is moot", v)
	}
	delete(in.Latest, "of.2.13")
	if v := in.verdict("2.13"); v != NotApplicable {
		t.Errorf("row 2.13 for a bulb is %s", v)
	}
}

// TestBeyond: each row that is not asked of every product is there once, with
// its reason, is not asked of a bulb, and is asked where its level or its fact
// says so.
func TestBeyond(t *testing.T) {
	bulb := ProductFacts{Product: "bulb", Class: "personal", Harm: "low", Audience: "general", Commands: 1}
	seen := map[RowID]bool{}
	for _, b := range beyond() {
		if _, ok := FindRow(b.Row); !ok || seen[b.Row] || b.Why == "" || b.Level == declaration.BasicLevel || (b.Also == "") != (b.also == nil) {
			t.Errorf("row %s: %+v", b.Row, b)
		}
		seen[b.Row] = true
		if (Facts{Products: []ProductFacts{bulb}}).Requires(b.Row) {
			t.Errorf("row %s is asked of a bulb", b.Row)
		}
		lock := bulb
		lock.Level, lock.Shares = int(b.Level), 1
		if !(Facts{Products: []ProductFacts{bulb, lock}}).Requires(b.Row) {
			t.Errorf("row %s is not asked of a product of the %s level", b.Row, b.Level)
		}
	}
	for row, change := range map[RowID]func(*ProductFacts){
		"3.7":  func(p *ProductFacts) { p.Risky = 1 },
		"3.8":  func(p *ProductFacts) { p.Guarded = true },
		"4.11": func(p *ProductFacts) { p.Shares = 1 },
		"5.18": func(p *ProductFacts) { p.Harm = "medium" },
		"6.15": func(p *ProductFacts) { p.Shares, p.Level = 1, int(declaration.RaisedLevel) },
	} {
		p := bulb
		change(&p)
		if b, ok := FindBeyond(row); !ok || b.Also == "" || !(Facts{Products: []ProductFacts{p}}).Requires(row) {
			t.Errorf("row %s is not asked for by %q", row, b.Also)
		}
	}
	if b, ok := FindBeyond("1.9"); ok {
		t.Errorf("row 1.9 is not asked of every product: %s", b.Why)
	}
}

// TestStrictNamesTheProduct: how strictly is said with the product and its
// factors, by the one where most can go wrong.
func TestStrictNamesTheProduct(t *testing.T) {
	bulb := product(t, "bulb", "low", "home", "general", "public", "1h", false)
	camera := product(t, "camera", "medium", "home", "mixed", "sensitive", "10s", false)
	watch := product(t, "watch", "low", "body", "general", "health", "10s", false)
	for _, c := range []struct {
		of     []*declaration.Policy
		level  declaration.Level
		factor float64
		says   string
	}{
		{nil, declaration.BasicLevel, 1, "no product"},
		{[]*declaration.Policy{bulb}, declaration.BasicLevel, 1, "bulb is of the basic level: "},
		{[]*declaration.Policy{bulb, watch}, declaration.HighLevel, 0.25, "watch is of the high level (there is health data, "},
		{[]*declaration.Policy{camera, bulb}, declaration.HighLevel, 0.25, "camera is of the high level (harm is medium, "},
		{[]*declaration.Policy{product(t, "plug", "medium", "home", "general", "personal", "10s", false)}, declaration.RaisedLevel, 0.5, "half as long"},
	} {
		if s := FactsOf(c.of).Strict("4.3"); s.Level != c.level || s.MaxAgeFactor != c.factor || !strings.Contains(s.Why, c.says) {
			t.Errorf("%+v, want %s, %v, %q", s, c.level, c.factor, c.says)
		}
	}
	odd := Facts{Products: []ProductFacts{{Product: "x", Level: 99}}} // as a foreign bundle may say
	if s := odd.Strict("4.3"); s.MaxAgeFactor != 0.25 {
		t.Errorf("a level beyond all levels: %+v", s)
	}
}

func (in *Input) verdict(row RowID) Verdict {
	s := Judge(*in)
	return s.Row(row).Verdict
}
