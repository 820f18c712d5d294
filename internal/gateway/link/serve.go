package link

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
)

// linkHeader names the link in every request but the first.
const linkHeader = "Hawser-Link"

// Serve answers gateways on l until ctx ends, and then closes l.
func (k *Keeper) Serve(ctx context.Context, l net.Listener) error {
	conf, err := tlsOf(k.d.Secret)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: k.handler(), TLSConfig: conf, ReadHeaderTimeout: askTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(k.d.Log.Handler(), slog.LevelDebug), // who does not have the key: it is counted nowhere, because only servers reach it
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 10_000, SendPingTimeout: time.Second, PingTimeout: time.Second},
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // gateways find the next keeper by themselves
	defer stop()
	defer func() { _ = s.Close() }() // whoever closed the listener means everybody
	if err := s.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve gateways: %w", err)
	}
	return nil
}

func (k *Keeper) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /hello", func(w http.ResponseWriter, r *http.Request) {
		var q helloRequest
		if read(w, r, maxHello, &q) {
			a, err := k.join(r.Context(), q, r.RemoteAddr)
			write(w, a, err)
		}
	})
	m.HandleFunc("POST /poll", func(w http.ResponseWriter, r *http.Request) {
		var q pollRequest
		if p := k.who(w, r); p != nil && read(w, r, maxRequest, &q) {
			a, err := k.poll(r.Context(), p, q)
			write(w, a, err)
		}
	})
	m.HandleFunc("POST /answer", func(w http.ResponseWriter, r *http.Request) {
		var q answer
		if p := k.who(w, r); p != nil && read(w, r, maxAnswer, &q) {
			p.answered(q)
			write(w, nil, nil)
		}
	})
	for name, f := range k.questions() {
		m.HandleFunc("POST /ask/"+name, func(w http.ResponseWriter, r *http.Request) {
			var q question
			if p := k.who(w, r); p != nil && read(w, r, maxRequest, &q) {
				a, err := f(r.Context(), p, &q)
				write(w, a, err)
			}
		})
	}
	return m
}

// who is the link of a request; nil when that was answered.
func (k *Keeper) who(w http.ResponseWriter, r *http.Request) *peer {
	p, err := k.find(r.Header.Get(linkHeader))
	if err != nil {
		write(w, nil, err)
		return nil
	}
	return p
}

func read(w http.ResponseWriter, r *http.Request, limit int64, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(into); err != nil {
		write(w, nil, core.E(core.Invalid, "link-request", "a gateway's request cannot be read", "see that all servers run the same version"))
		return false
	}
	return true
}

func write(w http.ResponseWriter, body any, err error) {
	r := reply{Problem: problemOf(err)}
	if err == nil {
		r.Body = body
	}
	b, err := json.Marshal(r)
	if err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // who does not read it asks again
}

// What the keeper is asked, by the path.
const (
	askIdentify      = "identify"
	askRecheck       = "recheck"
	askSuspect       = "suspect"
	askToken         = "token"
	askLeaf          = "leaf"
	askIdentifyLeaf  = "identify-leaf"
	askRecheckLegacy = "recheck-legacy"
	askVouched       = "vouched"
	askPropose       = "propose"
	askSpokeFor      = "spoke-for-others"
	askNext          = "next"
	askTaken         = "taken"
	askReply         = "reply"
	askSettings      = "settings"
	askSettingsTaken = "settings-taken"
	askReport        = "report"
	askRemember      = "remember"
	askClaim         = "claim"
	askFought        = "fought"
	askCalm          = "calm"
	askLend          = "lend"
	askEpoch         = "epoch"
)

// settingsAnswer is the answer to askSettings.
type settingsAnswer struct {
	Message command.Message
	Due     bool
}

// questions are the answers to everything that a gateway asks.
func (k *Keeper) questions() map[string]func(context.Context, *peer, *question) (any, error) {
	d := &k.d
	leaf := func(q *question) (*x509.Certificate, error) {
		c, err := x509.ParseCertificate(q.Leaf)
		if err != nil {
			return nil, core.E(core.Invalid, "certificate", "a gateway's certificate of a device cannot be read", "")
		}
		return c, nil
	}
	byLeaf := func(f func(context.Context, *x509.Certificate) (identity.Identified, error)) func(context.Context, *peer, *question) (any, error) {
		return func(ctx context.Context, _ *peer, q *question) (any, error) {
			c, err := leaf(q)
			if err != nil {
				return nil, err
			}
			return f(ctx, c)
		}
	}
	done := func(f func(context.Context, *question) error) func(context.Context, *peer, *question) (any, error) {
		return func(ctx context.Context, _ *peer, q *question) (any, error) { return nil, f(ctx, q) }
	}
	return map[string]func(context.Context, *peer, *question) (any, error){
		askIdentify: byLeaf(d.Identity.Identify),
		askRecheck: byLeaf(func(_ context.Context, c *x509.Certificate) (identity.Identified, error) {
			return d.Identity.Recheck(c)
		}),
		askSuspect: done(func(ctx context.Context, q *question) error { return d.Identity.Suspect(ctx, q.Device, q.Word) }),
		askToken: func(ctx context.Context, _ *peer, q *question) (any, error) {
			return d.Legacy.IdentifyToken(ctx, q.Source, q.User, q.Token)
		},
		askLeaf: func(_ context.Context, _ *peer, q *question) (any, error) {
			c, err := leaf(q)
			if err != nil {
				return nil, err
			}
			known, err := d.Legacy.RegisteredLeaf(c)
			return leafAnswer{known, problemOf(err)}, nil
		},
		askIdentifyLeaf: byLeaf(d.Legacy.IdentifyLeaf),
		askRecheckLegacy: func(_ context.Context, _ *peer, q *question) (any, error) {
			return d.Legacy.RecheckLegacy(q.Serial)
		},
		askVouched: func(_ context.Context, _ *peer, q *question) (any, error) {
			return d.Children.Vouched(q.Device, []byte(q.Child)), nil
		},
		askPropose:  done(func(ctx context.Context, q *question) error { return d.Children.Propose(ctx, q.Device, q.Child) }),
		askSpokeFor: done(func(ctx context.Context, q *question) error { return d.Children.SpokeForOthers(ctx, q.Device) }),
		askNext: func(ctx context.Context, _ *peer, q *question) (any, error) {
			return d.Downlink.Next(ctx, q.Device, q.Subject, q.Number, q.Count)
		},
		askTaken: done(func(ctx context.Context, q *question) error { return d.Downlink.Taken(ctx, q.Device, q.Number, q.Yes) }),
		askReply: done(func(ctx context.Context, q *question) error {
			return d.Downlink.Reply(ctx, q.Device, q.Subject, q.Word, q.ID, q.Payload)
		}),
		askSettings: func(ctx context.Context, _ *peer, q *question) (any, error) {
			m, due, err := d.Downlink.Settings(ctx, q.Device, q.Subject, q.Number)
			return settingsAnswer{m, due}, err
		},
		askSettingsTaken: done(func(ctx context.Context, q *question) error { return d.Downlink.SettingsTaken(ctx, q.Device, q.Number) }),
		askReport: done(func(ctx context.Context, q *question) error {
			return d.Downlink.Report(ctx, q.Device, q.Subject, q.Payload)
		}),
		askRemember: done(func(ctx context.Context, q *question) error { return d.Memory.Remember(ctx, q.Sessions) }),
		askClaim: func(ctx context.Context, p *peer, q *question) (any, error) {
			if q.Claim == nil {
				return nil, core.E(core.Invalid, "link-request", "a claim without a session", "")
			}
			return d.Registry.Claim(ctx, p.name, *q.Claim)
		},
		askFought: func(ctx context.Context, _ *peer, q *question) (any, error) {
			if q.Fight == nil {
				return nil, core.E(core.Invalid, "link-request", "a fight without a session", "")
			}
			return d.Registry.Fought(ctx, *q.Fight)
		},
		askCalm: done(func(_ context.Context, q *question) error { d.Registry.Calm(q.Device); return nil }),
		askLend: func(ctx context.Context, _ *peer, q *question) (any, error) {
			return d.Lender.Lend(ctx, q.Subject, q.Epoch)
		},
		askEpoch: done(func(ctx context.Context, q *question) error { return d.Lender.EnsureEpoch(ctx, q.Epoch) }),
	}
}

// leafAnswer is the answer to askLeaf.
type leafAnswer struct {
	Known   bool
	Problem *problem `json:",omitempty"`
}

// plain makes a failed request readable: it names neither address nor path.
func plain(err error) error {
	return core.E(core.Unavail, "keeper-unreached", "the server that has the keys is not reached: "+strings.TrimSpace(lastPart(err)), "it is asked again by itself")
}

func lastPart(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

var (
	_ gateway.Place = (*peer)(nil)
	_ seal.Lender   = (*Gateway)(nil)
)
