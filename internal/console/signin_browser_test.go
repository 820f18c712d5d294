package console

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/house"
)

// authenticators is a browser with virtual authenticators, at the way in.
type authenticators struct {
	*browser
	t *testing.T
	h *wayIn
}

// newAuthenticators opens a browser on the way in; the test is skipped by name
// where there is none.
func newAuthenticators(t *testing.T, h *wayIn) *authenticators {
	t.Helper()
	a := &authenticators{&browser{house.Browser(t, 2*time.Minute), h.origin}, t, h}
	call(a, webauthn.Enable, webauthn.EnableParams{})
	return a
}

// call sends one command to the tab.
func call[P, R any](a *authenticators, c cdp.Command[P, R], p P) (out R) {
	a.t.Helper()
	a.do(a.t, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		var err error
		out, err = cdp.Call(ctx, tab, c, p)
		return err
	}))
	return out
}

func (a *authenticators) plug(o webauthn.VirtualAuthenticatorOptions) webauthn.AuthenticatorID {
	a.t.Helper()
	o.AutomaticPresenceSimulation = true
	return call(a, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &o}).AuthenticatorID
}

func (a *authenticators) unplug(id webauthn.AuthenticatorID) {
	a.t.Helper()
	call(a, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: id})
}

// forget is a browser without cookies.
func (a *authenticators) forget() {
	a.t.Helper()
	call(a, network.ClearBrowserCookies, cdp.Empty{})
}

// fill writes into a field of the page.
func (a *authenticators) fill(selector, value string) {
	a.t.Helper()
	ask[bool](a.t, a.browser, fmt.Sprintf(`(document.querySelector(%q).value = %q, true)`, selector, value))
}

func (a *authenticators) click(selector string) {
	a.t.Helper()
	a.do(a.t, chromedp.Click(chromedp.CSS(selector)))
}

// until waits for a page that says something, and gives what it says.
func (a *authenticators) until(words ...string) string {
	a.t.Helper()
	var text string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(15 * time.Millisecond) {
		v, err := chromedp.Run(a.ctx, chromedp.Evaluate[string](`location.pathname + " " + (document.readyState === "complete" ? document.body.innerText : "")`))
		if err != nil {
			continue // between two pages
		}
		text = v
		for _, w := range words {
			if strings.Contains(text, w) {
				return text
			}
		}
	}
	a.t.Fatalf("no page says %q; the last one: %.600s", words, text)
	return ""
}

// clean holds that the page's policy stopped nothing.
func (a *authenticators) clean(name string) {
	a.t.Helper()
	a.shoot(a.t, name)
	if stopped := ask[[]string](a.t, a.browser, `stopped`); len(stopped) > 0 {
		a.t.Errorf("%s: the page's policy stopped %q", name, stopped)
	}
}

// join makes a passkey by a set-up link, and gives what the page then says.
func (a *authenticators) join(link, name, mail string) string {
	a.t.Helper()
	a.forget()
	a.goTo(a.t, strings.TrimPrefix(link, a.h.origin))
	a.fill("#name", name)
	a.fill("#mail", mail)
	a.click("form[data-passkey] button")
	return a.until("Sign out", "could not be made", "was not used", "cannot keep", "has a passkey")
}

// signIn uses a passkey, and gives what the page then says.
func (a *authenticators) signIn() string {
	a.t.Helper()
	a.forget()
	a.goTo(a.t, "/sign-in")
	a.click("form[data-passkey] button")
	return a.until("Sign out", "was not accepted", "was not used", "switched off")
}

func in(page string) bool { return strings.Contains(page, "Sign out") }

// TestPasskeysInABrowser goes the whole way in with a real browser and virtual
// authenticators of every kind: what must work, and what must not.
func TestPasskeysInABrowser(t *testing.T) {
	h := newWayIn(t)
	a := newAuthenticators(t, h)
	const ctap2, u2f = webauthn.AuthenticatorProtocolCtap2, webauthn.AuthenticatorProtocolU2f
	const usb, internal, hybrid = webauthn.AuthenticatorTransportUsb, webauthn.AuthenticatorTransportInternal, webauthn.AuthenticatorTransportHybrid
	good := webauthn.VirtualAuthenticatorOptions{Protocol: ctap2, Transport: internal, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true}

	// The two founders; the newcomer's first screen.
	mine := a.plug(good)
	link := h.founderLink(t)
	a.goTo(t, strings.TrimPrefix(link, h.origin))
	a.clean("set-up")
	if page := a.join(link, "Ada <b>Byron</b>", "ada@northwind.example"); !in(page) || !strings.Contains(page, "Ada <b>Byron</b>") {
		t.Fatalf("the first founder: %s", page)
	}
	a.clean("set-up-done")
	if got := ask[string](t, a.browser, `document.cookie`); got != "" {
		t.Errorf("script sees the cookie %q", got)
	}
	a.goTo(t, strings.TrimPrefix(link, h.origin))
	a.until("was used already")
	a.unplug(mine)
	hers := a.plug(good)
	if page := a.join(h.founderLink(t), "Bea", "bea@northwind.example"); !in(page) {
		t.Fatalf("the second founder: %s", page)
	}
	people, err := h.a.People(t.Context())
	must(t, err)
	invite := func() string {
		t.Helper()
		link, err := h.a.Invite(t.Context(), people[0].ID.Actor(), []access.Role{access.Operator}, false)
		must(t, err)
		return link
	}

	// Sign in, be asked once more, and look after the account.
	if page := a.signIn(); !in(page) || !strings.Contains(page, "Bea") {
		t.Fatalf("sign-in: %s", page)
	}
	h.advance(6 * time.Minute)
	a.goTo(t, "/step-up?next=/account")
	a.clean("step-up")
	a.click("form[data-passkey] button")
	a.until("/account Skip")
	a.clean("account")
	a.click(`form[action="/account/passkey"] button`)
	a.until("has a passkey for this place already")
	spare := a.plug(webauthn.VirtualAuthenticatorOptions{Protocol: ctap2, Transport: usb, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true})
	a.fill("#label", "blue key")
	a.click(`form[action="/account/passkey"] button`)
	a.until("The passkey is added")
	a.clean("account-two")
	a.unplug(spare)
	h.advance(6 * time.Minute)
	a.click(`form[action="/account/remove"] button`)
	a.until("needs a fresh sign-in")
	a.clean("account-again")

	// What a compromised or bad authenticator sends. Each is mended afterwards.
	yes := true
	for what, bits := range map[string]webauthn.SetResponseOverrideBitsParams{
		"forged signature":   {AuthenticatorID: hers, IsBogusSignature: &yes},
		"bad UV bit":         {AuthenticatorID: hers, IsBadUV: &yes},
		"bad UP bit":         {AuthenticatorID: hers, IsBadUP: &yes},
		"nothing is changed": {AuthenticatorID: hers},
	} {
		call(a, webauthn.SetResponseOverrideBits, bits)
		page := a.signIn()
		if good := what == "nothing is changed"; in(page) != good || !good && !strings.Contains(page, "was not accepted") {
			t.Errorf("%s: %.300s", what, page)
		}
		call(a, webauthn.SetResponseOverrideBits, webauthn.SetResponseOverrideBitsParams{AuthenticatorID: hers})
	}
	a.crossSite(t)
	verified := func(is bool) {
		call(a, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: hers, IsUserVerified: is})
	}
	verified(false)
	if page := a.signIn(); in(page) || !strings.Contains(page, "was not used") {
		t.Errorf("without user verification: %.300s", page)
	}
	a.clean("sign-in-refused")
	verified(true)

	// A copy of the passkey: its counter goes back.
	keys := call(a, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: hers}).Credentials
	if len(keys) != 1 {
		t.Fatalf("%d passkeys on the authenticator", len(keys))
	}
	one := 1.0
	call(a, webauthn.SetCredentialProperties, webauthn.SetCredentialPropertiesParams{AuthenticatorID: hers, CredentialID: keys[0].CredentialID, SignCount: &one})
	if page := a.signIn(); in(page) || !strings.Contains(page, "switched off") {
		t.Errorf("a copied passkey: %.300s", page)
	}
	if page := a.signIn(); in(page) || !strings.Contains(page, "was not accepted") {
		t.Errorf("after it was switched off: %.300s", page)
	}
	a.unplug(hers)

	// Authenticators of every kind: those that ask who is there and keep the
	// account are good, whatever they are; no other is.
	for _, p := range []webauthn.AuthenticatorProtocol{ctap2, u2f} {
		for _, tr := range []webauthn.AuthenticatorTransport{usb, internal, hybrid} {
			for _, c := range []struct {
				what                        string
				resident, hasUV, uv, synced bool
			}{{"good", true, true, true, false}, {"good and synced", true, true, true, true}, {"UV fails", true, true, false, false}, {"no UV", true, false, false, false}, {"not resident", false, true, true, false}} {
				if p == u2f && (c.what != "no UV" || tr != usb) {
					continue // these do not exist
				}
				name := fmt.Sprintf("%s, %s, %s", p, tr, c.what)
				id := a.plug(webauthn.VirtualAuthenticatorOptions{
					Protocol: p, Transport: tr, HasResidentKey: c.resident && p == ctap2, HasUserVerification: c.hasUV && p == ctap2, IsUserVerified: c.uv,
					DefaultBackupEligibility: c.synced, DefaultBackupState: c.synced,
				})
				fits := p == ctap2 && c.resident && c.uv
				page := a.join(invite(), "Cleo", strings.ReplaceAll(strings.ReplaceAll(name, ", ", "."), " ", "")+"@northwind.example")
				if in(page) != fits {
					t.Errorf("%s: joined %v, want %v: %.300s", name, in(page), fits, page)
				}
				if fits {
					if page := a.signIn(); !in(page) {
						t.Errorf("%s: cannot sign in: %.300s", name, page)
					}
				}
				a.unplug(id)
			}
		}
	}
}

// crossSite holds that a page of another site can send nothing in the name of
// who is signed in here.
func (a *authenticators) crossSite(t *testing.T) {
	t.Helper()
	if page := a.signIn(); !in(page) {
		t.Fatalf("sign-in: %s", page)
	}
	evil := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<title>win</title><form method="post" action="%s%s"><button id="go">Win</button></form>`, a.h.origin, r.URL.Path)
	}))
	defer evil.Close()
	for _, path := range []string{"/account/everywhere", "/sign-out", "/sign-in/begin"} {
		a.do(t, chromedp.Navigate(evil.URL+path))
		a.click("#go")
		a.until("nother site tried")
	}
	a.goTo(t, "/account")
	a.until("Sign out everywhere")
}

// TestWayInPages holds the pages of the way in against the rules of every page.
func TestWayInPages(t *testing.T) {
	h := newWayIn(t)
	a := newAuthenticators(t, h)
	axe, err := os.ReadFile("../../tools/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("there is no axe-core: `make deps` installs it")
	}
	id := a.plug(webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true,
	})
	defer a.unplug(id)
	see := func(name string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			a.scheme(t, scheme)
			a.do(t, chromedp.EmulateViewport(1360, 900))
			a.judge(t, name+"-"+scheme, string(axe))
		}
		a.do(t, chromedp.EmulateViewport(420, 900))
		if wide := ask[int](t, a.browser, `document.documentElement.scrollWidth`); wide > 420 {
			t.Errorf("%s: %d wide on a small screen", name, wide)
		}
		a.shoot(t, name+"-small")
		a.do(t, chromedp.EmulateViewport(1360, 900))
	}
	a.goTo(t, "/sign-in")
	see("sign-in")
	a.goTo(t, "/sign-in?with=recovery")
	see("sign-in-recovery")
	link := h.founderLink(t)
	a.goTo(t, strings.TrimPrefix(link, h.origin))
	see("set-up-founder")
	if page := a.join(link, "Ada", "ada@northwind.example"); !in(page) {
		t.Fatal(page)
	}
	if page := a.join(h.founderLink(t), "Bea", "bea@northwind.example"); !in(page) {
		t.Fatal(page)
	}
	people, err := h.a.People(t.Context())
	must(t, err)
	_, err = h.a.Invite(t.Context(), people[0].ID.Actor(), []access.Role{access.Security}, true)
	must(t, err)
	a.goTo(t, "/step-up")
	see("step-up")
	a.goTo(t, "/account")
	see("account-founder")

	link, err = h.a.Invite(t.Context(), people[0].ID.Actor(), []access.Role{access.Operator, access.Support}, false)
	must(t, err)
	a.forget()
	a.goTo(t, strings.TrimPrefix(link, h.origin))
	see("set-up-operator")
	ask[bool](t, a.browser, `(document.querySelector("details").open = true)`)
	a.fill("#name2", "Cleo")
	a.fill("#mail2", "cleo@northwind.example")
	a.fill("#password", "password2024!")
	a.click("details button")
	a.until("too easy")
	see("set-up-refused")
	a.fill("#name2", "Cleo")
	a.fill("#password", passphrase)
	a.click("details form button")
	a.until("Or type it") // the page before speaks of the app, too
	see("one-time-codes")
	secret := strings.ReplaceAll(ask[string](t, a.browser, `document.querySelector("h3 + p code").textContent`), " ", "")
	a.fill("#code", h.code(t, secret))
	a.click("form button")
	a.until("I have them on paper")
	see("recovery-codes")
	a.goTo(t, "/account")
	see("account-password")
}
