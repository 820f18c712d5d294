package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// RecordUnitCertified is the kind of record behind a unit's certificate. Its
// fact: digest, of the statement. It names nobody: the statement is salted.
const RecordUnitCertified core.RecordKind = "unit-certified"

// UnitChecks are the checks that hold the whole register together, without
// which nothing can be said of one unit (CC 1.9, 2.15).
func UnitChecks() []string { return []string{"codes.distinct", "devices.own-key"} }

// leastCodeBits is the least strength of a preset that nobody guesses.
const leastCodeBits = 64

// MaxUnitBytes bounds the certificate of a unit, ours or a stranger's.
const MaxUnitBytes = 4 << 20

// UnitStatement says that the credentials of one unit are its own (CC 2.15; EN
// 303 645 5.1-1, 5.1-2; California SB-327, Oregon HB 2395: a preset unique to
// each unit, or one that the user has to change).
type UnitStatement struct {
	Salt    string         `json:"salt"` // makes the digest in the ledger one that nobody looks up
	At      time.Time      `json:"at"`
	Program string         `json:"program"`
	Serial  core.DeviceID  `json:"serial"`
	Product core.ProductID `json:"product"`
	Unit    string         `json:"unit"` // its random number, as the ledger names it
	Added   time.Time      `json:"added"`
	Code    UnitCode       `json:"code"`
	Keys    []UnitKey      `json:"keys"` // of its certificates; none before it enrolled
}

// UnitCode is the preset that a unit came with.
type UnitCode struct {
	Bits     int  `json:"bits"`
	Spent    bool `json:"spent"`    // used once or withdrawn: it opens nothing now
	Compared int  `json:"compared"` // units that it was compared with, this one among them
	Same     int  `json:"same"`     // other units that had the same
}

// UnitKey is a key that a unit made.
type UnitKey struct {
	SHA256    string    `json:"sha256"` // of the SubjectPublicKeyInfo
	Certified time.Time `json:"certified"`
	Units     int       `json:"units"` // that ever showed it
}

// Digest is what the ledger holds of the statement.
func (s *UnitStatement) Digest() (core.Hash, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return core.Hash{}, fmt.Errorf("encode the statement about a unit: %w", err)
	}
	return sha256.Sum256(b), nil
}

// Wrong says why the statement does not say that the unit's credentials are
// its own.
func (s *UnitStatement) Wrong() []string {
	var out []string
	fail := func(ok bool, format string, args ...any) {
		if !ok {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	fail(s.Serial.Valid() && s.Product.Valid(), "it names no unit and product")
	fail(s.Code.Bits >= leastCodeBits, "its enrolment code has %d bits, less than %d", s.Code.Bits, leastCodeBits)
	fail(s.Code.Same == 0, "%d other units had its enrolment code", s.Code.Same)
	fail(s.Code.Compared > 0, "its enrolment code was compared with nothing")
	for _, k := range s.Keys {
		_, err := core.ParseHash(k.SHA256)
		fail(err == nil, "%q is no key", inert(k.SHA256))
		fail(k.Units == 1, "the key %s was shown by %d units", inert(k.SHA256), k.Units)
	}
	return out
}

// unitCertificate is the file.
type unitCertificate struct {
	Format     int           `json:"unit_certificate"`
	Statement  UnitStatement `json:"statement"`
	Record     inclusion     `json:"record"`
	Rounds     []unitRound   `json:"rounds"`
	Checkpoint string        `json:"checkpoint"`
	Key        string        `json:"key"` // of the ledger; to be compared with one from elsewhere
}

// unitRound is a round of observations with one of UnitChecks in it.
type unitRound struct {
	Round  string    `json:"round"` // check.Round.Encode
	Record inclusion `json:"record"`
}

// ProvenRound is a closed round and its record in the ledger.
type ProvenRound struct {
	Encoded []byte
	Proof   ledger.Proof
}

// UnitCertificate writes the certificate of a unit: the statement, the record
// of its digest, and rounds in which UnitChecks passed, all proven under one
// checkpoint. It fails where the certificate would not verify.
func UnitCertificate(s UnitStatement, record ledger.Proof, rounds []ProvenRound, logKey string) ([]byte, error) {
	c := unitCertificate{Format: format, Statement: s, Record: unitProof(record), Rounds: []unitRound{}, Checkpoint: string(record.Checkpoint.Note), Key: logKey}
	for _, r := range rounds {
		if r.Proof.Checkpoint.Size != record.Checkpoint.Size {
			return nil, core.E(core.Unready, "checkpoint-moved", "the ledger was signed while the certificate was put together", "ask again")
		}
		c.Rounds = append(c.Rounds, unitRound{string(r.Encoded), unitProof(r.Proof)})
	}
	b, err := c.encode()
	if err != nil {
		return nil, err
	}
	r, err := VerifyUnit(b, UnitTrust{LogKeys: []string{logKey}})
	if err != nil {
		return nil, err
	}
	if len(r.Faults) > 0 {
		return nil, core.E(core.Conflict, "not-certified", "the unit cannot be certified: "+r.Faults[0],
			"`hawser check list` shows what is wrong; revoke the units that share something, and enrol them anew")
	}
	return b, nil
}

func unitProof(p ledger.Proof) inclusion {
	return inclusion{Index: p.Entry.Index, Leaf: string(p.Entry.Leaf), Path: proofsOf(p.Hashes)}
}

func (c *unitCertificate) encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the certificate of a unit: %w", err)
	}
	return append(b, '\n'), nil
}

// UnitTrust is what the verifier has from elsewhere.
type UnitTrust struct {
	// LogKeys are the ledger's public keys (NAME+ID+KEY). None: the file's own is
	// believed, and the certificate is self-consistent only.
	LogKeys []string
	// Witnesses are public keys of witnesses of the ledger.
	Witnesses []string
}

// UnitReport is what came of it.
type UnitReport struct {
	Standing  Standing      `json:"standing"`
	Statement UnitStatement `json:"statement"`
	Origin    string        `json:"origin"`
	Entries   uint64        `json:"entries"`
	Witnesses []string      `json:"witnesses,omitempty"`
	Faults    []string      `json:"faults,omitempty"`
}

// VerifyUnit verifies the certificate of a unit, offline. An error is one of
// reading it; what is wrong with what it says stands in Faults.
func VerifyUnit(b []byte, t UnitTrust) (UnitReport, error) {
	c, err := parseUnit(b)
	if err != nil {
		return UnitReport{}, &core.Error{Kind: core.Invalid, Reason: "no-unit-certificate", Message: "this is no certificate of a unit", Hint: "give the file that `hawser device certify` wrote, unchanged", Err: err}
	}
	r := UnitReport{Standing: Proved, Statement: c.Statement}
	wrong := func(f string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(f, args...)) }
	head, err := verify.Signed([]byte(c.Checkpoint), c.Key)
	if err != nil {
		wrong("the checkpoint, by the key beside it: %v", err)
	}
	if len(t.LogKeys) == 0 {
		r.Standing = SelfConsistent
	} else if head, err = signedByOne([]byte(c.Checkpoint), t.LogKeys); err != nil {
		wrong("the checkpoint, by the key from elsewhere: %v", err)
	}
	r.Origin, r.Entries = head.Origin, head.Size
	if cosigned, err := verify.Cosignatures([]byte(c.Checkpoint), t.Witnesses); err != nil {
		wrong("the checkpoint: %v", err)
	} else {
		for _, w := range cosigned {
			r.Witnesses = append(r.Witnesses, w.Witness)
		}
	}
	r.Faults = append(r.Faults, c.Statement.Wrong()...)
	if err := c.recorded(&head); err != nil {
		wrong("the statement: %v", err)
	}
	seen := map[string]bool{}
	for i := range c.Rounds {
		ids, err := c.Rounds[i].holds(&head, c.Statement.At)
		if err != nil {
			wrong("round %d of %d: %v", i+1, len(c.Rounds), err)
		}
		for _, id := range ids {
			seen[id] = true
		}
	}
	for _, id := range UnitChecks() {
		if !seen[id] {
			wrong("no round has %s passing at the time of the statement", id)
		}
	}
	if len(r.Faults) > 0 {
		r.Standing = Refuted
	}
	return r, nil
}

// parseUnit reads a certificate, which has one spelling.
func parseUnit(b []byte) (*unitCertificate, error) {
	if len(b) > MaxUnitBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(b), MaxUnitBytes)
	}
	var c unitCertificate
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if c.Format != format {
		return nil, fmt.Errorf("its form is %d; this program knows %d", c.Format, format)
	}
	again, err := c.encode()
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("it is not as it was written")
	}
	return &c, err
}

// signedByOne reads a checkpoint that one of the keys signed; their names do
// not matter.
func signedByOne(note []byte, keys []string) (verify.Checkpoint, error) {
	var last error
	for _, k := range keys {
		origin, _, _ := bytes.Cut(note, []byte("\n"))
		key, err := logKey(k, string(origin))
		if err != nil {
			return verify.Checkpoint{}, err
		}
		head, err := verify.Signed(note, key)
		if err == nil {
			return head, nil
		}
		last = err
	}
	return verify.Checkpoint{}, last
}

// recorded reports whether the ledger holds the statement.
func (c *unitCertificate) recorded(head *verify.Checkpoint) error {
	if err := c.Record.included(head); err != nil {
		return err
	}
	rec, err := ledger.ParseLeaf([]byte(c.Record.Leaf))
	if err != nil {
		return err
	}
	want, err := c.Statement.Digest()
	switch {
	case err != nil:
		return err
	case rec.Kind != RecordUnitCertified || len(rec.Facts) != 1 || rec.Facts[0].Name != "digest":
		return errors.New("its record is one of something else")
	case rec.Facts[0].Value != want.String():
		return errors.New("it is not the one that the ledger holds")
	case !rec.Time.Equal(c.Statement.At):
		return fmt.Errorf("it says %s, its record %s", c.Statement.At.Format(time.RFC3339), rec.Time.Format(time.RFC3339))
	}
	return nil
}

// holds gives those of UnitChecks whose last observation in the round passed,
// and counted at a time.
func (u *unitRound) holds(head *verify.Checkpoint, at time.Time) ([]string, error) {
	if err := u.Record.included(head); err != nil {
		return nil, err
	}
	rec, err := parseRecord([]byte(u.Record.Leaf))
	if err != nil {
		return nil, err
	}
	if check.DigestOf([]byte(u.Round)) != rec.digest {
		return nil, errors.New("it is not the one that the ledger holds")
	}
	r, err := check.ParseRound([]byte(u.Round))
	if err != nil {
		return nil, err
	}
	if r.Number != rec.number {
		return nil, fmt.Errorf("it is round %d, its record that of round %d", r.Number, rec.number)
	}
	newest := map[string]*check.Observation{}
	for i := range r.Observations {
		o := &r.Observations[i]
		if slices.Contains(UnitChecks(), o.Check) && !o.Taken.After(at) && o.Expires.After(at) {
			newest[o.Check] = o
		}
	}
	var out []string
	for _, o := range newest {
		if o.Outcome != check.Pass || o.Population < 1 || o.Passing != o.Population {
			return nil, fmt.Errorf("%s did not pass: %s", o.Check, o.Outcome)
		}
		out = append(out, o.Check)
	}
	return out, nil
}
