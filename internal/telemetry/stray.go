package telemetry

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Stray is an undeclared name that a gateway without a store has found, on its
// way to the server that keeps such.
type Stray struct {
	Product core.ProductID
	Policy  core.Hash
	Stream  string
	Subject core.Subject
	Name    string // as it may be shown
	First   time.Time
}

// Strays are names that were not told yet, at most n; see Told.
func (in *Intake) Strays(n int) []Stray {
	var out []Stray
	in.plans(func(p *Plan) {
		for _, sp := range p.streams {
			for _, s := range sp.findings.names() {
				if !s.kept && len(out) < n {
					out = append(out, Stray{Product: p.product, Policy: p.policy, Stream: sp.stream.Name, Subject: s.subject, Name: s.name, First: s.first})
				}
			}
		}
	})
	return out
}

// Told says that these are known elsewhere.
func (in *Intake) Told(list []Stray) {
	for i := range list {
		if f := in.findingsOf(&list[i]); f != nil {
			f.mu.Lock()
			f.change(func(known []stray) []stray {
				for j := range known {
					known[j].kept = known[j].kept || known[j].name == list[i].Name
				}
				return known
			})
			f.mu.Unlock()
		}
	}
}

// NoteStray takes over what a gateway has found, unless it is known, or of
// another declaration than the one in force.
func (in *Intake) NoteStray(s Stray) {
	var buf [maxUndeclaredName]byte
	name := tame(buf[:0], []byte(s.Name))
	if f := in.findingsOf(&s); f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.add(stray{name: string(name), subject: s.Subject, first: s.First})
	}
}

func (in *Intake) findingsOf(s *Stray) *findings {
	p := in.Plan(s.Product)
	if p == nil || p.policy != s.Policy {
		return nil
	}
	if sp := p.streams[s.Stream]; sp != nil {
		return &sp.findings
	}
	return nil
}
