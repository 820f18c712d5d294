package gate_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"
)

// A known device is known for one account, for 180 days, under one key.
func TestKnownDevice(t *testing.T) {
	f := newFixture(t)
	cookie, err := f.gate.Remember("ann")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		f.try(password("ann", net(i)), false)
		f.try(password("ben", net(1000+i)), false)
	}
	at := func(account, cookie string) gate.Attempt {
		a := password(account, net(5000))
		a.Known = gate.ParseKnown(cookie)
		return a
	}
	f.mustGetIn(at("ann", cookie))
	if !f.open(at("ann", cookie)).Known() || f.open(at("cleo", cookie)).Known() || (&gate.Ticket{}).Known() {
		t.Error("a ticket does not know its device")
	}
	f.mustWait(at("ann", ""))
	f.mustWait(at("ben", cookie))
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		b := []byte(string(raw))
		b[i] ^= 1
		f.mustWait(at("ann", base64.RawURLEncoding.EncodeToString(b)))
	}
	if other := newFixtureWith(t, gate.Standard()); true {
		other.key[0] ^= 1
		other.restart()
		foreign, err := other.gate.Remember("ann")
		if err != nil {
			t.Fatal(err)
		}
		f.mustWait(at("ann", foreign))
	}
	f.restart()
	f.mustGetIn(at("ann", cookie))
	f.advance(180*24*time.Hour - time.Minute)
	for i := range 100 {
		f.try(password("ann", net(i)), false)
	}
	f.mustGetIn(at("ann", cookie))
	f.advance(2 * time.Minute)
	f.mustWait(at("ann", cookie))
	if _, err := f.gate.Remember(""); err == nil {
		t.Error("nobody has a known device")
	}
	if s := fmt.Sprintf("%v %+v %#v", at("ann", cookie).Known, gate.ParseKnown(cookie), gate.ParseKnown(cookie)); s != "[sealed] [sealed] [sealed]" {
		t.Errorf("a known device prints as %s", s)
	}
}

// Whoever stole a known device's cookie has its small budget, not more, however
// long he waits; the account goes on without it.
func TestKnownDeviceStolen(t *testing.T) {
	f := newFixture(t)
	a := password("ann", net(1))
	a.Known = f.remember("ann")
	guesses := 0
	for range 40 {
		after := f.try(a, false)
		if after == 0 {
			guesses++
		}
		if guesses == 20 {
			break
		}
		f.advance(max(after, time.Second))
		if guesses == 10 {
			f.restart()
		}
	}
	if guesses != 20 {
		t.Fatalf("%d guesses, want 20", guesses)
	}
	if st := f.state(); st.Lost != 1 {
		t.Errorf("%d known devices are lost, want 1", st.Lost)
	}
	// From now on it is a stranger, for as long as the cookie lasts.
	for range 3 {
		f.advance(30 * 24 * time.Hour)
		if err := f.gate.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if f.try(a, false) > 0 {
				t.Fatal("a lost known device is less than a stranger")
			}
		}
		f.mustWait(a)
		for i := range 100 {
			f.try(password("ann", net(100+i)), false)
		}
		elsewhere := a
		elsewhere.Source = net(7000)
		f.mustWait(elsewhere)
		owner := elsewhere
		owner.Known = f.remember("ann")
		f.mustGetIn(owner)
	}
	if n := f.notices(); len(n) == 0 {
		t.Error("nobody was told")
	}
}

func TestKnownDeviceTellsItsOwner(t *testing.T) {
	f := newFixture(t)
	a := password("ann", net(1))
	a.Known = f.remember("ann")
	for range 5 {
		f.try(a, false)
	}
	if n := f.notices(); len(n) != 1 || n[0].Wrong != 5 {
		t.Errorf("told %+v", n)
	}
	f.mustGetIn(password("ann", net(2))) // the account's own budget is whole
}

// A right sign-in breaks the series of its means and no other's.
func TestKnownDeviceBySeries(t *testing.T) {
	f := newFixture(t)
	a := password("ann", net(1))
	a.Known = f.remember("ann")
	code := a
	code.Means = gate.TOTP
	guesses := 0
	for range 50 {
		f.mustGetIn(a)
		if f.try(code, false) == 0 {
			guesses++
		}
	}
	if guesses != 5 {
		t.Errorf("%d guesses at the second factor, want 5", guesses)
	}
}

func FuzzParseKnown(f *testing.F) {
	fx := newFixture(f)
	_, _ = rand.Read(fx.key) // each fuzzing process has its own: the others' cookies are forged
	fx.restart()
	good, err := fx.gate.Remember("ann")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add(good + "=")
	f.Add(strings.ToLower(good))
	f.Add(strings.Repeat("A", len(good)))
	f.Fuzz(func(t *testing.T, s string) {
		k := gate.ParseKnown(s)
		if k == (gate.Known{}) {
			return
		}
		if got := gate.TextOf(k); got != s {
			t.Fatalf("%q is read as %q: two cookies for one device", s, got)
		}
		if s != good && fx.gate.Proves(k, "ann") {
			t.Fatalf("%q proves something", s)
		}
	})
}
