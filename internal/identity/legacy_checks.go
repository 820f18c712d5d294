package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// legacyCheck names every device that may come without a certificate of this
// installation (design, section 5, Brownfield; CC 3.2).
func (s *Service) legacyCheck() check.Check {
	return check.Check{
		ID: "devices.no-legacy", Version: 1, Rows: []string{"3.2"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "Every device is let in by a certificate of this installation: none has a credential of the maker's at the door for old devices, and those that had one have it in the store as the doors know it.",
		Do:   "`hawser legacy list PRODUCT` shows who is left and when each was last seen; enrol them: each gets a certificate of its own for what it has. `hawser legacy withdraw` ends the credential of one that is gone.",
		Look: s.lookAtLegacy,
		Violations: []check.Violation{
			{ID: "old-device", Says: "Gives a unit a token for the door of old devices, in the store behind the program's back.", Do: smuggleToken},
		},
	}
}

// lookAtLegacy holds the store's credentials against memory's, and names each
// device of a live one: what is only in one of the two is let in by the other
// after the next start, or is let in now.
func (s *Service) lookAtLegacy(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: legacy_credential")
	l.Touch("source", "the index of devices that the doors ask")
	live := map[core.DeviceID]Credential{}
	err := s.d.View(ctx, func(tx Tx) error {
		clear(live)
		return tx.EachLegacy(ctx, func(r LegacyRow) error {
			if r.Live() {
				live[r.Device] = r.Kind
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read legacy credentials: %w", err)
	}
	units := s.index.snapshot()
	product := map[core.DeviceID]core.ProductID{}
	for _, st := range units {
		product[st.dev.ID] = st.dev.Product
		if st.legacy.Live() {
			live[st.dev.ID] = st.legacy.Kind
		}
	}
	l.Expect("units in the memory of the doors", len(units))
	l.Pass(len(units) - len(live))
	for id, kind := range live {
		until := "no door is declared for it now"
		if t := s.LegacyTerms(product[id]); t.Auth == kind {
			until = "its door closes on " + t.Until.Add(-time.Second).Format(time.DateOnly)
		}
		l.Fail(s.unitName(id), "has a credential of the maker's (%s) instead of a certificate of its own; %s", kind, until)
	}
	return nil
}

// smuggleToken writes a credential for the first unit into the store.
func smuggleToken(ctx context.Context, t check.Twin) (undo, error) {
	one, _, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	id := newLegacyID(DeviceToken)
	alone := newSerial() // any bytes
	err = t.Exec(ctx, "control.db", `INSERT INTO legacy_credential (id, device, kind, proof, alone, key_id, operator, added_us, why) VALUES (?, ?, 'device-token', ?, ?, ?, 'os:nobody(0)', ?, '')`,
		id[:], one, make([]byte, len(core.Hash{})), append(alone[:], id[:]...), id[:8], t.Now().UnixMicro())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM legacy_credential WHERE id = ?`, id[:])
	}, nil
}
