package server

import (
	"fmt"
	"strings"
	"time"
)

// maxStreamsTold bounds what doctor says of undeclared fields.
const maxStreamsTold = 20

// undeclared tells what devices send that no declaration names (CC 5.9).
func (s *server) undeclared(d *diagnosis) {
	all := s.intake.Undeclared()
	for _, u := range all[:min(len(all), maxStreamsTold)] {
		names := "those whose names were kept are erased"
		if len(u.Names) > 0 {
			names = strings.Join(u.Names, ", ")
		}
		d.warn("collection", fmt.Sprintf("%s: since %s devices send fields in stream %s that the declaration does not name, and that are dropped: %s",
			u.Product, u.First.UTC().Format(time.DateOnly), u.Stream, names), "stop sending them, or declare why they are needed (digits show as #, other signs as ?)")
	}
	if n := len(all) - maxStreamsTold; n > 0 {
		d.warn("collection", fmt.Sprintf("%d more streams get fields that no declaration names", n), "mend those above first")
	}
}
