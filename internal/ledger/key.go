package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hawser-iot/hawser/internal/core"
)

// Key signs the heads of the ledger. It prints as [sealed].
type Key struct{ priv ed25519.PrivateKey }

// LogValue keeps the key out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// String keeps the key out of formatted text.
func (Key) String() string { return "[sealed]" }

// GoString keeps the key out of formatted text.
func (Key) GoString() string { return "[sealed]" }

// Public is the key that verifiers pin.
func (k Key) Public() ed25519.PublicKey {
	pub, _ := k.priv.Public().(ed25519.PublicKey)
	return pub
}

// CreateKey makes a signing key in a new file of mode 0600, a PKCS #8 PEM block
// (RFC 8410) that openssl reads. It fails when the file exists.
func CreateKey(path string) (Key, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make ledger key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return Key{}, fmt.Errorf("encode ledger key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, fmt.Errorf("make ledger key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Key{}, fmt.Errorf("write ledger key: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return Key{}, fmt.Errorf("write ledger key: %w", err)
	}
	return Key{priv}, nil
}

// LoadKey reads the signing key. A file that others than its owner can read or
// write is refused: whoever signs heads can fork the ledger.
func LoadKey(path string) (Key, error) {
	const maxBytes = 4096
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, &core.Error{
			Kind: core.Unready, Reason: "ledger-key-missing", Err: err,
			Message: "the ledger's signing key " + path + " is missing",
			Hint:    "put the file back; without it the ledger can be read and verified, but not signed",
		}
	}
	if err != nil {
		return Key{}, fmt.Errorf("read ledger key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Key{}, core.E(core.Unready, "ledger-key-open",
			fmt.Sprintf("others can read the ledger's signing key %s (mode %04o)", path, st.Mode().Perm()),
			"chmod 600 "+path)
	}
	if st.Size() > maxBytes {
		return Key{}, badKey(path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read ledger key: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		return Key{}, badKey(path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, badKey(path)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return Key{}, badKey(path)
	}
	return Key{priv}, nil
}

func badKey(path string) error {
	return core.E(core.Unready, "ledger-key-bad", path+" is not one Ed25519 key in PKCS #8 PEM", "put back the file that `hawser init` made")
}
