package ledger_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

func TestParseCheckpointRefuses(t *testing.T) {
	f := newFixture(t)
	c := f.grow(t, 1)
	good := string(c.Note)
	root := base64.StdEncoding.EncodeToString(c.Root[:])
	for _, n := range []string{
		"", "\n", "\n\n", good[:len(good)-1], good + "\n", good + "x\n",
		strings.Replace(good, "\n2\n", "\n02\n", 1),
		strings.Replace(good, "\n2\n", "\n-2\n", 1),
		strings.Replace(good, "\n2\n", "\n99999999999999999999\n", 1),
		strings.Replace(good, "\n2\n", "\n2 \n", 1),
		strings.Replace(good, root, root[4:], 1),
		strings.Replace(good, root, strings.TrimRight(root, "="), 1),
		strings.Replace(good, root, "\n"+root, 1),
		strings.Replace(good, c.Origin+"\n", c.Origin+" x\n", 1),
		strings.Replace(good, c.Origin+"\n", "\n", 1),
		strings.Replace(good, c.Origin+"\n", "\t\n", 1),
		strings.Replace(good, "— ", "- ", 1),
		strings.Replace(good, c.Origin+"\n", "\xff\n", 1),
		good + strings.Repeat("— a AAAAAAA=\n", 65),
		strings.Repeat("x", ledger.MaxNoteBytes+1),
	} {
		if n == good {
			t.Fatal("a case changes nothing")
		}
		if got, err := ledger.ParseCheckpoint([]byte(n)); err == nil {
			t.Errorf("%q: read as %+v", n, got)
		}
	}
	got, err := ledger.ParseCheckpoint([]byte(strings.Replace(good, "\n\n", "\nextension\n\n", 1)))
	if err != nil || got.Size != 2 || got.Root != c.Root || got.Origin != c.Origin {
		t.Errorf("with an extension line: %+v, %v", got, err)
	}
}

// FuzzParseCheckpoint holds that we read no checkpoint that x/mod's note and
// tlog would refuse to read.
func FuzzParseCheckpoint(f *testing.F) {
	fix := newFixture(f)
	f.Add(fix.grow(f, 1).Note)
	f.Add([]byte("o\n0\nAAAA\n\n— o AAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ledger.ParseCheckpoint(b)
		if err != nil {
			return
		}
		if _, err := note.Open(b, nil); err != nil {
			if _, unverified := errors.AsType[*note.UnverifiedNoteError](err); !unverified {
				t.Errorf("%q: note says %v", b, err)
			}
		}
		head := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
		if !bytes.HasPrefix(b, []byte(head)) {
			t.Errorf("%q was read as %+v", b, c)
		}
	})
}

func TestTilePaths(t *testing.T) {
	for path, want := range map[string]ledger.TileRef{
		"0/000":                       {Level: 0, N: 0, Width: 256},
		"5/999":                       {Level: 5, N: 999, Width: 256},
		"0/x001/000":                  {Level: 0, N: 1000, Width: 256},
		"1/x001/x234/067.p/12":        {Level: 1, N: 1234067, Width: 12},
		"entries/000.p/1":             {Kind: ledger.EntryBundle, N: 0, Width: 1},
		"entries/x001/x234/067.p/255": {Kind: ledger.EntryBundle, N: 1234067, Width: 255},
	} {
		got, err := ledger.ParseTilePath(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
		if want.Kind == ledger.HashTile {
			// x/mod knows the same layout under a prefix with the height in it.
			tile := tlog.Tile{H: 8, L: want.Level, N: int64(want.N), W: want.Width}
			if got := strings.TrimPrefix(tile.Path(), "tile/8/"); got != path {
				t.Errorf("tlog writes %s, we %s", got, path)
			}
		}
	}
	for _, path := range []string{
		"", "0", "0/", "/000", "0/0", "0/00", "0/0000", "6/000", "00/000", "-1/000", "data/000", "0/x000/001", "0/001/002", "0/x001",
		"0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p/-1", "0/000.p/1/2", "entries/0", "0/000/", "0/../000", "0/ 00",
		"0/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/999", "0/+01", "0/x+01/000",
	} {
		if got, err := ledger.ParseTilePath(path); err == nil {
			t.Errorf("%q: read as %+v", path, got)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("1/x001/x234/067.p/12")
	f.Add("entries/000")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := ledger.ParseTilePath(s); err == nil && got.Path() != s {
			t.Errorf("%q was read as %+v", s, got)
		}
	})
}

// TestBundle reads entries back as a client of tlog-tiles does.
func TestBundle(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 299)
	for _, ref := range []ledger.TileRef{{Kind: ledger.EntryBundle, N: 0, Width: 256}, {Kind: ledger.EntryBundle, N: 1, Width: 44}, {Kind: ledger.EntryBundle, N: 1, Width: 7}} {
		b, err := f.Tile(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ref.Width {
			n := int(binary.BigEndian.Uint16(b))
			want, err := f.Get(t.Context(), ref.N*256+uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if got := b[2 : 2+n]; !bytes.Equal(got, want.Leaf) {
				t.Fatalf("bundle %d, entry %d: %s, want %s", ref.N, i, got, want.Leaf)
			}
			b = b[2+n:]
		}
		if len(b) != 0 {
			t.Errorf("bundle %d has %d bytes too many", ref.N, len(b))
		}
	}
	if _, err := f.Tile(t.Context(), ledger.TileRef{Kind: ledger.EntryBundle, N: 1, Width: 45}); core.KindOf(err) != core.Unknown {
		t.Errorf("a bundle beyond the end: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k, err := ledger.CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	again, err := ledger.LoadKey(path)
	if err != nil || !again.Public().Equal(k.Public()) {
		t.Errorf("loaded another key, %v", err)
	}
	if _, err := ledger.CreateKey(path); err == nil {
		t.Error("an existing key was overwritten")
	}
	if got := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); got != "[sealed] [sealed] [sealed] [sealed]" {
		t.Errorf("the key prints as %s", got)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b      []byte
		mode   os.FileMode
		reason string
	}{
		"open to others": {pem, 0o640, "ledger-key-open"},
		"two keys":       {append(bytes.Clone(pem), pem...), 0o600, "ledger-key-bad"},
		"no PEM":         {[]byte("hello"), 0o600, "ledger-key-bad"},
		"empty":          {nil, 0o600, "ledger-key-bad"},
		"too long":       {make([]byte, 5000), 0o600, "ledger-key-bad"},
		"another block":  {bytes.ReplaceAll(pem, []byte("PRIVATE KEY"), []byte("PUBLIC KEY")), 0o600, "ledger-key-bad"},
		"damaged":        {bytes.Replace(pem, []byte("MC4CAQ"), []byte("MC4CAg"), 1), 0o600, "ledger-key-bad"},
	} {
		p := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(p, c.b, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := ledger.LoadKey(p)
		if core.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v, want reason %s", name, err, c.reason)
		}
	}
	_, err = ledger.LoadKey(path + "x")
	wantReason(t, err, "ledger-key-missing")
}
