package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// The cookies. With __Host- a browser takes them only over TLS, from this very
// host, for all paths (RFC 6265bis §4.1.3.2); no script and no other site sees
// them (ASVS 3.3).
const (
	sessionCookie = "__Host-hawser"
	knownCookie   = "__Host-hawser-known"
	knownLife     = 180 * 24 * time.Hour
)

// Where the pages of the way in are.
const (
	signInPath  = "/sign-in"
	stepUpPath  = "/step-up"
	accountPath = "/account"
)

// SignInDeps are what the way in needs.
type SignInDeps struct{ Access *access.Service }

// SignIn is the way in: set-up by a link, sign-in, step-up, and a person's own
// account. It knows who asks, for every other page, too.
type SignIn struct {
	a *access.Service
	c *Console
}

// NewSignIn checks its dependencies.
func NewSignIn(d SignInDeps) (*SignIn, error) {
	if d.Access == nil {
		return nil, errors.New("console: the way in needs access")
	}
	return &SignIn{a: d.Access}, nil
}

// Console makes a console with this way in: it sets Visitor, SignIn, StepUp and
// adds the doors.
func (s *SignIn) Console(d Deps) (*Console, error) {
	d.Visitor, d.SignIn, d.StepUp, d.Doors = s.Visitor, signInPath, stepUpPath, append(s.Routes(), d.Doors...)
	c, err := New(d)
	if err != nil {
		return nil, err
	}
	s.c = c
	return c, nil
}

// Routes are the pages of the way in.
func (s *SignIn) Routes() []Route {
	return []Route{
		{"GET /sign-in", Public, s.signInPage},
		{"POST /sign-in/{step}", Public, s.signIn},
		{"GET /set-up/{link}", Public, s.setUpPage},
		{"POST /set-up/{link}/{step}", Public, s.setUp},
		{"POST /sign-out", SignedIn, s.signOut},
		{"GET /step-up", SignedIn, s.stepUpPage},
		{"POST /step-up/{step}", SignedIn, s.stepUp},
		{"GET /account", SignedIn, s.accountPage},
		{"POST /account/{step}", SignedIn, s.account},
	}
}

// Visitor says who asks, by the session cookie.
func (s *SignIn) Visitor(r *http.Request) (Visitor, error) {
	ses, err := s.session(r)
	if err != nil {
		return Visitor{}, err
	}
	v := Visitor{
		Actor: ses.Actor(), Name: ses.Name, Approver: ses.Approver, Session: ses.ID, SteppedUp: ses.SteppedUp, From: ses.Period.From, Check: ses.May,
	}
	for _, role := range ses.Roles {
		v.Roles = append(v.Roles, string(role))
	}
	return v, nil
}

func (s *SignIn) session(r *http.Request) (access.Session, error) {
	return s.a.Session(r.Context(), cookie(r, sessionCookie))
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// from is where a request comes from: the socket's address, whatever headers
// say.
func from(r *http.Request) access.From {
	f := access.From{Agent: r.UserAgent(), Known: cookie(r, knownCookie)}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		f.Source = a.Addr()
	}
	return f
}

func setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(life / time.Second),
	})
}

// enter gives a browser its new session.
func enter(w http.ResponseWriter, in access.SignedIn) {
	setCookie(w, sessionCookie, in.Token, 0) // ends with the browser, and earlier here
	if in.Known != "" {
		setCookie(w, knownCookie, in.Known, knownLife)
	}
}

// goOn leads a person who has just signed in to what they may see; first to
// what they must be told.
func (s *SignIn) goOn(w http.ResponseWriter, r *http.Request, in access.SignedIn) error {
	enter(w, in)
	notices, err := s.a.Notices(r.Context(), in.Session)
	if err != nil {
		return err
	}
	to := accountPath
	if len(notices) == 0 || !notices[0].Seen.IsZero() {
		to = next(r, home(in.Session))
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// home is the first page that a person may see.
func home(ses access.Session) string {
	for _, e := range entries() {
		if ses.Allows(e.Permission) {
			return e.URL
		}
	}
	return accountPath
}

// next is the page of ours that somebody wanted, or another.
func next(r *http.Request, otherwise string) string {
	to := r.FormValue("next")
	if len(to) > 200 || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		return otherwise
	}
	return to
}

// notice is what a form shows that was not taken.
type notice struct {
	Wrong, Do string
	Again     bool // a fresh sign-in heals it
}

// told puts an error of a form in words, with its status. Errors of our own go
// the usual way.
func told(w http.ResponseWriter, err error) (*notice, int, error) {
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind == core.Internal {
		return nil, 0, err
	}
	if wait, ok := errors.AsType[*gate.Wait](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.After/time.Second)))
	}
	_, status := titleOf(e.Kind)
	return &notice{Wrong: sentence(e.Message), Do: sentence(e.Hint), Again: e.Reason == "sign-in-again"}, status, nil
}

// begin answers our script, which asks for the options of a passkey.
func begin(w http.ResponseWriter, id string, options []byte, err error) error {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		n, status, err := told(w, err)
		if err != nil {
			return err
		}
		w.WriteHeader(status)
		return writeScript(w, n)
	}
	return writeScript(w, struct {
		ID      string          `json:"id"`
		Options json.RawMessage `json:"options"`
	}{id, options})
}

func writeScript(w http.ResponseWriter, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("answer the page's script: %w", err)
	}
	return nil
}

func noStep() error {
	return core.E(core.Unknown, "no-such-step", "there is no such form here", "go back to the page before")
}

// signInForm is what the sign-in page shows.
type signInForm struct {
	Problem *notice
	Mail    string
	Next    string
	Lost    bool // with a recovery code
}

func (s *SignIn) signInPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return s.drawSignIn(w, r, v, http.StatusOK, signInForm{Next: next(r, ""), Lost: r.FormValue("with") == "recovery"})
}

func (s *SignIn) drawSignIn(w http.ResponseWriter, r *http.Request, v Visitor, status int, f signInForm) error {
	return s.c.show(w, r, v, status, "signin", page{Title: "Sign in", Narrow: true, Data: f})
}

func (s *SignIn) signIn(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, old := r.Context(), cookie(r, sessionCookie)
	form := signInForm{Mail: r.PostFormValue("mail"), Next: next(r, "")}
	var in access.SignedIn
	var err error
	switch r.PathValue("step") {
	case "begin":
		c, err := s.a.BeginPasskey()
		return begin(w, c.ID, c.Options, err)
	case "passkey":
		in, err = s.a.Passkey(ctx, from(r), old, r.PostFormValue("id"), []byte(r.PostFormValue("answer")))
	case "password":
		in, err = s.a.Password(ctx, from(r), old, form.Mail, r.PostFormValue("password"), r.PostFormValue("code"))
	case "recovery":
		form.Lost = true
		in, err = s.a.Recovery(ctx, from(r), old, form.Mail, r.PostFormValue("password"), r.PostFormValue("code"))
	default:
		return noStep()
	}
	if err == nil {
		return s.goOn(w, r, in)
	}
	var status int
	if form.Problem, status, err = told(w, err); err != nil {
		return err
	}
	return s.drawSignIn(w, r, v, status, form)
}

func (s *SignIn) signOut(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	if err := s.a.SignOut(r.Context(), cookie(r, sessionCookie)); err != nil {
		return err
	}
	out(w)
	http.Redirect(w, r, signInPath, http.StatusSeeOther)
	return nil
}

// out takes a browser's session away. That it is known stays: it opens nothing.
func out(w http.ResponseWriter) {
	setCookie(w, sessionCookie, "", -time.Second)
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`) // ASVS 14.3.1
}

func (s *SignIn) stepUpPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return s.drawStepUp(w, r, v, http.StatusOK, signInForm{Next: next(r, "")})
}

func (s *SignIn) drawStepUp(w http.ResponseWriter, r *http.Request, v Visitor, status int, f signInForm) error {
	return s.c.show(w, r, v, status, "stepup", page{Title: "Your passkey, once more", Narrow: true, Data: f})
}

func (s *SignIn) stepUp(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ses, err := s.session(r)
	if err != nil {
		return err
	}
	switch r.PathValue("step") {
	case "begin":
		c, err := s.a.StepUpBegin(r.Context(), ses)
		return begin(w, c.ID, c.Options, err)
	case "passkey":
		in, err := s.a.StepUp(r.Context(), from(r), ses, cookie(r, sessionCookie), r.PostFormValue("id"), []byte(r.PostFormValue("answer")))
		if err == nil {
			enter(w, in)
			http.Redirect(w, r, next(r, home(in.Session)), http.StatusSeeOther)
			return nil
		}
		n, status, err := told(w, err)
		if err != nil {
			return err
		}
		return s.drawStepUp(w, r, v, status, signInForm{Problem: n, Next: next(r, "")})
	}
	return noStep()
}
