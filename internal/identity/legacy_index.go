package identity

import (
	"bytes"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// legacyIndex finds devices by their credential at the legacy door. The index's
// lock guards it.
type legacyIndex struct {
	ids    map[Serial]*state
	proofs map[core.Hash]*state                // of certificates: their SHA-256
	live   map[core.ProductID]map[Serial]int64 // when each was added, Unix microseconds
}

func newLegacyIndex() legacyIndex {
	return legacyIndex{ids: map[Serial]*state{}, proofs: map[core.Hash]*state{}, live: map[core.ProductID]map[Serial]int64{}}
}

func (x *legacyIndex) remove(st *state) {
	if st.legacy == nil {
		return
	}
	delete(x.ids, st.legacy.ID)
	if st.legacy.Kind == OwnCA {
		delete(x.proofs, st.legacy.Proof)
	}
	delete(x.live[st.dev.Product], st.legacy.ID)
}

func (x *legacyIndex) add(st *state) {
	if st.legacy == nil {
		return
	}
	x.ids[st.legacy.ID] = st
	if st.legacy.Kind == OwnCA {
		x.proofs[st.legacy.Proof] = st
	}
	if !st.legacy.Live() {
		return
	}
	of := x.live[st.dev.Product]
	if of == nil {
		of = map[Serial]int64{}
		x.live[st.dev.Product] = of
	}
	of[st.legacy.ID] = st.legacy.Added.UnixMicro()
}

func (x *index) legacyID(id Serial) *state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.legacy.ids[id]
}

// legacyLeaf is the device whose registered certificate this is.
func (x *index) legacyLeaf(print core.Hash) *state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.legacy.proofs[print]
}

// legacyLive is how many devices of a product have a credential at the legacy
// door that has not ended.
func (x *index) legacyLive(product core.ProductID) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.legacy.live[product])
}

// legacyWithin reports whether a device is one of the first most of its product
// at the legacy door. There are more only where a declaration was made narrower
// after they were registered; then those that were there first come in.
func (x *index) legacyWithin(st *state, most int) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	of := x.legacy.live[st.dev.Product]
	if len(of) <= most {
		return true
	}
	mine, before := st.legacy.Added.UnixMicro(), 0
	for id, added := range of {
		if added < mine || added == mine && bytes.Compare(id[:], st.legacy.ID[:]) < 0 {
			before++
		}
	}
	return before < most
}

func sortLegacy(all []LegacyDevice) {
	slices.SortFunc(all, func(a, b LegacyDevice) int { return strings.Compare(string(a.Device), string(b.Device)) })
}
