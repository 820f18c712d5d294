package console

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// waiting has a widening version of a product wait, as on a live installation.
func (w *world) waiting(t testing.TB, by core.Actor, source string) reviewer {
	t.Helper()
	live, err := declaration.NewService(declaration.Deps{
		Update: inUpdate[declaration.Tx](w.store), View: inView[declaration.Tx](w.store), Now: func() time.Time { return w.now }, Environment: core.Live,
	})
	must(t, err)
	d, err := declaration.Parse("wider.yaml", []byte(source))
	must(t, err)
	p, err := declaration.Compile(d)
	must(t, err)
	if err := live.Publish(t.Context(), by, p); core.ReasonOf(err) != "widening" {
		t.Fatalf("published: %v", err)
	}
	return reviewer{live}
}

// TestReviews: what widens waits on a page; who asked for it is offered nothing
// and can do nothing, another approver decides (CC 4.12).
func TestReviews(t *testing.T) {
	w := newWorld(t, nil)
	wants(t, "none", w.must200(t, "/reviews"), "Nothing waits for a review.", "hawser declaration diff")
	source := example(t, "aria-thermostat")
	w.publish(t, source)
	longer := func(version string) string {
		return strings.NewReplacer("version: 3", "version: "+version, "keep: 30d", "keep: 60d").Replace(source)
	}
	w.deps.Reviews = w.waiting(t, ada, longer("4"))
	w.serve(t)
	first, err := w.deps.Reviews.Reviews(t.Context())
	must(t, err)
	at := "/reviews/" + first[0].ID
	page := w.must200(t, "/reviews")
	wants(t, "asked", page, "waits for a second person", "keep-time from 30d to 60d", "(you)", "somebody else decides", first[0].Hash.String())
	lacks(t, "asked", page, at+"/approve")
	if code, _ := w.post(t, at+"/approve"); code != http.StatusForbidden {
		t.Errorf("who asked approves: %d", code)
	}
	w.who.Actor.ID = "pgraceaaaaaaa"
	wants(t, "for the second", w.must200(t, "/reviews"), at+"/approve", at+"/reject")
	if code, body := w.post(t, at+"/reject"); code != http.StatusSeeOther {
		t.Fatalf("reject: %d %s", code, body)
	}
	wants(t, "rejected", w.must200(t, "/reviews"), ">rejected<")
	w.who.From = w.now.Add(time.Hour)
	lacks(t, "an assessor of later", w.must200(t, "/reviews"), ">rejected<")
	w.who.From = time.Time{}
	w.waiting(t, core.Actor{Kind: core.ActorStaff, ID: "os:root"}, longer("4"))
	all, err := w.deps.Reviews.Reviews(t.Context())
	must(t, err)
	for _, r := range all {
		if r.Open() {
			at = "/reviews/" + r.ID
		}
	}
	// On the machine itself nobody knows by whom: one vouches, another approves.
	page = w.must200(t, "/reviews")
	wants(t, "asked on the machine", page, "waits for two people", at+"/vouch", at+"/reject")
	lacks(t, "asked on the machine", page, at+"/approve")
	if code, _ := w.post(t, at+"/approve"); code != http.StatusForbidden {
		t.Errorf("approved, and nobody had vouched: %d", code)
	}
	if code, body := w.post(t, at+"/vouch"); code != http.StatusSeeOther {
		t.Fatalf("vouch: %d %s", code, body)
	}
	page = w.must200(t, "/reviews")
	wants(t, "vouched", page, "Vouched for", "(you)", "somebody else decides")
	lacks(t, "vouched", page, at+"/approve", at+"/vouch")
	if code, _ := w.post(t, at+"/approve"); code != http.StatusForbidden {
		t.Errorf("who vouched approves: %d", code)
	}
	w.who.Actor.ID = "pheidyaaaaaaa"
	if code, _ := w.post(t, at+"/vouch"); code != http.StatusConflict {
		t.Errorf("vouched twice: %d", code)
	}
	if code, body := w.post(t, at+"/approve"); code != http.StatusSeeOther {
		t.Fatalf("approve: %d %s", code, body)
	}
	wants(t, "approved", w.must200(t, "/reviews"), ">approved<", "pgraceaaaaaaa", "pheidyaaaaaaa")
	if now, err := w.decl.Current(t.Context(), "aria-thermostat"); err != nil || now.Version != 4 {
		t.Errorf("in force is %v, %v", now, err)
	}
	if code, _ := w.post(t, "/reviews/none/approve"); code != http.StatusNotFound {
		t.Errorf("of nothing: %d", code)
	}
}

// TestReviewInABrowser looks at a version that was asked for on the machine,
// vouches for it and, as another person, approves it, with the keyboard.
func TestReviewInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	source := example(t, "aria-thermostat")
	w.publish(t, source)
	w.deps.Reviews = w.waiting(t, core.Actor{Kind: core.ActorStaff, ID: "os:root"}, strings.NewReplacer("version: 3", "version: 4", "keep: 30d", "keep: 60d", "readers: [owner, support]", "readers: [owner, security, support]").Replace(source))
	w.who.Actor.ID = "pgraceaaaaaaa"
	w.serve(t)
	b := newBrowser(t, w)
	axe, err := os.ReadFile("../../tools/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("there is no axe-core: `make deps` installs it")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(t, scheme)
		b.goTo(t, "/reviews")
		b.judge(t, "review-"+scheme, string(axe))
	}
	press := func(what, want string) {
		t.Helper()
		ask[bool](t, b, `(document.querySelector("form[action$=`+what+`] button").focus(), true)`)
		b.do(t, chromedp.KeyEvent("\r"))
		for end := time.Now().Add(10 * time.Second); !strings.Contains(ask[string](t, b, `document.body?.innerText ?? ""`), want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("after %s no page says %q", what, want)
			}
		}
	}
	press("vouch", "somebody else decides")
	w.who.Actor.ID = "pheidyaaaaaaa"
	b.goTo(t, "/reviews")
	b.judge(t, "review-vouched", string(axe))
	press("approve", "approved")
}
