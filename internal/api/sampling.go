package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// Samples draws random samples with an assessor's nonce.
type Samples interface {
	Begin(ctx context.Context, by core.Actor, q sampling.Request) (sampling.Sampling, error)
	Draw(ctx context.Context, by core.Actor, id string, nonce []byte) (sampling.Sampling, error)
	List(context.Context) ([]sampling.Sampling, error)
	Look(ctx context.Context, id string) (sampling.Sampling, []sampling.Item, error)
}

// SampleRequest begins a sample: what can be drawn goes to the ledger.
type SampleRequest struct {
	Of    string     `json:"of"` // devices, or records/KIND
	Size  int        `json:"size"`
	From  *time.Time `json:"from,omitempty"` // of records: the period
	Until *time.Time `json:"until,omitempty"`
}

// Validate bounds the request; the rest is for the rules.
func (r *SampleRequest) Validate() error {
	if r.Size < 1 || r.Size > sampling.MaxSize {
		return core.E(core.Invalid, "sample-size", "a sample has 1 to 1,000 in it", "give `size`")
	}
	return nil
}

// DrawRequest draws it.
type DrawRequest struct {
	Nonce string `json:"nonce"` // 16 to 64 bytes in hexadecimal digits, which only the assessor knew
}

// Sample is a sampling without its population, and what was drawn.
type Sample struct {
	sampling.Sampling
	Digest string          `json:"digest,omitempty"` // of all that was settled before the nonce; lists leave it out
	Items  []sampling.Item `json:"items,omitempty"`
}

func sampleOf(x sampling.Sampling, items []sampling.Item) Sample {
	out := Sample{Sampling: x, Digest: x.Digest().String(), Items: items}
	out.Population = nil
	return out
}

// Validate holds that it is a nonce.
func (r *DrawRequest) Validate() error {
	_, err := sampling.ParseNonce(r.Nonce)
	return err
}

func sampleRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/samples", "check.list", h.samples},
		{"POST /v1/samples", "evidence.sample", h.beginSample},
		{"GET /v1/samples/{sample}", "check.list", h.sample},
		{"POST /v1/samples/{sample}/draw", "evidence.sample", h.drawSample},
	}
}

func (h handlers) samples(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Samples.List(r.Context())
	if err != nil {
		return err
	}
	if all == nil {
		all = []sampling.Sampling{}
	}
	return writeJSON(w, all)
}

func (h handlers) beginSample(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req SampleRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	q := sampling.Request{Of: req.Of, Size: req.Size}
	if req.From != nil {
		q.From = *req.From
	}
	if req.Until != nil {
		q.Until = *req.Until
	}
	x, err := h.Samples.Begin(r.Context(), by, q)
	if err != nil {
		return err
	}
	return writeJSON(w, sampleOf(x, nil))
}

func (h handlers) sample(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	x, items, err := h.Samples.Look(r.Context(), r.PathValue("sample"))
	if err != nil {
		return err
	}
	return writeJSON(w, sampleOf(x, items))
}

func (h handlers) drawSample(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req DrawRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	nonce, err := sampling.ParseNonce(req.Nonce)
	if err != nil {
		return err
	}
	if _, err := h.Samples.Draw(r.Context(), by, r.PathValue("sample"), nonce); err != nil {
		return err
	}
	return h.sample(w, r, by)
}
