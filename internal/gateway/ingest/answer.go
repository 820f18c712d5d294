package ingest

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Answer is what became of a batch. Nothing of its content stands in it.
type Answer struct {
	Accepted int       `json:"accepted"` // on disk
	Dropped  int       `json:"dropped"`  // by rule not stored, and that is on record
	Refused  []Refused `json:"refused"`  // each on record, and not to be sent again; at most maxReadings
}

// Refused is one reading that was refused, counted from 0.
type Refused struct {
	Index  int              `json:"index"`
	Reason telemetry.Reason `json:"reason"`
}

func write(w http.ResponseWriter, answer []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer) // the client left; it will ask again
}

// problem is RFC 9457's.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"` // what to do
	Reason string `json:"reason"`
}

// statusOf maps a refusal to HTTP.
func statusOf(e *core.Error) int {
	switch e.Reason {
	case "no-certificate":
		return http.StatusUnauthorized
	case "media-type", "content-encoding":
		return http.StatusUnsupportedMediaType
	case "idempotency-key-reused":
		return http.StatusUnprocessableEntity
	}
	switch e.Kind {
	case core.Invalid:
		return http.StatusBadRequest
	case core.Denied:
		return http.StatusForbidden
	case core.Unknown:
		return http.StatusNotFound
	case core.Conflict, core.Unready:
		return http.StatusConflict
	case core.TooLarge:
		return http.StatusRequestEntityTooLarge
	case core.TooMany:
		return http.StatusTooManyRequests
	case core.Unavail:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// refuse answers with a problem document.
func (d *door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind == core.Internal {
		d.log.ErrorContext(r.Context(), "a batch of readings could not be taken", slog.Any("err", err))
		e = core.E(core.Internal, "internal", "internal error", "keep the readings and send the batch again later")
	}
	p := problem{Type: "about:blank", Title: e.Message, Status: statusOf(e), Detail: e.Hint, Reason: e.Reason}
	h := w.Header()
	if after, ok := errors.AsType[*identity.RetryError](err); ok {
		h.Set("Retry-After", strconv.FormatInt(int64((after.After+time.Second-1)/time.Second), 10))
	} else if p.Status >= http.StatusInternalServerError {
		h.Set("Retry-After", "5")
	}
	if e.Reason == "content-encoding" {
		h.Set("Accept-Encoding", "identity") // RFC 9110 §12.5.3
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	// A body that is still on its way when the connection closes resets it, and
	// the client never reads why it was refused. The deadline bounds the wait.
	if n, _ := io.CopyN(io.Discard, r.Body, maxBodyBytes+1); n > maxBodyBytes {
		h.Set("Connection", "close")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client left
}
