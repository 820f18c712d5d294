package ledger_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// The life that is measured: a device enrols once; its certificate lives 30
// days and is renewed at two thirds of that, for a life of five years.
const (
	monthDays    = 365.25 / 12
	renewDays    = 20
	lifeMonths   = 60
	sealedBytes  = 12 + 16 + 75 // nonce, tag, and {"device":SERIAL,"certificate":SERIAL}
	minutesMonth = monthDays * 24 * 60
)

func lifeRecord(kind core.RecordKind, subject core.Subject, when time.Time, facts ...core.Fact) core.Record {
	r := core.Record{
		Time: when, Kind: kind, Actor: core.Actor{Kind: core.ActorDevice, ID: subject.String()}, Subject: subject, Product: "aria-thermostat",
		Facts: facts, Sealed: make([]byte, sealedBytes),
	}
	_, _ = rand.Read(r.Sealed) // never fails
	return r
}

// enrolled are the records of a device's first day, issued those of a renewal.
func enrolled(s core.Subject, when time.Time) []core.Record {
	added := core.Record{
		Time: when, Kind: "device-added", Actor: operator, Product: "aria-thermostat",
		Facts: []core.Fact{{Name: "code_bits", Value: "160"}, {Name: "unit", Value: s.String()}},
	}
	return []core.Record{added, lifeRecord("ownership-opened", s, when), issued(s, when), lifeRecord("device-enrolled", s, when)}
}

func issued(s core.Subject, when time.Time) core.Record {
	r := lifeRecord("certificate-issued", s, when, core.Fact{Name: "door", Value: "simplereenroll"}, core.Fact{Name: "life_seconds", Value: "2592000"})
	r.Policy = core.Hash{1, 2, 3}
	return r
}

// rootsOf is a minute's record of one epoch file.
func rootsOf(minute int) core.Record {
	root := make([]byte, 32)
	_, _ = rand.Read(root) // never fails
	return core.Record{
		Time: time.Unix(1800000000+60*int64(minute), 0), Kind: "readings-stored", Actor: core.Job("projector"), Product: "aria-thermostat",
		Facts: []core.Fact{
			{Name: "epoch", Value: "k2592000/20261122T000000Z"},
			{Name: "first_batch", Value: strconv.Itoa(1000000 + minute)},
			{Name: "last_batch", Value: strconv.Itoa(1000059 + minute)},
			{Name: "rows", Value: "100000"},
			{Name: "root", Value: core.Hash(root).String()},
		},
	}
}

// usedBytes is what the database takes on disk.
func (f *fixture) usedBytes(t testing.TB) float64 {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.store.Dir(), "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var pages, free, size float64
	if err := db.QueryRow(`SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&pages, &free, &size); err != nil {
		t.Fatal(err)
	}
	return (pages - free) * size
}

// bytesEach is what the database grows by for each of n calls of make.
func bytesEach(t testing.TB, f *fixture, n int, record func(i int) []core.Record) float64 {
	t.Helper()
	before := f.usedBytes(t)
	var rs []core.Record
	for i := range n {
		if rs = append(rs, record(i)...); len(rs) >= 4000 || i == n-1 {
			f.record(t, rs...)
			f.sequence(t)
			rs = rs[:0]
		}
	}
	f.sign(t)
	return (f.usedBytes(t) - before) / float64(n)
}

// measureLife fills a ledger with the life of n devices.
func measureLife(t testing.TB, n int) (perEnrolment, perRenewal, perRoots, perMonth float64) {
	t.Helper()
	f := newFixture(t)
	subjects := make([]core.Subject, n)
	for i := range subjects {
		_, _ = rand.Read(subjects[i][:]) // never fails
	}
	when := time.Unix(1800000000, 0)
	perEnrolment = bytesEach(t, f, n, func(i int) []core.Record { return enrolled(subjects[i], when) })
	perRenewal = bytesEach(t, f, n, func(i int) []core.Record { return []core.Record{issued(subjects[i], when)} })
	perRoots = bytesEach(t, f, n, func(i int) []core.Record { return []core.Record{rootsOf(i)} })
	perMonth = perEnrolment/lifeMonths + perRenewal*monthDays/renewDays
	return perEnrolment, perRenewal, perRoots, perMonth
}

// TestBytesOfADeviceMonth holds the ledger to 1 KB per device and month, all
// told: leaf, hashes, indexes and what the database wastes.
func TestBytesOfADeviceMonth(t *testing.T) {
	r := issued(core.Subject{1}, time.Unix(1800000000, 0))
	leaf, err := ledger.AppendLeaf(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	enrolment, renewal, roots, month := measureLife(t, 4000)
	t.Logf("leaf of a renewal: %d bytes", len(leaf))
	t.Logf("on disk: enrolment %.0f B, renewal %.0f B; a device-month %.0f B", enrolment, renewal, month)
	t.Logf("fixed: %.0f B a minute for each epoch file that is written to, %.1f MB a month", roots, roots*minutesMonth/1e6)
	if month > 1024 {
		t.Errorf("%.0f bytes per device-month, want at most 1024", month)
	}
}

// BenchmarkDeviceMonth is the same measurement at 100,000 devices.
func BenchmarkDeviceMonth(b *testing.B) {
	for b.Loop() {
		enrolment, renewal, roots, month := measureLife(b, 100_000)
		b.ReportMetric(enrolment, "B/enrolment")
		b.ReportMetric(renewal, "B/renewal")
		b.ReportMetric(month, "B/device-month")
		b.ReportMetric(roots*minutesMonth/1e6, "MB/month-fixed-per-epoch-file")
	}
}

// BenchmarkSequence gives pending records their index: read, hashed, moved,
// committed and on disk.
func BenchmarkSequence(b *testing.B) {
	f := newFixture(b)
	f.grow(b, 20000)
	rs := make([]core.Record, 4096)
	for i := range rs {
		rs[i] = issued(core.Subject{byte(i), byte(i >> 8)}, time.Unix(1800000000, 0))
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		f.record(b, rs...)
		b.StartTimer()
		took, err := f.Sequence(b.Context())
		if err != nil || took != len(rs) {
			b.Fatal(took, err)
		}
		n += took
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkSign signs a head that moved by one: consistency proved, file and
// database written and synced.
func BenchmarkSign(b *testing.B) {
	f := newFixture(b)
	f.grow(b, 20000)
	for b.Loop() {
		b.StopTimer()
		f.record(b, sample(1))
		f.sequence(b)
		b.StartTimer()
		f.sign(b)
	}
}

// BenchmarkProve makes inclusion proofs out of the stored tiles.
func BenchmarkProve(b *testing.B) {
	f := newFixture(b)
	c := f.grow(b, 100_000)
	i := uint64(0)
	for b.Loop() {
		if _, err := f.Prove(b.Context(), i%c.Size); err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}

// BenchmarkExport writes 100,000 entries.
func BenchmarkExport(b *testing.B) {
	f := newFixture(b)
	f.grow(b, 100_000)
	for b.Loop() {
		var w bytes.Buffer
		if err := f.Export(b.Context(), &w); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(w.Len()))
	}
}
