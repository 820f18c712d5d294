package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // only where -pprof asks for it
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed bench.yaml
var declared []byte

// terms makes one declaration the policies of identity.
type terms struct{ p *declaration.Policy }

func (t terms) Terms(context.Context, core.ProductID) (identity.Terms, error) {
	return identity.Terms{Life: t.p.Identity.Life, MaySleep: t.p.Identity.MaySleep, Policy: t.p.Hash}, nil
}

// records is the journal as telemetry wants it.
type records struct{ j *journal.Journal }

func (r records) Submit(rec []byte, c telemetry.Completion, token uint64) error {
	return r.j.Submit(rec, c, token)
}

// serve is the door with n enrolled devices, until it is interrupted. It
// prints "ready" when it listens.
func serve(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	dir := fs.String("dir", "", "folder for everything; made anew")
	addr := fs.String("addr", "127.0.0.1:18884", "address to listen on")
	n := fs.Int("n", 100, "devices to enrol; their certificates go to DIR/devices")
	prof := fs.String("pprof", "", "address of a profiling endpoint")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *prof != "" {
		go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(*prof, nil)) }()
	}
	at := func(p ...string) string { return filepath.Join(append([]string{*dir}, p...)...) }
	now := time.Now
	d, err := declaration.Parse("bench.yaml", declared)
	if err != nil {
		return err
	}
	policy, err := declaration.Compile(d)
	if err != nil {
		return err
	}
	if err := identity.CreateCA(identity.CAOptions{Environment: core.Test, RootDir: at("root"), Dir: at("ca"), Now: now}); err != nil {
		return err
	}
	ca, err := identity.OpenCA(identity.OpenOptions{Environment: core.Test, Dir: at("ca"), Now: now})
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{Dir: at("data")})
	if err != nil {
		return err
	}
	defer st.Close()
	roots, err := kms.OpenFile(kms.FileOptions{Dir: at("roots")})
	if err != nil {
		return err
	}
	keys, err := seal.Create(ctx, seal.Options{Copies: []string{at("a", "keyring"), at("b", "keyring")}, Roots: roots, Now: now})
	if err != nil {
		return err
	}
	defer keys.Close()
	jr, err := journal.Open(ctx, journal.Options{Dir: at("journal"), MaxBytes: 4 << 30, Now: now})
	if err != nil {
		return err
	}
	turnstile, err := gate.New(ctx, gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			return st.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return st.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: now, Key: make([]byte, 32),
	})
	if err != nil {
		return err
	}
	ids, err := identity.New(ctx, identity.Deps{
		Gate: turnstile, CA: ca, Policies: terms{policy}, Keys: keys, Now: now, Notify: func(identity.Change) {},
		Update: func(ctx context.Context, fn func(identity.Tx) error) error {
			return st.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(identity.Tx) error) error {
			return st.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
	})
	if err != nil {
		return err
	}
	intake, err := telemetry.NewIntake(telemetry.IntakeDeps{Keys: keys, Journal: records{jr}, Now: now})
	if err != nil {
		return err
	}
	plan, err := telemetry.NewPlan(policy, now().AddDate(-1, 0, 0))
	if err != nil {
		return err
	}
	intake.SetPlan(plan)
	if err := intake.Prepare(ctx); err != nil {
		return err
	}
	cert, err := identity.NewServerCertificate(ca, []string{"localhost", "127.0.0.1"})
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Deps{
		Config:      gateway.Config{DeviceMessagesPerSecond: -1, DeviceBytesPerSecond: -1},
		Environment: core.Test, Certificate: cert.GetCertificate, DeviceCAs: ca.ClientPool,
		Identity: ids, Intake: intake, Now: now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	// A hundred devices at full load send faster than a declaration may allow
	// each of them: the buckets are asked all the same, and never run dry.
	fast := *policy
	fast.Streams = append([]declaration.Stream(nil), policy.Streams...)
	for i := range fast.Streams {
		fast.Streams[i].Every = time.Microsecond
	}
	g.SetPolicy(&fast)
	if err := enrol(ctx, ids, ca, at("devices"), *n); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, l) }()
	go trim(ctx, jr)
	fmt.Println("ready")
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	commits := jr.State().Last
	err = errors.Join(g.Shutdown(end), <-served, jr.Close(end))
	s := g.Stats()
	fmt.Fprintf(os.Stderr, "received %d submitted %d refused %d acks %d in %d records, %d commits, ended %v\n", s.Received, s.Submitted, s.Refused, s.Acks, s.AckWrites, commits, s.Ended)
	return err
}

// trim keeps the journal short, as a projector does.
func trim(ctx context.Context, j *journal.Journal) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := j.Trim(ctx, j.State().Last); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "trim:", err)
			}
		}
	}
}

// enrol gives n devices their certificates, and writes them as PEM files.
func enrol(ctx context.Context, ids *identity.Service, ca *identity.CA, dir string, n int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	write := func(name, kind string, blocks ...[]byte) error {
		var b bytes.Buffer
		for _, der := range blocks {
			if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600)
	}
	if err := write("ca.crt", "CERTIFICATE", ca.Root().Raw); err != nil {
		return err
	}
	staff := core.Actor{Kind: core.ActorStaff, ID: "os:bench(0)"}
	for i := range n {
		id := core.DeviceID(fmt.Sprintf("dev-%05d", i))
		code, err := ids.AddDevice(ctx, staff, "bench", id)
		if err != nil {
			return err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		chain, err := ids.Enrol(ctx, netip.AddrFrom4([4]byte{127, 0, 0, 1}), id, code, csr)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := errors.Join(write(string(id)+".crt", "CERTIFICATE", chain...), write(string(id)+".key", "PRIVATE KEY", der)); err != nil {
			return err
		}
	}
	return nil
}
