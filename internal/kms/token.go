package kms

import (
	"crypto"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// TokenOptions says in which PKCS#11 token keys are, and how it knows us.
type TokenOptions struct {
	Module string // the library of the token's maker, a path
	Label  string // of the token
	PIN    string // file with the user's PIN, mode 0600
	Prefix string // of the names of our keys; one for each installation
}

// Token is an open PKCS#11 token (PKCS #11 v2.40). It keeps roots as AES keys
// and an authority's keys as pairs on P-256, all of them such that the token
// never gives them out.
type Token interface {
	seal.RootKeys
	// NewSigner makes a key pair on P-256 under a name that is not taken.
	NewSigner(name string) (crypto.Signer, error)
	// Signer finds a key pair.
	Signer(name string) (crypto.Signer, error)
	// DeleteSigner deletes a key pair; one that is gone is no error.
	DeleteSigner(name string) error
	// Close ends the sessions with the token. What came from it works no more.
	Close() error
}

var tokenNames = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

const maxPIN = 256

// check finds faults before the module is loaded, and gives the PIN.
func (o *TokenOptions) check() (string, error) {
	bad := func(message, hint string) error { return core.E(core.Invalid, "token", message, hint) }
	if o.Module == "" || o.Label == "" || o.PIN == "" {
		return "", bad("the token is not named", "give its module, its label and the file with its PIN")
	}
	if !tokenNames.MatchString(o.Prefix) {
		return "", bad(fmt.Sprintf("%.40q cannot begin the names of keys", o.Prefix), "take small letters, digits, dashes and underscores, at most 63")
	}
	if _, err := os.Stat(o.Module); err != nil {
		return "", because(core.Unready, "token-module", "the token's module is not there", "install what the token's maker gives, and name its file", err)
	}
	if err := checkPrivate(o.PIN); err != nil {
		return "", err
	}
	b, err := os.ReadFile(o.PIN)
	if err != nil {
		return "", fmt.Errorf("read the token's PIN: %w", err)
	}
	pin := strings.TrimSuffix(string(b), "\n")
	if pin == "" || len(b) > maxPIN || strings.ContainsAny(pin, "\r\n") {
		return "", core.E(core.Unready, "token-pin", "the file with the token's PIN holds no PIN", "one line, nothing else")
	}
	return pin, nil
}
