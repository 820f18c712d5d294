package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// Limits of a record. A leaf must fit the 16-bit length of a tlog-tiles entry
// bundle; the others bound what one record can cost a reader.
const (
	MaxLeafBytes   = 65535
	MaxFacts       = 256
	MaxFactBytes   = 8192 // of one value
	MaxNameBytes   = 64   // of a kind and of a fact's name
	MaxActorBytes  = 160  // of an actor's id
	MaxSealedBytes = 16384
)

// leafVersion is the version of the leaf encoding. Leaves of every version
// stay readable for ever, because their hashes do.
const leafVersion = 1

const leafTime = "2006-01-02T15:04:05.000000Z"

// AppendLeaf appends the leaf of r to dst: the bytes that are hashed into the
// tree and that every verifier sees. A leaf is one JSON object in the
// canonical form of RFC 8785 (members sorted, no white space, fewest escapes):
//
//	actor    string  KIND:ID of who did it
//	facts    array   of [name, value] pairs of strings, in the record's order
//	kind     string  what happened
//	policy   string  hash of the declaration in force, 64 hexadecimal digits
//	product  string  product id
//	sealed   string  base64 of what is sealed under the subject's key
//	subject  string  pseudonym of whom it is about
//	time     string  RFC 3339, UTC, always six decimals
//	v        number  1, the version of this encoding
//
// facts, policy, product, sealed and subject are absent when the record has
// none. A record outside the limits of this package, or with a text that is
// not UTF-8, has no leaf; times are cut to microseconds.
func AppendLeaf(dst []byte, r *core.Record) ([]byte, error) {
	if err := checkRecord(r); err != nil {
		return nil, fmt.Errorf("record %q: %w", r.Kind, err)
	}
	start := len(dst)
	dst = append(dst, `{"actor":`...)
	dst = appendString(dst, r.Actor.String())
	if len(r.Facts) > 0 {
		dst = append(dst, `,"facts":[`...)
		for i, f := range r.Facts {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '[')
			dst = appendString(dst, f.Name)
			dst = append(dst, ',')
			dst = appendString(dst, f.Value)
			dst = append(dst, ']')
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"kind":`...)
	dst = appendString(dst, string(r.Kind))
	if !r.Policy.IsZero() {
		dst = append(dst, `,"policy":"`...)
		dst = append(dst, r.Policy.String()...)
		dst = append(dst, '"')
	}
	if r.Product != "" {
		dst = append(dst, `,"product":`...)
		dst = appendString(dst, string(r.Product))
	}
	if len(r.Sealed) > 0 {
		dst = append(dst, `,"sealed":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Sealed)
		dst = append(dst, '"')
	}
	if !r.Subject.IsZero() {
		dst = append(dst, `,"subject":"`...)
		dst = append(dst, r.Subject.String()...)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"time":"`...)
	dst = r.Time.UTC().AppendFormat(dst, leafTime)
	dst = append(dst, `","v":1}`...)
	if n := len(dst) - start; n > MaxLeafBytes {
		return nil, fmt.Errorf("record %q: %d bytes, more than %d", r.Kind, n, MaxLeafBytes)
	}
	return dst, nil
}

func checkRecord(r *core.Record) error {
	if !isWord(string(r.Kind), '-') {
		return fmt.Errorf("kind is not 1 to %d lower-case letters, digits and hyphens", MaxNameBytes)
	}
	if y := r.Time.UTC().Year(); r.Time.IsZero() || y < 1 || y > 9999 {
		return errors.New("no time, or a year that RFC 3339 cannot write")
	}
	if !isWord(string(r.Actor.Kind), '-') || r.Actor.ID == "" || len(r.Actor.ID) > MaxActorBytes || !utf8.ValidString(r.Actor.ID) {
		return fmt.Errorf("actor %q is incomplete, too long or not UTF-8", r.Actor)
	}
	if r.Product != "" && !r.Product.Valid() {
		return fmt.Errorf("%q is no product id", r.Product)
	}
	if len(r.Sealed) > MaxSealedBytes {
		return fmt.Errorf("sealed part has %d bytes, more than %d", len(r.Sealed), MaxSealedBytes)
	}
	if len(r.Facts) > MaxFacts {
		return fmt.Errorf("%d facts, more than %d", len(r.Facts), MaxFacts)
	}
	for i, f := range r.Facts {
		if !isWord(f.Name, '_') {
			return fmt.Errorf("fact name %q is not 1 to %d lower-case letters, digits and underscores", f.Name, MaxNameBytes)
		}
		if len(f.Value) > MaxFactBytes || !utf8.ValidString(f.Value) {
			return fmt.Errorf("fact %s is longer than %d bytes or not UTF-8", f.Name, MaxFactBytes)
		}
		for _, g := range r.Facts[:i] {
			if g.Name == f.Name {
				return fmt.Errorf("fact %s stands twice", f.Name)
			}
		}
	}
	return nil
}

// isWord reports whether s is a lower-case name of bounded length whose words
// are joined by sep.
func isWord(s string, sep byte) bool {
	if s == "" || len(s) > MaxNameBytes {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != sep {
			return false
		}
	}
	return true
}

// appendString appends s as RFC 8785 §3.2.2.2 writes strings.
func appendString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"')
}

// leafJSON mirrors the members of a leaf.
type leafJSON struct {
	Actor   string      `json:"actor"`
	Facts   [][2]string `json:"facts"`
	Kind    string      `json:"kind"`
	Policy  string      `json:"policy"`
	Product string      `json:"product"`
	Sealed  string      `json:"sealed"`
	Subject string      `json:"subject"`
	Time    string      `json:"time"`
	V       int         `json:"v"`
}

// ParseLeaf reads a leaf back. It accepts exactly the bytes that AppendLeaf
// writes and nothing that merely means the same: a second spelling of one
// record would let two readers of one hash see different things.
func ParseLeaf(leaf []byte) (core.Record, error) {
	var r core.Record
	if len(leaf) > MaxLeafBytes {
		return r, fmt.Errorf("leaf has %d bytes, more than %d", len(leaf), MaxLeafBytes)
	}
	var j leafJSON
	d := json.NewDecoder(bytes.NewReader(leaf))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return r, fmt.Errorf("leaf: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, errors.New("leaf: more than one JSON value")
	}
	if j.V != leafVersion {
		return r, fmt.Errorf("leaf: version %d is not known", j.V)
	}
	if err := j.fill(&r); err != nil {
		return core.Record{}, fmt.Errorf("leaf: %w", err)
	}
	again, err := AppendLeaf(make([]byte, 0, len(leaf)), &r)
	if err != nil {
		return core.Record{}, fmt.Errorf("leaf: %w", err)
	}
	if !bytes.Equal(again, leaf) {
		return core.Record{}, errors.New("leaf: not in canonical form")
	}
	return r, nil
}

func (j *leafJSON) fill(r *core.Record) error {
	var err error
	kind, id, ok := strings.Cut(j.Actor, ":")
	if !ok {
		return fmt.Errorf("actor %q has no kind", j.Actor)
	}
	r.Actor = core.Actor{Kind: core.ActorKind(kind), ID: id}
	r.Kind, r.Product = core.RecordKind(j.Kind), core.ProductID(j.Product)
	if j.Policy != "" {
		if r.Policy, err = core.ParseHash(j.Policy); err != nil {
			return err
		}
	}
	if j.Subject != "" {
		if r.Subject, err = core.ParseSubject(j.Subject); err != nil {
			return err
		}
	}
	if j.Sealed != "" {
		if r.Sealed, err = base64.StdEncoding.Strict().DecodeString(j.Sealed); err != nil {
			return fmt.Errorf("sealed: %w", err)
		}
	}
	if r.Time, err = time.Parse(leafTime, j.Time); err != nil {
		return err
	}
	for _, f := range j.Facts {
		r.Facts = append(r.Facts, core.Fact{Name: f[0], Value: f[1]})
	}
	return nil
}
