package api

import (
	"context"
	"net/http"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// Proof says how everything stands, and looks again. Asking for a
// waiver and approving it are two persons', in the console.
type Proof interface {
	State(context.Context) (assurance.State, error)
	// Run takes a look with the checks of a row, with one check, or with all,
	// and says how everything stands then.
	Run(ctx context.Context, by core.Actor, q RunRequest, progress func(done, total int64)) (assurance.State, error)
	// Selftest tries every violation on a twin, keeps the proofs, and gives them.
	Selftest(ctx context.Context, by core.Actor, progress func(done, total int64)) ([]check.Proof, error)
	Claims(context.Context) ([]assurance.ClaimState, error)
	Waivers(context.Context) ([]assurance.Waiver, error)
	EndWaiver(ctx context.Context, by core.Actor, id string) (assurance.Waiver, error)
}

// RunRequest says which checks look; nothing: all.
type RunRequest struct {
	Row   string `json:"row,omitempty"`
	Check string `json:"check,omitempty"`
}

// Validate holds that there is such a row.
func (r *RunRequest) Validate() error {
	if r.Row == "" {
		return nil
	}
	if _, ok := assurance.FindRow(assurance.RowID(r.Row)); !ok {
		return core.E(core.Invalid, "row", "there is no row "+r.Row, "`hawser check list` shows all 132")
	}
	return nil
}

func proofRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/checks", "check.list", h.checks},
		{"POST /v1/checks/run", "check.run", h.runChecks},
		{"POST /v1/checks/selftest", "check.run", h.selftest},
		{"POST /v1/evidence", "evidence.export", h.evidence},
		{"GET /v1/ledger/key", "ledger.read", h.ledgerKey},
		{"GET /v1/claims", "check.list", h.claims},
		{"GET /v1/waivers", "check.list", h.waivers},
		{"POST /v1/waivers/{waiver}/end", "waiver.ask", h.endWaiver},
	}
}

// LedgerKey is the public key of the ledger, for who pins it.
type LedgerKey struct {
	Key string `json:"key"` // NAME+ID+KEY
}

func (h handlers) ledgerKey(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
	return writeJSON(w, LedgerKey{h.Ledger.VerifierKey()})
}

func (h handlers) checks(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	s, err := h.Proof.State(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}

func (h handlers) runChecks(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req RunRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	return long(w, r, func(progress func(done, total int64)) (any, error) {
		return h.Proof.Run(r.Context(), by, req, progress)
	})
}

func (h handlers) selftest(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	return long(w, r, func(progress func(done, total int64)) (any, error) {
		return h.Proof.Selftest(r.Context(), by, progress)
	})
}

func (h handlers) claims(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	c, err := h.Proof.Claims(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func (h handlers) waivers(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Proof.Waivers(r.Context())
	if err != nil {
		return err
	}
	if all == nil {
		all = []assurance.Waiver{}
	}
	return writeJSON(w, all)
}

func (h handlers) endWaiver(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	made, err := h.Proof.EndWaiver(r.Context(), by, r.PathValue("waiver"))
	if err != nil {
		return err
	}
	return writeJSON(w, made)
}
