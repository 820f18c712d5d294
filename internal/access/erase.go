package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// Erase makes unreadable for ever what is known of a person who was disabled:
// name, address, browsers, the reasons that were given. The staff id stays in
// the ledger, and leads to nobody. An erasure that was begun is finished after
// a crash by the eraser (Deps.Erase). Erasing twice is no error.
func (s *Service) Erase(ctx context.Context, by core.Actor, id PersonID, why string) error {
	if err := mustSayWhy(why); err != nil {
		return err
	}
	if s.d.Erase == nil {
		return errors.New("erase person: there is no eraser")
	}
	p, err := view(ctx, s, func(tx Tx) (PersonRow, error) {
		if !local(by) {
			if err := s.mustAdminister(ctx, tx, by); err != nil {
				return PersonRow{}, err
			}
		}
		return tx.Person(ctx, id)
	})
	switch {
	case err != nil:
		return fmt.Errorf("erase person: %w", err)
	case p.State != Disabled:
		return fmt.Errorf("erase person: %w", core.E(core.Conflict, "not-disabled", "this person can still sign in, or join", "disable them first"))
	case p.Subject.IsZero():
		return nil
	}
	if err := s.d.Erase(ctx, by, p.Subject, why); err != nil {
		return fmt.Errorf("erase person: %w", err)
	}
	return nil
}
