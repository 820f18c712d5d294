package link

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Sight is for how long a gateway serves without news from the keeper. With the
// keeper's own time without sight of the database it stays below the 5 s after
// which nothing may be taken of who was revoked (design, section 8).
const Sight = 4 * time.Second

const (
	// fenceMargin is added to Sight before a gateway that is not reached counts
	// as one that serves nobody.
	fenceMargin = 250 * time.Millisecond
	// pollHold is how long the keeper waits for news before it says that there
	// are none. The answer is as old as its question.
	pollHold = 500 * time.Millisecond
	// askTimeout bounds one question to the keeper.
	askTimeout = 5 * time.Second

	maxRequest = 1 << 20 // bytes
	maxHello   = 64 << 20
	maxAnswer  = 64 << 20
	maxEvents  = 100_000 // that wait for a gateway, which is given up then
)

// Policy is a declaration in force.
type Policy struct {
	Canonical []byte
	First     time.Time // when the product's first version was published
}

// State is what a gateway says of itself.
type State struct {
	Version  string
	Devices  string // the address of its door
	Sessions int
	Accepted uint64 // readings, since it was started
	Refused  uint64 // messages
}

type helloRequest struct {
	Name string
	Have []gateway.Held
}

type helloAnswer struct {
	Link         string
	Environment  core.Environment
	Installation string
	Policies     []Policy
}

type pollRequest struct {
	After  uint64 // the last event that was done
	State  State
	Strays []telemetry.Stray
}

type pollAnswer struct {
	Events      []event
	Unseen      time.Duration // for how long the keeper has not known that it is
	TakesTokens bool
}

// event is one thing that a gateway has to do, in its turn. One with a call is
// answered.
type event struct {
	N       uint64
	Change  *identity.Change `json:",omitempty"`
	Wake    core.DeviceID    `json:",omitempty"`
	Refresh core.DeviceID    `json:",omitempty"`
	Retire  *core.Subject    `json:",omitempty"`
	Forget  *core.Subject    `json:",omitempty"`
	Enforce *Policy          `json:",omitempty"`
	Yield   *gateway.Yield   `json:",omitempty"`
	Call    string           `json:",omitempty"` // callSettle, callSessions
}

const (
	callSettle   = "settle"
	callSessions = "sessions"
)

func (e *event) asks() bool { return e.Yield != nil || e.Call != "" }

// answer is a gateway's to an event.
type answer struct {
	N       uint64
	Problem *problem          `json:",omitempty"`
	Yielded *gateway.Yielded  `json:",omitempty"`
	Settled uint64            `json:",omitempty"`
	Listed  []gateway.Session `json:",omitempty"`
}

// question is what a gateway asks of the keeper; each uses what it needs.
type question struct {
	Leaf     []byte              `json:",omitempty"`
	Serial   identity.Serial     `json:",omitzero"`
	Device   core.DeviceID       `json:",omitempty"`
	Subject  core.Subject        `json:",omitzero"`
	Child    core.DeviceID       `json:",omitempty"`
	Epoch    core.Epoch          `json:",omitzero"`
	Source   netip.Addr          `json:",omitzero"`
	User     []byte              `json:",omitempty"`
	Token    []byte              `json:",omitempty"`
	Word     string              `json:",omitempty"` // a reason, or a name
	ID       string              `json:",omitempty"`
	Number   uint64              `json:",omitempty"`
	Count    int                 `json:",omitempty"`
	Yes      bool                `json:",omitempty"`
	Payload  []byte              `json:",omitempty"`
	Claim    *gateway.Claim      `json:",omitempty"`
	Fight    *gateway.Fight      `json:",omitempty"`
	Sessions []command.Listening `json:",omitempty"`
}

// problem is an error on its way.
type problem struct {
	Kind    core.Kind
	Reason  string
	Message string
	Hint    string        `json:",omitempty"`
	After   time.Duration `json:",omitempty"` // of a refusal that passes
	Is      string        `json:",omitempty"` // of sentinels, whose error it is
}

// reply is the keeper's to anything.
type reply struct {
	Problem *problem `json:",omitempty"`
	Body    any      `json:",omitempty"`
}

// sentinels are the errors that callers ask for by themselves.
func sentinels() map[string]error {
	return map[string]error{"no-command": command.ErrNoCommand, "reply": command.ErrReply, "report": wire.ErrReport, "no-key": seal.ErrNoKey}
}

// problemOf is an error for the other end; nil for none. What has no kind is
// trouble of ours, and is told without its text.
func problemOf(err error) *problem {
	if err == nil {
		return nil
	}
	p := &problem{Kind: core.Unavail, Reason: "keeper", Message: "the server that has the keys cannot answer"}
	if e, ok := errors.AsType[*core.Error](err); ok {
		p.Kind, p.Reason, p.Message, p.Hint = e.Kind, e.Reason, e.Message, e.Hint
	}
	if r, ok := errors.AsType[*identity.RetryError](err); ok {
		p.After = r.After
	}
	for name, s := range sentinels() {
		if errors.Is(err, s) {
			p.Is = name
		}
	}
	return p
}

// err is the error that a problem was made of, as far as anybody asks.
func (p *problem) err() error {
	if p == nil {
		return nil
	}
	e := &core.Error{Kind: p.Kind, Reason: p.Reason, Message: p.Message, Hint: p.Hint, Err: sentinels()[p.Is]}
	if p.After > 0 {
		return &identity.RetryError{Refusal: e, After: p.After}
	}
	return e
}

// reasonUnknown says that the keeper does not know the link: the gateway says
// hello anew.
const reasonUnknown = "link-unknown"

// secretInfo is what the secret is used for, and nothing else is.
const secretInfo = "hawser link between servers v1"

// Secret derives the secret of the link from a key that every server of an
// installation has, and nobody else.
func Secret(key []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, key, nil, secretInfo, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the secret between servers: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// tlsOf is the TLS of both ends: each shows a certificate for the one key, and
// takes nobody who shows another.
func tlsOf(secret ed25519.PrivateKey) (*tls.Config, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<34, 0)}
	own := secret.Public().(ed25519.PublicKey)
	der, err := x509.CreateCertificate(rand.Reader, template, template, own, secret)
	if err != nil {
		return nil, fmt.Errorf("make the certificate between servers: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: secret}},
		ClientAuth:   tls.RequireAnyClientCert,
		// Names and times say nothing here; the key does, and it is held below.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 1 {
				if pub, ok := c.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok && subtle.ConstantTimeCompare(pub, own) == 1 {
					return nil
				}
			}
			return errors.New("who is there is no server of this installation: gate_key differs")
		},
		SessionTicketsDisabled: true, // resumed ones show no certificate
	}, nil
}
