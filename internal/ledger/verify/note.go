package verify

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxNoteBytes  = 16384
	maxSignatures = 64
	maxNameBytes  = 256

	algLog     = 0x01 // Ed25519 over the note (https://c2sp.org/signed-note)
	algWitness = 0x04 // Ed25519 cosignature with a time (https://c2sp.org/tlog-cosignature)
)

// Checkpoint is what a log signed: so many entries have this root.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash

	text string // what was signed
	sigs []signature
}

type signature struct {
	name string
	id   uint32
	sig  []byte
}

// pubKey is a public key out of its text form NAME+ID+KEY.
type pubKey struct {
	name string
	alg  byte
	id   uint32
	key  ed25519.PublicKey
}

func parseKey(text string) (pubKey, error) {
	bad := fmt.Errorf("%q is no public key: it must read NAME+ID+KEY", clip(text))
	name, rest, ok := strings.Cut(text, "+")
	id, b64, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 || badName(name) || len(id) != 8 || strings.ToLower(id) != id {
		return pubKey{}, bad
	}
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return pubKey{}, bad
	}
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(b) != 1+ed25519.PublicKeySize || strings.ContainsAny(b64, "\r\n") {
		return pubKey{}, bad
	}
	k := pubKey{name: name, alg: b[0], id: uint32(n), key: ed25519.PublicKey(b[1:])}
	if k.alg != algLog && k.alg != algWitness {
		return pubKey{}, fmt.Errorf("key of %q has an unknown algorithm", name)
	}
	if k.id != keyID(name, k.alg, k.key) {
		return pubKey{}, fmt.Errorf("key of %q does not match its id", name)
	}
	return k, nil
}

func keyID(name string, alg byte, key ed25519.PublicKey) uint32 {
	b := append([]byte(name), '\n', alg)
	sum := sha256.Sum256(append(b, key...))
	return binary.BigEndian.Uint32(sum[:])
}

func badName(s string) bool {
	return s == "" || len(s) > maxNameBytes || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' })
}

// parseCheckpoint reads a signed note that holds a checkpoint
// (https://c2sp.org/tlog-checkpoint). It verifies nothing.
func parseCheckpoint(note string) (Checkpoint, error) {
	var c Checkpoint
	if len(note) > maxNoteBytes || !utf8.ValidString(note) {
		return c, errors.New("checkpoint is too long or not UTF-8")
	}
	for _, r := range note {
		if r < 0x20 && r != '\n' {
			return c, errors.New("checkpoint has a control character")
		}
	}
	cut := strings.LastIndex(note, "\n\n")
	if cut < 0 || !strings.HasSuffix(note, "\n") || strings.HasSuffix(note, "\n\n") {
		return c, errors.New("checkpoint has no signature")
	}
	c.text = note[:cut+1]
	for _, line := range strings.Split(note[cut+2:len(note)-1], "\n") {
		s, err := parseSignature(line)
		if err != nil {
			return c, err
		}
		if c.sigs = append(c.sigs, s); len(c.sigs) > maxSignatures {
			return c, errors.New("checkpoint has too many signatures")
		}
	}
	lines := strings.Split(c.text, "\n")
	if len(lines) < 4 || badName(lines[0]) {
		return c, errors.New("checkpoint has fewer than three lines, or no origin")
	}
	c.Origin = lines[0]
	var err error
	if c.Size, err = strconv.ParseUint(lines[1], 10, 62); err != nil || strconv.FormatUint(c.Size, 10) != lines[1] {
		return c, errors.New("checkpoint has no size")
	}
	root, ok := parseHash(lines[2])
	if !ok {
		return c, errors.New("checkpoint has no root")
	}
	c.Root = root
	return c, nil
}

func parseSignature(line string) (signature, error) {
	bad := errors.New("checkpoint has a malformed signature")
	rest, ok := strings.CutPrefix(line, "— ")
	name, b64, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || badName(name) {
		return signature{}, bad
	}
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(b) < 5 {
		return signature{}, bad
	}
	return signature{name: name, id: binary.BigEndian.Uint32(b), sig: b[4:]}, nil
}

func parseHash(b64 string) (Hash, bool) {
	var h Hash
	if len(b64) != base64.StdEncoding.EncodedLen(len(h)) {
		return h, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(b) != len(h) {
		return h, false
	}
	copy(h[:], b)
	return h, true
}

// signedBy reports whether the log's key signed c under c's own origin.
func (c *Checkpoint) signedBy(key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("no key to check the checkpoint of %s with", c.Origin)
	}
	id, good := keyID(c.Origin, algLog, key), false
	for _, s := range c.sigs {
		if s.name != c.Origin || s.id != id {
			continue
		}
		if len(s.sig) != ed25519.SignatureSize || !ed25519.Verify(key, []byte(c.text), s.sig) {
			return fmt.Errorf("the checkpoint of %s has a wrong signature", c.Origin)
		}
		good = true
	}
	if !good {
		return fmt.Errorf("the checkpoint of %s is not signed by the key that it should be", c.Origin)
	}
	return nil
}

// witnessedBy reports whether w cosigned c (https://c2sp.org/tlog-cosignature).
func (c *Checkpoint) witnessedBy(w pubKey) bool {
	for _, s := range c.sigs {
		if s.name != w.name || s.id != w.id || len(s.sig) != 8+ed25519.SignatureSize {
			continue
		}
		at := binary.BigEndian.Uint64(s.sig)
		text := "cosignature/v1\ntime " + strconv.FormatUint(at, 10) + "\n" + c.text
		if ed25519.Verify(w.key, []byte(text), s.sig[8:]) {
			return true
		}
	}
	return false
}

// Signed reads a checkpoint and verifies that the log with the given key
// (NAME+ID+KEY, its name being the origin) signed it.
func Signed(note []byte, key string) (Checkpoint, error) {
	k, err := parseKey(key)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := parseCheckpoint(string(note))
	if err != nil {
		return Checkpoint{}, err
	}
	if k.alg != algLog || k.name != c.Origin {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of %s, the key of %s", c.Origin, k.name)
	}
	return c, c.signedBy(k.key)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Cosignature says that a witness saw a checkpoint at a time, in seconds since
// 1970.
type Cosignature struct {
	Witness string
	Time    uint64
}

// Cosignatures are those of a checkpoint that witnesses with the given public
// keys (NAME+ID+KEY) made, in the order of the keys. What others put there is
// passed over; a wrong cosignature under a given key is an error.
func Cosignatures(note []byte, witnesses []string) ([]Cosignature, error) {
	c, err := parseCheckpoint(string(note))
	if err != nil {
		return nil, err
	}
	var out []Cosignature
	for _, text := range witnesses {
		w, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		if w.alg != algWitness {
			return nil, fmt.Errorf("the key of %s is not a witness's", w.name)
		}
		for _, s := range c.sigs {
			if s.name != w.name || s.id != w.id {
				continue
			}
			one := Checkpoint{text: c.text, sigs: []signature{s}}
			if !one.witnessedBy(w) {
				return nil, fmt.Errorf("the cosignature of %s is wrong", w.name)
			}
			out = append(out, Cosignature{w.name, binary.BigEndian.Uint64(s.sig)})
		}
	}
	return out, nil
}
