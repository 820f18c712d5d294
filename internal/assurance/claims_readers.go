package assurance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// CheckServicesErase is the check that says which services erase what they were
// given: a promise about the end of data counts only those.
const CheckServicesErase = "services.erase"

// ReaderName is how that check names a service and a product.
func ReaderName(product core.ProductID, service string) string {
	return string(product) + "/" + service
}

// restsOnEnd reports whether a promise is about the end of data: kept for an
// essential period (DM-03), deleted for good (DM-05).
func restsOnEnd(c *declaration.Claim) bool {
	return slices.Contains(c.RestsOn, "DM-03") || slices.Contains(c.RestsOn, "DM-05")
}

// notProvedAt are the services with readings of a product that have not proved
// that they erase. Where nobody looked lately, all that the declaration names
// count as such.
func notProvedAt(p *declaration.Policy, s *State) []string {
	for i := range s.Controls {
		for j := range s.Controls[i].Rows {
			for _, c := range s.Controls[i].Rows[j].Checks {
				o := c.Observation
				if c.ID == CheckServicesErase && o != nil && o.Error == "" && s.At.Before(o.Expires.Add(time.Nanosecond)) &&
					o.Failing <= len(o.Findings) && o.Excluded <= len(o.Left) {
					var out []string
					for _, list := range [][]string{subjects(o.Findings), subjects(o.Left)} {
						for _, name := range list {
							if service, ok := strings.CutPrefix(name, string(p.Product)+"/"); ok {
								out = append(out, service)
							}
						}
					}
					slices.Sort(out)
					return slices.Compact(out)
				}
			}
		}
	}
	var out []string
	for i := range p.Services {
		out = append(out, p.Services[i].Name)
	}
	return out
}

func subjects(list []check.Finding) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Subject
	}
	return out
}

// atReaders takes back what is proved of a promise about the end of data while
// services that have readings have not proved their part.
func atReaders(cs *ClaimState, p *declaration.Policy, c *declaration.Claim, s *State) {
	if !restsOnEnd(c) {
		return
	}
	names := notProvedAt(p, s)
	if len(names) == 0 {
		return
	}
	at := "not proven at " + strings.Join(names, ", ")
	if cs.Proved {
		cs.Proved, cs.Why = false, "proven inside Hawser; "+at
		return
	}
	cs.Why = fmt.Sprintf("%s; %s", cs.Why, at)
}
