package console

import "github.com/hawser-iot/hawser/internal/assurance"

// cites is where other standards ask for the same as a control.
func cites(c *assurance.Control) []cite {
	var out []cite
	for _, m := range c.Mappings() {
		id := m.ID
		if m.Note != "" {
			id += " (" + m.Note + ")"
		}
		if n := len(out); n > 0 && out[n-1].Standard == m.Standard.Name() {
			out[n-1].Ids = append(out[n-1].Ids, id)
			continue
		}
		out = append(out, cite{m.Standard.Name(), []string{id}})
	}
	return out
}
