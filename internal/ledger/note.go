package ledger

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

	"github.com/hawser-iot/hawser/internal/core"
)

// Limits of a checkpoint, ours or a stranger's.
const (
	MaxNoteBytes   = 16384
	maxSignatures  = 64
	MaxOriginBytes = 200
)

// Checkpoint is a signed head: so many entries have this root. Note is the
// C2SP signed note (https://c2sp.org/tlog-checkpoint): three lines of text —
// origin, size, root in base64 — an empty line, and signatures.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   core.Hash
	Note   []byte
}

// noteSignature is one signature line of a note.
type noteSignature struct {
	name string
	id   uint32 // first four bytes of the hash of name and key
	sig  []byte
}

const algEd25519 = 1

// keyID is the short name of a key in signature lines
// (https://c2sp.org/signed-note).
func keyID(name string, pub ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', algEd25519})
	h.Write(pub)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// VerifierKey is the public key in the text form that verifiers of signed
// notes read: NAME+ID+KEY. Name is the origin line.
func VerifierKey(name string, pub ed25519.PublicKey) string {
	b := append([]byte{algEd25519}, pub...)
	return fmt.Sprintf("%s+%08x+%s", name, keyID(name, pub), base64.StdEncoding.EncodeToString(b))
}

// checkpointText is what is signed.
func checkpointText(origin string, size uint64, root core.Hash) string {
	return origin + "\n" + strconv.FormatUint(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}

// signCheckpoint signs a head. Ed25519 is deterministic: signing one head twice
// gives the same note.
func signCheckpoint(key ed25519.PrivateKey, origin string, size uint64, root core.Hash) Checkpoint {
	text := checkpointText(origin, size, root)
	pub, _ := key.Public().(ed25519.PublicKey)
	sig := binary.BigEndian.AppendUint32(nil, keyID(origin, pub))
	sig = append(sig, ed25519.Sign(key, []byte(text))...)
	note := text + "\n— " + origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
	return Checkpoint{Origin: origin, Size: size, Root: root, Note: []byte(note)}
}

// verify reports whether the checkpoint bears a good signature of its origin
// by pub. Signatures of others are passed over; a bad one of ours is an error
// even beside a good one.
func (c *Checkpoint) verify(pub ed25519.PublicKey) error {
	text, sigs, err := parseNote(c.Note)
	if err != nil {
		return err
	}
	id, good := keyID(c.Origin, pub), false
	for _, s := range sigs {
		if s.name != c.Origin || s.id != id {
			continue
		}
		if len(s.sig) != ed25519.SignatureSize || !ed25519.Verify(pub, []byte(text), s.sig) {
			return fmt.Errorf("checkpoint of %s: the signature is wrong", c.Origin)
		}
		good = true
	}
	if !good {
		return fmt.Errorf("checkpoint of %s is not signed by this ledger's key", c.Origin)
	}
	return nil
}

// ParseCheckpoint reads a checkpoint. It checks the form, not the signatures.
func ParseCheckpoint(note []byte) (Checkpoint, error) {
	text, _, err := parseNote(note)
	if err != nil {
		return Checkpoint{}, err
	}
	lines := strings.SplitN(text, "\n", 4) // lines from the fourth on are extensions, signed but not ours to read
	if len(lines) < 4 {
		return Checkpoint{}, errors.New("checkpoint: fewer than three lines")
	}
	c := Checkpoint{Origin: lines[0], Note: append([]byte(nil), note...)}
	if err := checkOrigin(c.Origin); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	c.Size, err = strconv.ParseUint(lines[1], 10, 64)
	if err != nil || c.Size > maxSize || strconv.FormatUint(c.Size, 10) != lines[1] {
		return Checkpoint{}, errors.New("checkpoint: the second line is no size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) || len(lines[2]) != base64.StdEncoding.EncodedLen(len(root)) {
		return Checkpoint{}, errors.New("checkpoint: the third line is no root")
	}
	copy(c.Root[:], root)
	return c, nil
}

// parseNote splits a signed note into its text and its signatures
// (https://c2sp.org/signed-note).
func parseNote(note []byte) (string, []noteSignature, error) {
	if len(note) > MaxNoteBytes {
		return "", nil, fmt.Errorf("note has %d bytes, more than %d", len(note), MaxNoteBytes)
	}
	s := string(note)
	if !utf8.ValidString(s) {
		return "", nil, errors.New("note is not UTF-8")
	}
	for _, c := range s {
		if c < 0x20 && c != '\n' {
			return "", nil, errors.New("note has a control character")
		}
	}
	i := strings.LastIndex(s, "\n\n")
	if i < 0 || !strings.HasSuffix(s, "\n") {
		return "", nil, errors.New("note has no signatures")
	}
	text, tail := s[:i+1], s[i+2:]
	var sigs []noteSignature
	for line := range strings.SplitSeq(strings.TrimSuffix(tail, "\n"), "\n") {
		sig, err := parseSignature(line)
		if err != nil {
			return "", nil, err
		}
		if sigs = append(sigs, sig); len(sigs) > maxSignatures {
			return "", nil, fmt.Errorf("note has more than %d signatures", maxSignatures)
		}
	}
	return text, sigs, nil
}

func parseSignature(line string) (noteSignature, error) {
	bad := errors.New("note has a malformed signature line")
	rest, ok := strings.CutPrefix(line, "— ")
	if !ok {
		return noteSignature{}, bad
	}
	name, b64, ok := strings.Cut(rest, " ")
	if !ok || checkOrigin(name) != nil {
		return noteSignature{}, bad
	}
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(b) < 5 {
		return noteSignature{}, bad
	}
	return noteSignature{name: name, id: binary.BigEndian.Uint32(b), sig: b[4:]}, nil
}

// checkOrigin holds what a key name must be: not empty, no white space, no
// plus sign, and of bounded length.
func checkOrigin(name string) error {
	if name == "" || len(name) > MaxOriginBytes || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }) {
		return fmt.Errorf("%q is no name of a ledger: 1 to %d bytes without space or plus sign", name, MaxOriginBytes)
	}
	return nil
}
