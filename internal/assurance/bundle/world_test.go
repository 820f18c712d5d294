package bundle

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// world is a ledger and its rounds in memory, built with x/mod's hashing, so
// that a test can also play somebody who holds the ledger's key and lies.
type world struct {
	origin  string
	key     ed25519.PrivateKey
	entries []ledger.Entry
	hashes  []tlog.Hash // as tlog stores them
	rounds  []assurance.StoredRound
	now     time.Time
	checks  []assurance.Declared
	latest  map[string]check.Observation
	before  int // records of waivers in an earlier ledger
}

const program = "v1.0.0"

var dawn = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func seeded(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = b
	return ed25519.NewKeyFromSeed(seed)
}

// newWorld has a ledger that has just begun, and checks declared over many
// rows of the mission.
func newWorld(checks int) *world {
	w := &world{origin: "maker.example/ledger/1", key: seeded(1), now: dawn, latest: map[string]check.Observation{}}
	w.record(core.Record{Time: w.now, Kind: recordBegun, Actor: core.Job("ledger"), Facts: []core.Fact{
		{Name: factOrigin, Value: w.origin}, {Name: factKey, Value: w.VerifierKey()},
	}})
	rows := assurance.Rows()
	kinds := check.Kinds()
	for i := range checks {
		w.checks = append(w.checks, assurance.Declared{
			ID: fmt.Sprintf("check.n%03d", i), Version: 1, Rows: []assurance.RowID{rows[(i*7)%len(rows)].ID}, Kind: kinds[i%len(kinds)],
			Says: "It is <b>so</b> & no other way.", Do: "Make it so.", MaxAge: time.Hour, Violations: []string{"break-it"},
		})
	}
	return w
}

func (w *world) read() tlog.HashReader {
	return tlog.HashReaderFunc(func(is []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(is))
		for i, x := range is {
			if int(x) >= len(w.hashes) {
				return nil, fmt.Errorf("no hash %d", x)
			}
			out[i] = w.hashes[x]
		}
		return out, nil
	})
}

func (w *world) record(r core.Record) {
	leaf, err := ledger.AppendLeaf(nil, &r)
	if err != nil {
		panic(err)
	}
	n := uint64(len(w.entries))
	hs, err := tlog.StoredHashes(int64(n), leaf, w.read())
	if err != nil {
		panic(err)
	}
	w.hashes = append(w.hashes, hs...)
	w.entries = append(w.entries, ledger.Entry{Position: n, Origin: w.origin, Index: n, Leaf: leaf, Record: r})
}

func (w *world) noise() {
	w.record(core.Record{Time: w.now, Kind: "device-seen", Actor: core.Job("gateway")})
}

// observe is one pass of a check, taken now.
func (w *world) observe(i int) check.Observation {
	d := &w.checks[i]
	o := check.Observation{
		Check: d.ID, Version: 1, Kind: d.Kind, Program: program, Began: w.now.Add(-time.Millisecond), Taken: w.now, Expires: w.now.Add(d.MaxAge - time.Millisecond),
		Source: "issued certificates", Population: 5, Passing: 5, Touched: []check.Touch{{What: "table", Name: "devices"}, {What: "address", Name: "127.0.0.1:8883"}}, Outcome: check.Pass,
	}
	if i%9 == 8 {
		o.Passing, o.Failing, o.Outcome = 4, 1, check.Fail
		o.Findings = []check.Finding{{Subject: "<script>alert(1)</script>", Text: "has no </table> \"key\""}}
	}
	return o
}

func (w *world) prove(i int) check.Proof {
	return check.Proof{
		Check: w.checks[i].ID, Version: 1, Program: program, Violation: "break-it", Taken: w.now, Expires: w.now.Add(check.ProofAge),
		Before: check.Pass, Red: check.Fail, After: check.Pass, Saw: "x: is bad", Touched: []check.Touch{{What: "file", Name: "control.db"}},
	}
}

// close ends a round with what was observed.
func (w *world) close(observed []check.Observation, proofs []check.Proof) *check.Round {
	r := &check.Round{Number: uint64(len(w.rounds)) + 1, Closed: w.now, Observations: observed, Proofs: proofs}
	if n := len(w.rounds); n > 0 {
		r.Previous = w.rounds[n-1].Digest
	}
	for _, o := range observed {
		w.latest[o.Check] = o
	}
	w.put(r)
	return r
}

func (w *world) put(r *check.Round) {
	b, err := r.Encode()
	if err != nil {
		panic(err)
	}
	w.rounds = append(w.rounds, assurance.StoredRound{Number: r.Number, Closed: r.Closed, Digest: check.DigestOf(b), Encoded: b})
	w.record(recordOf(r, b, w.waiverRecords()))
}

// waiverRecords is how many records of waivers the ledger holds.
func (w *world) waiverRecords() int {
	n := w.before
	for _, e := range w.entries {
		if slices.Contains(assurance.WaiverRecordKinds(), e.Record.Kind) {
			n++
		}
	}
	return n
}

func recordOf(r *check.Round, b []byte, waivers int) core.Record {
	failing := 0
	for _, o := range r.Observations {
		if o.Outcome == check.Fail {
			failing++
		}
	}
	fact := func(name string, v any) core.Fact { return core.Fact{Name: name, Value: fmt.Sprint(v)} }
	return core.Record{Time: r.Closed, Kind: assurance.RecordObserved, Actor: core.Job("checks"), Facts: []core.Fact{
		fact("round", r.Number), fact("digest", check.DigestOf(b)), fact("previous", r.Previous),
		fact("observations", len(r.Observations)), fact("proofs", len(r.Proofs)), fact("failing", failing), fact("waivers", waivers),
	}}
}

// live lets rounds go by, a minute each, in which every check looks once.
// Trials stand in the first round.
func (w *world) live(rounds int) {
	for range rounds {
		w.now = w.now.Add(time.Minute)
		var observed []check.Observation
		var proofs []check.Proof
		for i := range w.checks {
			observed = append(observed, w.observe(i))
			if len(w.rounds) == 0 {
				proofs = append(proofs, w.prove(i))
			}
		}
		w.noise()
		w.close(observed, proofs)
	}
	w.noise()
}

func (w *world) root(size int) tlog.Hash {
	h, err := tlog.TreeHash(int64(size), w.read())
	if err != nil {
		panic(err)
	}
	return h
}

// signed is a checkpoint of the first so many entries.
func (w *world) signed(size int) []byte {
	root := w.root(size)
	text := w.origin + "\n" + strconv.Itoa(size) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
	pub := w.key.Public().(ed25519.PublicKey)
	var id uint32
	if _, err := fmt.Sscanf(w.VerifierKey()[len(w.origin)+1:], "%08x", &id); err != nil {
		panic(err)
	}
	_ = pub
	sig := append(binary.BigEndian.AppendUint32(nil, id), ed25519.Sign(w.key, []byte(text))...)
	return []byte(text + "\n— " + w.origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n")
}

// The four methods of Log.

func (w *world) VerifierKey() string {
	return ledger.VerifierKey(w.origin, w.key.Public().(ed25519.PublicKey))
}

func (w *world) Latest() ledger.Checkpoint {
	c, err := ledger.ParseCheckpoint(w.signed(len(w.entries)))
	if err != nil {
		panic(err)
	}
	return c
}

func (w *world) List(_ context.Context, f ledger.Filter, from uint64, _ int) ([]ledger.Entry, uint64, error) {
	const page = 7
	var out []ledger.Entry
	for _, e := range w.entries[from:] {
		if e.Record.Kind == f.Kind {
			if out = append(out, e); len(out) == page {
				return out, e.Position + 1, nil
			}
		}
	}
	return out, 0, nil
}

func (w *world) Tile(_ context.Context, t ledger.TileRef) ([]byte, error) {
	return tlog.ReadTileData(tlog.Tile{H: 8, L: t.Level, N: int64(t.N), W: t.Width}, w.read())
}

// The methods of Rounds.

func (w *world) Rounds(_ context.Context, from uint64, limit int) ([]assurance.StoredRound, error) {
	if from < 1 || from > uint64(len(w.rounds)) {
		return nil, nil
	}
	rest := w.rounds[from-1:]
	return rest[:min(limit, len(rest))], nil
}

func (w *world) RoundAt(_ context.Context, t time.Time) (uint64, error) {
	for _, r := range w.rounds {
		if !r.Closed.Before(t) {
			return r.Number, nil
		}
	}
	return 0, nil
}

func (w *world) LastRound() assurance.StoredRound {
	if len(w.rounds) == 0 {
		return assurance.StoredRound{}
	}
	return w.rounds[len(w.rounds)-1]
}

func (w *world) options() Options {
	return Options{
		Input: assurance.Input{
			At: w.now.Add(time.Second), Program: program, Checks: w.checks, Latest: w.latest,
			Facts: assurance.Facts{Products: []assurance.ProductFacts{{Product: "lamp", Policy: "ab", Level: 0, Class: "personal", Audience: "general"}}},
		},
		Policies: []*declaration.Policy{{Product: "lamp", Claims: []declaration.Claim{{Say: "Encrypted <on> its way.", RestsOn: []string{"RP-03"}}}}},
		Rounds:   w, Log: w,
	}
}

// sealed is the bundle of the world, in memory.
func (w *world) sealed(t testing.TB, o Options, s Signer) files {
	t.Helper()
	d, err := Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.finish(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// trust is what an honest auditor has from elsewhere.
func (w *world) trust(s Signer, earlier []byte) Trust {
	return Trust{
		Signers: []byte(s.Public().AllowedSigner() + "\n"), Earlier: earlier, LogKeys: []string{w.VerifierKey()},
		Now: w.now.Add(time.Hour), Program: program, Checks: w.checks,
	}
}

func asFS(f files) fs.FS {
	out := fstest.MapFS{}
	for name, b := range f {
		out[name] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return out
}

func mustVerify(t testing.TB, f files, trust Trust) Report {
	t.Helper()
	r, err := Verify(t.Context(), asFS(f), trust)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
