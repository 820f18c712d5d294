package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

// TestStockTools verifies a bundle on disk with sha256sum and ssh-keygen alone,
// by the very commands that its README gives.
func TestStockTools(t *testing.T) {
	for _, tool := range []string{"sha256sum", "ssh-keygen", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing", tool)
		}
	}
	w, k := newWorld(20), newKey(t)
	w.live(3)
	dir := filepath.Join(t.TempDir(), "b")
	if err := Export(t.Context(), dir, w.options(), k); err != nil {
		t.Fatal(err)
	}
	signers := filepath.Join(t.TempDir(), "signers")
	if err := os.WriteFile(signers, []byte(k.Public().AllowedSigner()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(i int) error {
		cmd := exec.Command("sh", "-c", string(bytes.ReplaceAll([]byte(commands()[i]), []byte("SIGNERS"), []byte(signers))))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v %s", commands()[i], err, bytes.TrimSpace(out))
		return err
	}
	if err := errors.Join(run(0), run(1)); err != nil {
		t.Fatal("the stock tools do not take an honest bundle")
	}
	change := func(name string) {
		t.Helper()
		p := filepath.Join(dir, name)
		b, err := os.ReadFile(p)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(p, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(nameVerdicts)
	if run(0) == nil {
		t.Error("sha256sum takes a changed file")
	}
	change(nameSums)
	if run(1) == nil {
		t.Error("ssh-keygen takes changed sums")
	}
}

// TestOracles proves what is in log/ with x/mod's tlog and note.
func TestOracles(t *testing.T) {
	w, k := newWorld(5), newKey(t)
	w.live(100)
	earlier := len(w.entries)
	early := w.signed(earlier)
	w.live(200)
	o := w.options()
	o.Earlier = [][]byte{early, w.signed(1), early}
	f := w.sealed(t, o, k)
	var p logProofs
	if err := json.Unmarshal(f[nameProofs], &p); err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(f[nameCheckpoint], note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + n.Text[len(w.origin)+1:]))
	if err != nil {
		t.Fatal(err)
	}
	path := func(ps []proof) []tlog.Hash {
		var out []tlog.Hash
		for _, h := range ps {
			out = append(out, tlog.Hash(h))
		}
		return out
	}
	if len(p.Rounds) < 2 || len(p.Grown) != 2 {
		t.Fatalf("%d rounds, %d growths", len(p.Rounds), len(p.Grown))
	}
	for _, r := range append(p.Rounds, *p.Begun) {
		if err := tlog.CheckRecord(path(r.Path), tree.N, tree.Hash, int64(r.Index), tlog.RecordHash([]byte(r.Leaf))); err != nil {
			t.Errorf("entry %d: %v", r.Index, err)
		}
	}
	for _, g := range p.Grown {
		if err := tlog.CheckTree(path(g.Path), tree.N, tree.Hash, int64(g.Size), w.root(int(g.Size))); err != nil {
			t.Errorf("%d entries begin with %d: %v", tree.N, g.Size, err)
		}
	}
}

// TestVerdictsBitForBit: the verdicts of the bundle are those of the running
// system at the time of its last round, and another export of the same time is
// the same in every byte.
func TestVerdictsBitForBit(t *testing.T) {
	w, k := newWorld(70), newKey(t)
	w.live(7)
	o := w.options()
	o.Input.Waivers = []assurance.Waiver{{ID: "w1", Row: w.checks[8].Rows[0], Subjects: []string{"check.n008/<script>alert(1)</script>"}, Reason: "a test", Instead: "RP-03", Asked: dawn, Approved: dawn, Ends: dawn.AddDate(0, 0, 30), Void: "what a console said"}}
	f := w.sealed(t, o, k)

	live := o.Input
	live.At = w.now
	live.Proofs = map[string][]check.Proof{}
	for _, r := range w.rounds {
		round, err := check.ParseRound(r.Encoded)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range round.Proofs {
			live.Proofs[p.Check] = append(live.Proofs[p.Check], p)
		}
	}
	want, err := encode(assurance.Judge(live))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, f[nameVerdicts]) {
		t.Error("the bundle's verdicts are not those of the running system")
	}
	r := mustVerify(t, f, w.trust(k, nil))
	if got, err := encode(r.State); err != nil || !bytes.Equal(got, want) {
		t.Errorf("worked out again they are others: %v", err)
	}
	again := w.sealed(t, o, k)
	for name := range f {
		if !bytes.Equal(f[name], again[name]) {
			t.Errorf("%s is another the second time", name)
		}
	}
}
