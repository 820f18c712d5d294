package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// Keys makes the keys of new persons and seals what is personal. The keyring
// is one.
type Keys interface {
	// AddSubject makes a subject's key, durable when it returns.
	AddSubject(context.Context, core.Subject) error
	Has(core.Subject) bool
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
	OpenValue(s core.Subject, context string, sealed []byte) ([]byte, error)
}

// BreachedList says whether a password is known to be breached.
type BreachedList interface {
	// Contains asks by the password's SHA-1, the form in which such lists are
	// published; it fails when the list cannot be read.
	Contains(sha1 [20]byte) (bool, error)
}

// Deps is what a Service stands on. Breached, Words and HashesAtOnce may be
// left out.
type Deps struct {
	Update func(context.Context, func(Tx) error) error
	View   func(context.Context, func(Tx) error) error
	Keys   Keys
	Gate   *gate.Gate
	Now    func() time.Time
	// Origin is where the console is found, "https://console.maker.example".
	// Passkeys are bound to its host for ever.
	Origin string
	// Name is what authenticators call this installation.
	Name string
	// Key is at least 32 random bytes, kept outside the database: mail
	// addresses are looked up by a hash under it.
	Key []byte
	// Erase destroys a subject's key and runs every eraser; nil: nobody can be
	// erased here.
	Erase func(ctx context.Context, by core.Actor, s core.Subject, why string) error
	// Breached is asked before a password is taken; nil: only the built-in list.
	Breached BreachedList
	// Words are names of this maker that no password may rest on; Products, if
	// given, those of its products now.
	Words    []string
	Products func() []string
	// HashesAtOnce bounds how many passwords are hashed at the same time, each
	// in 19 MiB; 0: 2.
	HashesAtOnce int
}

// Service knows the maker's people. It is safe for concurrent use.
type Service struct {
	d     Deps
	web   *webauthn.WebAuthn
	host  string
	hash  *hasher
	easy  func() *easyList
	begun ceremonies

	mu       sync.Mutex
	offers   map[string]offer // second factors that were offered, not yet confirmed
	refusals map[refusalKey]int
	guessed  map[PersonID]bool // who is to be told of guessing
}

// New checks its dependencies. The origin must be an https one, or on
// localhost: a browser makes no passkey elsewhere.
func New(_ context.Context, d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Keys == nil || d.Gate == nil || d.Now == nil || d.Name == "" || len(d.Key) < 32 {
		return nil, errors.New("access: a dependency is missing")
	}
	u, err := url.Parse(d.Origin)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, core.E(core.Invalid, "origin", fmt.Sprintf("the console's address %q cannot have passkeys", d.Origin), "give it as https://NAME or https://NAME:PORT")
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil, core.E(core.Invalid, "origin", "the console's address is a number, and passkeys need a name", "give the machine a name, or use https://localhost:PORT")
	}
	// As browsers write it (HTML, serialisation of an origin).
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	d.Origin = "https://" + u.Host
	if d.HashesAtOnce == 0 {
		d.HashesAtOnce = 2
	}
	s := &Service{
		d: d, host: u.Hostname(), hash: newHasher(d.HashesAtOnce), offers: map[string]offer{}, refusals: map[refusalKey]int{}, guessed: map[PersonID]bool{},
		easy: sync.OnceValue(newEasyList),
	}
	_, _ = rand.Read(s.begun.key[:]) // crypto/rand.Read never fails
	s.web, err = webauthn.New(&webauthn.Config{
		RPID: s.host, RPDisplayName: d.Name, RPOrigins: []string{d.Origin},
		AttestationPreference: protocol.PreferNoAttestation,
		// ASVS 6.3.3, WebAuthn §5.4.4: the authenticator itself asks who is
		// there, and it keeps the account's name, so nobody types one.
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	return s, nil
}

// From is where a request comes from.
type From struct {
	Source netip.Addr // of the socket
	Agent  string     // what the browser calls itself; shown to its person only
	Known  string     // the known-device cookie; "" for none
}

func (f From) attempt(m gate.Means, account string) gate.Attempt {
	known, _, _ := strings.Cut(f.Known, ".")
	return gate.Attempt{Means: m, Account: account, Source: f.Source, Known: gate.ParseKnown(known)}
}

// remember makes the cookie of a known device: the gate's proof, and ours that
// it is for this account, by which its password is hashed before strangers'.
func (s *Service) remember(p PersonID) (string, error) {
	known, err := s.d.Gate.Remember(string(p))
	if err != nil {
		return "", err
	}
	return known + "." + hex.EncodeToString(s.knownMAC(known, string(p))), nil
}

func (s *Service) knownMAC(known, account string) []byte {
	m := hmac.New(sha256.New, s.d.Key)
	m.Write([]byte("hawser known v1\x00" + known + "\x00" + account))
	return m.Sum(nil)
}

// knows says whether the browser signed in to this account before. It
// decides who waits for whom, never who gets in.
func (s *Service) knows(f From, account string) lane {
	known, mac, ok := strings.Cut(f.Known, ".")
	b, err := hex.DecodeString(mac)
	if !ok || err != nil || !hmac.Equal(b, s.knownMAC(known, account)) {
		return stranger
	}
	return knownBrowser
}

const maxAgentBytes = 200

func (f From) browser() Browser {
	agent := strings.ToValidUTF8(f.Agent[:min(len(f.Agent), maxAgentBytes)], "")
	return Browser{Agent: strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, agent), Source: f.Source.Unmap().String()}
}

func (s *Service) now() time.Time { return s.d.Now().UTC() }

// lookup is what a clean mail address is found by: without the key it cannot
// be guessed at.
func (s *Service) lookup(mail string) core.Hash {
	m := hmac.New(sha256.New, s.d.Key)
	m.Write([]byte("hawser mail v1\x00" + mail))
	return core.Hash(m.Sum(nil))
}

// What a sealed value of a person is.
const (
	sealDetails = "person.details"
	sealTOTP    = "person.totp"
	sealLabel   = "passkey.label"
	sealBrowser = "session.browser"
)

// view and update run one transaction with a result.
func view[T any](ctx context.Context, s *Service, fn func(Tx) (T, error)) (out T, err error) {
	err = s.d.View(ctx, func(tx Tx) error {
		var err error
		out, err = fn(tx)
		return err
	})
	return out, err
}

func update[T any](ctx context.Context, s *Service, fn func(Tx) (T, error)) (out T, err error) {
	err = s.d.Update(ctx, func(tx Tx) error {
		var err error
		out, err = fn(tx)
		return err
	})
	return out, err
}

func (s *Service) person(ctx context.Context, id PersonID) (PersonRow, error) {
	return view(ctx, s, func(tx Tx) (PersonRow, error) { return tx.Person(ctx, id) })
}

// record is a ledger record about a person. Nothing personal goes into facts.
func (s *Service) record(kind core.RecordKind, by core.Actor, p PersonRow, facts ...core.Fact) core.Record {
	return core.Record{
		Time: s.now().Truncate(time.Microsecond), Kind: kind, Actor: by, Subject: p.Subject,
		Facts: append([]core.Fact{{Name: "person", Value: string(p.ID)}}, facts...),
	}
}
