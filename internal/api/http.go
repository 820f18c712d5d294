package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxBodyBytes bounds a request: a declaration is the largest.
const maxBodyBytes = 512 << 10

// Problem is the answer to a request that failed (RFC 9457 §3).
type Problem struct {
	Type   string `json:"type"` // the error's kind, as a relative reference
	Title  string `json:"title"`
	Status int    `json:"status"`
	Hint   string `json:"hint,omitempty"`
	Faults string `json:"faults,omitempty"` // a declaration's faults, rendered
}

// status maps kinds to HTTP: the one place.
func status(k core.Kind) int {
	switch k {
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

func kindOfStatus(code int) core.Kind {
	for _, k := range []core.Kind{core.Invalid, core.Denied, core.Unknown, core.Conflict, core.TooLarge, core.TooMany, core.Unavail} {
		if status(k) == code {
			return k
		}
	}
	return core.Internal
}

func writeProblem(w http.ResponseWriter, err error) {
	p := Problem{Type: core.Internal.String(), Title: "internal error", Status: http.StatusInternalServerError, Hint: "the server's log says more"}
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind != core.Internal {
		p = Problem{Type: e.Kind.String(), Title: e.Message, Status: status(e.Kind), Hint: e.Hint}
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client left; nothing to do
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// validator is a request that can say what is wrong with it.
type validator interface{ Validate() error }

// decode reads a bounded, strict JSON body and validates it.
func decode(r *http.Request, v validator) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxBodyBytes+1))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &core.Error{Kind: core.Invalid, Reason: "body", Message: "the request's JSON does not fit", Hint: "send one object with the documented keys, at most 512 KB", Err: err}
	}
	if d.More() {
		return core.E(core.Invalid, "body", "the request holds more than one JSON value", "send one object")
	}
	return v.Validate()
}

// Handler serves the routes to callers for which allow says yes.
func Handler(routes []Route, allow func(Peer, string) bool, log *slog.Logger) (http.Handler, error) {
	mux := http.NewServeMux()
	for _, rt := range routes {
		if rt.Permission == "" || rt.Handle == nil {
			return nil, fmt.Errorf("route %s has no permission or no handler", rt.Pattern)
		}
		mux.HandleFunc(rt.Pattern, func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if v := recover(); v != nil {
					log.ErrorContext(r.Context(), "request panicked", slog.String("route", rt.Pattern), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
					writeProblem(w, errors.New("panic"))
				}
			}()
			w.Header().Set("Cache-Control", "no-store")
			p, ok := peerOf(r.Context())
			if !ok || !allow(p, rt.Permission) {
				writeProblem(w, core.E(core.Denied, "local-user", "this user may not use the local socket", "ask as the user that runs the server"))
				return
			}
			if err := rt.Handle(w, r, p.Actor()); err != nil {
				if core.KindOf(err) == core.Internal {
					log.ErrorContext(r.Context(), "request failed", slog.String("route", rt.Pattern), slog.Any("err", err))
				}
				writeProblem(w, err)
			}
		})
	}
	return mux, nil
}

// Route is one entry of the route table.
type Route struct {
	Pattern    string
	Permission string
	Handle     func(http.ResponseWriter, *http.Request, core.Actor) error
}
