package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Services is the register of the maker's own services that read.
type Services interface {
	Add(ctx context.Context, by core.Actor, name string, answerIn time.Duration) (Service, error)
	Certify(ctx context.Context, by core.Actor, name, csrPEM string) (ServiceCertificate, error)
	// SetWebhook has pages posted to an address; "" ends that.
	SetWebhook(ctx context.Context, by core.Actor, name, to string) (ServiceWebhook, error)
	Revoke(ctx context.Context, by core.Actor, name, cause string) error
	List(context.Context) ([]Service, error)
	Find(ctx context.Context, name string) (Service, error)
}

// AddServiceRequest registers a service that a declaration in force names.
type AddServiceRequest struct {
	Service       string `json:"service"`
	AnswerSeconds int64  `json:"answer_seconds,omitempty"` // to answer an order; 0: a day
}

// Validate bounds the request; the rest is for the rules.
func (r *AddServiceRequest) Validate() error {
	if r.Service == "" || len(r.Service) > 63 {
		return core.E(core.Invalid, "service-name", "the service has no name, or a long one", "use the name under `services` in the declaration")
	}
	if r.AnswerSeconds < 0 || r.AnswerSeconds > 30*24*3600 {
		return core.E(core.Invalid, "answer-within", "the time to answer an order is not between a minute and 30 days", "write it as in 24h")
	}
	return nil
}

// CertifyServiceRequest asks for a service's certificate.
type CertifyServiceRequest struct {
	CSR string `json:"csr"` // PKCS#10, PEM
}

// Validate bounds the request.
func (r *CertifyServiceRequest) Validate() error {
	if r.CSR == "" || len(r.CSR) > 16<<10 {
		return core.E(core.Invalid, "csr-size", "the certificate request is empty or larger than 16 KB", "send a PKCS#10 request in PEM")
	}
	return nil
}

// ServiceWebhookRequest says where a service's pages are posted to.
type ServiceWebhookRequest struct {
	URL string `json:"url,omitempty"` // https; empty: nowhere
}

// Validate bounds the request; the rest is for the rules.
func (r *ServiceWebhookRequest) Validate() error {
	if len(r.URL) > 500 {
		return core.E(core.Invalid, "webhook-url", "the address is too long", "give at most 500 bytes")
	}
	return nil
}

// ServiceWebhook is where a service's pages are posted to.
type ServiceWebhook struct {
	Service string `json:"service"`
	URL     string `json:"url"`
	Secret  string `json:"secret,omitempty"` // hexadecimal; what the service verifies its posts with
}

// RevokeServiceRequest ends a service.
type RevokeServiceRequest struct {
	Cause string `json:"cause"` // compromised, replaced or no-longer-needed
}

// Validate bounds the request; the rest is for the rules.
func (r *RevokeServiceRequest) Validate() error {
	if len(r.Cause) > 63 {
		return core.E(core.Invalid, "cause", "the cause is too long", "give one of compromised, replaced, no-longer-needed")
	}
	return nil
}

// RevokedService names a service that was cut off.
type RevokedService struct {
	Revoked string `json:"revoked"`
}

// ServiceCertificate is a service's new certificate.
type ServiceCertificate struct {
	Service     string    `json:"service"`
	Certificate string    `json:"certificate"` // PEM, with its chain
	Root        string    `json:"root"`        // PEM: what the service verifies this installation with
	NotAfter    time.Time `json:"not_after"`
	Address     string    `json:"address"` // of the services' door
}

// Service is one of the maker's services.
type Service struct {
	Service          string           `json:"service"`
	State            string           `json:"state"` // good, no-certificate or revoked
	Added            time.Time        `json:"added"`
	AnswerSeconds    int64            `json:"answer_seconds"`
	CertificateUntil *time.Time       `json:"certificate_until,omitempty"`
	Address          string           `json:"address"`
	Products         []ServiceProduct `json:"products"`
	Open             []ServiceOrder   `json:"open_orders"`
	Refusals         []Refusal        `json:"refusals,omitempty"` // since the server started
}

// ServiceOrder is one that waits for a service's answer.
type ServiceOrder struct {
	Order   string         `json:"order"`
	Product core.ProductID `json:"product"`
	Do      string         `json:"do"` // erase, expire or tell
	Given   time.Time      `json:"given"`
	By      time.Time      `json:"by"`
}

// ServiceProduct is what a service has of one product.
type ServiceProduct struct {
	Product  core.ProductID `json:"product"`
	Fields   []string       `json:"fields"` // that it may read now
	Purposes []string       `json:"purposes"`
	Subjects int            `json:"subjects"`       // of whom it has readings
	Seen     *time.Time     `json:"seen,omitempty"` // when it last asked on
	Erases   string         `json:"erases"`         // proved, not-proved, refuted or nothing-given
	Why      string         `json:"why,omitempty"`  // when that is not proved
}

func serviceRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/services", "service.list", h.services},
		{"POST /v1/services", "service.add", h.addService},
		{"GET /v1/services/{service}", "service.list", h.service},
		{"POST /v1/services/{service}/certificate", "service.add", h.certifyService},
		{"POST /v1/services/{service}/webhook", "service.add", h.serviceWebhook},
		{"POST /v1/services/{service}/revoke", "service.revoke", h.revokeService},
	}
}

func (h handlers) services(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Services.List(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h handlers) service(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	x, err := h.Services.Find(r.Context(), r.PathValue("service"))
	if err != nil {
		return err
	}
	return writeJSON(w, x)
}

func (h handlers) addService(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req AddServiceRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	x, err := h.Services.Add(r.Context(), by, req.Service, time.Duration(req.AnswerSeconds)*time.Second)
	if err != nil {
		return err
	}
	return writeJSON(w, x)
}

func (h handlers) certifyService(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req CertifyServiceRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	c, err := h.Services.Certify(r.Context(), by, r.PathValue("service"), req.CSR)
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func (h handlers) serviceWebhook(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ServiceWebhookRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	x, err := h.Services.SetWebhook(r.Context(), by, r.PathValue("service"), req.URL)
	if err != nil {
		return err
	}
	return writeJSON(w, x)
}

func (h handlers) revokeService(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req RevokeServiceRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	name := r.PathValue("service")
	if err := h.Services.Revoke(r.Context(), by, name, req.Cause); err != nil {
		return err
	}
	return writeJSON(w, RevokedService{Revoked: name})
}
