package api

import (
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// Legacy is the door for old devices of one product.
type Legacy struct {
	Product     core.ProductID    `json:"product"`
	Auth        string            `json:"auth,omitempty"`  // own-ca or device-token; empty: the declaration in force has no such door
	Until       *time.Time        `json:"until,omitempty"` // from then on it is shut
	DaysLeft    int               `json:"days_left"`
	MaxDevices  int               `json:"max_devices"`
	Live        int               `json:"live"`        // devices that have not got a certificate of their own yet
	Locked      int               `json:"locked"`      // tokens of a key that is not there: put gate.key back
	Devices     []LegacyDevice    `json:"devices"`     // those that have, or had, a credential here, by serial number
	Authorities []LegacyAuthority `json:"authorities"` // the maker's own
}

// LegacyDevice is one device of the door.
type LegacyDevice struct {
	Device     core.DeviceID `json:"device"`
	Unit       string        `json:"unit"`       // as findings name it
	Credential string        `json:"credential"` // own-ca or device-token
	Added      time.Time     `json:"added"`
	By         string        `json:"by"`
	Seen       *time.Time    `json:"seen,omitempty"`  // last use, within the hour
	Ended      *time.Time    `json:"ended,omitempty"` // it opens nothing since
	Why        string        `json:"why,omitempty"`   // enrolled, revoked, withdrawn
	Admitted   bool          `json:"admitted"`        // it may come now
	Reason     string        `json:"reason,omitempty"`
}

// LegacyAuthority is an authority of the maker's own.
type LegacyAuthority struct {
	Name        string     `json:"name"`
	Certificate string     `json:"certificate"` // SHA-256 of it
	Reason      string     `json:"reason"`
	By          string     `json:"by"`
	Added       time.Time  `json:"added"`
	Ended       *time.Time `json:"ended,omitempty"`
}

// AddTokensRequest brings devices that have a token of their own.
type AddTokensRequest struct {
	List   string `json:"list"`   // CSV, a line `serial,token`, or `serial`: then a token is made
	Reason string `json:"reason"` // a word
}

// Validate has nothing to add: the rules bound both.
func (r *AddTokensRequest) Validate() error { return nil }

// TokensAdded says what became of a list of tokens.
type TokensAdded struct {
	Added  int           `json:"added"`  // devices that were not there before
	Tokens []LegacyToken `json:"tokens"` // those that were made; shown this once
}

// LegacyToken is a device and its token.
type LegacyToken struct {
	Device core.DeviceID `json:"device"`
	Token  string        `json:"token"`
}

// AddLegacyAuthorityRequest registers an authority of the maker's own.
type AddLegacyAuthorityRequest struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"` // PEM
	Reason      string `json:"reason"`      // a word
}

// Validate has nothing to add: the rules bound all of it.
func (r *AddLegacyAuthorityRequest) Validate() error { return nil }

// AddLegacyCertificatesRequest registers devices by their certificates.
type AddLegacyCertificatesRequest struct {
	Authority    string `json:"authority"`
	Certificates string `json:"certificates"` // PEM, up to 200
	SerialFrom   string `json:"serial_from"`  // cn or serialNumber
	Reason       string `json:"reason"`       // a word
}

// Validate has nothing to add: the rules bound all of it.
func (r *AddLegacyCertificatesRequest) Validate() error { return nil }

// LegacyCertificatesAdded says what became of certificates.
type LegacyCertificatesAdded struct {
	Added int `json:"added"` // devices that were not there before
}

// WithdrawLegacyRequest ends a credential or an authority of the legacy door.
type WithdrawLegacyRequest struct {
	Cause string `json:"cause"`
}

// Validate bounds the request; the rest is for the rules.
func (r *WithdrawLegacyRequest) Validate() error {
	return (&EndFactoryRequest{Cause: r.Cause}).Validate()
}

func legacyRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/products/{product}/legacy", "device.list", h.legacy},
		{"POST /v1/products/{product}/legacy/tokens", "factory.trust", h.addTokens},
		{"POST /v1/products/{product}/legacy/authorities", "factory.trust", h.addLegacyAuthority},
		{"POST /v1/products/{product}/legacy/authorities/{authority}/end", "device.revoke", h.endLegacyAuthority},
		{"POST /v1/products/{product}/legacy/certificates", "factory.trust", h.addLegacyCertificates},
		{"POST /v1/devices/{device}/legacy/withdraw", "device.revoke", h.withdrawLegacy},
	}
}

func productIn(r *http.Request) (core.ProductID, error) {
	p := core.ProductID(r.PathValue("product"))
	if !p.Valid() {
		return "", core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	return p, nil
}

func (h handlers) legacy(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	p, err := productIn(r)
	if err != nil {
		return err
	}
	return writeJSON(w, LegacyOf(h.Devices, p, time.Now()))
}

// LegacyOf is the door of a product as it is shown.
func LegacyOf(s *identity.Service, product core.ProductID, now time.Time) Legacy {
	t := s.LegacyTerms(product)
	out := Legacy{Product: product, Auth: string(t.Auth), MaxDevices: t.MaxDevices, Locked: s.ForeignTokens(), Devices: []LegacyDevice{}, Authorities: []LegacyAuthority{}}
	if t.Auth != "" {
		out.Until = &t.Until
		out.DaysLeft = max(0, int(t.Until.Sub(now)/(24*time.Hour)))
	}
	for _, d := range s.Legacy(product) {
		if d.Live() {
			out.Live++
		}
		out.Devices = append(out.Devices, LegacyDevice{
			Device: d.Device, Unit: d.Unit, Credential: string(d.Kind), Added: d.Added, By: d.Operator, Seen: whenSet(d.Seen), Ended: whenSet(d.Ended),
			Why: string(d.Why), Admitted: d.Admitted, Reason: d.Reason,
		})
	}
	for _, c := range s.LegacyAuthorities(product) {
		out.Authorities = append(out.Authorities, LegacyAuthority{Name: c.Name, Certificate: c.ID.String(), Reason: c.Reason, By: c.Operator, Added: c.Added, Ended: whenSet(c.Ended)})
	}
	return out
}

func (h handlers) addTokens(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	p, err := productIn(r)
	if err != nil {
		return err
	}
	var req AddTokensRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	list, err := identity.ParseTokenList([]byte(req.List))
	if err != nil {
		return err
	}
	made, fresh, err := h.Devices.AddTokens(r.Context(), by, p, list, req.Reason)
	if err != nil {
		return err
	}
	out := TokensAdded{Added: fresh, Tokens: []LegacyToken{}}
	for _, t := range made {
		out.Tokens = append(out.Tokens, LegacyToken(t))
	}
	return writeJSON(w, out)
}

func (h handlers) withdrawLegacy(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req WithdrawLegacyRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := h.Devices.WithdrawLegacy(r.Context(), by, id, identity.Cause(req.Cause)); err != nil {
		return err
	}
	d, err := h.Devices.Device(id)
	if err != nil {
		return err
	}
	return writeJSON(w, LegacyOf(h.Devices, d.Product, time.Now()))
}

func (h handlers) addLegacyAuthority(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	p, err := productIn(r)
	if err != nil {
		return err
	}
	var req AddLegacyAuthorityRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	cert, err := identity.ParseFactoryCA([]byte(req.Certificate))
	if err != nil {
		return err
	}
	if err := h.Devices.AddLegacyCA(r.Context(), by, p, req.Name, cert, req.Reason); err != nil {
		return err
	}
	return writeJSON(w, LegacyOf(h.Devices, p, time.Now()))
}

func (h handlers) endLegacyAuthority(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	p, err := productIn(r)
	if err != nil {
		return err
	}
	var req WithdrawLegacyRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := h.Devices.EndLegacyCA(r.Context(), by, r.PathValue("authority"), identity.Cause(req.Cause)); err != nil {
		return err
	}
	return writeJSON(w, LegacyOf(h.Devices, p, time.Now()))
}

func (h handlers) addLegacyCertificates(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	p, err := productIn(r)
	if err != nil {
		return err
	}
	var req AddLegacyCertificatesRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	certs, err := identity.ParseLegacyCerts([]byte(req.Certificates))
	if err != nil {
		return err
	}
	fresh, err := h.Devices.AddLeaves(r.Context(), by, p, req.Authority, certs, identity.SerialFrom(req.SerialFrom), req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, LegacyCertificatesAdded{Added: fresh})
}
