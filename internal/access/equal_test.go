package access_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestUnknownAccountsTakeAsLong: an account that is not there is compared like
// one that is, in text and in time (ASVS 6.3.8).
func TestUnknownAccountsTakeAsLong(t *testing.T) {
	f := newFixture(t)
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	times := map[string][]time.Duration{}
	texts := map[string]string{}
	n := byte(0)
	for range 7 {
		for _, mail := range []string{cleo.mail, ada.mail, "nobody@northwind.example"} {
			f.advance(time.Hour)
			n++
			began := time.Now()
			_, err := f.svc.Password(t.Context(), access.From{Source: netip.AddrFrom4([4]byte{10, n, 0, 1})}, "", mail, "a wrong password", "123456")
			times[mail] = append(times[mail], time.Since(began))
			texts[mail] = strings.ReplaceAll(err.Error(), "\n", " ")
		}
	}
	least := func(mail string) time.Duration { return slices.Min(times[mail]) }
	for _, mail := range []string{ada.mail, "nobody@northwind.example"} {
		if texts[mail] != texts[cleo.mail] {
			t.Errorf("%s: %q, not %q", mail, texts[mail], texts[cleo.mail])
		}
		// A hash is nearly all of it; the rest is the noise of a busy machine.
		if a, b := least(mail), least(cleo.mail); a < b/2 || b < a/2 {
			t.Errorf("%s takes %v, one with a password %v", mail, a, b)
		}
	}
}

// TestOneLinkTwoBrowsers: whoever comes second with one link does not join,
// however close together they come.
func TestOneLinkTwoBrowsers(t *testing.T) {
	f := newFixture(t)
	ada, _ := f.founders()
	token := tokenOf(t, f.invite(ada, false, access.Operator))
	offer, err := f.svc.SetupPassword(t.Context(), desk, token, access.Details{Name: "Cleo", Mail: "cleo@northwind.example"}, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	code := f.code(&person{secret: strings.ReplaceAll(offer.Secret, " ", "")})
	var wg sync.WaitGroup
	var mu sync.Mutex
	joined := 0
	for range 6 {
		wg.Go(func() {
			if _, err := f.svc.SetupPasswordDone(t.Context(), desk, token, "", code); err == nil {
				mu.Lock()
				joined++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := f.records(access.RecordJoined); joined != 1 || len(got) != 3 {
		t.Errorf("%d browsers joined, %d records of joining, want 1 and 3", joined, len(got))
	}
}

// TestJoinAfterACrash: a crash between the key and the row leaves a link that
// works.
func TestJoinAfterACrash(t *testing.T) {
	crash := false
	f := newFixtureWith(t, func(d *access.Deps) {
		update := d.Update
		d.Update = func(ctx context.Context, fn func(access.Tx) error) error {
			if crash {
				return core.E(core.Unavail, "crash", "the machine stopped", "")
			}
			return update(ctx, fn)
		}
	})
	link, err := f.svc.FounderLink(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	token := tokenOf(t, link)
	options, err := f.svc.SetupPasskey(t.Context(), desk, token, access.Details{Name: "Ada", Mail: "ada@northwind.example"})
	if err != nil {
		t.Fatal(err)
	}
	crash = true
	_, err = f.svc.SetupPasskeyDone(t.Context(), desk, token, "", newKey("").attest(t, options))
	wantReason(t, "the crash", err, "crash")
	crash = false
	f.serve()
	f.join(link, "Ada", "ada@northwind.example")
	if got := f.records(access.RecordJoined); len(got) != 1 {
		t.Errorf("%d records of joining, want 1", len(got))
	}
}

// TestNewNeedsItsDependencies: a missing one is an error at start.
func TestNewNeedsItsDependencies(t *testing.T) {
	var whole access.Deps
	newFixtureWith(t, func(d *access.Deps) { whole = *d })
	for name, spoil := range map[string]func(*access.Deps){
		"Update": func(d *access.Deps) { d.Update = nil }, "View": func(d *access.Deps) { d.View = nil }, "Keys": func(d *access.Deps) { d.Keys = nil },
		"Gate": func(d *access.Deps) { d.Gate = nil }, "Now": func(d *access.Deps) { d.Now = nil }, "Name": func(d *access.Deps) { d.Name = "" },
		"a short key": func(d *access.Deps) { d.Key = d.Key[:31] }, "no origin": func(d *access.Deps) { d.Origin = "" },
		"http": func(d *access.Deps) { d.Origin = "http://console.example" }, "an address": func(d *access.Deps) { d.Origin = "https://192.0.2.1:8443" },
		"a path": func(d *access.Deps) { d.Origin = "https://console.example/x" }, "a name in it": func(d *access.Deps) { d.Origin = "https://u@console.example" },
		"IPv6": func(d *access.Deps) { d.Origin = "https://[2001:db8::1]:8443" }, "a query": func(d *access.Deps) { d.Origin = "https://console.example?x" },
	} {
		d := whole
		spoil(&d)
		if _, err := access.New(t.Context(), d); err == nil {
			t.Errorf("starts with %s spoilt", name)
		}
	}
	for _, good := range []string{"https://console.example", "https://console.example/", "https://localhost:8443", "https://CONSOLE.example:443"} {
		d := whole
		d.Origin = good
		s, err := access.New(t.Context(), d)
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if c, err := s.BeginPasskey(); err != nil || strings.Contains(string(c.Options), "CONSOLE") {
			t.Errorf("%s: a browser would not know the place in %s, %v", good, c.Options, err)
		}
	}
}
