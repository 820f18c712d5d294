package assurance

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Coverage is the cross-walk read the other way: which ids of a standard some
// control cites, and which are out of scope, each in the standard's order. Of
// EN and ISVS every id is in one of the two; of the others only what is cited
// is known.
func Coverage(s Standard) (mapped, outOfScope []string) {
	citing := citing(s)
	for _, id := range s.IDs() {
		if len(citing[id]) > 0 {
			mapped = append(mapped, id)
		}
	}
	for _, m := range OutOfScope(s) {
		outOfScope = append(outOfScope, m.ID)
	}
	return mapped, outOfScope
}

// WriteCoverage writes the coverage of EN and ISVS as CSV: standard, id, state,
// controls, why. An id that is neither mapped nor out of scope, or both, is an
// error.
func WriteCoverage(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"standard", "id", "state", "controls", "why"}) // Error, below, tells
	for _, s := range []Standard{EN, ISVS} {
		citing, outside := citing(s), OutOfScope(s)
		for _, id := range s.IDs() {
			i := slices.IndexFunc(outside, func(m Mapping) bool { return m.ID == id })
			switch controls := citing[id]; {
			case (i >= 0) == (len(controls) > 0):
				return fmt.Errorf("write the coverage: %s of %s is to be mapped or out of scope, one of the two", id, s.Name())
			case i >= 0:
				_ = out.Write([]string{string(s), id, "out of scope", "", outside[i].Note})
			default:
				_ = out.Write([]string{string(s), id, "mapped", strings.Join(controls, " "), ""})
			}
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the coverage: %w", err)
	}
	return nil
}

// citing are the controls that cite each id of a standard.
func citing(s Standard) map[string][]string {
	out := map[string][]string{}
	for _, c := range Controls() {
		for _, m := range c.Mappings() {
			if m.Standard == s && !slices.Contains(out[m.ID], string(c.ID)) {
				out[m.ID] = append(out[m.ID], string(c.ID))
			}
		}
	}
	return out
}

// OutOfScope are the ids of EN and ISVS that no recommendation of the guide
// asks for, each with the reason as its note.
func OutOfScope(s Standard) (out []Mapping) {
	for _, r := range outside() {
		if r.standard == s {
			out = append(out, between(s, r.from, r.to, r.why)...)
		}
	}
	return out
}

// reach is a run of ids that are out of scope for one reason.
type reach struct {
	standard Standard
	from, to string
	why      string
}

func outside() []reach {
	const (
		board  = "how the board and its chips are made; the guide asks for no such means"
		boot   = "how a device starts; the guide asks for no such means"
		system = "how the device's operating system is set up; the guide asks for no such means"
		build  = "how firmware is compiled and built; the guide asks for tests, not for these means"
		means  = "which means of cryptography a device uses; the guide asks for strong encryption and leaves the means open"
		people = "how long a password is and how it is changed; the guide gives no such numbers"
		radio  = "a radio or network that the guide does not speak of; of radios it names Wi-Fi only"
	)
	return []reach{
		{EN, "5.5-3", "5.5-3", "the guide does not ask that algorithms can be exchanged; firmware updates carry new ones"},
		{EN, "5.5-8", "5.5-8", "the guide does not ask how a maker manages its own secrets, beyond who may reach them"},
		{EN, "5.6-6", "5.6-6", "the guide does not ask for small code"},
		{EN, "5.9-2", "5.9-2", "the guide does not ask that a product works without its network; row 7.9 holds that buyers are told what stops"},
		{EN, "6-6", "6-6", "its text was not read, so nothing is claimed of it"},
		{ISVS, "1.2.4", "1.2.7", board},
		{ISVS, "1.3.1", "1.3.3", build},
		{ISVS, "1.3.5", "1.3.11", build},
		{ISVS, "1.3.14", "1.3.14", build},
		{ISVS, "1.4.3", "1.4.3", "the guide asks that somebody watches, not how a device's logs are timed"},
		{ISVS, "1.4.7", "1.4.7", "the guide asks that somebody watches, not how logs are guarded; row 3.3 holds it for what is kept here"},
		{ISVS, "1.5.2", "1.5.2", "the guide asks for no plan for lost root keys"},
		{ISVS, "1.5.3", "1.5.3", "the guide does not ask that owners see what is paired with what"},
		{ISVS, "2.1.5", "2.1.7", people},
		{ISVS, "2.1.11", "2.1.11", "the guide does not name revocation; row 3.2 holds it"},
		{ISVS, "2.2.3", "2.2.3", "the guide does not name a change of owner; row 3.5 holds it"},
		{ISVS, "2.3.4", "2.3.4", means},
		{ISVS, "2.4.3", "2.4.8", means},
		{ISVS, "3.1.1", "3.1.9", boot},
		{ISVS, "3.2.1", "3.2.1", system},
		{ISVS, "3.2.5", "3.2.7", system},
		{ISVS, "3.2.9", "3.2.11", system},
		{ISVS, "3.3.2", "3.3.5", system},
		{ISVS, "3.4.9", "3.4.9", means},
		{ISVS, "3.4.11", "3.4.11", means},
		{ISVS, "3.4.13", "3.4.13", means},
		{ISVS, "3.5.1", "3.5.4", board},
		{ISVS, "3.6.1", "3.6.2", system},
		{ISVS, "4.1.4", "4.1.4", radio},
		{ISVS, "4.1.5", "4.1.5", means},
		{ISVS, "4.1.6", "4.1.6", board},
		{ISVS, "4.1.7", "4.1.8", means},
		{ISVS, "4.3.1", "4.3.10", radio},
		{ISVS, "4.4.1", "4.4.1", "the guide asks how Wi-Fi is secured, not that it is switched off"},
		{ISVS, "4.5.1", "4.6.5", radio},
		{ISVS, "5.1.1", "5.1.13", board},
	}
}
