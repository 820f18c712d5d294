package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/store"
)

// Sampling holds what sampling.Tx promises: a sampling comes back as it was
// kept, its population with it only when it is asked for by itself, and
// drawing it replaces it.
func Sampling(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)
	var population []string
	for i := range 5000 {
		population = append(population, fmt.Sprintf("unit-%06d", i))
	}
	first := sampling.Sampling{
		ID: "sfirst", Of: sampling.Devices, Begun: at.Add(time.Minute), By: core.Actor{Kind: core.ActorStaff, ID: "pada"}, Seed: []byte{1, 2, 3}, Size: 3, Total: 5000, Population: population,
	}
	second := sampling.Sampling{
		ID: "ssecond", Of: sampling.RecordsOf("read-session-opened"), From: at.Add(-time.Hour), Until: at, Begun: at, By: core.Job("x"), Seed: []byte{4}, Size: 1, Population: []string{"000000000007"},
	}
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		for _, x := range []sampling.Sampling{first, second} {
			if err := tx.PutSampling(ctx, x); err != nil {
				return err
			}
		}
		return nil
	}))
	get := func(id string) (x sampling.Sampling, err error) {
		err = s.View(ctx, func(tx *store.Tx) error { x, err = tx.Sampling(ctx, id); return err })
		return x, err
	}
	same := func(what string, got, want sampling.Sampling) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+.500v, want %+.500v", what, got, want)
		}
	}
	for _, want := range []sampling.Sampling{first, second} {
		got, err := get(want.ID)
		must(t, err)
		same(want.ID, got, want)
	}
	if _, err := get("sother"); core.KindOf(err) != core.Unknown {
		t.Errorf("one that there is not: %v", err)
	}
	first.Taken, first.Assessor, first.Nonce, first.Drawn = at.Add(time.Hour), core.Actor{Kind: core.ActorStaff, ID: "pbea"}, []byte{9, 9}, population[:3]
	must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.PutSampling(ctx, first) }))
	got, err := get("sfirst")
	must(t, err)
	same("drawn", got, first)

	list := func() (out []sampling.Sampling) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) (err error) { out, err = tx.Samplings(ctx); return err }))
		return out
	}
	all := list()
	if len(all) != 2 || all[0].ID != "ssecond" || all[1].ID != "sfirst" {
		t.Fatalf("all of them, by when they were begun: %+.300v", all)
	}
	if all[0].Population != nil || all[1].Population != nil || !slices.Equal(all[1].Drawn, first.Drawn) {
		t.Errorf("a list with populations, or without what was drawn: %+.300v", all)
	}
	must(t, s.Update(ctx, func(tx *store.Tx) error {
		if err := tx.DeleteSampling(ctx, "sother"); err != nil {
			return err
		}
		return tx.DeleteSampling(ctx, "sfirst")
	}))
	if all := list(); len(all) != 1 || all[0].ID != "ssecond" {
		t.Errorf("after one is dropped: %+.300v", all)
	}
}
