package assurance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// Facts are what the declarations in force say that decides which rows apply
// and how strictly. They travel with the evidence.
type Facts struct {
	Products []ProductFacts `json:"products"`
}

// ProductFacts are the facts of one product.
type ProductFacts struct {
	Product    core.ProductID `json:"product"`
	Policy     string         `json:"policy"`        // hash of the declaration in force
	Level      int            `json:"level"`         // declaration.Level
	Why        []string       `json:"why,omitempty"` // from which of the four factors the level follows
	Class      string         `json:"class"`         // highest of any field
	Harm       string         `json:"harm,omitempty"`
	Audience   string         `json:"audience"`
	Children   bool           `json:"children,omitempty"` // it is made for children, or collects their data
	Health     bool           `json:"health"`
	Guarded    bool           `json:"guarded,omitempty"`    // a field asks for more than a session to be read
	Aggregates bool           `json:"aggregates,omitempty"` // a field lives on in an aggregate
	Wireless   bool           `json:"wireless"`             // it joins a Wi-Fi network
	Commands   int            `json:"commands"`
	Settings   int            `json:"settings,omitempty"`
	Risky      int            `json:"risky"` // commands and settings that need a second factor or person
	Shares     int            `json:"shares"`
}

// FactsOf reads the facts out of the declarations in force.
func FactsOf(in []*declaration.Policy) Facts {
	f := Facts{Products: []ProductFacts{}}
	for _, p := range in {
		four := p.Factors()
		x := ProductFacts{
			Product: p.Product, Policy: p.Hash.String(), Level: int(four.Level), Why: four.Why,
			Class: four.Class.String(), Harm: four.Harm.String(), Audience: p.Audience.String(),
			Children: p.Audience != declaration.GeneralAudience, Health: p.Health,
			Wireless: len(p.Network.WiFi) > 0, Commands: len(p.Commands), Settings: len(p.Settings), Shares: len(p.Shares),
		}
		for i := range p.Fields {
			x.field(&p.Fields[i])
		}
		for _, c := range p.Commands {
			if c.Risky {
				x.Risky++
			}
		}
		for i := range p.Settings {
			x.setting(&p.Settings[i])
		}
		f.Products = append(f.Products, x)
	}
	slices.SortFunc(f.Products, func(a, b ProductFacts) int { return strings.Compare(string(a.Product), string(b.Product)) })
	return f
}

func (p *ProductFacts) setting(s *declaration.Setting) {
	p.Children = p.Children || s.Class == declaration.Child
	p.Health = p.Health || s.Class == declaration.Health
	p.Guarded = p.Guarded || s.Class >= declaration.Sensitive
	if s.Risky {
		p.Risky++
	}
}

func (p *ProductFacts) field(f *declaration.Field) {
	p.Children = p.Children || f.Class == declaration.Child
	p.Health = p.Health || f.Class == declaration.Health
	p.Guarded = p.Guarded || f.Class >= declaration.Sensitive ||
		slices.Contains(f.Protection, declaration.StepUp) || slices.Contains(f.Protection, declaration.TwoPersons)
	p.Aggregates = p.Aggregates || strings.HasPrefix(f.WhenDone, "aggregate")
}

// public reports whether nothing that the product collects is about people.
func (p *ProductFacts) public() bool { return p.Class == declaration.Public.String() }

// moot is a row that a fact of every product in force can make moot.
type moot struct {
	row     RowID
	applies func(*ProductFacts) bool
	none    string                     // what no product in force does
	fact    func(*ProductFacts) string // the product's fact that says so
}

// moots is short: a row is here only where there is nothing left that it could
// be about. What merely matters less for a harmless product is in beyond.
func moots() []moot {
	always := func(s string) func(*ProductFacts) string { return func(*ProductFacts) string { return s } }
	class := func(p *ProductFacts) string { return "its highest class is " + p.Class }
	return []moot{
		{
			"2.13", func(p *ProductFacts) bool { return p.Children },
			"is for children or collects their data",
			func(p *ProductFacts) string { return "its audience is " + p.Audience },
		},
		{"2.14", func(p *ProductFacts) bool { return p.Health }, "collects anything about health", class},
		{"3.7", func(p *ProductFacts) bool { return p.Commands > 0 || p.Settings > 0 }, "has a setting to change", always("it declares no command and no setting")},
		{
			"3.8", func(p *ProductFacts) bool { return p.Commands > 0 || p.Settings > 0 || p.Guarded },
			"does or shows anything that more than a session should guard",
			func(p *ProductFacts) string { return "it declares no command, and " + class(p) },
		},
		{"3.13", func(p *ProductFacts) bool { return p.Wireless }, "joins a Wi-Fi network", always("it declares no wifi")},
		{
			"4.11", func(p *ProductFacts) bool { return p.Shares > 0 || p.Aggregates || !p.public() },
			"collects anything about people, or shares anything",
			func(p *ProductFacts) string { return class(p) + ", and it declares no share" },
		},
		{"6.15", func(p *ProductFacts) bool { return p.Shares > 0 }, "gives data to another company", always("it declares no share")},
	}
}

// Applies reports whether a row applies to any product in force. Where it does
// not, because is the sentence that says why, with products and fact. With no
// declaration in force nothing is moot: nobody has said anything.
func (f Facts) Applies(row RowID) (ok bool, because string) {
	if len(f.Products) == 0 {
		return true, ""
	}
	for _, m := range moots() {
		if m.row != row {
			continue
		}
		var facts []string
		for i := range f.Products {
			p := &f.Products[i]
			if m.applies(p) {
				return true, ""
			}
			facts = append(facts, fmt.Sprintf("%s: %s", p.Product, m.fact(p)))
		}
		return false, fmt.Sprintf("no product in force %s (%s)", m.none, list(facts))
	}
	return true, ""
}

// list names a few, and counts the rest.
func list(facts []string) string {
	const most = 3
	if len(facts) <= most {
		return strings.Join(facts, "; ")
	}
	return fmt.Sprintf("%s; and so %d more", strings.Join(facts[:most], "; "), len(facts)-most)
}

// Beyond is a row that is not asked of every product (row 0.1).
type Beyond struct {
	Row   RowID
	Level declaration.Level // from which on it is asked for
	Also  string            // the fact that asks for it at any level; "" for none
	Why   string
	also  func(*ProductFacts) bool
}

// beyond are the rows that are asked for only from a level on, or by a fact.
// Every other row is asked of every product: a bulb, too, has no default
// password. A fact here only ever adds: more of it never asks for less.
func beyond() []Beyond {
	raised := func(row RowID, why string) Beyond { return Beyond{Row: row, Level: declaration.RaisedLevel, Why: why} }
	high := func(row RowID, why string) Beyond { return Beyond{Row: row, Level: declaration.HighLevel, Why: why} }
	or := func(b Beyond, words string, also func(*ProductFacts) bool) Beyond {
		b.Also, b.also = words, also
		return b
	}
	risky := func(p *ProductFacts) bool { return p.Risky > 0 }
	guarded := func(p *ProductFacts) bool { return p.Risky > 0 || p.Guarded }
	shares := func(p *ProductFacts) bool { return p.Shares > 0 }
	harms := func(p *ProductFacts) bool { return p.Harm != "" && p.Harm != declaration.LowHarm.String() }
	return []Beyond{
		raised("1.8", "one layer that fails must not open data that is personal or do harm"),
		raised("1.16", "where somebody can be harmed, a named person accepts the risk, and nobody else"),
		raised("2.10", "data that can do harm gets keys of its own"),
		or(raised("3.7", "a wrong setting can do harm: bounds alone do not do, a second person decides"), "a risky command", risky),
		or(raised("3.8", "a stolen session must not be enough to do harm or to look on"), "a risky command, or a field that is sensitive or above", guarded),
		raised("3.9", "where breaking in pays, we try it ourselves before others do"),
		or(raised("4.11", "what is shared or kept for long is safest when it names nobody"), "a share", shares),
		raised("4.18", "a large copy of personal data is worth stealing"),
		raised("4.19", "where there is something to misuse, misuse shows in behaviour"),
		raised("5.4", "where there is something to take, an intruder must be noticed"),
		raised("5.5", "what leaks is personal"),
		or(high("5.18", "safety comes before convenience where harm is great"), "harm above low", harms),
		high("5.20", "eyes from outside are worth paying for where harm is great"),
		raised("6.8", "who signs firmware that can do harm is trained"),
		or(high("6.15", "when such data comes back, it must be known from whom"), "a share of a product that is raised", func(p *ProductFacts) bool {
			return p.Shares > 0 && declaration.Level(p.Level) >= declaration.RaisedLevel
		}),
	}
}

// FindBeyond says from where on a row is asked for; false for a row that is
// asked of every product to which it applies.
func FindBeyond(row RowID) (Beyond, bool) {
	all := beyond()
	i := slices.IndexFunc(all, func(b Beyond) bool { return b.Row == row })
	if i < 0 {
		return Beyond{}, false
	}
	return all[i], true
}

// RequiredRows are the rows that a product's four factors ask for, in the
// mission's order (CC 0.1). A higher factor never gives fewer.
func RequiredRows(p *declaration.Policy) []RowID {
	f := FactsOf([]*declaration.Policy{p})
	var out []RowID
	for _, r := range Rows() {
		if f.Requires(r.ID) {
			out = append(out, r.ID)
		}
	}
	return out
}

// Requires reports whether any product in force asks for a row. With none in
// force every row is asked for.
func (f Facts) Requires(row RowID) bool {
	if ok, _ := f.Applies(row); !ok {
		return false
	}
	from, special := FindBeyond(row)
	if !special || len(f.Products) == 0 {
		return true
	}
	return slices.ContainsFunc(f.Products, func(p ProductFacts) bool {
		return declaration.Level(p.Level) >= from.Level || from.also != nil && from.also(&p)
	})
}

// Strictness is how strictly a row is taken.
type Strictness struct {
	Level        declaration.Level
	MaxAgeFactor float64 // of the age up to which an observation counts
	Why          string
}

// strictness is what a level changes, least strict first.
func strictness() []Strictness {
	return []Strictness{
		{declaration.BasicLevel, 1, "observations count as long as their check says"},
		{declaration.RaisedLevel, 0.5, "observations count half as long"},
		{declaration.HighLevel, 0.25, "observations count a quarter as long"},
	}
}

// Strict is how strictly a row is taken for the products in force, by the one
// where most can go wrong: the more, the shorter an observation counts.
func (f Facts) Strict(RowID) Strictness {
	var most *ProductFacts
	for i := range f.Products {
		if p := &f.Products[i]; most == nil || p.Level > most.Level {
			most = p
		}
	}
	if most == nil {
		return Strictness{declaration.BasicLevel, 1, "no product is in force"}
	}
	all := strictness()
	s := all[max(0, min(most.Level, len(all)-1))]
	why := fmt.Sprintf("%s is of the %s level", most.Product, s.Level)
	if len(most.Why) > 0 {
		why += " (" + strings.Join(most.Why, ", ") + ")"
	}
	s.Why = why + ": " + s.Why
	return s
}
