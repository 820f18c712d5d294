package telemetry_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// What the journal still holds of somebody who is erased is filed after every
// eraser has run. It must count, but for nobody (CC 4.8): no row of the control
// database comes to name the subject again.
func TestProjectorCountsTheErasedForNobody(t *testing.T) {
	for _, erased := range []bool{false, true} { // the first is the control
		w := newWorks(t)
		var m maker
		first := m.reading(ann, projectStart, 1)
		first.Dropped = 2
		w.tape.add(encode(first, m.again(first, projectStart), m.reading(bob, projectStart, 1))...)
		refused := telemetry.Refusal{Product: "aria-thermostat", Subject: ann, Stream: "climate", Reason: telemetry.ReasonRate, Received: projectStart.UnixMilli(), Count: 5}
		w.tape.add(telemetry.AppendRefusal(nil, &refused))
		if erased {
			must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
				row := telemetry.ErasureRow{Subject: ann, Product: "aria-thermostat", Actor: staff, Requested: projectStart, State: telemetry.ErasureDone, Ended: projectStart}
				if err := tx.InsertErasure(t.Context(), row); err != nil {
					return err
				}
				return tx.ForgetCounts(t.Context(), ann)
			}))
		}
		w.project()
		named := func(s core.Subject) (n int) {
			must(t, w.store.View(t.Context(), func(tx *store.Tx) error {
				of, err := tx.SubjectCount(t.Context(), s)
				if err != nil {
					return err
				}
				minutes, err := tx.MinuteCounts(t.Context(), 0, 1000)
				for _, c := range minutes {
					if c.Subject == s {
						n++
					}
				}
				n += len(of)
				return err
			}))
			return n
		}
		if n := named(ann); (n == 0) != erased {
			t.Errorf("erased %v: %d rows name the subject", erased, n)
		}
		if named(bob) == 0 {
			t.Errorf("erased %v: the other one is not counted", erased)
		}
		got := w.totals()
		if got.Accepted != 3 || got.Stored != 2 || got.Duplicates != 1 || got.DroppedFields != 4 || got.RefusedBy(telemetry.ReasonRate) != 5 {
			t.Errorf("erased %v: totals %+v", erased, got)
		}
	}
}
