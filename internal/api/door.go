package api

import (
	"net/http"

	"github.com/hawser-iot/hawser/internal/core"
)

// Door is what firmware of a product needs to know to reach this installation.
// Nothing in it is secret, and nothing in it lets anybody in: each unit has its
// own enrolment code and makes its own key (CC 1.9).
type Door struct {
	Environment string   `json:"environment"` // test or live
	Hosts       []string `json:"hosts"`       // the names in the server's certificate: host names, then addresses
	MQTTPort    int      `json:"mqtt_port"`
	HTTPS       string   `json:"https"` // origin of the enrolment door
	Roots       string   `json:"roots"` // PEM of the certificate that the server's chain ends in
	ChainBytes  int      `json:"chain_bytes"`
	// SmallTLS is whether Mbed TLS and BearSSL take the server's chain; they
	// refuse that of an authority made before its name constraint was not
	// critical.
	SmallTLS bool   `json:"small_tls"`
	Policy   string `json:"policy"` // the product's declaration in force, in canonical form
}

func (h handlers) door(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	id := core.ProductID(r.PathValue("product"))
	if !id.Valid() {
		return core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	p, err := h.Declarations.Current(r.Context(), id)
	if err != nil {
		return err
	}
	d, err := h.Running.Door(r.Context())
	if err != nil {
		return err
	}
	d.Policy = string(p.Canonical)
	return writeJSON(w, d)
}
