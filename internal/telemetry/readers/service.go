package readers

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// The records of the register.
const (
	RecordAdded     core.RecordKind = "service-added"
	RecordCertified core.RecordKind = "service-certified"
	RecordRevoked   core.RecordKind = "service-revoked"
	RecordRefused   core.RecordKind = "service-refused"
)

// Authority issues readers' certificates and reads their names.
type Authority interface {
	Issue(service string, csr []byte) (*x509.Certificate, error)
	// Named says whom a certificate with a verified chain names.
	Named(leaf *x509.Certificate) (service string, number Number, ok bool)
	Chain() [][]byte
}

// Deps is what a Service needs; all of it is required.
type Deps struct {
	Update    func(context.Context, func(Tx) error) error
	View      func(context.Context, func(Tx) error) error
	Authority Authority
	Files     telemetry.Stretches
	Keys      telemetry.FollowKeys
	// Versions are all versions of a product's declaration, oldest first;
	// Current are those in force.
	Versions func(context.Context, core.ProductID) ([]*declaration.Policy, error)
	Current  func(context.Context) ([]*declaration.Policy, error)
	// Moved is closed when the projector next has filed something.
	Moved func() <-chan struct{}
	Now   func() time.Time
	Log   *slog.Logger
}

// Service is the register of readers and what serves them. It is safe for
// concurrent use.
type Service struct {
	d     Deps
	views views
	posts postings

	change sync.Mutex // one change of the register at a time

	mu      sync.RWMutex // guards what follows
	readers map[string]*registered
	certs   map[Number]*Certificate
	refused refusals
	wake    chan struct{} // closed when an event was added
}

// registered is a reader and what ends its streams.
type registered struct {
	Reader
	gone chan struct{} // closed when it is revoked
	busy chan struct{} // places for requests
	pace *rate.Limiter
}

// atOnce is how many requests of one reader are served at once, aSecond how
// many begin.
const (
	atOnce  = 8
	aSecond = 200
)

// New reads the register.
func New(ctx context.Context, d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Authority == nil || d.Files == nil || d.Keys == nil || d.Versions == nil || d.Current == nil ||
		d.Moved == nil || d.Now == nil || d.Log == nil {
		return nil, errors.New("readers: a dependency is missing")
	}
	s := &Service{d: d, readers: map[string]*registered{}, certs: map[Number]*Certificate{}, wake: make(chan struct{})}
	err := d.View(ctx, func(tx Tx) error {
		all, err := tx.Readers(ctx)
		if err != nil {
			return err
		}
		for _, r := range all {
			s.readers[r.Name] = enter(r)
		}
		certs, err := tx.ReaderCertificates(ctx)
		for i := range certs {
			s.certs[certs[i].Number] = &certs[i]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the register of services: %w", err)
	}
	return s, nil
}

func enter(r Reader) *registered {
	x := &registered{Reader: r, gone: make(chan struct{}), busy: make(chan struct{}, atOnce), pace: rate.NewLimiter(aSecond, aSecond)}
	if !r.Revoked.IsZero() {
		close(x.gone)
	}
	return x
}

// Any reports whether a reader was ever registered: then the door is open.
func (s *Service) Any() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.readers) > 0
}

// Bounds of how long a reader may take to answer an order.
const (
	MinAnswer     = time.Minute
	MaxAnswer     = 30 * 24 * time.Hour
	DefaultAnswer = 24 * time.Hour
)

// maxReaders bounds the register.
const maxReaders = 64

// Add registers a service that a declaration in force names (CC 1.6). It can
// do nothing before it has a certificate. One that was revoked comes back,
// without its old certificates.
func (s *Service) Add(ctx context.Context, by core.Actor, name string, answerIn time.Duration) (Reader, error) {
	if answerIn == 0 {
		answerIn = DefaultAnswer
	}
	if answerIn < MinAnswer || answerIn > MaxAnswer || answerIn%time.Second != 0 {
		return Reader{}, core.E(core.Invalid, "answer-within", "the time to answer an order is not between a minute and 30 days", "write it as in 24h")
	}
	products, err := s.declaring(ctx, name)
	if err != nil {
		return Reader{}, err
	}
	if len(products) == 0 {
		return Reader{}, core.E(core.Denied, "undeclared-service", fmt.Sprintf("no declaration in force names a service %q", name),
			"name it under `services` and among the `readers` of fields, and publish the declaration")
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	old, count := s.readers[name], len(s.readers)
	s.mu.RUnlock()
	if old != nil && old.Revoked.IsZero() {
		return Reader{}, core.E(core.Conflict, "service-registered", fmt.Sprintf("%s is registered", name), "`hawser service show "+name+"` shows it")
	}
	if old == nil && count >= maxReaders {
		return Reader{}, core.E(core.TooMany, "services", fmt.Sprintf("there are %d services", count), "an installation has at most that many")
	}
	r := Reader{Name: name, Added: micro(s.d.Now()), AnswerIn: answerIn, Key: newKey()}
	if old != nil {
		r.Key = old.Key
	}
	rec := core.Record{Time: r.Added, Kind: RecordAdded, Actor: by, Facts: []core.Fact{
		{Name: "service", Value: name}, {Name: "products", Value: joined(products)}, {Name: "answer_seconds", Value: fmt.Sprint(int64(answerIn / time.Second))},
	}}
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutReader(ctx, r); err != nil {
			return err
		}
		return tx.Record(ctx, rec)
	})
	if err != nil {
		return Reader{}, fmt.Errorf("register service %s: %w", name, err)
	}
	s.mu.Lock()
	s.readers[name] = enter(r)
	s.mu.Unlock()
	return r, nil
}

// declaring are the products whose declaration in force names a service.
func (s *Service) declaring(ctx context.Context, name string) ([]core.ProductID, error) {
	all, err := s.d.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the declarations in force: %w", err)
	}
	var out []core.ProductID
	for _, p := range all {
		if slices.ContainsFunc(p.Services, func(x declaration.OwnService) bool { return x.Name == name }) {
			out = append(out, p.Product)
		}
	}
	return out, nil
}

// Issued is a new certificate of a reader, DER, and what it shows with it.
type Issued struct {
	Certificate []byte
	Chain       [][]byte
	NotAfter    time.Time
}

// maxGood bounds the certificates of one reader that are good at once: a new
// one beside the one that it replaces, for each of a few machines.
const maxGood = 8

// Certify issues a certificate to a registered reader: to whoever the maker
// gives it, or to the reader itself that renews. The key is the reader's own.
func (s *Service) Certify(ctx context.Context, by core.Actor, name string, csr []byte) (Issued, error) {
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.good(name); err != nil {
		return Issued{}, err
	}
	now := s.d.Now()
	s.mu.RLock()
	n := 0
	for _, c := range s.certs {
		if c.Reader == name && c.Ended.IsZero() && now.Before(c.NotAfter) {
			n++
		}
	}
	s.mu.RUnlock()
	if n >= maxGood {
		return Issued{}, core.E(core.TooMany, "certificates", fmt.Sprintf("%s has %d good certificates", name, n), "wait until one runs out, or revoke the service and register it anew")
	}
	leaf, err := s.d.Authority.Issue(name, csr)
	if err != nil {
		return Issued{}, err
	}
	named, number, ok := s.d.Authority.Named(leaf)
	if !ok || named != name {
		return Issued{}, fmt.Errorf("certify %s: the certificate does not name it", name)
	}
	c := &Certificate{Number: number, Reader: name, DER: leaf.Raw, Issued: micro(now), NotAfter: leaf.NotAfter.UTC()}
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutReaderCertificate(ctx, *c); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: c.Issued, Kind: RecordCertified, Actor: by, Facts: []core.Fact{
			{Name: "service", Value: name}, {Name: "certificate", Value: fmt.Sprintf("%x", c.Number[:])}, {Name: "until", Value: c.NotAfter.Format(time.RFC3339)},
		}})
	})
	if err != nil {
		return Issued{}, fmt.Errorf("certify %s: %w", name, err)
	}
	s.mu.Lock()
	s.certs[number] = c
	s.mu.Unlock()
	return Issued{Certificate: leaf.Raw, Chain: s.d.Authority.Chain(), NotAfter: c.NotAfter}, nil
}

// good is a registered reader that was not revoked.
func (s *Service) good(name string) (*registered, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.readers[name]
	if r == nil || !r.Revoked.IsZero() {
		return nil, core.E(core.Unknown, "no-such-service", "there is no such service", "`hawser service list` shows them; `hawser service add` registers one that a declaration names")
	}
	return r, nil
}

// Causes are the words for why a service was revoked.
func Causes() []string { return []string{"compromised", "replaced", "no-longer-needed"} }

// Revoke ends a reader: its streams are cut before it returns, and none of its
// certificates opens the door again. What it must still do stays due.
func (s *Service) Revoke(ctx context.Context, by core.Actor, name, cause string) error {
	if !slices.Contains(Causes(), cause) {
		return core.E(core.Invalid, "cause", fmt.Sprintf("%q is no cause", cause), "give one of compromised, replaced, no-longer-needed")
	}
	s.change.Lock()
	defer s.change.Unlock()
	r, err := s.good(name)
	if err != nil {
		return err
	}
	now := micro(s.d.Now())
	s.mu.RLock()
	var ended []Certificate
	for _, c := range s.certs {
		if c.Reader == name && c.Ended.IsZero() {
			x := *c
			x.Ended = now
			ended = append(ended, x)
		}
	}
	s.mu.RUnlock()
	over := r.Reader
	over.Revoked = now
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutReader(ctx, over); err != nil {
			return err
		}
		for _, c := range ended {
			if err := tx.PutReaderCertificate(ctx, c); err != nil {
				return err
			}
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordRevoked, Actor: by, Facts: []core.Fact{
			{Name: "service", Value: name}, {Name: "cause", Value: cause}, {Name: "certificates", Value: fmt.Sprint(len(ended))},
		}})
	})
	if err != nil {
		return fmt.Errorf("revoke service %s: %w", name, err)
	}
	s.mu.Lock()
	s.readers[name] = enter(over)
	for i := range ended {
		s.certs[ended[i].Number] = &ended[i]
	}
	s.mu.Unlock()
	close(r.gone)
	return nil
}

// RevokedCertificates are those of services that belong on the authority's list
// (RFC 5280 §5).
func (s *Service) RevokedCertificates() []x509.RevocationListEntry {
	now := s.d.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []x509.RevocationListEntry
	for _, c := range s.certs {
		if !c.Ended.IsZero() && c.NotAfter.After(now) {
			out = append(out, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(c.Number[:]), RevocationTime: c.Ended.Truncate(time.Second)})
		}
	}
	return out
}

// Peer is a reader at the other end of a connection.
type Peer struct {
	Name   string
	Number Number // of its certificate
	Leaf   *x509.Certificate

	gone <-chan struct{}
	busy chan struct{}
	pace *rate.Limiter
}

// Gone is closed when the reader is revoked.
func (p *Peer) Gone() <-chan struct{} { return p.gone }

// Admit says which reader a certificate with a verified chain is. Only one that
// the register issued, to a reader that it holds, is admitted (CC 1.6, 3.4).
func (s *Service) Admit(leaf *x509.Certificate) (*Peer, error) {
	denied := func(reason string) error {
		return core.E(core.Denied, reason, "this certificate is not accepted here", "register the service and give it a certificate: `hawser service add`")
	}
	name, number, ok := s.d.Authority.Named(leaf)
	if !ok {
		return nil, denied("not-a-service")
	}
	now := s.d.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, r := s.certs[number], s.readers[name]
	switch {
	case c == nil || r == nil || c.Reader != name || !bytes.Equal(c.DER, leaf.Raw):
		return nil, denied("unlisted-service")
	case !c.Ended.IsZero() || !r.Revoked.IsZero():
		return nil, denied("revoked")
	case !now.Before(c.NotAfter) || now.Before(leaf.NotBefore):
		return nil, denied("expired")
	}
	return &Peer{Name: name, Number: number, Leaf: leaf, gone: r.gone, busy: r.busy, pace: r.pace}, nil
}

// Enter takes one of the places for a reader's requests; leave gives it back.
func (p *Peer) Enter() (leave func(), err error) {
	if !p.pace.Allow() {
		return nil, core.E(core.TooMany, "requests-a-second", fmt.Sprintf("this service makes more than %d requests a second", aSecond), "ask with a wait, or read by server-sent events")
	}
	select {
	case p.busy <- struct{}{}:
		return func() { <-p.busy }, nil
	default:
		return nil, core.E(core.TooMany, "requests-at-once", fmt.Sprintf("%d requests of this service are being served", atOnce), "one stream for each product is enough; close the others")
	}
}

// micro is a time as storage keeps it.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func joined[T ~string](list []T) string {
	var b []byte
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, x...)
	}
	return string(b)
}
