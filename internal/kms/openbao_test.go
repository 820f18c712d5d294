package kms

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/kms/baotest"
	"github.com/hawser-iot/hawser/internal/seal"
)

func optionsOf(t *testing.T, s *baotest.StandIn) OpenBaoOptions {
	t.Helper()
	token, ca := s.Files(t)
	return OpenBaoOptions{Address: s.URL, Prefix: "hawser", Token: token, CA: ca}
}

func openBao(t *testing.T, o OpenBaoOptions) *OpenBao {
	t.Helper()
	b, err := OpenOpenBao(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What every store of roots does, done by OpenBao's transit engine as it is
// documented.
func TestOpenBaoRootLife(t *testing.T) {
	s := baotest.New(t)
	o := optionsOf(t, s)
	rootLife(t, func() seal.RootKeys { return openBao(t, o) })
	s.Set(func() {
		s.Keys["somebody-elses"] = &baotest.Key{Version: 1}
		s.Keys["hawser-x"] = &baotest.Key{Version: 1}
	})
	g, err := openBao(t, o).Generations(t.Context())
	if err != nil || !slices.Equal(g, []uint64{1, 12}) {
		t.Errorf("beside other keys: %v, %v", g, err)
	}
}

// A keyring lives on it: made, rotated by an erasure, opened again.
func TestOpenBaoKeyring(t *testing.T) {
	s := baotest.New(t)
	dir := t.TempDir()
	o := seal.Options{
		Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")},
		Roots:  openBao(t, optionsOf(t, s)), Now: time.Now,
	}
	k, err := seal.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	gone, kept := core.Subject{1}, core.Subject{2}
	if err := k.AddSubjects(t.Context(), []core.Subject{gone, kept}); err != nil {
		t.Fatal(err)
	}
	value, err := k.SealValue(kept, "c", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	before := len(s.Keys)
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: []core.Subject{gone}}); err != nil {
		t.Fatal(err)
	}
	if len(s.Keys) != before {
		t.Errorf("%d roots after an erasure, %d before", len(s.Keys), before)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if k, err = seal.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Close() }() // the folder goes
	if v, err := k.OpenValue(kept, "c", value); err != nil || !bytes.Equal(v, []byte("v")) {
		t.Errorf("after the erasure of another: %q, %v", v, err)
	}
}

// An OpenBao in trouble, or that is none, opens nothing and makes nothing, and
// the reason is said.
func TestOpenBaoInTrouble(t *testing.T) {
	s := baotest.New(t)
	o := optionsOf(t, s)
	b := openBao(t, o)
	ctx := t.Context()
	if err := b.Create(ctx, 1); err != nil {
		t.Fatal(err)
	}
	blob, err := b.Wrap(ctx, 1, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	all := func(what string, kind core.Kind, reason string) {
		t.Helper()
		for name, f := range map[string]func() error{
			"create":  func() error { return b.Create(ctx, 2) },
			"wrap":    func() error { _, err := b.Wrap(ctx, 1, []byte("key")); return err },
			"unwrap":  func() error { _, err := b.Unwrap(ctx, 1, blob); return err },
			"destroy": func() error { _, err := b.Destroy(ctx, 1); return err },
			"list":    func() error { _, err := b.Generations(ctx); return err },
		} {
			wantReason(t, what+", "+name, f(), kind, reason)
		}
	}
	for status, want := range map[int]struct {
		kind   core.Kind
		reason string
	}{503: {core.Unavail, "openbao-sealed"}, 500: {core.Unavail, "openbao-sealed"}, 403: {core.Unready, "openbao-denied"}} {
		s.Set(func() { s.Status = status })
		all(http.StatusText(status), want.kind, want.reason)
	}
	s.Set(func() { s.Status = 0; s.Raw = "<html>a proxy's page</html>" })
	for name, f := range map[string]func() error{
		"wrap":   func() error { _, err := b.Wrap(ctx, 1, []byte("key")); return err },
		"unwrap": func() error { _, err := b.Unwrap(ctx, 1, blob); return err },
		"list":   func() error { _, err := b.Generations(ctx); return err },
	} {
		wantReason(t, "rubbish, "+name, f(), core.Unavail, "openbao-answer")
	}
	s.Set(func() { s.Raw = strings.Repeat("x", maxBaoAnswer+10) })
	_, err = b.Unwrap(ctx, 1, blob)
	wantReason(t, "without end", err, core.Unavail, "openbao-gone")
	s.Set(func() { s.Raw = ""; s.Keys["hawser-1"].Version = 2 })
	_, err = b.Wrap(ctx, 1, []byte("key"))
	wantReason(t, "rotated there", err, core.Unready, "root-damaged")
	s.Set(func() { s.Keys["hawser-1"].Version = 1; s.Keys["hawser-1"].Secret = make([]byte, 32) })
	_, err = b.Unwrap(ctx, 1, blob)
	wantReason(t, "another's key", err, core.Unready, "root-wrong")
	s.Set(func() { s.Token = "s.another" })
	all("token run out", core.Unready, "openbao-denied")
	s.Close()
	all("gone", core.Unavail, "openbao-gone")
}

// The token goes to the right server only, comes from a file that others
// cannot read, and stands in no error.
func TestOpenBaoToken(t *testing.T) {
	s := baotest.New(t)
	o := optionsOf(t, s)
	b := openBao(t, o)
	if err := b.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	other := baotest.New(t)
	o2 := o
	o2.Address = other.URL
	o2.CA = ""
	_, err := openBao(t, o2).Generations(t.Context())
	wantReason(t, "an unknown server", err, core.Unavail, "openbao-gone")
	if len(other.Asked) != 0 || strings.Contains(err.Error(), s.Token) {
		t.Errorf("the token got out: %v, %v", other.Asked, err)
	}
	if err := os.Chmod(o.Token, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = b.Generations(t.Context())
	wantReason(t, "a token that others may read", err, core.Unready, "root-permissions")
	if err := errors.Join(os.Chmod(o.Token, 0o600), os.WriteFile(o.Token, []byte("two words\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = b.Generations(t.Context())
	wantReason(t, "no token", err, core.Unready, "openbao-token")
	for name, change := range map[string]func(*OpenBaoOptions){
		"cleartext": func(o *OpenBaoOptions) { o.Address = "http://127.0.0.1:8200" },
		"a path":    func(o *OpenBaoOptions) { o.Address += "/v1" },
		"password":  func(o *OpenBaoOptions) { o.Address = "https://a:b@bao.northwind.example:8200" },
		"prefix":    func(o *OpenBaoOptions) { o.Prefix = "../x" },
		"mount":     func(o *OpenBaoOptions) { o.Mount = "a/b" },
		"no token":  func(o *OpenBaoOptions) { o.Token = "" },
	} {
		x := o
		change(&x)
		if _, err := OpenOpenBao(x); core.ReasonOf(err) != "openbao" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A redirect is not followed: the token would go with it.
func TestOpenBaoRedirect(t *testing.T) {
	other := baotest.New(t)
	s := httptest.NewTLSServer(http.RedirectHandler(other.URL+"/v1/transit/keys?list=true", http.StatusTemporaryRedirect))
	defer s.Close()
	o := optionsOf(t, other)
	o.Address = s.URL
	if err := os.WriteFile(o.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openBao(t, o).Generations(t.Context()); err == nil || len(other.Asked) != 0 {
		t.Errorf("followed: %v, %v", other.Asked, err)
	}
}
