package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func hashes(p []tlog.Hash) []verify.Hash {
	out := make([]verify.Hash, len(p))
	for i := range p {
		out[i] = verify.Hash(p[i])
	}
	return out
}

// TestProofsOfTlog accepts every proof that x/mod/sumdb/tlog makes and refuses
// each one after one change.
func TestProofsOfTlog(t *testing.T) {
	const n = 70
	leaves := make([]string, n)
	for i := range leaves {
		leaves[i] = fmt.Sprint("leaf ", i)
	}
	hs := treeOf(t, leaves)
	root := func(size int) verify.Hash {
		h, err := tlog.TreeHash(int64(size), hs)
		if err != nil {
			t.Fatal(err)
		}
		return verify.Hash(h)
	}
	for size := 1; size <= n; size++ {
		for i := range size {
			p, err := tlog.ProveRecord(int64(size), int64(i), hs)
			if err != nil {
				t.Fatal(err)
			}
			proof := hashes(p)
			if err := verify.Inclusion([]byte(leaves[i]), uint64(i), uint64(size), proof, root(size)); err != nil {
				t.Fatalf("inclusion of %d in %d: %v", i, size, err)
			}
			wrong := []error{
				verify.Inclusion([]byte("other"), uint64(i), uint64(size), proof, root(size)),
				verify.Inclusion([]byte(leaves[i]), uint64(i), uint64(size), append(proof, verify.Hash{}), root(size)),
				verify.Inclusion([]byte(leaves[i]), uint64(i+size), uint64(size), proof, root(size)),
			}
			if len(proof) > 0 {
				wrong = append(wrong, verify.Inclusion([]byte(leaves[i]), uint64(i), uint64(size), proof[1:], root(size)))
				wrong = append(wrong, verify.Inclusion([]byte(leaves[i]), uint64(i^1), uint64(size), proof, root(size)))
			}
			for n, err := range wrong {
				if err == nil {
					t.Fatalf("inclusion of %d in %d: wrong proof %d accepted", i, size, n)
				}
			}
		}
		for old := 1; old < size; old++ {
			p, err := tlog.ProveTree(int64(size), int64(old), hs)
			if err != nil {
				t.Fatal(err)
			}
			proof := hashes(p)
			if err := verify.Consistency(uint64(old), root(old), uint64(size), root(size), proof); err != nil {
				t.Fatalf("consistency of %d with %d: %v", old, size, err)
			}
			for n, err := range []error{
				verify.Consistency(uint64(old), verify.Hash{1}, uint64(size), root(size), proof),
				verify.Consistency(uint64(old), root(old), uint64(size), verify.Hash{1}, proof),
				verify.Consistency(uint64(old), root(old), uint64(size), root(size), append(proof, verify.Hash{})),
				verify.Consistency(uint64(old), root(old), uint64(size), root(size), proof[1:]),
				verify.Consistency(uint64(size), root(size), uint64(old), root(old), proof),
			} {
				if err == nil {
					t.Fatalf("consistency of %d with %d: wrong proof %d accepted", old, size, n)
				}
			}
		}
	}
	if verify.Consistency(5, root(5), 5, root(5), nil) != nil || verify.Consistency(5, root(5), 5, root(6), nil) == nil {
		t.Error("equal sizes are judged wrongly")
	}
	if verify.Consistency(0, sha256.Sum256(nil), 5, root(5), nil) != nil || verify.Consistency(0, verify.Hash{1}, 5, root(5), nil) == nil {
		t.Error("the empty tree is judged wrongly")
	}
}

// TestFaultIsNamed holds that the verifier points at the entry.
func TestFaultIsNamed(t *testing.T) {
	s := newScene(t)
	trust := verify.Options{Keys: []string{s.pinned}}
	for _, c := range []struct {
		name        string
		do          func(o *origin)
		first, last int64
		says        string
	}{
		{"one leaf", func(o *origin) { o.leaves[100] = strings.Replace(o.leaves[100], "done", "dame", 1) }, 100, 100, "changed"},
		{"leaf and hash", func(o *origin) {
			o.leaves[100] = strings.Replace(o.leaves[100], "done", "dame", 1)
			o.hashes[100] = tlog.RecordHash([]byte(o.leaves[100]))
		}, 0, 255, "together with their hashes"},
		{"tail", func(o *origin) { o.leaves = o.leaves[:309] }, 309, lastSize - 1, "missing"},
	} {
		m := s.clone()
		c.do(m.last())
		r := check(t, m.render(), trust)
		if r.OK() {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if f := r.Faults[0]; f.Origin != s.last().name || f.First != c.first || f.Last != c.last || !strings.Contains(f.What, c.says) {
			t.Errorf("%s: first fault %q, want entries %d to %d, %q", c.name, f, c.first, c.last, c.says)
		}
	}
	lines := bytes.SplitAfter(s.export, []byte("\n"))
	b := bytes.Join(append(append([][]byte{}, lines[:20]...), lines[23:]...), nil)
	if f := check(t, b, trust).Faults[0]; f.First != 17 || f.Last != 19 || f.What != "missing" {
		t.Errorf("lines cut out: first fault %q, want entries 17 to 19 missing", f)
	}
	if s := (verify.Fault{Origin: "o", First: 3, Last: 3, What: "w"}).String(); s != "o entry 3: w" {
		t.Error(s)
	}
}

// TestSecondSpelling holds that no line can say one thing to us and another to
// the next reader.
func TestSecondSpelling(t *testing.T) {
	s := newScene(t)
	for _, c := range []struct{ from, to string }{
		{`{"index":5,`, `{"index":05,`},
		{`{"index":5,`, `{ "index":5,`},
		{`{"index":5,`, `{"index":5,"index":5,`},
		{`{"index":5,`, `{"Index":5,`},
		{`"v":1}}` + "\n{\"index\":6,", `"v":1}} ` + "\n{\"index\":6,"},
		{`"v":1}}` + "\n{\"index\":6,", `"v":1},"leaf":{}}` + "\n{\"index\":6,"},
		{`"v":1}}` + "\n{\"index\":6,", `"v":1}}` + "\r\n{\"index\":6,"},
		{`{"export":1}`, `{"export":2}`},
		{`{"export":1}`, `{"export":1} `},
		{`{"checkpoint":"hawser`, `{"checkpoint":"\u0068awser`},
	} {
		b := bytes.Replace(s.export, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(b, s.export) {
			t.Fatalf("%q is not in the export", c.from)
		}
		if r := check(t, b, verify.Options{}); r.OK() {
			t.Errorf("%q for %q: accepted", c.to, c.from)
		}
	}
}

// TestRecordInTwoSpellings holds that even who has the key cannot record an
// entry that readers of JSON understand in different ways.
func TestRecordInTwoSpellings(t *testing.T) {
	s := newScene(t)
	for _, leaf := range []string{
		`{"kind":"a","kind":"b","v":1}`, `{"v":1,"kind":"a"}`, `{"kind":"a", "v":1}`, `{"kind":"\u0061","v":1}`, `{"kind":"\/","v":1}`,
		`{"kind":"a","v":1.0}`, `{"kind":"a","v":01}`, `{"kind":"a","v":-0}`, `{"kind":"a","v":1e0}`, `["a"]`, `"a"`, `{}{}`, `{"":1}`,
		`{"a":[[[[[[[[[[1]]]]]]]]]]}`, `{"a":[1,]}`, `{"a":1,}`, `{"é":1}`, `{"a":truefalse}`, `{"a"}`, `{`,
	} {
		m := s.clone()
		m.last().leaves[9] = leaf
		m.last().resign(t, s.key)
		r := check(t, m.render(), verify.Options{})
		if r.OK() || r.Faults[0].First != 9 && !strings.HasPrefix(r.Faults[0].What, "line ") {
			t.Errorf("%s: faults %v, want entry 9", leaf, r.Faults)
		}
	}
	m := s.clone()
	m.last().leaves[9] = `{"a":[],"b":[null,true,false,-5,0,"\b\t\n\f\r\"\\\u001f"],"c":{},"d":{"x":{"y":"é"}}}`
	m.last().resign(t, s.key)
	if r := check(t, m.render(), verify.Options{}); !r.OK() {
		t.Errorf("canonical JSON refused: %v", r.Faults)
	}
}

// cosign adds a witness's signature to a checkpoint as
// https://c2sp.org/tlog-cosignature says.
func cosign(note, name string, key ed25519.PrivateKey, at uint64) (signed, verifier string) {
	pub, _ := key.Public().(ed25519.PublicKey)
	b := append([]byte{4}, pub...)
	sum := sha256.Sum256(append([]byte(name+"\n"), b...))
	text := note[:strings.LastIndex(note, "\n\n")+1]
	sig := binary.BigEndian.AppendUint64(append([]byte{}, sum[:4]...), at)
	sig = append(sig, ed25519.Sign(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	return note + "— " + name + " " + base64.StdEncoding.EncodeToString(sig) + "\n",
		fmt.Sprintf("%s+%x+%s", name, sum[:4], base64.StdEncoding.EncodeToString(b))
}

func TestWitness(t *testing.T) {
	s := newScene(t)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, verifier := cosign(string(s.middle), "witness.example/w1", key, 1800000000)
	o := verify.Options{Keys: []string{s.pinned}, Earlier: []byte(signed), Witnesses: []string{verifier}}
	if r := check(t, s.export, o); !r.OK() || r.Witnessed() != "witnessed by witness.example/w1" || r.Standing != verify.Proved {
		t.Errorf("cosigned: %s, %s, %v", r.Witnessed(), r.Standing, r.Faults)
	}
	_, stranger := cosign(string(s.middle), "witness.example/w1", ed25519.NewKeyFromSeed(make([]byte, 32)), 1)
	o.Witnesses = []string{stranger}
	if r := check(t, s.export, o); r.Witnessed() != verify.Unwitnessed {
		t.Errorf("a stranger's key: %s", r.Witnessed())
	}
	// The time is part of what a witness signs.
	i := strings.LastIndex(signed, " ") + 1
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(signed[i:]))
	if err != nil {
		t.Fatal(err)
	}
	sig[11]++
	o.Earlier, o.Witnesses = []byte(signed[:i]+base64.StdEncoding.EncodeToString(sig)+"\n"), []string{verifier}
	if r := check(t, s.export, o); r.Witnessed() != verify.Unwitnessed {
		t.Errorf("another time: %s", r.Witnessed())
	}
}

func TestOptionsAreRefused(t *testing.T) {
	s := newScene(t)
	_, witness := cosign(string(s.middle), "w", s.key, 1)
	flipped := strings.Replace(s.pinned, "+", "+0", 1)
	for _, o := range []verify.Options{
		{Keys: []string{"no key"}},
		{Keys: []string{flipped}},
		{Keys: []string{witness}},
		{Witnesses: []string{s.pinned}},
		{Earlier: []byte("not a note")},
		{Earlier: []byte(sign(t, s.key, s.last().name, 0, tlog.Hash{}))},
	} {
		if _, err := verify.Log(bytes.NewReader(s.export), o); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
	if c, err := verify.Signed(s.middle, s.pinned); err != nil || c.Size != middleSize {
		t.Errorf("Signed: size %d, %v", c.Size, err)
	}
	if _, err := verify.Signed(s.oldNote, s.pinned); err == nil {
		t.Error("Signed took the key of another origin")
	}
	bad := bytes.Replace(s.middle, []byte("\n150\n"), []byte("\n151\n"), 1)
	if _, err := verify.Signed(bad, s.pinned); err == nil {
		t.Error("Signed took a changed checkpoint")
	}
}

func FuzzLog(f *testing.F) {
	s := newScene(f)
	f.Add(s.export[:2000])
	f.Add([]byte("{\"export\":1}\n{\"origin\":\"a\",\"key\":\"a+00000000+AA==\"}\n{\"checkpoint\":\"a\\n1\\n\\n\\n— a AAAA\\n\"}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := verify.Log(bytes.NewReader(b), verify.Options{Earlier: s.middle})
		if err == nil && r.OK() {
			t.Error("an export without the scene's key was accepted")
		}
	})
}

// TestCosignatures holds that a witness's time is read, strangers are passed
// over, and a wrong cosignature under a known key is not.
func TestCosignatures(t *testing.T) {
	s := newScene(t)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	signed, verifier := cosign(string(s.middle), "witness.example/w1", key, 1800000000)
	got, err := verify.Cosignatures([]byte(signed), []string{verifier})
	if want := (verify.Cosignature{Witness: "witness.example/w1", Time: 1800000000}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("cosigned by %v, %v; want %v", got, err, want)
	}
	_, other := cosign(string(s.middle), "witness.example/w2", ed25519.NewKeyFromSeed(make([]byte, 32)), 1)
	if got, err := verify.Cosignatures([]byte(signed), []string{other}); err != nil || len(got) != 0 {
		t.Errorf("a witness who saw nothing: %v, %v", got, err)
	}
	moved := []byte(signed)
	for i := len(moved) - 10; ; i-- { // another signature, well formed
		if moved[i] != 'A' {
			moved[i] = 'A'
			break
		}
	}
	if got, err := verify.Cosignatures(moved, []string{verifier}); err == nil {
		t.Errorf("a wrong cosignature is taken: %v", got)
	}
}
