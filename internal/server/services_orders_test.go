package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// inner is a running server whose parts a test may ask, with a clock that it
// moves.
func inner(t *testing.T) (*live, *server, *atomic.Int64) { t.Helper(); return innerWith(t, "") }

// innerWith is inner with more configuration.
func innerWith(t *testing.T, more string) (*live, *server, *atomic.Int64) {
	t.Helper()
	var shift atomic.Int64
	home := newHome(t, core.Test, more)
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	l := &live{home: home, keysHome: home, client: api.NewClient(c.Socket), log: &lockedBuffer{}, now: now}
	ready := make(chan Addresses, 1)
	s := newServer(c, Options{Version: "test", Log: l.log, Now: now, Ready: func(a Addresses) { ready <- a }, still: true})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	select {
	case l.addr = <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("server did not start: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server ended with: %v", err)
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", l.log)
		}
	})
	l.roots = x509.NewCertPool()
	l.roots.AddCert(s.ca.Root())
	return l, s, &shift
}

// answer sends a receipt, signed by a key, and gives the status.
func (p *servicePeer) answer(t testing.TB, key *ecdsa.PrivateKey, body string) (int, string) {
	t.Helper()
	digest := sha256.Sum256([]byte(body))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+p.addr+"/service/v1/receipts", strings.NewReader(body))
	req.Header.Set("Hawser-Signature", base64.StdEncoding.EncodeToString(sig))
	resp, err := p.hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func (p *servicePeer) key() *ecdsa.PrivateKey { return p.cert.PrivateKey.(*ecdsa.PrivateKey) }

// keeper is a service that keeps what it reads, and obeys.
type keeper struct {
	p      *servicePeer
	cursor string
	has    map[string]int // readings by subject
	late   []string       // subjects of whom something came after their order
	gone   map[string]bool
	told   map[string]int // orders by kind
	lies   bool           // signs, and keeps all the same
	mute   bool           // answers nothing
}

func keep(p *servicePeer) *keeper {
	return &keeper{p: p, has: map[string]int{}, gone: map[string]bool{}, told: map[string]int{}}
}

// turn reads and obeys once.
func (k *keeper) turn(t *testing.T) {
	t.Helper()
	q := url.Values{"wait": {"0"}}
	if k.cursor != "" {
		q.Set("cursor", k.cursor)
	}
	lines, next, raw, problem := k.p.ask(t, q)
	if problem != "" {
		t.Fatalf("refused: %s", raw)
	}
	for _, x := range lines {
		switch {
		case x.Type == "reading":
			if k.gone[x.Subject] {
				k.late = append(k.late, x.Subject)
			}
			k.has[x.Subject]++
		case x.Type == "order":
			k.told[x.Do]++
			body := fmt.Sprintf(`{"order":%q,"done":true}`, x.Order)
			switch x.Do {
			case "erase":
				if k.gone[x.Subject] = true; !k.lies {
					delete(k.has, x.Subject)
				}
			case "tell":
				body = fmt.Sprintf(`{"order":%q,"held":%t}`, x.Order, k.has[x.Subject] > 0)
			}
			if k.mute {
				continue
			}
			if status, why := k.p.answer(t, k.p.key(), body); status != http.StatusNoContent {
				t.Errorf("%s was answered %d %s", x.Do, status, why)
			}
		}
	}
	k.cursor = next
}

// TestServiceOrders (CC 4.8): who has readings of a subject is ordered to erase
// them, answers with a receipt that its key signed, and is named when it does
// not answer in time. An erasure waits for nobody.
func TestServiceOrders(t *testing.T) {
	l, s, shift := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	a, b := l.enrol(t, "A1"), l.enrol(t, "B2")
	app, other := l.service(t, "app-backend"), l.service(t, "other")
	newPoster(l, a, t).post(t, "climate", jsonType, `{"temp":20,"note":"x"}`).want(t, "a reading", 200, "")
	newPoster(l, b, t).post(t, "climate", jsonType, `{"temp":21}`).want(t, "a reading", 200, "")
	other.gather(t, "", 1)
	lines, cursor, _ := app.gather(t, "", 3)
	began := time.Now()
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "the owner asked"}, nil)
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("an erasure took %s", d)
	}
	orders, _, _ := app.gather(t, cursor, 1)
	if len(orders) != 1 || orders[0].Type != "order" || orders[0].Do != "erase" || orders[0].By == "" {
		t.Fatalf("orders %+v", orders)
	}
	o := orders[0]
	ofA := ""
	for _, x := range lines {
		if strings.Contains(string(x.Values), "note") {
			ofA = x.Subject
		}
	}
	if o.Subject != ofA || ofA == "" {
		t.Errorf("the order is about %q, the readings were of %q", o.Subject, ofA)
	}
	// What was erased never comes again, from wherever one begins.
	again, _, raw, _ := app.ask(t, url.Values{"wait": {"0"}})
	for _, x := range again {
		if x.Type == "reading" && x.Subject == ofA {
			t.Errorf("erased, and read again: %s", raw)
		}
	}
	done := fmt.Sprintf(`{"order":%q,"done":true}`, o.Order)
	stranger, _ := serviceRequest(t)
	for what, c := range map[string]struct {
		p      *servicePeer
		key    *ecdsa.PrivateKey
		body   string
		status int
	}{
		"another key":      {app, stranger, done, 400},
		"another service":  {other, other.key(), done, 404},
		"another answer":   {app, app.key(), fmt.Sprintf(`{"order":%q,"held":false}`, o.Order), 400},
		"not done":         {app, app.key(), fmt.Sprintf(`{"order":%q,"done":false}`, o.Order), 400},
		"no such order":    {app, app.key(), `{"order":"onone","done":true}`, 404},
		"something behind": {app, app.key(), done + done, 400},
		"more than asked":  {app, app.key(), fmt.Sprintf(`{"order":%q,"done":true,"x":1}`, o.Order), 400},
	} {
		if status, b := c.p.answer(t, c.key, c.body); status != c.status {
			t.Errorf("%s: %d %s, want %d", what, status, b, c.status)
		}
	}
	for range 2 {
		if status, b := app.answer(t, app.key(), done); status != http.StatusNoContent {
			t.Errorf("the receipt: %d %s", status, b)
		}
	}
	// Past its time, without an answer: by name. The other service had A1's note, too.
	shift.Store(int64(25 * time.Hour))
	found := ""
	for _, f := range s.findings(t.Context()) {
		if f.Area == "services" {
			found += f.Text + "\n"
		}
	}
	if !strings.Contains(found, "other") || strings.Contains(found, "app-backend") {
		t.Errorf("findings %q", found)
	}
	over, err := s.services.readers.Overdue(t.Context())
	if err != nil || len(over) != 1 || over[0].Reader != "other" {
		t.Errorf("overdue %+v %v", over, err)
	}
}

// TestServiceCanaries (CC 4.8): a service that obeys is proved; one that signs
// and keeps, one that answers nothing and one that keeps nothing are not.
func TestServiceCanaries(t *testing.T) {
	l, s, shift := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	honest, liar := keep(l.service(t, "app-backend")), keep(l.service(t, "other"))
	liar.lies = true
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":20,"note":"x"}`).want(t, "a reading", 200, "")
	honest.p.gather(t, "", 2)
	standing := func() map[string]readers.Standing {
		t.Helper()
		all, err := s.services.readers.Standings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]readers.Standing{}
		for _, x := range all {
			out[x.Reader] = x
		}
		return out
	}
	if x := standing()["app-backend"]; x.Proved || x.Bad {
		t.Errorf("before any canary: %+v", x)
	}
	for range 9 {
		honest.turn(t)
		liar.turn(t)
		if err := s.services.readers.Canaries(t.Context()); err != nil {
			t.Fatal(err)
		}
		shift.Add(int64(canaryStep))
	}
	now := standing()
	if x := now["app-backend"]; !x.Proved {
		t.Errorf("who obeys: %+v, told %v", x, honest.told)
	}
	if x := now["other"]; x.Proved || !x.Bad || !strings.Contains(x.Why, "still has") {
		t.Errorf("who lies: %+v, told %v", x, liar.told)
	}
	if honest.told["tell"] < 3 || honest.told["erase"] != 1 { // the canary twice, and somebody real
		t.Errorf("told %v", honest.told)
	}
	if len(honest.late) > 0 {
		t.Errorf("readings after the order to erase: %v", honest.late)
	}
	// A day later the next one comes; who answers nothing is not proved any more.
	shift.Add(int64(25 * time.Hour))
	honest.mute = true
	for range 4 {
		honest.turn(t)
		if err := s.services.readers.Canaries(t.Context()); err != nil {
			t.Fatal(err)
		}
		shift.Add(int64(canaryStep))
	}
	shift.Add(int64(25 * time.Hour))
	if err := s.services.readers.Canaries(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x := standing()["app-backend"]; x.Proved || !x.Bad {
		t.Errorf("who answers nothing: %+v", x)
	}
}

// canaryStep is a little more than a canary rests.
const canaryStep = readers.CanaryRest + time.Minute

// TestServiceGap (CC 4.4): who stops for longer than readings are kept is told
// how many and of which span he lost, once, and is ordered to forget the epoch.
func TestServiceGap(t *testing.T) {
	t.Parallel()
	l, s, shift := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	other := l.service(t, "other") // reads notes, kept for 10 days
	p := newPoster(l, u, t)
	p.post(t, "climate", jsonType, `{"note":"before"}`).want(t, "a reading", 200, "")
	first, cursor, _ := other.gather(t, "", 1)
	for i := range 3 {
		p.post(t, "climate", jsonType, fmt.Sprintf(`{"note":"missed %d"}`, i)).want(t, "a reading", 200, "")
	}
	if err := s.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	shift.Store(int64(11 * 24 * time.Hour))
	if _, err := s.clock.confirm(t.Context(), core.Job("test"), s.opt.Now().UTC().Format(time.DateOnly)); err != nil {
		t.Logf("clock: %v", err)
	}
	if err := s.telem.expirer.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.services.readers.OrderExpiry(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, next, raw := other.gather(t, cursor, 2)
	var gap, order readers.Line
	for _, x := range lines {
		switch x.Type {
		case "gap":
			gap = x
		case "order":
			order = x
		default:
			t.Errorf("what is gone was read: %s", raw)
		}
	}
	if gap.Why != "expired" || gap.AtMost != 3 || gap.From == "" || gap.To == "" || gap.Epoch != first[0].Epoch {
		t.Errorf("gap %+v", gap)
	}
	if order.Do != "expire" || order.Epoch != first[0].Epoch {
		t.Errorf("order %+v", order)
	}
	again, _, _, _ := other.ask(t, url.Values{"cursor": {next}, "wait": {"0"}})
	if len(again) != 0 {
		t.Errorf("told twice: %+v", again)
	}
	// Who had everything is told of no gap.
	shift.Add(int64(time.Hour))
	p.post(t, "climate", jsonType, `{"note":"after"}`).want(t, "a reading", 200, "")
	_, all, _ := other.gather(t, next, 1)
	shift.Add(int64(11 * 24 * time.Hour))
	_, _ = s.clock.confirm(t.Context(), core.Job("test"), s.opt.Now().UTC().Format(time.DateOnly))
	if err := s.telem.expirer.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, _, raw, _ = other.ask(t, url.Values{"cursor": {all}, "wait": {"0"}})
	for _, x := range lines {
		if x.Type == "gap" {
			t.Errorf("a gap for who had everything: %s", raw)
		}
	}
	// Sessions are hours: each was opened before its first reading, and closed.
	if err := s.services.readers.CloseSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened, closed := 0, 0
	entries, err := follow(readers.RecordStreamOpened, readers.RecordStreamClosed).all(t.Context(), s.ledger)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if r := &entries[i].Record; r.Kind == readers.RecordStreamOpened {
			opened++
			if factOf(r, "service") != "other" || factOf(r, "fields") != "note" || factOf(r, "purposes") != "service.control" {
				t.Errorf("opened %+v", r.Facts)
			}
		} else {
			closed++
		}
	}
	if opened != 3 || closed != 3 {
		t.Errorf("%d sessions opened and %d closed, want 3 each", opened, closed)
	}
}
