package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

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

// problemOf is an error as a stranger sees it.
func problemOf(err error) Problem {
	p := Problem{Type: core.Internal.String(), Title: "internal error", Status: http.StatusInternalServerError, Hint: "the server's log says more"}
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind != core.Internal {
		p = Problem{Type: e.Kind.String(), Title: e.Message, Status: status(e.Kind), Hint: e.Hint}
	}
	return p
}

func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
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
	d := json.NewDecoder(r.Body) // bounded by Handler
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return core.E(core.TooLarge, "body", "the request is too large", fmt.Sprintf("send at most %d KB", maxBodyBytes>>10))
	}
	if err != nil {
		return &core.Error{Kind: core.Invalid, Reason: "body", Message: "the request's JSON does not fit", Hint: "send one object with the documented keys, at most 512 KB", Err: err}
	}
	if d.More() {
		return core.E(core.Invalid, "body", "the request holds more than one JSON value", "send one object")
	}
	return v.Validate()
}

// Options say how routes are served; all of it is required.
type Options struct {
	Allow func(p Peer, permission string) bool
	Log   *slog.Logger
	// Stall is how long a caller may leave an answer unread. One who reads on,
	// however slowly, gets it to the end.
	Stall time.Duration
}

// answer is a response whose caller has a while for each piece of it.
type answer struct {
	http.ResponseWriter
	stall  time.Duration
	begun  bool
	failed error // the caller went, or stopped reading
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	// A server's own deadline would count from the request on, and a long
	// answer is not a slow one.
	if err := http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(a.stall)); err != nil {
		return 0, fmt.Errorf("bound the time for an answer: %w", err)
	}
	n, err := a.ResponseWriter.Write(p)
	if err != nil {
		a.failed = err
	}
	return n, err
}

func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// toldError stands in the answer already: it is for the log.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// fail answers with an error. An answer that has begun cannot: it is cut, so
// that nobody takes half of it for the whole.
func (a *answer) fail(err error) {
	if a.begun {
		panic(http.ErrAbortHandler)
	}
	writeProblem(a, err)
}

// Handler serves the routes.
func Handler(routes []Route, o Options) (http.Handler, error) {
	if o.Allow == nil || o.Log == nil || o.Stall <= 0 {
		return nil, errors.New("api: Allow, Log and Stall are required")
	}
	mux := http.NewServeMux()
	for _, rt := range routes {
		if rt.Permission == "" || rt.Handle == nil {
			return nil, fmt.Errorf("route %s has no permission or no handler", rt.Pattern)
		}
		mux.HandleFunc(rt.Pattern, func(rw http.ResponseWriter, r *http.Request) {
			w := &answer{ResponseWriter: rw, stall: o.Stall}
			limit := int64(maxBodyBytes)
			if rt.Pattern == listPattern {
				limit = maxListRequestBytes
			}
			r.Body = http.MaxBytesReader(rw, r.Body, limit)
			defer func() {
				if v := recover(); v == http.ErrAbortHandler {
					panic(v)
				} else if v != nil {
					o.Log.ErrorContext(r.Context(), "request panicked", slog.String("route", rt.Pattern), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
					w.fail(errors.New("panic"))
				}
			}()
			w.Header().Set("Cache-Control", "no-store")
			p, ok := peerOf(r.Context())
			if !ok || !o.Allow(p, rt.Permission) {
				w.fail(core.E(core.Denied, "local-user", "this user may not use the local socket", "ask as the user that runs the server"))
				return
			}
			if err := rt.Handle(w, r, p.Actor()); err != nil {
				switch {
				case w.failed != nil || r.Context().Err() != nil:
					o.Log.InfoContext(r.Context(), "an answer was not read to its end", slog.String("route", rt.Pattern), slog.Any("err", err))
				case core.KindOf(err) == core.Internal:
					o.Log.ErrorContext(r.Context(), "request failed", slog.String("route", rt.Pattern), slog.Any("err", err))
				}
				if _, told := errors.AsType[*toldError](err); !told {
					w.fail(err)
				}
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
