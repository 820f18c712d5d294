package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

// peopleChecks hold the way in for people: the pages cannot be turned against
// them, nobody comes in with one factor, guessing does not pay.
func (s *server) peopleChecks() []check.Check {
	return []check.Check{
		{
			ID: "console.policy", Version: 1, Rows: []string{"2.2"}, Kind: check.Probe, MaxAge: check.QueryAge, // CC 2.2
			Says: "Every page that strangers reach forbids scripts and styles but our own files, and has none inside.",
			Do:   "Look at what stands between browsers and the console: a proxy that takes headers away, or another program on its port.",
			Look: s.lookAtPages(strictPage),
			Violations: []check.Violation{
				{ID: "policy-stripped", Says: "Puts a proxy beside the console that takes its content security policy away.", Do: proxyBeside(func(*http.Request) {}, func(r *http.Response) error {
					r.Header.Del("Content-Security-Policy")
					return nil
				})},
				{ID: "inline-script", Says: "Puts a proxy beside the console that adds an inline script to each page.", Do: proxyBeside(func(r *http.Request) { r.Header.Del("Accept-Encoding") }, addScript)},
			},
		},
		{
			ID: "console.cross-site", Version: 1, Rows: []string{"2.3"}, Kind: check.Probe, MaxAge: check.QueryAge, // CC 2.3
			Says: "What another site makes a browser send is refused, by each of the ways in which a browser says so.",
			Do:   "Look at what stands between browsers and the console: a proxy must hand on Origin, Host and Sec-Fetch-Site as they came.",
			Look: s.lookAtPages(refusesOthers),
			Violations: []check.Violation{{
				ID: "origin-stripped", Says: "Puts a proxy beside the console that takes away what a browser says of the page that sends.", Do: proxyBeside(func(r *http.Request) {
					r.Header.Del("Origin")
					r.Header.Del("Sec-Fetch-Site")
				}, func(*http.Response) error { return nil }),
			}},
		},
		{
			ID: "signin.second-factor", Version: 1, Rows: []string{"2.11"}, Kind: check.Query, MaxAge: check.Critical, // CC 2.11
			Says: "Everybody who may sign in has a passkey, or a password with one-time codes; administrators and approvers have a passkey.",
			Do:   "`hawser people disable PERSON`, and invite anew; if nobody of yours changed it, find out who writes to control.db.",
			Look: s.lookAtFactorsOfPeople,
			Violations: []check.Violation{
				{ID: "passkey-removed", Says: "Takes an administrator's passkeys out of the database behind the program's back.", Do: swapRows(
					`UPDATE passkey SET disabled_us = 1 WHERE disabled_us IS NULL`, `UPDATE passkey SET disabled_us = NULL WHERE disabled_us = 1`)},
				{ID: "password-only", Says: "Gives a person a password without one-time codes behind the program's back.", Do: swapRows(
					`UPDATE person SET roles = 'support', approver = 0, password = x'24' WHERE state = 'active'; UPDATE passkey SET disabled_us = 1`,
					`UPDATE person SET roles = 'administrator', approver = 1, password = NULL WHERE state = 'active'; UPDATE passkey SET disabled_us = NULL`)},
			},
		},
		{
			ID: "secrets.hashed", Version: 1, Rows: []string{"1.12"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.12
			Says: "What people and devices prove themselves with lies in the database only as a hash: argon2id for what people choose, SHA-256 for what a machine made.",
			Do:   "Find out who writes to control.db, and have whoever is concerned make a new secret.",
			Look: s.lookAtSecrets,
			Violations: []check.Violation{
				{ID: "password-in-clear", Says: "Writes a password in clear into the database behind the program's back.", Do: swapRows(
					`UPDATE person SET password = CAST('correct horse battery' AS BLOB) WHERE state = 'active'`, `UPDATE person SET password = NULL WHERE state = 'active'`)},
				{ID: "fast-hash", Says: "Writes a fast hash of a password into the database behind the program's back.", Do: swapRows(
					`UPDATE person SET password = randomblob(32) WHERE state = 'active'`, `UPDATE person SET password = NULL WHERE state = 'active'`)},
			},
		},
		{
			ID: "gate.holds", Version: 1, Rows: []string{"1.13", "1.14"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.13, 1.14
			Says: "Guessing at one account is refused after a few tries, also with the right answer; one network that tries many accounts is refused, too; and the counts lie on disk.",
			Do:   "Restart the server; if it goes on, see the log of the gate and report it (SECURITY.md).",
			Look: s.lookAtGate,
			Violations: []check.Violation{
				{ID: "no-limits", Says: "Gives the twin a gate that slows nobody.", Do: func(_ context.Context, t check.Twin) (func(context.Context) error, error) {
					undo, err := t.Hook("gate:broken")
					if err != nil {
						return nil, err
					}
					return func(context.Context) error { undo(); return nil }, nil
				}},
				{ID: "counts-lost", Says: "Has the database throw every count away as it comes.", Do: swapRows(
					`CREATE TRIGGER lost AFTER INSERT ON gate_counter BEGIN DELETE FROM gate_counter; END`, `DROP TRIGGER lost`)},
			},
		},
	}
}

// swapRows changes the twin's control database behind its back, and takes it back.
func swapRows(do, undo string) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		return func(ctx context.Context) error { return t.Exec(ctx, "control.db", undo) }, t.Exec(ctx, "control.db", do)
	}
}

const maxPageBytes = 256 << 10

// page is one answer to a stranger.
type page struct {
	status int
	header http.Header
	body   []byte
}

// ask sends one request to a door of ours, as a stranger.
func ask(ctx context.Context, method, at, path string, header http.Header, form string) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+at+path, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	c := &http.Client{
		Transport:     &http.Transport{DialContext: ownDial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}, // what is asked is what it says, not who speaks
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPageBytes))
	return &page{resp.StatusCode, resp.Header, b}, err
}

// lookAtPages asks every port of this process that answers a browser with a
// page. The devices' and the enrolment doors answer none, and are left out.
func (s *server) lookAtPages(right func(ctx context.Context, at string) (string, error)) func(context.Context, *check.Look) error {
	return func(ctx context.Context, l *check.Look) error {
		console := s.people.address()
		all, err := s.sockets.listeners()
		if err != nil {
			return err
		}
		for _, x := range all {
			if !x.ours || x.is(s.addr.Devices) || x.is(s.addr.HTTPS) {
				continue
			}
			p, err := ask(ctx, "GET", x.reach(), "/sign-in", nil, "")
			if err != nil || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
				if console != "" && x.is(console) {
					l.Expect("ports of this process, in the kernel's table", 1)
					l.Fail(x.addr.String(), "the console does not answer with a page")
				}
				continue
			}
			l.Expect("ports of this process, in the kernel's table", 1)
			l.Touch("address", "https://"+x.addr.String()+"/sign-in")
			why, err := right(ctx, x.reach())
			if err != nil {
				return err
			}
			l.Holds(why == "", x.addr.String(), "%s", why)
		}
		return nil
	}
}

var inline = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]|<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:`)

// strictPage says what a page lets into itself, if anything.
func strictPage(ctx context.Context, at string) (string, error) {
	for _, path := range []string{"/sign-in", "/nowhere", "/set-up/guess"} {
		p, err := ask(ctx, "GET", at, path, nil, "")
		if err != nil {
			return "", err
		}
		csp := p.header.Get("Content-Security-Policy")
		var missing []string
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				missing = append(missing, want)
			}
		}
		switch {
		case len(missing) > 0:
			return path + ": the content security policy lacks " + strings.Join(missing, ", "), nil
		case strings.Contains(csp, "unsafe-") || strings.Contains(csp, "*"):
			return path + ": the content security policy lets in what it should not: " + csp, nil
		case p.header.Get("X-Content-Type-Options") != "nosniff" || p.header.Get("Strict-Transport-Security") == "":
			return path + ": X-Content-Type-Options or Strict-Transport-Security is missing", nil
		case inline.Match(p.body):
			return path + ": there is a script or style inside the page", nil
		}
	}
	return "", nil
}

// refusesOthers says which request of another site is taken, if any.
func refusesOthers(ctx context.Context, at string) (string, error) {
	for name, h := range map[string]http.Header{
		"an Origin of another site":    {"Origin": {"https://attacker.example"}},
		"Sec-Fetch-Site: cross-site":   {"Sec-Fetch-Site": {"cross-site"}},
		"Sec-Fetch-Site: same-site":    {"Sec-Fetch-Site": {"same-site"}},
		"an opaque Origin (a sandbox)": {"Origin": {"null"}},
		"an Origin on another port":    {"Origin": {"https://localhost:1"}},
		"an Origin without encryption": {"Origin": {"http://" + at}},
		"both, and only one admits it": {"Origin": {"https://attacker.example"}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		p, err := ask(ctx, "POST", at, "/sign-in/password", h, "mail=nobody%40attacker.example&password=guess")
		if err != nil {
			return "", err
		}
		if p.status != http.StatusForbidden {
			return fmt.Sprintf("a sign-in with %s is answered %d, not 403", name, p.status), nil
		}
	}
	return "", nil
}

// lookAtFactorsOfPeople reads what is stored, and compares who is there with
// who the ledger says has joined.
func (s *server) lookAtFactorsOfPeople(ctx context.Context, l *check.Look) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		l.Touch("table", "control.db: person, passkey")
		for i := range all {
			p := &all[i]
			if p.State != access.Active {
				continue
			}
			l.Expect("register of people", 1)
			keys, err := tx.Passkeys(ctx, p.ID)
			if err != nil {
				return err
			}
			passkey := slices.ContainsFunc(keys, func(k access.PasskeyRow) bool { return k.Disabled.IsZero() })
			strong := p.Approver || slices.Contains(p.Roles, access.Administrator)
			switch {
			case passkey:
				l.Pass(1)
			case strong:
				l.Fail(string(p.ID), "is an administrator or approver without a passkey")
			case len(p.Password) > 0 && !p.TOTP.IsZero():
				l.Pass(1)
			case len(p.Password) > 0:
				l.Fail(string(p.ID), "could sign in with a password alone")
			default:
				l.Exclude(string(p.ID), "has no means to sign in")
			}
		}
		return nil
	})
}

func (s *server) lookAtSecrets(ctx context.Context, l *check.Look) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		forms, err := tx.SecretForms(ctx)
		if err != nil {
			return err
		}
		for _, f := range forms {
			l.Touch("table", "control.db: "+f.Where)
			l.Expect("rows of the columns that hold secrets", f.Total)
			l.Pass(f.Good)
			if bad := f.Total - f.Good; bad > 0 {
				l.Fail(f.Where, "%d of %d values are no hash of the kind that belongs there", bad, f.Total)
				l.Expect("", 1-bad) // one finding stands for all of a column
			}
		}
		return nil
	})
}

// canaryAddress is in a network for documentation (RFC 3849), another one each
// time: no client ever comes from there.
func canaryAddress() netip.Addr {
	a := netip.MustParseAddr("2001:db8::1").As16()
	_, _ = rand.Read(a[4:8]) // never fails
	return netip.AddrFrom16(a)
}

// lookAtGate guesses at accounts of nobody, from an address of nobody.
func (s *server) lookAtGate(ctx context.Context, l *check.Look) error {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	account, from := "canary "+hex.EncodeToString(b[:]), canaryAddress()
	g := s.gate
	limits := gate.Standard()
	tries := func(most int, account func(int) string) (int, error) {
		for n := range most {
			t, err := g.Open(ctx, gate.Attempt{Means: gate.Password, Account: account(n), Source: from})
			if _, wait := errors.AsType[*gate.Wait](err); wait {
				return n, nil
			}
			if err != nil {
				return n, err
			}
			if err := t.Wrong(ctx); err != nil {
				return n, err
			}
		}
		return most, nil
	}
	l.Touch("gate", "password, an account of nobody, from "+from.String())
	l.Expect("the gate's standing limits", 3)
	n, err := tries(limits.FreeTries+6, func(int) string { return account })
	if err != nil {
		return err
	}
	l.Holds(n <= limits.FreeTries+1, "one account", "%d tries in a row were let through", n)
	n, err = tries(limits.Source.Burst+6, func(n int) string { return fmt.Sprint(account, " ", n) })
	if err != nil {
		return err
	}
	l.Holds(n <= limits.Source.Burst, "one network, many accounts", "%d tries in a row were let through", n)
	var kept int
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.GateCounters(ctx); return err }); err != nil {
		return err
	}
	l.Touch("table", "control.db: gate_counter")
	l.Holds(kept > 0, "counts on disk", "none of the tries just made is counted on disk: a restart would forget them")
	return nil
}

// proxyBeside puts a proxy in front of the twin's console, on another port of
// the twin's process.
func proxyBeside(in func(*http.Request), out func(*http.Response) error) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		to := t.Address("console")
		if to == "" {
			return nil, errors.New("the twin's console is not open")
		}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "https", Host: to})
				in(r.Out)
			},
			ModifyResponse: out,
			Transport:      &http.Transport{TLSClientConfig: &tls.Config{RootCAs: t.Roots(), ServerName: "localhost"}},
		}
		cert := t.Devices()[0].Certificate // any will do: nobody verifies it
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		if err != nil {
			return nil, fmt.Errorf("listen beside the twin: %w", err)
		}
		t.Touch("address", l.Addr().String())
		h := &http.Server{Handler: proxy, ReadHeaderTimeout: ownWait}
		done := make(chan struct{})
		go func() { defer close(done); _ = h.Serve(l) }() // ends with Close
		return func(context.Context) error { err := h.Close(); <-done; return err }, nil
	}
}

func addScript(r *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxPageBytes))
	if err != nil {
		return err
	}
	b = bytes.Replace(b, []byte("</body>"), []byte("<script>alert(1)</script></body>"), 1)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	r.Header.Del("Content-Length")
	return nil
}
