package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// BenchmarkChecks measures what it costs to look all the time: every check of
// an installation with 100,000 devices (FLEET another number), 100 of which are
// connected and sent readings of a week, as often as it is looked. The share of one core is the
// sum over all checks of the processor time of a look divided by how long it is
// until the next.
func BenchmarkChecks(b *testing.B) {
	fleet := 100_000
	if n, err := strconv.Atoi(os.Getenv("FLEET")); err == nil {
		fleet = n
	}
	t := crowded(b, fleet)
	round := job{}
	for _, j := range t.s.jobs {
		if j.name == "evidence-rounds" {
			round.run, round.period = j.run, j.period
		}
	}
	if round.run == nil {
		b.Fatal("there is no job that closes rounds")
	}
	share := 0.0
	part := func(name string, every time.Duration, looks int, look func() string) {
		b.Run(name, func(b *testing.B) {
			for range looks / 10 { // the first is dearer: it fills memories
				if trouble := look(); trouble != "" {
					b.Fatal(trouble)
				}
			}
			var cpu time.Duration
			for b.Loop() {
				began := processorTime(b)
				for range looks {
					if trouble := look(); trouble != "" {
						b.Fatal(trouble)
					}
				}
				cpu = (processorTime(b) - began) / time.Duration(looks)
			}
			b.ReportMetric(float64(cpu.Microseconds())/1000, "cpu-ms/look")
			b.ReportMetric(100*float64(cpu)/float64(every), "%core")
			share += 100 * float64(cpu) / float64(every)
		})
	}
	for _, c := range t.s.rounds.registry.All() {
		if !c.Built() {
			continue
		}
		looks := 20
		if c.Kind == check.Probe {
			looks = 1 // these are strangers, and strangers are made to wait
		}
		part(c.ID, c.Every(), looks, func() string {
			o, err := t.s.rounds.run(b.Context(), c)
			if err != nil {
				return err.Error()
			}
			if o.Outcome != check.Pass {
				return fmt.Sprintf("%s: %s", o.Outcome, why(&o))
			}
			return ""
		})
	}
	heartbeat := t.s.rounds.registry.Find("jobs.heartbeat")
	part("round", round.period, 20, func() string {
		if _, err := t.s.rounds.run(b.Context(), heartbeat); err != nil { // a round of nothing is none
			return err.Error()
		}
		if err := round.run(b.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(share, "%core")
	})
}

// loud is how many devices are connected and sent something.
const loud = 100

// processorTime is what this process has used until now.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowded is an installation with that many devices. A few of them sent
// something, through the door; the register of the others was written with the
// functions that enrolment uses.
func crowded(b *testing.B, fleet int) *twin {
	b.Helper()
	ctx := b.Context()
	t, err := newTwin(ctx, "test")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := t.close(); err != nil {
			b.Error(err)
		}
	})
	t.cancel()
	if err := <-t.ended; err != nil {
		b.Fatal(err)
	}
	for _, a := range t.agents {
		if err := a.Close(); err != nil {
			b.Fatal(err)
		}
	}
	register(b, t.home, fleet-loud-len(t.units))
	t.agents, t.units, t.work = nil, nil, sync.WaitGroup{}
	if err := t.start(ctx, "test"); err != nil {
		b.Fatal(err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := t.cancel
	t.cancel = func() { cancel(); t.work.Wait(); stop() }
	for i := range loud {
		if err := t.addDevice(ctx, run, core.DeviceID(fmt.Sprintf("LOUD-%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	week(b, t)
	read := api.ReadRequest{Reason: "somebody reads", Purpose: "service.control"}
	if err := t.client.Stream(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/read", read, func([]byte) error { return nil }); err != nil {
		b.Fatal(err)
	}
	return t
}

// week has every device send what it measured on each of seven days.
func week(b *testing.B, t *twin) {
	b.Helper()
	var all sync.WaitGroup
	errs := make(chan error, len(t.agents))
	for i, a := range t.agents {
		all.Go(func() {
			for day := range 7 {
				for n := range 60 {
					at := time.Now().AddDate(0, 0, -day).Add(-time.Duration(n) * time.Second)
					text := fmt.Sprintf(`{"t":%d,"temp":%d.5,"latitude":52.%d}`, at.UnixMilli(), 10+n%20, 10+i%80)
					if _, err := a.PublishRaw(b.Context(), "telemetry/climate", []byte(text)); err != nil {
						errs <- err
						return
					}
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		b.Fatal(err)
	}
	if err := t.s.telem.projector.Settle(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// register writes enrolled devices into the stores of a stopped installation.
func register(b *testing.B, home string, n int) {
	b.Helper()
	ctx := b.Context()
	c, err := LoadConfig(home)
	if err != nil {
		b.Fatal(err)
	}
	s := newServer(c, Options{Version: "test", Log: io.Discard, still: true})
	if err := s.open(ctx); err != nil {
		b.Fatal(err)
	}
	subjects := make([]core.Subject, n)
	for i := range subjects {
		_, _ = rand.Read(subjects[i][:])
	}
	if err := s.ring.AddSubjects(ctx, subjects); err != nil {
		b.Fatal(err)
	}
	at := time.Now().Add(-time.Hour)
	for chunk := range slices.Chunk(subjects, 5000) {
		err := s.store.Update(ctx, func(tx *store.Tx) error {
			for i, subject := range chunk {
				if err := registerOne(ctx, tx, subject, at, i%500 == 0); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(s.sequenced(ctx), s.close()); err != nil {
		b.Fatal(err)
	}
}

func registerOne(ctx context.Context, tx *store.Tx, subject core.Subject, at time.Time, revoked bool) error {
	id := core.DeviceID("Q-" + subject.String())
	d := identity.DeviceRow{ID: id, Product: check.TwinProduct, Revision: 1, Added: at, Ownerships: 1}
	cert := identity.CertificateRow{
		Device: id, State: identity.Confirmed, Door: identity.DoorCode,
		NotBefore: at, NotAfter: at.AddDate(0, 0, 30), Issued: at, Confirmed: at,
	}
	for _, p := range [][]byte{d.Unit[:], d.Spent[:], cert.Serial[:], cert.Key[:], cert.Fingerprint[:]} {
		_, _ = rand.Read(p)
	}
	if revoked {
		d.Revoked, cert.State, cert.Ended = at, identity.Revoked, at
	}
	cert.Code = d.Spent
	_, _, err := tx.ClaimKey(ctx, cert.Key, id, at)
	return errors.Join(err,
		tx.InsertDevice(ctx, d),
		tx.PutBirth(ctx, identity.BirthRow{Device: id, Operator: "operator", Time: at, CodeBits: 128, KeyOrigin: "device", Key: cert.Key, Enrolled: at}),
		tx.InsertCertificate(ctx, cert),
		tx.InsertOwnership(ctx, identity.OwnershipRow{Subject: subject, Device: id, Actor: core.Actor{Kind: core.ActorJob, ID: "bench"}, Opened: at, Done: true}),
		tx.Record(ctx, core.Record{Kind: "device-enrolled", Time: at, Actor: core.Actor{Kind: core.ActorJob, ID: "bench"}, Subject: subject}),
	)
}
