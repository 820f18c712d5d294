package api

import (
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// Authority is what signs devices' certificates.
type Authority struct {
	Environment string    `json:"environment"` // test or live
	Root        string    `json:"root"`        // SHA-256 of the certificate that devices pin
	Issuer      string    `json:"issuer"`      // SHA-256 of the intermediate that signs now
	Until       time.Time `json:"until"`       // of the issuer
	Retired     int       `json:"retired"`     // intermediates that sign no more, whose certificates are still good
}

func authorityRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/authority", "server.status", h.authority},
		{"POST /v1/authority/take", "authority.renew", h.takeAuthority},
	}
}

func authorityOf(a identity.Authority) Authority {
	return Authority{Environment: string(a.Environment), Root: a.Root.String(), Issuer: a.Issuer.String(), Until: a.Until, Retired: a.Retired}
}

func (h handlers) authority(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
	return writeJSON(w, authorityOf(h.Devices.Authority()))
}

func (h handlers) takeAuthority(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	a, err := h.Devices.TakeAuthority(r.Context(), by)
	if err != nil {
		return err
	}
	return writeJSON(w, authorityOf(a))
}
