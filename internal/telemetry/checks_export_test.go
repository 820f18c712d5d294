package telemetry

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// WrongValue is what is wrong with one stored value.
func WrongValue(f *declaration.Field, value string) string { return wrongValue(f, value) }

// StoredFault is what any of the checks has against a stored part.
func StoredFault(p *declaration.Policy, stream string, group uint8, keep time.Duration, object []byte) string {
	r := &Row{
		Reading: Reading{Product: p.Product, Stream: stream, Policy: p.Hash},
		Part:    Part{Group: group, Epoch: core.Epoch{Keep: keep}},
	}
	if why := undeclaredIn(p, r, object); why != "" {
		return why
	}
	return outOfDeclared(p, r, object)
}
