package assurance

import (
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// ClaimState is how a public promise stands (CC 8.1).
type ClaimState struct {
	Product core.ProductID `json:"product"`
	Say     string         `json:"say"`
	RestsOn []ClaimRest    `json:"rests_on"`
	Proved  bool           `json:"proved"` // all of the controls are met
	Why     string         `json:"why"`
}

// ClaimRest is one control that a promise rests on.
type ClaimRest struct {
	Control ControlID `json:"control"`
	Verdict Verdict   `json:"verdict"`
	Why     string    `json:"why"`
}

// ClaimsOf says how the promises of the declarations in force stand. A promise
// is proved while every control that it rests on is met, and rests on at least
// one.
func ClaimsOf(in []*declaration.Policy, s *State) []ClaimState {
	out := []ClaimState{}
	for _, p := range in {
		for _, c := range p.Claims {
			cs := ClaimState{Product: p.Product, Say: c.Say, Proved: len(c.RestsOn) > 0, Why: "every control that it rests on is met"}
			if !cs.Proved {
				cs.Why = "it rests on nothing"
			}
			for _, id := range c.RestsOn {
				rest := ClaimRest{Control: ControlID(id), Verdict: Unproven, Why: "there is no such control"}
				if st := s.Control(ControlID(id)); st != nil {
					rest.Verdict, rest.Why = st.Verdict, st.Why
				}
				if rest.Verdict != Met && cs.Proved {
					cs.Proved, cs.Why = false, fmt.Sprintf("unproven: %s is %s: %s", id, rest.Verdict, rest.Why)
				}
				cs.RestsOn = append(cs.RestsOn, rest)
			}
			atReaders(&cs, p, &c, s)
			out = append(out, cs)
		}
	}
	return out
}
