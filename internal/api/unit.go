package api

import (
	"context"
	"net/http"

	"github.com/hawser-iot/hawser/internal/core"
)

// Units certifies that a unit's credentials are its own.
type Units interface {
	Certify(ctx context.Context, by core.Actor, id core.DeviceID) ([]byte, error)
}

func (h handlers) certify(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	b, err := h.Units.Certify(r.Context(), by, id)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(b)
	return err
}
