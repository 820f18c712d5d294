package console

import (
	"bytes"
	"crypto/rand"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// wayIn is a world with people: a console on real TLS that one signs in to.
type wayIn struct {
	*world
	a      *access.Service
	server *httptest.Server
	origin string

	mu  sync.Mutex
	ago time.Duration // how far the clock was moved
}

var localSocket = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}

func (h *wayIn) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.ago)
}

func (h *wayIn) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ago += d
}

func newWayIn(t testing.TB) *wayIn {
	t.Helper()
	h := &wayIn{world: newWorld(t, nil)}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.c.ServeHTTP(w, r) }))
	_, port, _ := strings.Cut(h.server.Listener.Addr().String(), ":")
	h.origin = "https://localhost:" + port
	var err error
	h.a, err = access.New(t.Context(), access.Deps{
		Update: inUpdate[access.Tx](h.store), View: inView[access.Tx](h.store), Keys: h.ring, Gate: h.gate, Now: h.clock,
		Origin: h.origin, Name: "Northwind Home", Key: bytes.Repeat([]byte{9}, 32),
	})
	must(t, err)
	in, err := NewSignIn(SignInDeps{Access: h.a})
	must(t, err)
	d := h.deps
	d.Now = h.clock
	h.c, err = in.Console(d)
	must(t, err)
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

// founderLink is a set-up link of one of the founders.
func (h *wayIn) founderLink(t testing.TB) string {
	t.Helper()
	link, err := h.a.FounderLink(t.Context(), localSocket)
	must(t, err)
	return link
}

// plainBrowser is somebody's, without script.
type plainBrowser struct {
	t    testing.TB
	h    *wayIn
	c    *http.Client
	page string
	res  *http.Response
}

func (h *wayIn) browser(t testing.TB) *plainBrowser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	c := *h.server.Client()
	c.Jar = jar
	tr := c.Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.ServerName = "example.com" // the name in the test server's certificate
	c.Transport = tr
	return &plainBrowser{t: t, h: h, c: &c}
}

func (b *plainBrowser) do(req *http.Request) *plainBrowser {
	b.t.Helper()
	res, err := b.c.Do(req)
	must(b.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(b.t, err)
	b.res, b.page = res, string(body)
	return b
}

func (b *plainBrowser) get(path string) *plainBrowser {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", b.h.origin+strings.TrimPrefix(path, b.h.origin), nil)
	must(b.t, err)
	return b.do(req)
}

var tokenInPage = regexp.MustCompile(`name="token" value="([^"]*)"`)

// post sends a form of the page that is shown.
func (b *plainBrowser) post(path string, fields ...string) *plainBrowser {
	b.t.Helper()
	v := url.Values{}
	if m := tokenInPage.FindStringSubmatch(b.page); m != nil {
		v.Set("token", html.UnescapeString(m[1]))
	}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", b.h.origin+strings.TrimPrefix(path, b.h.origin), strings.NewReader(v.Encode()))
	must(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(req)
}

func (b *plainBrowser) want(status int, text ...string) {
	b.t.Helper()
	if b.res.StatusCode != status {
		b.t.Errorf("%s: status %d, want %d\n%s", b.res.Request.URL.Path, b.res.StatusCode, status, b.text())
	}
	for _, s := range text {
		if !strings.Contains(b.page, s) {
			b.t.Errorf("%s does not say %q:\n%s", b.res.Request.URL.Path, s, b.text())
		}
	}
}

var tags = regexp.MustCompile(`(?s)^.*<main[^>]*>|<[^>]*>`)

// text is what the page says.
func (b *plainBrowser) text() string {
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(b.page, " "))), " ")
}

func (b *plainBrowser) cookie(name string) string {
	u, _ := url.Parse(b.h.origin)
	for _, c := range b.c.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

var secretInPage = regexp.MustCompile(`<code>([A-Z2-7 ]{39})</code>`)

// secret is that of the one-time codes that the page offers.
func (b *plainBrowser) secret() string {
	b.t.Helper()
	m := secretInPage.FindStringSubmatch(b.page)
	if m == nil {
		b.t.Fatalf("the page shows no secret:\n%s", b.page)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// code is the one-time code of now.
func (h *wayIn) code(t testing.TB, secret string) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, h.clock())
	must(t, err)
	return code
}

const passphrase = "plinth warble oxide tundra"

// joinByPassword is a newcomer without script.
func (h *wayIn) joinByPassword(t testing.TB, link, name, mail string) (b *plainBrowser, secret string) {
	t.Helper()
	b = h.browser(t)
	b.get(link).want(200, "Welcome", "What you will be able to do")
	b.post(link+"/password", "name", name, "mail", mail, "password", passphrase).want(200, "authenticator app", "<svg class=\"qr\"")
	secret = b.secret()
	b.post(link+"/code", "code", h.code(t, secret)).want(200, "Recovery codes")
	return b, secret
}

// invite makes a link for somebody with these roles.
func (h *wayIn) invite(t testing.TB, roles ...access.Role) string {
	t.Helper()
	ids := seedFounders(t, h)
	link, err := h.a.Invite(t.Context(), ids[0].Actor(), roles, false)
	must(t, err)
	return link
}

// seedFounders puts two founders into the store, without means: these tests have
// no passkey.
func seedFounders(t testing.TB, h *wayIn) []access.PersonID {
	t.Helper()
	ids := []access.PersonID{"paaaaaaaaaaaa", "pbbbbbbbbbbbb"}
	must(t, h.store.Update(t.Context(), func(tx *store.Tx) error {
		for _, id := range ids {
			var s core.Subject
			_, _ = rand.Read(s[:])
			p := access.PersonRow{
				ID: id, Subject: s, State: access.Active, Roles: []access.Role{access.Administrator}, Founder: true,
				Invited: h.now, InvitedBy: localSocket, Joined: h.now,
			}
			if err := tx.InsertPerson(t.Context(), p); err != nil {
				return err
			}
		}
		return nil
	}))
	return ids
}

// TestWayInWithoutScript: a newcomer joins with a password and one-time codes,
// goes out and in again, and looks after the account, all without script.
func TestWayInWithoutScript(t *testing.T) {
	h := newWayIn(t)
	b := h.browser(t)
	b.get("/").want(200, "Sign in with a passkey") // led to the way in
	b.get("/account").want(200, "Sign in with a passkey")
	link := h.invite(t, access.Operator)

	b.get(link).want(200, "operator: publishes declarations")
	for _, c := range []struct{ name, mail, password, says string }{
		{"", "cleo@northwind.example", passphrase, "name is missing"},
		{"Cleo", "cleo", passphrase, "not a mail address"},
		{"Cleo", "cleo@northwind.example", "sh0rt-pw", "12 characters"},
		{"Cleo", "cleo@northwind.example", "Password2024!", "too easy"},
		{"<script>alert(1)</script>", "cleo@northwind.example", "sh0rt-pw", "&lt;script&gt;alert(1)"},
	} {
		b.post(link+"/password", "name", c.name, "mail", c.mail, "password", c.password).want(400, c.says, "Welcome")
		if strings.Contains(b.page, c.password) || strings.Contains(b.page, "<script>alert") {
			t.Errorf("the page says too much:\n%s", b.text())
		}
	}
	b, secret := h.joinByPassword(t, link, "Cleo", "cleo@northwind.example")
	if got := strings.Count(b.page, "<li><code>"); got != 10 {
		t.Errorf("%d recovery codes, want 10", got)
	}
	recovery := html.UnescapeString(regexp.MustCompile(`<li><code>([^<]+)`).FindStringSubmatch(b.page)[1])
	b.get("/account").want(200, "Cleo", "cleo@northwind.example", "operator", "this one", "10 recovery codes are left")
	h.browser(t).get(link).want(409, "was used already")

	// Out: the session is gone on the server, too.
	old := b.cookie(sessionCookie)
	b.post("/sign-out").want(200, "Sign in with a passkey")
	if b.cookie(sessionCookie) != "" {
		t.Error("the cookie is still there")
	}
	if _, err := h.a.Session(t.Context(), old); core.KindOf(err) != core.Denied {
		t.Errorf("the session is still there: %v", err)
	}

	// In again: one text for everything that is wrong.
	h.advance(time.Minute)
	wrong := func(b *plainBrowser, mail, password, code string) string {
		t.Helper()
		b.get("/sign-in").post("/sign-in/password", "mail", mail, "password", password, "code", code)
		b.want(403, "do not belong together")
		return strings.ReplaceAll(b.page, mail, "")
	}
	s := h.browser(t)
	first := wrong(s, "cleo@northwind.example", "wrong password here", h.code(t, secret))
	for _, c := range [][3]string{{"nobody@northwind.example", passphrase, "123456"}, {"cleo@northwind.example", passphrase, "000000"}} {
		if got := wrong(s, c[0], c[1], c[2]); got != first {
			t.Errorf("another page for %v", c)
		}
	}
	h.advance(time.Minute)
	b.post("/sign-in/password", "mail", " Cleo@Northwind.example", "password", passphrase, "code", h.code(t, secret), "next", "/products")
	b.want(200)
	if got := b.res.Request.URL.Path; got != "/products" {
		t.Errorf("led to %s, want /products", got)
	}
	for _, bad := range []string{"//evil.example/", "https://evil.example/", "/\\evil.example", ""} {
		b.get("/sign-in?next=" + url.QueryEscape(bad))
		if strings.Contains(b.page, "evil") {
			t.Errorf("the form would lead to %q", bad)
		}
	}
	b.post("/sign-out")
	b.post("/sign-in/recovery", "mail", "cleo@northwind.example", "password", passphrase, "code", strings.ToLower(recovery)).want(200)
	b.get("/account").want(200, "9 recovery codes are left")
	b.post("/sign-out")
	h.advance(time.Minute)
	b.post("/sign-in/recovery", "mail", "cleo@northwind.example", "password", passphrase, "code", recovery).want(403, "do not belong together")
}

// TestCookies: what a browser is given, and what it is given for (ASVS 3.3).
func TestCookies(t *testing.T) {
	h := newWayIn(t)
	b := h.browser(t)
	link := h.invite(t, access.Operator)
	b.get(link)
	b.post(link+"/password", "name", "Cleo", "mail", "cleo@northwind.example", "password", passphrase)
	b.post(link+"/code", "code", h.code(t, b.secret())).want(200)
	got := map[string]*http.Cookie{}
	for _, c := range b.res.Cookies() {
		got[c.Name] = c
	}
	for _, name := range []string{sessionCookie, knownCookie} {
		c := got[name]
		if c == nil || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(name, "__Host-") {
			t.Errorf("cookie %s: %+v", name, c)
		}
	}
	if c := got[sessionCookie]; c.MaxAge != 0 || !c.Expires.IsZero() || len(c.Value) < 43 {
		t.Errorf("the session outlives the browser: %+v", c)
	}
	if h := b.res.Header.Get("Cache-Control"); h != "no-store" {
		t.Errorf("Cache-Control %q", h)
	}
	b.post("/sign-out")
	if h := b.res.Request.Response.Header.Get("Clear-Site-Data"); !strings.Contains(h, "cache") {
		t.Errorf("Clear-Site-Data %q", h)
	}
}

// TestForgedForms: what another site sends, or has no token, changes nothing.
func TestForgedForms(t *testing.T) {
	h := newWayIn(t)
	link := h.invite(t, access.Operator)
	b, _ := h.joinByPassword(t, link, "Cleo", "cleo@northwind.example")
	b.get("/account")
	send := func(path string, header map[string]string, fields url.Values) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", h.origin+path, strings.NewReader(fields.Encode()))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range header {
			req.Header.Set(k, v)
		}
		b.do(req)
		return b.res.StatusCode
	}
	token := url.Values{"token": {html.UnescapeString(tokenInPage.FindStringSubmatch(b.page)[1])}}
	for _, path := range []string{"/sign-in/begin", "/sign-in/password", "/sign-in/passkey", "/sign-out", "/account/everywhere", "/account/begin", "/step-up/begin", link[len(h.origin):] + "/begin"} {
		for what, header := range map[string]map[string]string{
			"another site":      {"Sec-Fetch-Site": "cross-site"},
			"a sister site":     {"Sec-Fetch-Site": "same-site"},
			"another origin":    {"Origin": "https://evil.example"},
			"another port":      {"Origin": "https://localhost:1"},
			"a sandboxed frame": {"Origin": "null"},
		} {
			if got := send(path, header, token); got != http.StatusForbidden || !strings.Contains(b.page, "nother site tried") {
				t.Errorf("%s to %s: %d", what, path, got)
			}
		}
		if got := send(path, map[string]string{"Sec-Fetch-Site": "same-origin"}, nil); got != http.StatusForbidden {
			t.Errorf("without a token to %s: %d", path, got)
		}
	}
	b.get("/account").want(200, "Cleo")
	if got := send("/account/everywhere", map[string]string{"Sec-Fetch-Site": "same-origin"}, token); got != http.StatusOK {
		t.Errorf("with its token: %d", got)
	}
	b.get("/account").want(200, "Sign in with a passkey")
}

// TestDisabledIsOut: the next request of a disabled person is nobody's.
func TestDisabledIsOut(t *testing.T) {
	h := newWayIn(t)
	link := h.invite(t, access.Operator)
	b, _ := h.joinByPassword(t, link, "Cleo", "cleo@northwind.example")
	b.get("/products").want(200, "Cleo")
	people, err := h.a.People(t.Context())
	must(t, err)
	for _, p := range people {
		if p.Name == "Cleo" {
			must(t, h.a.Disable(t.Context(), localSocket, p.ID, "gone"))
		}
	}
	b.get("/products").want(200, "Sign in with a passkey")
}

// TestAttemptsAreRefusedPlainly: too many wrong tries get a status and a time.
func TestAttemptsAreRefusedPlainly(t *testing.T) {
	h := newWayIn(t)
	b := h.browser(t).get("/sign-in")
	for range 40 {
		b.post("/sign-in/password", "mail", "nobody@northwind.example", "password", "some wrong password", "code", "123456")
		if b.res.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	b.want(429, "Too many wrong tries", "Sign in with a passkey")
	if b.res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// TestNoSuchSteps: what is no form of ours is no form.
func TestNoSuchSteps(t *testing.T) {
	h := newWayIn(t)
	link := h.invite(t, access.Operator)
	b, _ := h.joinByPassword(t, link, "Cleo", "cleo@northwind.example")
	b.get("/account")
	for _, path := range []string{"/sign-in/x", "/step-up/x", "/account/x", link + "/x"} {
		b.post(path).want(404)
	}
	b.get("/set-up/"+strings.Repeat("A", 43)).want(404, "does not work")
	b.get("/account")
	b.post("/account/seen", "up-to", "many").want(400)
	b.post("/account/remove", "passkey", "0123").want(404)
	b.post("/account/session", "session", "0123").want(404)
	b.post("/account/passkey", "answer", "{}", "label", "x").want(409, "Begin again")
	b.post("/account/no-password").want(409, "last way in")
	h.advance(access.StepUpFor + time.Minute)
	b.post("/account/codes").want(409, "fresh sign-in", "Sign in again")
}

func TestBrowserName(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36":                                   "Chrome on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:150.0) Gecko/20100101 Firefox/150.0":                                                    "Firefox on Mac",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 20_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/20.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"curl/8.9": "curl/8.9",
		"":         "a program without a name",
	} {
		if got := browserName(agent); got != want {
			t.Errorf("%s: %q, want %q", agent, got, want)
		}
	}
}

// FuzzPasskeyForms: whatever a browser sends as the answer of a passkey, or as
// its cookies, is refused without harm.
func FuzzPasskeyForms(f *testing.F) {
	h := newWayIn(f)
	f.Add("id", `{"id":"x","rawId":"eA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":"","userHandle":"cA"}}`, "cookie", "known.00")
	f.Add("", "{", strings.Repeat("A", 43), strings.Repeat("A", 60)+"."+strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, id, answer, session, known string) {
		form := url.Values{"id": {id}, "answer": {answer}, "token": {id}, "next": {session}}
		for _, path := range []string{"/sign-in/passkey", "/set-up/" + url.PathEscape(session+"x") + "/passkey", "/account/passkey", "/step-up/passkey"} {
			req := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(form.Encode()))
			req.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 1).String()
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Cookie", sessionCookie+"="+session+"; "+knownCookie+"="+known)
			rec := httptest.NewRecorder()
			h.c.ServeHTTP(rec, req)
			if rec.Code >= 500 || rec.Code == 200 || rec.Result().Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: %d\n%s", path, rec.Code, rec.Body)
			}
		}
	})
}
