package console

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Deps are what the pages show and call. All of it is required.
type Deps struct {
	Proof        Proof
	Declarations Declarations
	Reviews      Reviews
	Devices      Devices
	Data         Data
	Running      Running
	Ledger       Ledger
	People       People
	Evidence     Evidence
	Samples      Samples
	Commands     Commands
	Settings     Settings

	// Visitor says who asks. core.Denied: nobody who is signed in.
	Visitor func(*http.Request) (Visitor, error)
	// SignIn is where who is not signed in goes: "/sign-in".
	SignIn string
	// StepUp is where a passkey is used once more: "/step-up".
	StepUp string
	// Doors are the routes of the way in, made by who keeps it.
	Doors []Route

	// Origin is what people type to come here, "https://console.maker.example":
	// links that are given to somebody begin with it.
	Origin string
	Maker  string // whose console it is, for the head of each page
	// Passwords says what new passwords are held against; nil: it is not shown.
	Passwords func() PasswordRules
	// Every is how often an open page asks for what changed; 0: ten seconds.
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
}

func (d *Deps) check() error {
	missing := map[string]bool{
		"Proof": d.Proof == nil, "Declarations": d.Declarations == nil, "Reviews": d.Reviews == nil, "Devices": d.Devices == nil, "Data": d.Data == nil, "Running": d.Running == nil,
		"Ledger": d.Ledger == nil, "People": d.People == nil, "Evidence": d.Evidence == nil, "Samples": d.Samples == nil, "Commands": d.Commands == nil, "Settings": d.Settings == nil, "Origin": d.Origin == "", "Visitor": d.Visitor == nil, "SignIn": d.SignIn == "", "StepUp": d.StepUp == "", "Now": d.Now == nil, "Log": d.Log == nil,
	}
	for name, is := range missing {
		if is {
			return fmt.Errorf("console: %s is required", name)
		}
	}
	return nil
}

// Console is the staff console. It is an http.Handler.
type Console struct {
	d      Deps
	assets *assets
	pages  map[string]*pageSet
	tokens tokens
	memory memory
	mux    *http.ServeMux
	cross  *http.CrossOriginProtection
}

// New checks the dependencies, the routes and every template. A route without
// a permission is an error, and so is one that is public without being listed.
func New(d Deps) (*Console, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if d.Every == 0 {
		d.Every = 10 * time.Second
	}
	c := &Console{d: d, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	_, _ = rand.Read(c.tokens.key[:]) // never fails
	var err error
	if c.assets, err = loadAssets(staticFiles); err != nil {
		return nil, err
	}
	if c.pages, err = loadPages(c.assets); err != nil {
		return nil, err
	}
	routes := slices.Concat(c.routes(), d.Doors)
	if err := checkRoutes(routes); err != nil {
		return nil, err
	}
	for _, rt := range routes {
		c.mux.HandleFunc(rt.Pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, rt) })
	}
	c.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, Route{Permission: Public, Handle: c.nowhere})
	})
	return c, nil
}

// ServeHTTP answers with the security headers, and refuses what another site
// sends (CC 2.3).
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if err := c.cross.Check(r); err != nil {
		c.fail(w, r, Visitor{}, core.E(core.Denied, "cross-origin", "another site tried to send this", "open the console itself and do it there"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	c.mux.ServeHTTP(w, r)
}

// serve lets in who may, and shows what went wrong as a page.
func (c *Console) serve(w http.ResponseWriter, r *http.Request, rt Route) {
	a := &answer{ResponseWriter: w}
	var v Visitor
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			panic(p)
		} else if p != nil {
			c.d.Log.ErrorContext(r.Context(), "page panicked", slog.String("route", rt.Pattern), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			a.fail(c, r, v, errors.New("panic"))
		}
	}()
	v, err := c.d.Visitor(r)
	switch {
	case err != nil && core.KindOf(err) != core.Denied:
		a.fail(c, r, Visitor{}, fmt.Errorf("find out who asks: %w", err))
		return
	case err != nil:
		v = Visitor{}
	}
	switch {
	case rt.Permission == Public:
	case !v.Signed():
		c.toSignIn(a, r)
		return
	case rt.Permission != SignedIn:
		if err := v.May(rt.Permission); err != nil {
			a.fail(c, r, v, err)
			return
		}
	}
	if r.Method == http.MethodPost && v.Signed() && !c.tokens.ok(r, v) {
		a.fail(c, r, v, core.E(core.Denied, "form-token", "the form is too old, or is not ours", "load the page again and send it once more"))
		return
	}
	if err := rt.Handle(a, r, v); err != nil {
		if core.KindOf(err) == core.Internal && r.Context().Err() == nil {
			c.d.Log.ErrorContext(r.Context(), "page failed", slog.String("route", rt.Pattern), slog.Any("err", err))
		}
		a.fail(c, r, v, err)
	}
}

// toSignIn sends who is not signed in to the way in. What changes something
// is not repeated afterwards.
func (c *Console) toSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(fragmentHeader) != "" {
		w.WriteHeader(http.StatusUnauthorized) // the script stops and says so
		return
	}
	http.Redirect(w, r, c.d.SignIn, http.StatusSeeOther)
}

// answer knows whether it has begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// fail shows an error as a page. An answer that has begun is cut, so that
// nobody takes half of it for the whole.
func (a *answer) fail(c *Console, r *http.Request, v Visitor, err error) {
	if a.begun {
		panic(http.ErrAbortHandler)
	}
	c.fail(a, r, v, err)
}

func (c *Console) nowhere(_ http.ResponseWriter, r *http.Request, _ Visitor) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return core.E(core.Unknown, "no-such-page", "there is nothing here to send to", "go back to the page before")
	}
	return core.E(core.Unknown, "no-such-page", "there is no such page", "choose one from the list at the side")
}

// within bounds a page's work.
func within(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), 20*time.Second)
}
