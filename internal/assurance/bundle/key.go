package bundle

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/hawser-iot/hawser/internal/core"
)

// Key signs evidence. It is made apart from the server's keys, so that who
// runs the server alone cannot sign for the maker. It prints as [sealed].
type Key struct{ priv ed25519.PrivateKey }

// LogValue keeps the key out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// String keeps the key out of formatted text.
func (Key) String() string { return "[sealed]" }

// GoString keeps the key out of formatted text.
func (Key) GoString() string { return "[sealed]" }

// Public is the key that auditors are to know from elsewhere.
func (k Key) Public() PublicKey {
	pub, _ := k.priv.Public().(ed25519.PublicKey)
	return PublicKey{pub}
}

// CreateKey makes an evidence key in a new file of mode 0600, in the form of
// OpenSSH, so that ssh-keygen reads it. It fails when the file exists.
func CreateKey(path string) (Key, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make evidence key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, keyComment)
	if err != nil {
		return Key{}, fmt.Errorf("encode evidence key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return Key{}, fmt.Errorf("write evidence key: %w", err)
	}
	return Key{priv}, nil
}

const keyComment = "hawser evidence"

// LoadKey reads an evidence key. A file that others than its owner can read is
// refused, as is one behind a passphrase.
func LoadKey(path string) (Key, error) {
	const maxBytes = 4096
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, &core.Error{
			Kind: core.Unready, Reason: "evidence-key-missing", Err: err,
			Message: "there is no evidence key in " + path, Hint: "make one: hawser evidence key " + path,
		}
	}
	if err != nil {
		return Key{}, fmt.Errorf("read evidence key: %w", err)
	}
	bad := core.E(core.Unready, "evidence-key-bad", path+" is not one Ed25519 key as ssh-keygen writes it, without a passphrase", "make one: hawser evidence key FILE")
	switch {
	case st.Mode().Perm()&0o077 != 0:
		return Key{}, core.E(core.Unready, "evidence-key-open", fmt.Sprintf("others can read the evidence key %s (mode %04o)", path, st.Mode().Perm()), "chmod 600 "+path)
	case st.Size() > maxBytes:
		return Key{}, bad
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read evidence key: %w", err)
	}
	raw, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return Key{}, bad
	}
	priv, ok := raw.(*ed25519.PrivateKey)
	if !ok || len(*priv) != ed25519.PrivateKeySize {
		return Key{}, bad
	}
	return Key{*priv}, nil
}

// PublicKey verifies evidence. Its zero value verifies nothing.
type PublicKey struct{ key ed25519.PublicKey }

// wire is the key as SSH writes it (RFC 8709 §4).
func (p PublicKey) wire() []byte {
	return ssh.Marshal(struct{ Type, Key string }{ssh.KeyAlgoED25519, string(p.key)})
}

// AuthorizedKey is the key in one line, as in OpenSSH's public key files.
func (p PublicKey) AuthorizedKey() string {
	return ssh.KeyAlgoED25519 + " " + base64.StdEncoding.EncodeToString(p.wire())
}

// AllowedSigner is the key as a line of a file of allowed signers
// (ssh-keygen(1)), good for evidence only.
func (p PublicKey) AllowedSigner() string {
	return Principal + ` namespaces="` + Namespace + `" ` + p.AuthorizedKey()
}

// SecurityTXT is a line for security.txt. RFC 9116 §2.4 lets readers pass over
// fields that they do not know.
func (p PublicKey) SecurityTXT() string { return "Hawser-Evidence-Key: " + p.AuthorizedKey() }

// DNSName is where the key is published below a domain of the maker's.
const DNSName = "_hawser-evidence"

// DNSTXT is the value of a TXT record at DNSName.
func (p PublicKey) DNSTXT() string {
	return "v=hawser-evidence1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(p.key)
}

// Fingerprint is the key's short name, as ssh-keygen -l shows it.
func (p PublicKey) Fingerprint() string {
	sum := sha256.Sum256(p.wire())
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// writeNew writes a file that does not exist yet, and has it on disk.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
