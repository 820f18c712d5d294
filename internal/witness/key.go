package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// algCosignature is an Ed25519 cosignature with a time
// (https://c2sp.org/tlog-cosignature).
const algCosignature = 0x04

const maxNameBytes = 200

// Key cosigns checkpoints. It prints as [sealed].
type Key struct {
	name string
	priv ed25519.PrivateKey
}

// LogValue keeps the key out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// String keeps the key out of formatted text.
func (Key) String() string { return "[sealed]" }

// GoString keeps the key out of formatted text.
func (Key) GoString() string { return "[sealed]" }

// Name is what the witness calls itself: best a host and path of its operator.
func (k Key) Name() string { return k.name }

// Verifier is the public key in the text form that verifiers read:
// NAME+ID+KEY.
func (k Key) Verifier() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id(), base64.StdEncoding.EncodeToString(k.public()))
}

// public is the algorithm and the key.
func (k Key) public() []byte {
	pub, _ := k.priv.Public().(ed25519.PublicKey)
	return append([]byte{algCosignature}, pub...)
}

// id is the key's short name in signature lines.
func (k Key) id() uint32 {
	sum := sha256.Sum256(append([]byte(k.name+"\n"), k.public()...))
	return binary.BigEndian.Uint32(sum[:])
}

// cosign is the signature line that says: seen at a time, larger than what was
// seen before.
func (k Key) cosign(text string, at time.Time) string {
	seconds := uint64(at.Unix())
	sig := binary.BigEndian.AppendUint32(nil, k.id())
	sig = binary.BigEndian.AppendUint64(sig, seconds)
	sig = append(sig, ed25519.Sign(k.priv, []byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"+text))...)
	return "— " + k.name + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

const keyPrefix = "PRIVATE+KEY+"

// CreateKey makes a witness's key in a new file of mode 0600: one line,
// PRIVATE+KEY+NAME+ID+SEED, as x/mod's sumdb/note writes them.
func CreateKey(path, name string) (Key, error) {
	if badName(name) {
		return Key{}, core.E(core.Invalid, "witness-name", fmt.Sprintf("%q is no name of a witness", name), "use a host and path of yours, without space or plus sign: witness.example/w1")
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make witness key: %w", err)
	}
	k := Key{name, priv}
	text := fmt.Sprintf("%s%s+%08x+%s\n", keyPrefix, name, k.id(), base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, priv.Seed()...)))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, fmt.Errorf("make witness key: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Key{}, fmt.Errorf("write witness key: %w", err)
	}
	return k, nil
}

// LoadKey reads what CreateKey made. A file that others than its owner can read
// is refused.
func LoadKey(path string) (Key, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, &core.Error{
			Kind: core.Unready, Reason: "witness-key-missing", Err: err,
			Message: "there is no witness key in " + path, Hint: "`hawser witness` makes one the first time it looks",
		}
	}
	if err != nil {
		return Key{}, fmt.Errorf("read witness key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Key{}, core.E(core.Unready, "witness-key-open", fmt.Sprintf("others can read the witness key %s (mode %04o)", path, st.Mode().Perm()), "chmod 600 "+path)
	}
	if st.Size() > 1024 {
		return Key{}, badKey(path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read witness key: %w", err)
	}
	k, ok := parseKey(strings.TrimSuffix(string(b), "\n"))
	if !ok {
		return Key{}, badKey(path)
	}
	return k, nil
}

func badKey(path string) error {
	return core.E(core.Unready, "witness-key-bad", path+" is not a witness's key", "put back the file that was made for this witness")
}

func parseKey(text string) (Key, bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	name, rest, ok2 := strings.Cut(rest, "+")
	id, b64, ok3 := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if !ok || !ok2 || !ok3 || badName(name) || err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != algCosignature {
		return Key{}, false
	}
	k := Key{name, ed25519.NewKeyFromSeed(raw[1:])}
	return k, fmt.Sprintf("%08x", k.id()) == id
}

func badName(s string) bool {
	return s == "" || len(s) > maxNameBytes || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' })
}

// emptyRoot is the root of a ledger without entries (RFC 6962 §2.1).
func emptyRoot() []byte {
	sum := sha256.Sum256(nil)
	return sum[:]
}
