//go:build pkcs11

package kms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/seal"
)

func tokenOptions(t *testing.T) TokenOptions {
	t.Helper()
	module, pin := house.SoftHSM(t)
	return TokenOptions{Module: module, Label: "hawser", PIN: pin, Prefix: "hawser"}
}

func openToken(t *testing.T, o TokenOptions) Token {
	t.Helper()
	k, err := OpenToken(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() }) // it may be closed already
	return k
}

// What every store of roots does, done by a PKCS#11 token.
func TestTokenRootLife(t *testing.T) {
	o := tokenOptions(t)
	rootLife(t, func() seal.RootKeys { return openToken(t, o) })
	another := o
	another.Prefix = "hawser-other" // another installation in one token
	k := openToken(t, another)
	if g, err := k.Generations(t.Context()); err != nil || len(g) != 0 {
		t.Errorf("another installation's roots: %v, %v", g, err)
	}
	if err := k.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if g, err := openToken(t, o).Generations(t.Context()); err != nil || !slices.Equal(g, []uint64{1, 12}) {
		t.Errorf("beside another installation: %v, %v", g, err)
	}
}

// A keyring lives on it: made, rotated by an erasure, opened again.
func TestTokenKeyring(t *testing.T) {
	k := openToken(t, tokenOptions(t))
	dir := t.TempDir()
	o := seal.Options{Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")}, Roots: k, Now: time.Now}
	ring, err := seal.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	gone, kept := core.Subject{1}, core.Subject{2}
	if err := ring.AddSubjects(t.Context(), []core.Subject{gone, kept}); err != nil {
		t.Fatal(err)
	}
	value, err := ring.SealValue(kept, "c", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := k.Generations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Shred(t.Context(), seal.Order{Subjects: []core.Subject{gone}}); err != nil {
		t.Fatal(err)
	}
	after, err := k.Generations(t.Context())
	if err != nil || len(after) != len(before) || slices.Equal(after, before) {
		t.Errorf("roots %v after an erasure, %v before: %v", after, before, err)
	}
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	if ring, err = seal.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ring.Close() }() // the folder goes
	if v, err := ring.OpenValue(kept, "c", value); err != nil || !bytes.Equal(v, []byte("v")) {
		t.Errorf("after the erasure of another: %q, %v", v, err)
	}
}

// A token that is not there, or does not know us, opens nothing, and the reason
// is said.
func TestTokenInTrouble(t *testing.T) {
	good := tokenOptions(t)
	wrong := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrong, []byte("0000"), 0o600); err != nil {
		t.Fatal(err)
	}
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.WriteFile(loose, []byte("0000"), 0o644); err != nil {
		t.Fatal(err)
	}
	for reason, change := range map[string]func(*TokenOptions){
		"token":            func(o *TokenOptions) { o.Prefix = "Not good" },
		"token-module":     func(o *TokenOptions) { o.Module = "/nowhere.so" },
		"token-closed":     func(o *TokenOptions) { o.PIN = wrong },
		"root-permissions": func(o *TokenOptions) { o.PIN = loose },
	} {
		o := good
		change(&o)
		if _, err := OpenToken(o); core.ReasonOf(err) != reason {
			t.Errorf("%s: %v", reason, err)
		}
	}
	o := good
	o.Label = "another"
	if _, err := OpenToken(o); core.ReasonOf(err) != "token-closed" {
		t.Errorf("a token that is not there: %v", err)
	}
	k := openToken(t, good)
	ctx := t.Context()
	if err := k.Create(ctx, 1); err != nil {
		t.Fatal(err)
	}
	blob, err := k.Wrap(ctx, 1, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"create":  func() error { return k.Create(ctx, 2) },
		"wrap":    func() error { _, err := k.Wrap(ctx, 1, []byte("key")); return err },
		"unwrap":  func() error { _, err := k.Unwrap(ctx, 1, blob); return err },
		"destroy": func() error { _, err := k.Destroy(ctx, 1); return err },
		"list":    func() error { _, err := k.Generations(ctx); return err },
	} {
		if err := f(); core.KindOf(err) != core.Unavail {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}

// TestTokenSigners: an authority's keys are made in the token, used by several
// at once, found again and deleted.
func TestTokenSigners(t *testing.T) {
	o := tokenOptions(t)
	k := openToken(t, o)
	s, err := k.NewSigner("operational-1a2b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.NewSigner("operational-1a2b"); core.ReasonOf(err) != "key-exists" {
		t.Errorf("a second key of one name: %v", err)
	}
	if _, err := k.NewSigner("../x"); err == nil {
		t.Error("a key with a bad name")
	}
	digest := sha256.Sum256([]byte("hello"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
				t.Errorf("sign: %v", err)
			}
		})
	}
	all.Wait()
	again, err := openToken(t, o).Signer("operational-1a2b")
	if err != nil || !again.Public().(*ecdsa.PublicKey).Equal(s.Public()) {
		t.Errorf("found again: %v", err)
	}
	if err := k.DeleteSigner("operational-1a2b"); err != nil {
		t.Error(err)
	}
	if _, err := k.Signer("operational-1a2b"); !errors.Is(err, errNoSigner) {
		t.Errorf("after its deletion: %v", err)
	}
	if err := k.DeleteSigner("operational-1a2b"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
