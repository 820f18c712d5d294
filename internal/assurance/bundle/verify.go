package bundle

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
)

// Trust is what a verifier knows from elsewhere than the bundle. With nothing,
// a bundle can only be shown to agree with itself: whoever holds a key could
// have made it up as a whole.
type Trust struct {
	// Signers is a file of allowed signers (ssh-keygen(1)).
	Signers []byte
	// Earlier is a checkpoint of the same ledger that was obtained before: kept
	// by the verifier himself, out of an earlier bundle, or from a witness.
	Earlier []byte
	// LogKeys are the ledger's public keys (NAME+ID+KEY). Names do not matter.
	LogKeys []string
	// Witnesses are public keys of witnesses (https://c2sp.org/tlog-witness).
	Witnesses []string
	// Drawings are the samples that the verifier drew, as an assessor. Each
	// must be in the bundle.
	Drawings []Drawing
	// Now bounds the bundle's times when it is not zero.
	Now time.Time
	// Program is the version of the verifying program, Checks what it declares.
	// A bundle of the same version must declare exactly these.
	Program string
	Checks  []assurance.Declared
}

// Drawing is what an assessor knows of a sample: the digest that was shown
// before the nonce was told, and the nonce. Without the digest the maker could
// have begun another sample once the nonce was known.
type Drawing struct {
	Nonce  []byte
	Digest core.Hash // zero: not taken down
}

// Standing says how much a bundle proves.
type Standing string

// The standings.
const (
	// Proved: the signer is one of those trusted, and the ledger is the one
	// that the earlier checkpoint is of.
	Proved Standing = "proved"
	// SelfConsistent: nothing is wrong with it, but signer or earlier
	// checkpoint came from nowhere else.
	SelfConsistent Standing = "self-consistent only"
	// Refuted: something is wrong with it.
	Refuted Standing = "refuted"
)

// Unwitnessed is how a report calls a ledger that no known witness cosigned.
const Unwitnessed = "unwitnessed"

// Report is what a bundle shows.
type Report struct {
	Standing     Standing         `json:"standing"`
	Because      []string         `json:"because,omitempty"` // why it is not more
	Signer       string           `json:"signer,omitempty"`  // who signed, by the trusted list
	Fingerprint  string           `json:"fingerprint"`       // of the key that signed
	Origin       string           `json:"origin"`
	Entries      uint64           `json:"entries"` // of the ledger
	Witnesses    []string         `json:"witnesses,omitempty"`
	At           time.Time        `json:"at"` // the time that the verdicts are of
	Program      string           `json:"program"`
	First        uint64           `json:"first_round"`
	Last         uint64           `json:"last_round"`
	Digest       core.Hash        `json:"-"` // of the last round
	Rounds       int              `json:"rounds"`
	Observations int              `json:"observations"`
	Trials       int              `json:"trials"`
	Samplings    int              `json:"samplings"`
	Own          int              `json:"own_samples,omitempty"` // of those that the verifier drew
	State        *assurance.State `json:"-"`                     // as worked out here; nil when it could not be
	Faults       []string         `json:"faults,omitempty"`      // at most 100; empty when nothing is wrong
	Notes        []string         `json:"notes,omitempty"`       // what could not be compared
}

// OK reports whether nothing is wrong with the bundle.
func (r *Report) OK() bool { return len(r.Faults) == 0 && r.Standing != Refuted && r.Standing != "" }

// Witnessed is "unwitnessed", or who cosigned.
func (r *Report) Witnessed() string {
	if len(r.Witnesses) == 0 {
		return Unwitnessed
	}
	return "witnessed by " + strings.Join(r.Witnesses, ", ")
}

// VerifyDir verifies the bundle in a folder.
func VerifyDir(ctx context.Context, dir string, t Trust) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, core.E(core.Invalid, "no-bundle", "there is no folder "+dir, "give the folder of a bundle, the one that holds "+nameSums)
	}
	defer func() { _ = root.Close() }() // only read
	return Verify(ctx, root.FS(), t)
}

// Verify verifies a bundle. The error is about the trust that was given; what
// is wrong with the bundle stands in the report.
func Verify(ctx context.Context, fsys fs.FS, t Trust) (Report, error) {
	v := verifier{t: t}
	if err := v.trust(); err != nil {
		return Report{}, err
	}
	f, err := readFiles(fsys)
	if err != nil {
		v.bad.add("it cannot be read as a bundle: %v", err)
		return v.done(), nil
	}
	return v.verify(ctx, f), nil
}

type verifier struct {
	t       Trust
	signers []signer
	bad     faults
	r       Report
	signed  bool // by somebody trusted
	grown   bool // out of the earlier checkpoint
}

func (v *verifier) trust() error {
	var err error
	if v.signers, err = parseSigners(v.t.Signers); err != nil {
		return core.E(core.Invalid, "bad-signers", err.Error(), "give a file of allowed signers as ssh-keygen takes it")
	}
	if len(v.t.Signers) > 0 && len(v.signers) == 0 {
		return core.E(core.Invalid, "bad-signers", "the file of allowed signers names nobody who may sign evidence", `give lines like: evidence namespaces="`+Namespace+`" ssh-ed25519 AAAA…`)
	}
	return v.checkLogTrust()
}

func (v *verifier) verify(ctx context.Context, f files) Report {
	// What is not sealed is not worth reading: everything after rests on it.
	key, ok := v.seal(f)
	if !ok || ctx.Err() != nil {
		return v.done()
	}
	e := open(f, &v.bad)
	if e == nil || ctx.Err() != nil {
		return v.done()
	}
	v.r.Origin, v.r.Entries, v.r.At, v.r.Program = e.Origin, e.head.Size, e.Input.At, e.Input.Program
	v.r.First, v.r.Last, v.r.Digest = e.First, e.Last, e.last
	v.r.Rounds, v.r.Observations, v.r.Trials, v.r.Samplings = e.rounds, e.fold.observations, e.fold.trials, len(e.samplings)
	if len(v.bad.list) == 0 {
		v.r.State = &e.state
	}
	v.signer(key, e.Input.At)
	v.log(e)
	v.times(e)
	v.program(e)
	v.samples(e)
	if len(v.bad.list) == 0 { // what follows from faults is not worth comparing
		v.compare(e, f, key)
	}
	return v.done()
}

func (v *verifier) done() Report {
	v.r.Faults = v.bad.list
	switch {
	case len(v.bad.list) > 0:
		v.r.Standing = Refuted
	case v.signed && v.grown:
		v.r.Standing = Proved
	default:
		v.r.Standing = SelfConsistent
	}
	return v.r
}

// seal checks the set of files, their sums, and the signature over these.
func (v *verifier) seal(f files) (PublicKey, bool) {
	for _, s := range append(f.strange(), f.agree()...) {
		v.bad.add("%s", s)
	}
	key, err := openSignature(f[nameSums], f[nameSig])
	if err != nil {
		v.bad.add("%s: %v", nameSig, err)
	} else {
		v.r.Fingerprint = key.Fingerprint()
	}
	return key, len(v.bad.list) == 0
}

func (v *verifier) signer(key PublicKey, at time.Time) {
	if len(v.signers) == 0 {
		v.r.Because = append(v.r.Because, "the signer is known from the bundle alone")
		return
	}
	name, why := allowed(v.signers, key, at)
	if name == "" {
		v.bad.add("%s (%s)", why, key.Fingerprint())
		return
	}
	v.r.Signer, v.signed = name, true
}

// times holds the bundle against the verifier's clock.
func (v *verifier) times(e *evidence) {
	if !v.t.Now.IsZero() && e.Input.At.After(v.t.Now.Add(clockSlack)) {
		v.bad.add("it is of %s, which is still to come", stamp(e.Input.At))
	}
}

// program compares what the bundle declares with what this program does.
func (v *verifier) program(e *evidence) {
	same := v.t.Program != "" && v.t.Program == e.Input.Program
	say := func(format string, args ...any) {
		if same {
			v.bad.add("%s, though it is of the same version of the program", fmt.Sprintf(format, args...))
			return
		}
		v.r.Notes = append(v.r.Notes, fmt.Sprintf(format, args...))
	}
	cat, err := catalogueOnce()
	switch {
	case err != nil:
		v.bad.add("%v", err)
	case cat.digest.String() != e.Catalogue:
		say("its catalogue of recommendations is another than this program's")
	}
	if v.t.Checks == nil {
		v.r.Notes = append(v.r.Notes, "the checks that it declares were compared with nothing")
		return
	}
	const most = 20
	diff := differing(e.Input.Checks, v.t.Checks)
	for _, d := range diff[:min(most, len(diff))] {
		say("%s", d)
	}
	if len(diff) > most {
		say("%d more checks differ", len(diff)-most)
	}
}

// samples holds the assessor's own samples against the bundle. Those of others
// are named as such: an assessor of this year meets those of last year.
func (v *verifier) samples(e *evidence) {
	for i, d := range v.t.Drawings {
		at := slices.IndexFunc(e.samplings, func(s sample) bool { return bytes.Equal(d.Nonce, s.Nonce) })
		if at < 0 {
			v.bad.add("what you drew with nonce %d is left out", i+1)
			continue
		}
		v.r.Own++
		got := e.samplings[at].Digest()
		switch {
		case d.Digest.IsZero():
			v.note("the sample drawn with nonce %d has the digest %s: it is yours only if you took that down before you told the nonce", i+1, got)
		case d.Digest != got:
			v.bad.add("what was drawn with nonce %d is another sample than the one that you saw begun: its digest is %s", i+1, got)
		}
	}
	if n := len(e.samplings) - v.r.Own; n > 0 && v.t.Drawings != nil {
		v.note("%d of the samples are not yours", n)
	}
}

func (v *verifier) note(format string, a ...any) {
	v.r.Notes = append(v.r.Notes, fmt.Sprintf(format, a...))
}

// compare works out every file that follows from the others, and compares it
// byte for byte. Verdicts and claims must agree whatever program made them; a
// page of another version may look different.
func (v *verifier) compare(e *evidence, f files, key PublicKey) {
	want, err := e.derive(key)
	if err != nil {
		v.bad.add("%v", err)
		return
	}
	same := v.t.Program == "" || v.t.Program == e.Input.Program
	for _, name := range derived() {
		switch {
		case bytes.Equal(want[name], f[name]):
		case name == nameVerdicts || name == nameClaims:
			v.bad.add("%s is not what follows from the evidence", name)
		case name == nameSigners:
			v.bad.add("%s names another signer than the one who signed", name)
		case same:
			v.bad.add("%s does not say what follows from the evidence", name)
		default:
			v.r.Notes = append(v.r.Notes, name+" was made by another version of the program and was not compared")
		}
	}
}
