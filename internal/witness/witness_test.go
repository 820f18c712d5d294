package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// server is a ledger whose hashing is x/mod's, and that can lie.
type server struct {
	origin string
	key    ed25519.PrivateKey
	hashes []tlog.Hash
	size   int64
	show   []byte                                    // a checkpoint to show instead of the newest
	spoil  func(ref ledger.TileRef, b []byte) []byte // what becomes of a tile
}

func newServer(origin string, seed byte) *server {
	return &server{origin: origin, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))}
}

func (s *server) ReadHashes(is []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(is))
	for i, x := range is {
		if x >= int64(len(s.hashes)) {
			return nil, errors.New("no such hash")
		}
		out[i] = s.hashes[x]
	}
	return out, nil
}

func (s *server) grow(n int, kind string) {
	for range n {
		hs, err := tlog.StoredHashes(s.size, fmt.Appendf(nil, "%s %d", kind, s.size), s)
		if err != nil {
			panic(err)
		}
		s.hashes = append(s.hashes, hs...)
		s.size++
	}
}

func (s *server) verifier() string {
	return ledger.VerifierKey(s.origin, s.key.Public().(ed25519.PublicKey))
}

func (s *server) Checkpoint(context.Context) ([]byte, error) {
	if s.show != nil {
		return s.show, nil
	}
	root, err := tlog.TreeHash(s.size, s)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", s.origin, s.size, base64.StdEncoding.EncodeToString(root[:]))
	var id uint32
	if _, err := fmt.Sscanf(s.verifier()[len(s.origin)+1:], "%08x", &id); err != nil {
		return nil, err
	}
	sig := append(binary.BigEndian.AppendUint32(nil, id), ed25519.Sign(s.key, []byte(text))...)
	return []byte(text + "\n— " + s.origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n"), nil
}

func (s *server) Tile(_ context.Context, r ledger.TileRef) ([]byte, error) {
	b, err := tlog.ReadTileData(tlog.Tile{H: 8, L: r.Level, N: int64(r.N), W: r.Width}, s)
	if err == nil && s.spoil != nil {
		b = s.spoil(r, b)
	}
	return b, err
}

type clock struct{ t time.Time }

func (c *clock) now() time.Time { c.t = c.t.Add(time.Minute); return c.t }

func newWitness(t *testing.T, logs ...string) (*Witness, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	k, err := CreateKey(filepath.Join(t.TempDir(), "k"), "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Options{Dir: t.TempDir(), Key: k, Logs: logs, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

// TestHonestGrowth: a ledger that only grows is cosigned, over HTTPS, and
// verifiers take the cosignature.
func TestHonestGrowth(t *testing.T) {
	s := newServer("maker.example/ledger", 1)
	web := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var b []byte
		var err error
		if r.URL.Path == "/checkpoint" {
			b, err = s.Checkpoint(r.Context())
		} else {
			var ref ledger.TileRef
			if ref, err = ledger.ParseTilePath(strings.TrimPrefix(r.URL.Path, "/tile/")); err == nil {
				b, err = s.Tile(r.Context(), ref)
			}
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = rw.Write(b) // the client left
	}))
	defer web.Close()
	c, err := HTTP(web.URL+"/", web.Client())
	if err != nil {
		t.Fatal(err)
	}
	w, _ := newWitness(t, s.verifier())
	var before []byte
	for _, n := range []int{3, 253, 1, 0, 600, 70_000} {
		s.grow(n, "entry")
		got, err := w.Look(t.Context(), c)
		if err != nil {
			t.Fatalf("after %d more: %v", n, err)
		}
		if got.Grew != uint64(n) || got.Size != uint64(s.size) || got.First != (before == nil) {
			t.Errorf("after %d more: %+v", n, got)
		}
		seen, err := verify.Cosignatures(got.Note, []string{w.o.Key.Verifier()})
		if err != nil || len(seen) != 1 || seen[0].Time != uint64(got.At.Unix()) {
			t.Errorf("after %d more: cosignatures %v, %v", n, seen, err)
		}
		if _, err := verify.Signed(got.Note, s.verifier()); err != nil {
			t.Errorf("the ledger's own signature is lost: %v", err)
		}
		v, err := note.NewVerifier(s.verifier())
		if err != nil {
			t.Fatal(err)
		}
		if x, err := note.Open(got.Note, note.VerifierList(v)); err != nil || len(x.Sigs) != 1 || len(x.UnverifiedSigs) != 1 || x.UnverifiedSigs[0].Name != "witness.example/w1" {
			t.Errorf("x/mod reads the note otherwise: %v", err)
		}
		before = got.Note
	}
	m, err := w.Last(s.origin)
	if err != nil || m.Size != uint64(s.size) || m.Note != string(before) {
		t.Errorf("it remembers %+v, %v", m, err)
	}
}

// TestLies: every way in which a ledger can contradict itself is refused, what
// was seen before stays, and both checkpoints are kept.
func TestLies(t *testing.T) {
	for _, c := range []struct {
		name   string
		lie    func(*server)
		reason string
		kind   string // of the contradiction; "" when it proves nothing
	}{
		{"a fork of the same size", func(s *server) { f := newServer(s.origin, 1); f.grow(300, "other"); *s = *f }, "ledger-fork", "fork"},
		{"a fork that grew", func(s *server) { f := newServer(s.origin, 1); f.grow(299, "entry"); f.grow(400, "other"); *s = *f }, "ledger-fork", "fork"},
		{"a rollback", func(s *server) { f := newServer(s.origin, 1); f.grow(299, "entry"); *s = *f }, "ledger-rollback", "rollback"},
		{"another key", func(s *server) { s.grow(1, "entry"); s.key = newServer("", 2).key }, "ledger-key-changed", ""},
		{"another ledger", func(s *server) { s.origin = "maker.example/ledger/2" }, "unknown-ledger", ""},
		{"a tile cut off", func(s *server) {
			s.grow(1, "entry")
			s.spoil = func(_ ledger.TileRef, b []byte) []byte { return b[:len(b)-32] }
		}, "bad-tiles", ""},
		{"a tile changed", func(s *server) {
			s.grow(9, "entry")
			s.spoil = func(r ledger.TileRef, b []byte) []byte {
				if r.Level == 0 && r.N == 1 {
					b[0] ^= 1
				}
				return b
			}
		}, "bad-tiles", ""},
		{"a tile changed that only the proof needs", func(s *server) {
			s.grow(300, "entry") // entries 300 to 511 make one subtree: only the proof looks into it
			s.spoil = func(r ledger.TileRef, b []byte) []byte {
				if r.Level == 0 && r.N == 1 && len(b) > 50*32 {
					b[50*32] ^= 1
				}
				return b
			}
		}, "bad-tiles", ""},
		{"nothing readable", func(s *server) { s.show = []byte("hello") }, "internal", ""},
		{"an empty ledger", func(s *server) { f := newServer(s.origin, 1); *s = *f }, "empty-ledger", ""},
	} {
		s := newServer("maker.example/ledger", 1)
		s.grow(300, "entry")
		w, _ := newWitness(t, s.verifier())
		honest, err := w.Look(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		c.lie(s)
		got, err := w.Look(t.Context(), s)
		if err == nil || got.Note != nil {
			t.Errorf("%s: cosigned", c.name)
			continue
		}
		if core.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v (%s), want %s", c.name, err, core.ReasonOf(err), c.reason)
		}
		var x *Contradiction
		if found := errors.As(err, &x); found != (c.kind != "") || found && x.Kind != c.kind {
			t.Errorf("%s: %v, want a contradiction %q", c.name, err, c.kind)
		} else if found {
			b, err := os.ReadFile(x.Kept)
			if err != nil || !bytes.Contains(b, x.Before) || !bytes.Contains(b, x.Now) || bytes.Equal(x.Before, x.Now) {
				t.Errorf("%s: the proof of it holds %q, %v", c.name, b, err)
			}
			for _, n := range [][]byte{x.Before, x.Now} {
				if _, err := verify.Signed(n, newServer("maker.example/ledger", 1).verifier()); err != nil {
					t.Errorf("%s: what is kept is not signed: %v", c.name, err)
				}
			}
		}
		m, err := w.Last("maker.example/ledger")
		if err != nil || m.Note != string(honest.Note) {
			t.Errorf("%s: what was seen before is gone: %+v, %v", c.name, m, err)
		}
	}
}

// TestFirstLook: also what was never seen before must be the tree that its
// ledger signed.
func TestFirstLook(t *testing.T) {
	s := newServer("maker.example/ledger", 1)
	s.grow(3, "entry")
	s.spoil = func(_ ledger.TileRef, b []byte) []byte { b[0] ^= 1; return b }
	w, _ := newWitness(t, s.verifier())
	if _, err := w.Look(t.Context(), s); core.ReasonOf(err) != "bad-tiles" {
		t.Errorf("tiles of another tree: %v", err)
	}
	if m, err := w.Last(s.origin); m != nil || err != nil {
		t.Errorf("it remembers %+v, %v", m, err)
	}
}

// TestMemory: what a witness knew stays over a restart; damage to it, and a
// clock set back, are no reason to forget.
func TestMemory(t *testing.T) {
	s := newServer("maker.example/ledger", 1)
	s.grow(5, "entry")
	w, c := newWitness(t, s.verifier())
	if _, err := w.Look(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	again, err := New(w.o)
	if err != nil {
		t.Fatal(err)
	}
	s.grow(5, "entry")
	if got, err := again.Look(t.Context(), s); err != nil || got.First || got.Grew != 5 {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	c.t = c.t.Add(-time.Hour)
	s.grow(1, "entry")
	if _, err := again.Look(t.Context(), s); core.ReasonOf(err) != "witness-clock" {
		t.Errorf("with a clock set back: %v", err)
	}
	c.t = c.t.Add(2 * time.Hour)
	whole, err := os.ReadFile(again.path(s.origin))
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"{}", "", string(whole[:40]), strings.Replace(string(whole), s.origin, "another", 1), strings.Replace(string(whole), `"size": 10`, `"size": 0`, 1)} {
		if err := os.WriteFile(again.path(s.origin), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Look(t.Context(), s); core.ReasonOf(err) != "witness-memory" {
			t.Errorf("with its memory damaged (%.20q): %v", damaged, err)
		}
	}
	// What cannot be remembered is not cosigned.
	if err := os.WriteFile(again.path(s.origin), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(again.path(s.origin)+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Look(t.Context(), s); err == nil || got.Note != nil {
		t.Errorf("cosigned without remembering: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	k, err := CreateKey(path, "w.example/1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadKey(path); err != nil || again.Verifier() != k.Verifier() {
		t.Errorf("read back: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", k, k, k), "w.example") {
		t.Error("the key prints")
	}
	foreign := Key{"w.example/1", k.priv}
	if _, ok := parseKey(fmt.Sprintf("%s%s+%08x+%s", keyPrefix, foreign.name, foreign.id(), base64.StdEncoding.EncodeToString(append([]byte{1}, k.priv.Seed()...)))); ok {
		t.Error("a key of a ledger is taken for a witness's")
	}
	if _, err := CreateKey(path, "w.example/1"); err == nil {
		t.Error("a key is made over another")
	}
	if _, err := CreateKey(path+"2", "two words"); err == nil {
		t.Error("a name with a space is taken")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); core.ReasonOf(err) != "witness-key-open" {
		t.Errorf("others can read it: %v", err)
	}
}

func FuzzKey(f *testing.F) {
	f.Add("PRIVATE+KEY+w+00000000+BAAA")
	f.Add("PRIVATE+KEY+w.example/1+1a2b3c4d+BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if k, ok := parseKey(s); ok && (badName(k.name) || len(k.priv) != ed25519.PrivateKeySize) {
			t.Errorf("%q is taken", s)
		}
	})
}

// FuzzLook gives a witness whatever a server may answer: it never cosigns what
// its ledger did not sign.
func FuzzLook(f *testing.F) {
	s := newServer("maker.example/ledger", 1)
	s.grow(300, "entry")
	good, err := s.Checkpoint(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte{})
	f.Add([]byte("a\n1\nAAAA\n\n— a AAAA\n"), []byte{1})
	f.Fuzz(func(t *testing.T, note, tile []byte) {
		w, _ := newWitness(t, s.verifier())
		liar := *s
		liar.show = note
		liar.spoil = func(_ ledger.TileRef, b []byte) []byte {
			for i := range tile {
				b[i%len(b)] ^= tile[i]
			}
			return b
		}
		got, err := w.Look(t.Context(), &liar)
		if err != nil {
			return
		}
		if _, err := verify.Signed(got.Note, s.verifier()); err != nil {
			t.Fatalf("cosigned what the ledger did not sign: %q", note)
		}
	})
}
