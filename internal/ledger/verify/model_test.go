package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// model is an export taken apart, so that an adversary can change it as he
// likes and put it together again, as honest-looking as he is able to. Its
// hashing and signing are x/mod's, not ours.
type model struct{ origins []origin }

type origin struct {
	name, key string
	sizes     []uint64 // of its checkpoints
	notes     []string
	leaves    []string
	hashes    []tlog.Hash // the stored hashes of the leaves
	blocks    []tlog.Hash // the stored roots over 256
}

func (m model) clone() model {
	out := model{origins: slices.Clone(m.origins)}
	for i := range out.origins {
		o := &out.origins[i]
		o.sizes, o.notes = slices.Clone(o.sizes), slices.Clone(o.notes)
		o.leaves, o.hashes, o.blocks = slices.Clone(o.leaves), slices.Clone(o.hashes), slices.Clone(o.blocks)
	}
	return out
}

func (m *model) last() *origin { return &m.origins[len(m.origins)-1] }

// parseModel reads an export the lenient way.
func parseModel(t testing.TB, export []byte) model {
	t.Helper()
	var m model
	for i, l := range bytes.Split(bytes.TrimSuffix(export, []byte("\n")), []byte("\n")) {
		if i == 0 {
			continue
		}
		var x struct {
			Origin, Key, Checkpoint string
			Hash                    []byte
			Subtree                 *uint64
			Leaf                    json.RawMessage
		}
		if err := json.Unmarshal(l, &x); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if x.Origin != "" {
			m.origins = append(m.origins, origin{name: x.Origin, key: x.Key})
			continue
		}
		o := m.last()
		switch {
		case x.Checkpoint != "":
			var size uint64
			if _, err := fmt.Sscan(strings.Split(x.Checkpoint, "\n")[1], &size); err != nil {
				t.Fatal(err)
			}
			o.sizes, o.notes = append(o.sizes, size), append(o.notes, x.Checkpoint)
		case x.Subtree != nil:
			o.blocks = append(o.blocks, tlog.Hash(x.Hash))
		default:
			o.leaves, o.hashes = append(o.leaves, string(x.Leaf)), append(o.hashes, tlog.Hash(x.Hash))
		}
	}
	return m
}

func b64(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

func jsonText(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return strings.TrimSpace(b.String())
}

// render writes the export.
func (m *model) render() []byte {
	var b bytes.Buffer
	b.WriteString("{\"export\":1}\n")
	for _, o := range m.origins {
		fmt.Fprintf(&b, "{\"origin\":%s,\"key\":%s}\n", jsonText(o.name), jsonText(o.key))
		for _, n := range o.notes {
			fmt.Fprintf(&b, "{\"checkpoint\":%s}\n", jsonText(n))
		}
		for i, leaf := range o.leaves {
			fmt.Fprintf(&b, "{\"index\":%d,\"hash\":\"%s\",\"leaf\":%s}\n", i, b64(o.hashes[i]), leaf)
			if n := i / 256; i%256 == 255 && n < len(o.blocks) {
				fmt.Fprintf(&b, "{\"subtree\":%d,\"hash\":\"%s\"}\n", n, b64(o.blocks[n]))
			}
		}
	}
	return b.Bytes()
}

type memHashes []tlog.Hash

func (m memHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = m[x]
	}
	return out, nil
}

func treeOf(t testing.TB, leaves []string) memHashes {
	t.Helper()
	var hs memHashes
	for i, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(i), []byte(leaf), hs)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, more...)
	}
	return hs
}

// rehash makes all stored hashes fit the leaves.
func (o *origin) rehash(t testing.TB) memHashes {
	t.Helper()
	hs := treeOf(t, o.leaves)
	o.hashes, o.blocks = nil, nil
	for i := range o.leaves {
		o.hashes = append(o.hashes, hs[tlog.StoredHashIndex(0, int64(i))])
	}
	for n := range len(o.leaves) / 256 {
		o.blocks = append(o.blocks, hs[tlog.StoredHashIndex(8, int64(n))])
	}
	return hs
}

// resign makes everything fit the leaves and signs it, as one can who has the
// key.
func (o *origin) resign(t testing.TB, key ed25519.PrivateKey) {
	t.Helper()
	hs := o.rehash(t)
	size := uint64(len(o.leaves))
	root, err := tlog.TreeHash(int64(size), hs)
	if err != nil {
		t.Fatal(err)
	}
	o.sizes, o.notes = []uint64{size}, []string{sign(t, key, o.name, size, root)}
	o.key = vkey(t, o.name, key)
}

func vkey(t testing.TB, name string, key ed25519.PrivateKey) string {
	t.Helper()
	pub, _ := key.Public().(ed25519.PublicKey)
	k, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signer signs notes with a raw Ed25519 key.
type signer struct {
	note.Verifier
	key ed25519.PrivateKey
}

func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

func sign(t testing.TB, key ed25519.PrivateKey, name string, size uint64, root tlog.Hash) string {
	t.Helper()
	v, err := note.NewVerifier(vkey(t, name, key))
	if err != nil {
		t.Fatal(err)
	}
	b, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", name, size, b64(root))}, signer{v, key})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readKey(t testing.TB, path string) ed25519.PrivateKey {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		t.Fatalf("%T is no Ed25519 key", k)
	}
	return priv
}
