package assurance

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Standard names a standard or law that asks for some of the same things, and
// the edition whose ids are cited.
type Standard string

// The standards of the cross-walk.
const (
	NIST     Standard = "nist-ir-8425"           // the areas of NIST IR 8425
	NIST213A Standard = "nist-sp-800-213a"       // the families of its catalogue, SP 800-213A
	EN       Standard = "etsi-en-303-645-v3.1.3" // the provisions of ETSI EN 303 645
	ISVS     Standard = "owasp-isvs-1.0.0-rc2"   // the requirements of the OWASP ISVS
	CRA      Standard = "eu-2024-2847"           // the Cyber Resilience Act
	PSTI     Standard = "uk-si-2023-1007"        // the PSTI regulations, and the Act they are made under
)

// Standards are all of them, in the order of the cross-walk.
func Standards() []Standard { return []Standard{NIST, NIST213A, EN, ISVS, CRA, PSTI} }

// Name is how a page calls the standard.
func (s Standard) Name() string {
	switch s {
	case NIST:
		return "NIST IR 8425"
	case NIST213A:
		return "NIST SP 800-213A"
	case EN:
		return "ETSI EN 303 645 V3.1.3"
	case ISVS:
		return "OWASP ISVS 1.0.0-RC2"
	case CRA:
		return "Regulation (EU) 2024/2847 (Cyber Resilience Act)"
	case PSTI:
		return "UK SI 2023/1007 and PSTI Act 2022"
	}
	return string(s)
}

// Mapping is one place where a standard asks for the same as a control. The
// mapping is ours, for orientation; it claims no conformity. Texts of
// standards are not in it: ids only.
type Mapping struct {
	Standard Standard `json:"standard"`
	ID       string   `json:"id"`
	Note     string   `json:"note,omitempty"` // how it differs: "near"
}

// Mappings are the places where other standards ask for the same as c, by
// standard, in the order in which the mission cites them. A citation that
// cannot be read stays as it is written; Crosswalk refuses it.
func (c *Control) Mappings() []Mapping {
	return slices.Concat(readNIST(c.cross.nist), readEN(c.cross.en), readISVS(c.cross.isvs), readCRA(c.cross.cra), readPSTI(c.cross.psti))
}

// Maps are the ids of c's mappings by standard, without their notes.
func (c *Control) Maps() map[Standard][]string {
	out := map[Standard][]string{}
	for _, m := range c.Mappings() {
		out[m.Standard] = append(out[m.Standard], m.ID)
	}
	return out
}

// Strangers are the ids that a control cites and its standard does not have:
// published cross-walks are full of them.
func (c *Control) Strangers() []Mapping {
	var out []Mapping
	for _, m := range c.Mappings() {
		if !slices.Contains(m.Standard.IDs(), m.ID) {
			out = append(out, m)
		}
	}
	return out
}

// Crosswalk writes every mapping of every control as CSV: control,
// recommendation, standard, id, note. It writes no id that its standard does
// not have: such a one is an error.
func Crosswalk(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"control", "recommendation", "standard", "id", "note"}) // Error, below, tells
	for _, c := range Controls() {
		for _, m := range c.Strangers() {
			return fmt.Errorf("write the cross-walk: %s cites %q, which %s does not have", c.ID, m.ID, m.Standard.Name())
		}
		for _, m := range c.Mappings() {
			_ = out.Write([]string{string(c.ID), c.Says, string(m.Standard), m.ID, m.Note})
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the cross-walk: %w", err)
	}
	return nil
}

// terms are the citations in one cell of the mission's table, each with the
// words that follow it in parentheses. A comma in parentheses parts nothing.
func terms(cell string) (out []Mapping) {
	if cell == "-" || cell == "" {
		return nil
	}
	depth := 0
	for _, t := range strings.FieldsFunc(cell, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth == 0
	}) {
		id, note, _ := strings.Cut(strings.TrimSpace(t), " (")
		out = append(out, Mapping{ID: id, Note: strings.TrimSuffix(note, ")")})
	}
	return out
}

// readNIST reads "IAC,PC · LA/ACF, DC/AUT": areas of IR 8425, then families of
// SP 800-213A, of which one without "/" belongs to the group before it.
func readNIST(cell string) (out []Mapping) {
	areas, families, _ := strings.Cut(cell, " · ")
	for _, m := range terms(areas) {
		m.Standard = NIST
		if name, ok := nistAreas()[m.ID]; ok {
			m.ID = name
		}
		out = append(out, m)
	}
	group := ""
	for _, m := range terms(families) {
		m.Standard = NIST213A
		if g, _, ok := strings.Cut(m.ID, "/"); ok {
			group = g
		} else {
			m.ID = group + "/" + m.ID
		}
		out = append(out, m)
	}
	return out
}

// readEN reads "5.1-1, -2A, 5.3-1..-6B, -15A/B": a term without a clause is of
// the clause before it, and a range is of all provisions between.
func readEN(cell string) (out []Mapping) {
	clause := ""
	whole := func(id string) string {
		c, n, ok := strings.Cut(id, "-")
		switch {
		case !ok:
			return clause + "-" + id
		case c == "":
			return clause + "-" + n
		}
		clause = c
		return id
	}
	for _, m := range terms(cell) {
		m.Standard = EN
		// "6-4 (+6-7, 6-8 text not read)": two more that we know by number only.
		more, plus := strings.CutPrefix(m.Note, "+")
		more, unread := strings.CutSuffix(more, " text not read")
		if plus && unread {
			m.Note = ""
		}
		from, to, ranged := strings.Cut(m.ID, "..")
		from = whole(from)
		stem, other, two := strings.Cut(from, "/") // "5.3-15A/B"
		switch {
		case ranged:
			out = append(out, between(EN, from, whole(to), m.Note)...)
		case two:
			out = append(out, Mapping{EN, stem, m.Note}, Mapping{EN, stem[:len(stem)-1] + other, m.Note})
		default:
			out = append(out, Mapping{EN, from, m.Note})
		}
		if plus && unread {
			for _, x := range terms(more) {
				out = append(out, Mapping{EN, x.ID, "by its number: its text was not read"})
			}
		}
	}
	return out
}

// readISVS reads "2.1.8-2.1.10, 4.1.3".
func readISVS(cell string) (out []Mapping) {
	for _, m := range terms(cell) {
		if from, to, ok := strings.Cut(m.ID, "-"); ok {
			out = append(out, between(ISVS, from, to, m.Note)...)
			continue
		}
		out = append(out, Mapping{ISVS, m.ID, m.Note})
	}
	return out
}

// between are all ids of a standard from one to another; where one of them
// does not exist, the range as it is written, which nothing takes for an id.
func between(s Standard, from, to, note string) (out []Mapping) {
	ids := s.IDs()
	a, b := slices.Index(ids, from), slices.Index(ids, to)
	if a < 0 || b < a {
		return []Mapping{{s, from + ".." + to, note}}
	}
	for _, id := range ids[a : b+1] {
		out = append(out, Mapping{s, id, note})
	}
	return out
}

// readCRA reads "2j" (Annex I Part I point (2)(j)), "(1)" (point (1) of it),
// "II.3" (Annex I Part II), "A2(5)" (Annex II), "Art13(2)-(3)" and "DoC".
func readCRA(cell string) (out []Mapping) {
	article := ""
	for _, m := range terms(cell) {
		m.Standard = CRA
		id, _ := strings.CutSuffix(m.ID, "[R]") // remembered when it was noted, and since looked up
		switch {
		case id == "DoC":
			m.ID, m.Note = "Article 28", "the EU declaration of conformity"
		case id == "DoC signatory":
			m.ID, m.Note = "Article 28", "who signs the EU declaration of conformity"
		case strings.HasPrefix(id, "Art"):
			article = "Article "
			n, points, _ := strings.Cut(id[len("Art"):], "(")
			m.ID = article + n
			if first, last, ok := strings.Cut(points, ")-("); ok {
				out = append(out, between(CRA, m.ID+"("+first+")", m.ID+"("+last, m.Note)...)
				continue
			}
			if points != "" {
				m.ID += "(" + points
			}
		case strings.HasPrefix(id, "II."):
			m.ID = "Annex I Part II (" + id[len("II."):] + ")"
		case id == "A2":
			m.ID = "Annex II"
		case strings.HasPrefix(id, "A2("):
			m.ID = "Annex II " + id[len("A2"):]
		case strings.HasPrefix(id, "("):
			m.ID = "Annex I Part I " + id
		case len(id) == 2 && id[0] == '2' && id[1] >= 'a':
			m.ID = "Annex I Part I (2)(" + id[1:] + ")"
		default:
			m.ID = article + id
		}
		out = append(out, m)
	}
	return out
}

// readPSTI reads "¶2" (of Schedule 1), "s.9" and "Act s.10-12" (of the Act).
func readPSTI(cell string) (out []Mapping) {
	add := func(note string, ids ...string) {
		for _, id := range ids {
			out = append(out, Mapping{PSTI, id, note})
		}
	}
	for _, m := range terms(cell) {
		section, inAct := strings.CutPrefix(strings.TrimPrefix(m.ID, "Act "), "s.")
		from, to, ranged := strings.Cut(section, "-")
		switch paragraph, inSchedule := strings.CutPrefix(m.ID, "¶"); {
		case inSchedule:
			add(m.Note, "Schedule 1 paragraph "+paragraph)
		case m.ID == "clarity tests":
			add("its information is to be clear", "Schedule 1 paragraph 2", "Schedule 1 paragraph 3")
		case m.ID == "SoC":
			add("the statement of compliance", "Act section 9")
		case m.ID == "SoC signatory":
			add("who signs the statement of compliance", "Act section 9")
		case inAct && ranged:
			out = append(out, between(PSTI, "Act section "+from, "Act section "+to, m.Note)...)
		case inAct:
			add(m.Note, "Act section "+section)
		default:
			add(m.Note, m.ID)
		}
	}
	return out
}
