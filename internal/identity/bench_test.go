package identity_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// cpu reports what the process used per operation, which a busy machine
// changes less than the time.
func cpu(b *testing.B) func() {
	b.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func() { b.ReportMetric(float64((used()-start).Microseconds())/float64(b.N), "cpu-µs/op") }
}

// BenchmarkIdentify is the cost of admitting a connection after the TLS
// handshake, in a register of 10,000 devices.
func BenchmarkIdentify(b *testing.B) {
	f := newFixture(b)
	c := f.device("A1")
	for i := range 10000 {
		f.mustAdd(core.DeviceID(fmt.Sprintf("D%05d", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.svc.Identify(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyLeaf is the chain verification of a handshake.
func BenchmarkVerifyLeaf(b *testing.B) {
	f := newFixture(b)
	c := f.device("A1")
	b.ReportAllocs()
	for b.Loop() {
		if err := f.svc.VerifyLeaf(c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnrol is a device's first enrolment: code, owner and key, request,
// lint, signature, ledger, all durable. The device's own work is not counted.
func BenchmarkEnrol(b *testing.B) { benchEnrol(b, false) }

// BenchmarkEnrolParallel is the same, many devices at once.
func BenchmarkEnrolParallel(b *testing.B) { benchEnrol(b, true) }

func benchEnrol(b *testing.B, parallel bool) {
	f := newFixture(b)
	type unit struct {
		id   core.DeviceID
		code string
		csr  []byte
	}
	units := make([]unit, b.N)
	for i := range units {
		id := core.DeviceID(fmt.Sprintf("D%07d", i))
		units[i] = unit{id, f.mustAdd(id), csrFor(b, newKey(b), id)}
	}
	enrol := func(ctx context.Context, u unit) {
		if _, err := f.svc.Enrol(ctx, home, u.id, u.code, u.csr); err != nil {
			b.Error(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	if !parallel {
		for _, u := range units {
			enrol(b.Context(), u)
		}
	} else {
		var next atomic.Int64
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				enrol(b.Context(), units[next.Add(1)-1])
			}
		})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
}

// BenchmarkRenew is a renewal: request, lint, signature, ledger, durable.
func BenchmarkRenew(b *testing.B) {
	f := newFixture(b)
	certs := make([]*x509.Certificate, b.N)
	csrs := make([][]byte, b.N)
	for i := range certs {
		id := core.DeviceID(fmt.Sprintf("D%07d", i))
		certs[i] = f.device(id)
		csrs[i] = csrFor(b, newKey(b), id)
	}
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	for i, c := range certs {
		if _, err := f.svc.Renew(b.Context(), c, csrs[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "renewals/s")
}

// BenchmarkWake is the day after an outage: devices whose certificates ran out
// renew them, and use what they got, from several connections at once. None may
// stay behind.
func BenchmarkWake(b *testing.B) {
	f := newFixture(b)
	terms := f.terms[product]
	terms.MaySleep = 30 * 24 * time.Hour
	f.terms[product] = terms
	certs := make([]*x509.Certificate, b.N)
	csrs := make([][]byte, b.N)
	for i := range certs {
		id := core.DeviceID(fmt.Sprintf("D%07d", i))
		certs[i] = f.device(id)
		csrs[i] = csrFor(b, newKey(b), id)
	}
	f.advance(terms.Life + 10*24*time.Hour)
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	var next, back atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1) - 1
			chain, err := f.svc.Renew(b.Context(), certs[i], csrs[i])
			if err != nil {
				b.Error(err)
				return
			}
			c, err := x509.ParseCertificate(chain[0])
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := f.svc.Identify(b.Context(), c); err != nil {
				b.Error(err)
				return
			}
			back.Add(1)
		}
	})
	if n := back.Load(); n != int64(b.N) {
		b.Errorf("%d of %d are back", n, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "devices/s")
}

// BenchmarkStart is the time to load a register of 20,000 enrolled devices.
func BenchmarkStart(b *testing.B) {
	const n = 20000
	f := newFixture(b)
	now := f.clock()
	err := f.store.Update(b.Context(), func(tx *store.Tx) error {
		for i := range n {
			id := core.DeviceID(fmt.Sprintf("D%07d", i))
			d := identity.DeviceRow{ID: id, Product: product, Revision: 1, Added: now, Ownerships: 1}
			copy(d.Unit[:], id)
			c := identity.CertificateRow{
				Device: id, NotBefore: now, NotAfter: now.Add(time.Hour), State: identity.Confirmed, Door: identity.DoorCode, Issued: now, Confirmed: now,
			}
			copy(c.Serial[:], id)
			o := identity.OwnershipRow{Device: id, Actor: core.Job("bench"), Opened: now, Done: true}
			copy(o.Subject[:], id)
			for _, err := range []error{tx.InsertDevice(b.Context(), d), tx.InsertCertificate(b.Context(), c), tx.InsertOwnership(b.Context(), o)} {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := f.serve(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(n/(b.Elapsed().Seconds()/float64(b.N)), "devices/s")
}
