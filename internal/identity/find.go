package identity

import (
	"container/heap"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Query picks devices. A zero field picks all.
type Query struct {
	Product core.ProductID
	State   DeviceState
	Prefix  string        // of the id
	After   core.DeviceID // the page begins after it
	Limit   int           // of the page: 1 to 1,000
}

// Found is a page of devices by id. Next is what to go on after, "" at the
// end; Matching counts all that the query picks, whatever the page.
type Found struct {
	Devices  []Device
	Next     core.DeviceID
	Matching int
}

// Find looks through the devices in memory: at 100,000 of them it takes some
// ten milliseconds, and no index of its own.
func (s *Service) Find(q Query) Found {
	limit := max(1, min(q.Limit, maxPage))
	var f Found
	var page lastFirst // the limit+1 smallest ids after q.After
	for _, st := range s.index.snapshot() {
		if q.Product != "" && st.dev.Product != q.Product || !strings.HasPrefix(string(st.dev.ID), q.Prefix) {
			continue
		}
		if q.State != "" && s.device(st).State != q.State {
			continue
		}
		f.Matching++
		switch {
		case st.dev.ID <= q.After:
		case len(page) <= limit:
			heap.Push(&page, st)
		case st.dev.ID < page[0].dev.ID:
			page[0] = st
			heap.Fix(&page, 0)
		}
	}
	slices.SortFunc(page, func(a, b *state) int { return strings.Compare(string(a.dev.ID), string(b.dev.ID)) })
	for _, st := range page[:min(limit, len(page))] {
		f.Devices = append(f.Devices, s.device(st))
	}
	if len(page) > limit {
		f.Next = page[limit-1].dev.ID
	}
	return f
}

// lastFirst is a heap with the greatest id on top.
type lastFirst []*state

func (h lastFirst) Len() int           { return len(h) }
func (h lastFirst) Less(i, j int) bool { return h[i].dev.ID > h[j].dev.ID }
func (h lastFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push serves container/heap.
func (h *lastFirst) Push(x any) { *h = append(*h, x.(*state)) }

// Pop serves container/heap.
func (h *lastFirst) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Unit is a registered device under the random number by which the ledger and
// findings name it.
type Unit struct {
	Device  core.DeviceID
	Product core.ProductID
	Name    core.Subject
}

// EachUnit hands out every registered unit, in no order, from memory.
func (s *Service) EachUnit(fn func(Unit)) {
	for _, st := range s.index.snapshot() {
		fn(Unit{st.dev.ID, st.dev.Product, core.Subject(st.dev.Unit)})
	}
}
