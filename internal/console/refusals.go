package console

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

type refusalsView struct {
	Counted     Counted
	Entries     []reasonLine // enrolment and admission, most first
	Connections []Connection // newest first
	Shown, All  int
}

type reasonLine struct {
	Reason string
	N      uint64
}

// maxConnections bounds the list of connections on a page.
const maxConnections = 100

func (c *Console) refusalsPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	var view refusalsView
	var err error
	if view.Counted, err = c.d.Running.Counts(r.Context(), ""); err != nil {
		return fmt.Errorf("read counts: %w", err)
	}
	slices.SortStableFunc(view.Counted.Refused, func(a, b telemetry.ReasonCount) int { return cmp.Compare(b.N, a.N) })
	all := c.d.Devices.Refusals()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		view.Entries = append(view.Entries, reasonLine{k, all[k]})
	}
	slices.SortStableFunc(view.Entries, func(a, b reasonLine) int { return cmp.Compare(b.N, a.N) })
	view.Connections = c.d.Running.Connections()
	slices.Reverse(view.Connections)
	view.All = len(view.Connections)
	view.Connections = view.Connections[:min(view.All, maxConnections)]
	view.Shown = len(view.Connections)
	return c.show(w, r, v, http.StatusOK, "refusals", page{
		Title: "Refusals", Here: "/refusals", Data: view,
		Lead: "What the server did not take, and why. Of what was refused nothing is kept but that it happened.",
	})
}
