package assurance

import (
	"slices"

	"github.com/hawser-iot/hawser/internal/check"
)

// ControlID names one recommendation of the guide: "DS-05".
type ControlID string

// RowID names one row of the mission: "1.9".
type RowID string

// Control is one of the guide's 63 recommendations, in our own words.
type Control struct {
	ID      ControlID    `json:"id"`
	Section string       `json:"section"` // id of a Section
	Says    string       `json:"says"`
	Kinds   []check.Kind `json:"kinds"` // how it is looked at, the leading kind first
	cross   cross        // where other standards ask for the same
}

// cross is how the mission cites other standards for one control.
type cross struct{ nist, en, isvs, cra, psti string }

// Row is one of the 132 things that must be true of the running system.
type Row struct {
	ID      RowID     `json:"id"`
	Control ControlID `json:"control"`
	Guide   string    `json:"guide"` // what the guide says, shortened
	Must    string    `json:"must"`  // what the running system must do
	How     string    `json:"how"`   // how anybody checks it
}

// Section is one part of the guide.
type Section struct {
	ID    string
	Title string
	About string // in a sentence, for who has not read the guide
}

// Sections are the guide's parts in its order.
func Sections() []Section {
	return []Section{
		{"design", "Design", "Security is thought of before the first line of firmware: risks, users, passwords, layers, tests."},
		{"practice", "Recognised practice", "What the field has learned: known flaws, encryption, second factors, the law, vulnerability feeds."},
		{"access", "Authentication and access", "Who and what may come in, and what each may reach."},
		{"data", "Data", "What is collected, why, how long it is kept, who reads it, and how it ends."},
		{"response", "Monitor and respond", "Noticing what goes wrong after the product is sold, and mending it."},
		{"culture", "Culture", "People: who answers for security, who is trained, what vendors are held to."},
		{"communication", "Communicate", "What buyers and owners are told, when, and whether it reaches them."},
		{"claims", "Claims", "What is said in public is true."},
	}
}

// groups is made once and never changes: who asks for rows gets copies.
var groups = rowGroups()

// Rows are all rows in the mission's order.
func Rows() []Row { return slices.Concat(groups...) }

// FindRow is the row of that id.
func FindRow(id RowID) (Row, bool) {
	for _, g := range groups {
		for _, r := range g {
			if r.ID == id {
				return r, true
			}
		}
	}
	return Row{}, false
}

// RowsOf are the rows of a control, in the mission's order.
func RowsOf(c ControlID) []Row {
	var out []Row
	for _, g := range groups {
		for _, r := range g {
			if r.Control == c {
				out = append(out, r)
			}
		}
	}
	return out
}
