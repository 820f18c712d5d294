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
	Product  core.ProductID `json:"product"`
	Policy   string         `json:"policy"` // hash of the declaration in force
	Level    int            `json:"level"`  // declaration.Level
	Class    string         `json:"class"`  // highest of any field
	Audience string         `json:"audience"`
	Health   bool           `json:"health"`
	Wireless bool           `json:"wireless"` // it joins a Wi-Fi network
	Commands int            `json:"commands"`
	Risky    int            `json:"risky"` // commands that need a second factor or person
	Shares   int            `json:"shares"`
}

// FactsOf reads the facts out of the declarations in force.
func FactsOf(in []*declaration.Policy) Facts {
	f := Facts{Products: []ProductFacts{}}
	for _, p := range in {
		four := p.Factors()
		x := ProductFacts{
			Product: p.Product, Policy: p.Hash.String(), Level: int(four.Level), Class: four.Class.String(), Audience: p.Audience.String(), Health: p.Health || four.Class == declaration.Health,
			Wireless: len(p.Network.WiFi) > 0, Commands: len(p.Commands), Shares: len(p.Shares),
		}
		for _, c := range p.Commands {
			if c.Risky {
				x.Risky++
			}
		}
		f.Products = append(f.Products, x)
	}
	slices.SortFunc(f.Products, func(a, b ProductFacts) int { return strings.Compare(string(a.Product), string(b.Product)) })
	return f
}

// moot is a row that a fact of every product in force can make moot.
type moot struct {
	row     RowID
	applies func(*ProductFacts) bool
	because string // what is true of each product where it does not
}

func moots() []moot {
	return []moot{
		{"2.13", func(p *ProductFacts) bool {
			return p.Audience != declaration.GeneralAudience.String() || p.Class == declaration.Child.String()
		}, "is made for grown-ups and collects no child's data"},
		{"2.14", func(p *ProductFacts) bool { return p.Health }, "collects nothing about health"},
		{"3.7", func(p *ProductFacts) bool { return p.Commands > 0 }, "declares no command, so there is no setting to change"},
		{"3.8", func(p *ProductFacts) bool { return p.Risky > 0 }, "declares no risky command"},
		{"3.13", func(p *ProductFacts) bool { return p.Wireless }, "joins no Wi-Fi network"},
		{"4.11", func(p *ProductFacts) bool { return p.Shares > 0 }, "shares nothing with anybody"},
		{"6.15", func(p *ProductFacts) bool { return p.Shares > 0 }, "shares nothing with anybody"},
	}
}

// Applies reports whether a row applies to any product in force. Where it does
// not, because is the sentence that says why, with products and fact. With no
// declaration in force nothing is moot: nobody has said anything.
func (f Facts) Applies(row RowID) (ok bool, because string) {
	for _, m := range moots() {
		if m.row != row || len(f.Products) == 0 {
			continue
		}
		var names []string
		for i := range f.Products {
			if m.applies(&f.Products[i]) {
				return true, ""
			}
			names = append(names, string(f.Products[i].Product))
		}
		return false, fmt.Sprintf("%s %s", list(names), m.because)
	}
	return true, ""
}

// list names a few, and counts the rest.
func list(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more each", strings.Join(names[:most], ", "), len(names)-most)
}

// beyond are the rows that are asked for only from a level on (row 0.1), with
// the reason. Every other row is asked of every product: a bulb, too, has no
// default password.
func beyond() map[RowID]struct {
	Level declaration.Level
	Why   string
} {
	type from = struct {
		Level declaration.Level
		Why   string
	}
	raised := func(why string) from { return from{declaration.RaisedLevel, why} }
	high := func(why string) from { return from{declaration.HighLevel, why} }
	return map[RowID]from{
		"1.8":  raised("one layer that fails must not open data that is personal or harms"),
		"1.16": raised("an accepted risk needs a named person where it can harm somebody"),
		"2.10": raised("fields above the threshold get keys of their own where there are such fields"),
		"3.8":  raised("a stolen session must not be enough to do harm"),
		"3.9":  raised("authentication is attacked by ourselves where others will attack it"),
		"4.18": raised("a large copy of what is personal is worth stealing"),
		"4.19": raised("misuse shows in behaviour where there is something to misuse"),
		"5.4":  raised("intrusion is worth detecting where there is something to take"),
		"5.5":  raised("what leaks is personal"),
		"6.8":  raised("who can change firmware that can harm is trained"),
		"3.7":  high("a wrong setting can harm: a second person decides"),
		"5.18": high("safety comes before convenience where harm is high"),
		"5.20": high("outside eyes are worth paying for where harm is high"),
		"6.15": high("a leak of such data must be traced to who leaked it"),
	}
}

// RequiredRows are the rows that a product's four factors ask for, in the
// mission's order. A higher factor never gives fewer.
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
	from, special := beyond()[row]
	return !special || len(f.Products) == 0 || f.level() >= from.Level
}

// level is the highest of any product in force.
func (f Facts) level() declaration.Level {
	var l declaration.Level
	for i := range f.Products {
		l = max(l, declaration.Level(f.Products[i].Level))
	}
	return l
}

// Strictness is how strictly a row is taken.
type Strictness struct {
	Level        declaration.Level
	MaxAgeFactor float64 // of the age up to which an observation counts
	Why          string
}

// Strict is how strictly a row is taken for the products in force: the more
// can go wrong, the shorter an observation counts.
func (f Facts) Strict(RowID) Strictness {
	switch l := f.level(); l {
	case declaration.HighLevel:
		return Strictness{l, 0.25, "a product in force is of the high level: observations count a quarter as long"}
	case declaration.RaisedLevel:
		return Strictness{l, 0.5, "a product in force is of the raised level: observations count half as long"}
	default:
		return Strictness{l, 1, "every product in force is of the basic level"}
	}
}
