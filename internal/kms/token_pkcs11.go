//go:build pkcs11

package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// token is a PKCS#11 token by way of its maker's module.
type token struct {
	o   TokenOptions
	ctx *crypto11.Context

	mu    sync.Mutex // makes looking for a name and taking it one step
	close func() error
}

// errNoSigner says that a token has no key pair of a name.
var errNoSigner = errors.New("the token has no such key pair")

// poolWait bounds how long an operation waits for a session.
const poolWait = 30 * time.Second

// OpenToken loads the module and signs in to the token.
func OpenToken(o TokenOptions) (Token, error) {
	pin, err := o.check()
	if err != nil {
		return nil, err
	}
	ctx, err := crypto11.Configure(&crypto11.Config{Path: o.Module, TokenLabel: o.Label, Pin: pin, PoolWaitTimeout: poolWait, MaxSessions: 16})
	if err != nil {
		return nil, because(core.Unready, "token-closed", fmt.Sprintf("the token %.40q cannot be opened", o.Label), "see that it is there, and that label and PIN are right: a token locks itself after some wrong PINs", err)
	}
	return &token{o: o, ctx: ctx, close: sync.OnceValue(ctx.Close)}, nil
}

// gone says that the token failed at what it can do.
func gone(err error) error {
	return because(core.Unavail, "token-gone", "the token does not answer", "see that it is plugged in and not locked", err)
}

// Close ends the sessions. Closing twice is no error.
func (t *token) Close() error { return t.close() }

func (t *token) name(gen uint64) []byte {
	return []byte(t.o.Prefix + "-root-" + strconv.FormatUint(gen, 10))
}

// find gives the root of a generation. A key that the token would give out is
// none: somebody else made it.
func (t *token) find(gen uint64) (*crypto11.SecretKey, error) {
	keys, err := t.ctx.FindKeys(nil, t.name(gen))
	if err != nil {
		return nil, gone(err)
	}
	if len(keys) == 0 {
		return nil, core.E(core.Unready, "root-missing", fmt.Sprintf("root generation %d is missing", gen), fmt.Sprintf("bring root generation %d, or a newer keyring", gen))
	}
	damaged := func(what string) error {
		return core.E(core.Unready, "root-damaged", fmt.Sprintf("root generation %d is not as it was made: %s", gen, what), "find out who changed the token's keys")
	}
	if len(keys) > 1 {
		return nil, damaged("there are several")
	}
	got, err := t.ctx.GetAttributes(keys[0], []crypto11.AttributeType{crypto11.CkaExtractable, crypto11.CkaSensitive, crypto11.CkaToken})
	if err != nil {
		return nil, gone(err)
	}
	for kind, want := range map[crypto11.AttributeType]byte{crypto11.CkaExtractable: 0, crypto11.CkaSensitive: 1, crypto11.CkaToken: 1} {
		if a := got[kind]; a == nil || !bytes.Equal(a.Value, []byte{want}) {
			return nil, damaged("the token may give it out, or loses it with the session")
		}
	}
	return keys[0], nil
}

// Create makes the root of generation gen in the token.
func (t *token) Create(_ context.Context, gen uint64) error {
	if gen == 0 || gen > math.MaxInt64 {
		return core.E(core.Invalid, "bad-generation", fmt.Sprintf("there is no generation %d", gen), "")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch _, err := t.find(gen); {
	case err == nil, core.ReasonOf(err) == "root-damaged":
		return core.E(core.Conflict, "root-exists", fmt.Sprintf("root generation %d exists already", gen), "")
	case core.ReasonOf(err) != "root-missing":
		return err
	}
	attrs, err := attributes(t.name(gen))
	if err != nil {
		return err
	}
	if err := attrs.Set(crypto11.CkaEncrypt, true); err != nil {
		return err
	}
	if err := attrs.Set(crypto11.CkaDecrypt, true); err != nil {
		return err
	}
	if _, err := t.ctx.GenerateSecretKeyWithAttributes(attrs, 8*rootBytes, crypto11.CipherAES); err != nil {
		return because(core.Unavail, "token-refused", fmt.Sprintf("the token did not make root generation %d", gen), "see whether it has room, and can AES-GCM", err)
	}
	_, err = t.find(gen)
	return err
}

// attributes of every key: it is kept, and never given out.
func attributes(label []byte) (crypto11.AttributeSet, error) {
	a := crypto11.NewAttributeSet()
	for kind, v := range map[crypto11.AttributeType]any{
		crypto11.CkaId: label, crypto11.CkaLabel: label, crypto11.CkaToken: true, crypto11.CkaPrivate: true, crypto11.CkaSensitive: true, crypto11.CkaExtractable: false,
	} {
		if err := a.Set(kind, v); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Wrap encrypts key under the root of generation gen: nonce, ciphertext, tag.
func (t *token) Wrap(_ context.Context, gen uint64, key []byte) (blob []byte, err error) {
	root, err := t.find(gen)
	if err != nil {
		return nil, err
	}
	aead, err := root.NewGCM()
	if err != nil {
		return nil, fmt.Errorf("wrap under root generation %d: %w", gen, err)
	}
	nonce := make([]byte, nonceBytes, nonceBytes+len(key)+tagBytes)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	defer func() { // cipher.AEAD has no error, so the library panics where a token fails
		if r := recover(); r != nil {
			blob, err = nil, core.E(core.Unavail, "token-gone", fmt.Sprintf("the token did not wrap under root generation %d: %v", gen, r), "see that it is plugged in and not locked")
		}
	}()
	blob = aead.Seal(nonce, nonce, key, wrapAAD(gen))
	if len(blob) != nonceBytes+len(key)+tagBytes {
		return nil, core.E(core.Unavail, "token-answer", "the token's ciphertext has an odd length", "see whether it can AES-GCM with a tag of 128 bits")
	}
	return blob, nil
}

// Unwrap is the inverse of Wrap.
func (t *token) Unwrap(_ context.Context, gen uint64, blob []byte) ([]byte, error) {
	root, err := t.find(gen)
	if err != nil {
		return nil, err
	}
	if len(blob) < nonceBytes+tagBytes {
		return nil, core.E(core.Invalid, "not-authentic", "wrapped key is cut short", "")
	}
	aead, err := root.NewGCM()
	if err != nil {
		return nil, fmt.Errorf("unwrap by root generation %d: %w", gen, err)
	}
	key, err := aead.Open(nil, blob[:nonceBytes], blob[nonceBytes:], wrapAAD(gen))
	if err != nil {
		// A token tells a wrong key by more than one code.
		if _, again := t.find(gen); again != nil {
			return nil, again
		}
		return nil, because(core.Unready, "root-wrong", fmt.Sprintf("root generation %d does not open this keyring: it belongs to another one", gen), "bring the root and the keyring of one installation", err)
	}
	return key, nil
}

// Destroy deletes the root of generation gen in the token, and looks whether it
// is gone. What a token's maker promises of deleted keys, nobody here can see:
// hence "best-effort".
func (t *token) Destroy(_ context.Context, gen uint64) (seal.Destruction, error) {
	keys, err := t.ctx.FindKeys(nil, t.name(gen))
	if err != nil {
		return seal.Destruction{}, gone(err)
	}
	for _, k := range keys {
		if err := k.Delete(); err != nil {
			return seal.Destruction{}, because(core.Unavail, "root-not-destroyed", fmt.Sprintf("the token did not delete root generation %d", gen), "see whether the user may delete keys", err)
		}
	}
	if _, err := t.find(gen); core.ReasonOf(err) != "root-missing" {
		return seal.Destruction{}, because(core.Unavail, "root-not-destroyed", fmt.Sprintf("root generation %d was deleted, and is still there", gen), "look at the token", err)
	}
	return seal.Destruction{Gen: gen, Destroys: seal.DestroysBestEffort, Detail: "key deleted in a PKCS#11 token, which then knew no such key; backups of the token may keep it"}, nil
}

// Generations lists the roots that exist, ascending.
func (t *token) Generations(context.Context) ([]uint64, error) {
	attrs := crypto11.NewAttributeSet()
	if err := attrs.Set(crypto11.CkaToken, true); err != nil {
		return nil, err
	}
	keys, err := t.ctx.FindKeysWithAttributes(attrs)
	if err != nil {
		return nil, gone(err)
	}
	var gens []uint64
	for _, k := range keys {
		label, err := t.ctx.GetAttribute(k, crypto11.CkaLabel)
		if err != nil {
			return nil, gone(err)
		}
		if label == nil {
			continue
		}
		rest, ok := strings.CutPrefix(string(label.Value), t.o.Prefix+"-root-")
		g, err := strconv.ParseUint(rest, 10, 63)
		if !ok || err != nil || g == 0 || !bytes.Equal(t.name(g), label.Value) || slices.Contains(gens, g) {
			continue // not ours
		}
		gens = append(gens, g)
	}
	slices.Sort(gens)
	return gens, nil
}

func (t *token) signerName(name string) []byte { return []byte(t.o.Prefix + "-ca-" + name) }

// NewSigner makes a key pair on P-256.
func (t *token) NewSigner(name string) (crypto.Signer, error) {
	if !tokenNames.MatchString(name) {
		return nil, fmt.Errorf("%.40q is no name of a key", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.Signer(name); !errors.Is(err, errNoSigner) {
		return nil, errors.Join(core.E(core.Conflict, "key-exists", "the token has a key "+name+" already", "name keys once"), err)
	}
	label := t.signerName(name)
	private, err := attributes(label)
	if err != nil {
		return nil, err
	}
	if err := private.Set(crypto11.CkaSign, true); err != nil {
		return nil, err
	}
	public := crypto11.NewAttributeSet()
	if err := errors.Join(public.Set(crypto11.CkaId, label), public.Set(crypto11.CkaLabel, label), public.Set(crypto11.CkaToken, true), public.Set(crypto11.CkaVerify, true)); err != nil {
		return nil, err
	}
	k, err := t.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
	if err != nil {
		return nil, because(core.Unavail, "token-refused", "the token did not make a key pair", "see whether it has room, and can ECDSA on P-256", err)
	}
	return k, nil
}

// Signer finds a key pair.
func (t *token) Signer(name string) (crypto.Signer, error) {
	label := t.signerName(name)
	all, err := t.ctx.FindKeyPairs(label, label)
	if err != nil {
		return nil, gone(err)
	}
	if len(all) != 1 {
		if len(all) == 0 {
			return nil, because(core.Unready, "key-missing", "the token has no key "+string(label), "bring the token that holds the authority's keys", errNoSigner)
		}
		return nil, core.E(core.Unready, "key-damaged", fmt.Sprintf("the token has %d keys %s", len(all), label), "find out who made the others")
	}
	return all[0], nil
}

// DeleteSigner deletes a key pair.
func (t *token) DeleteSigner(name string) error {
	label := t.signerName(name)
	all, err := t.ctx.FindKeyPairs(label, label)
	if err != nil {
		return gone(err)
	}
	for _, k := range all {
		if err := k.Delete(); err != nil {
			return fmt.Errorf("delete key %s in the token: %w", label, err)
		}
	}
	return nil
}
