package bundle

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// signer is one line of a file of allowed signers.
type signer struct {
	names         string // principals, as they stand there
	key           PublicKey
	after, before time.Time // zero: no bound
}

const maxSignersBytes = 1 << 20

// parseSigners reads a file of allowed signers (ssh-keygen(1), ALLOWED
// SIGNERS). Lines for other namespaces and other kinds of keys are passed over;
// a line that cannot be read is an error, because what it takes back may matter.
func parseSigners(b []byte) ([]signer, error) {
	if len(b) > maxSignersBytes {
		return nil, errors.New("the file of allowed signers is too long")
	}
	var out []signer
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			return nil, fmt.Errorf("line %d of the allowed signers has no key", n)
		}
		pub, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(line[i:])))
		if err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("line %d of the allowed signers has no key that can be read", n)
		}
		s := signer{names: line[:i]}
		good, err := s.options(options)
		if err != nil {
			return nil, fmt.Errorf("line %d of the allowed signers: %w", n, err)
		}
		crypto, ok := pub.(ssh.CryptoPublicKey)
		if !good || !ok {
			continue
		}
		if key, ok := crypto.CryptoPublicKey().(ed25519.PublicKey); ok && pub.Type() == ssh.KeyAlgoED25519 {
			s.key = PublicKey{key}
			out = append(out, s)
		}
	}
	return out, nil
}

// options reports whether a key with these options may sign evidence.
func (s *signer) options(options []string) (ok bool, err error) {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			if !slices.Contains(strings.Split(value, ","), Namespace) {
				return false, nil
			}
		case "valid-after":
			s.after, err = sshTime(value)
		case "valid-before":
			s.before, err = sshTime(value)
		case "cert-authority":
			return false, nil // certificates of SSH are not taken
		default:
			return false, fmt.Errorf("option %q is not known", name)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// sshTime reads the times of ssh-keygen. Those without a Z would be in the
// reader's own zone, which two readers may not share.
func sshTime(s string) (time.Time, error) {
	for _, form := range []string{"20060102Z", "200601021504Z", "20060102150405Z"} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time in UTC: write 20260131Z or 20260131235959Z", s)
}

// allowed is who a key is by a list, at a time; "" when nobody.
func allowed(list []signer, p PublicKey, at time.Time) (name, why string) {
	why = "the signature is of a key that is not among the signers you trust"
	for _, s := range list {
		switch {
		case !s.key.key.Equal(p.key):
		case !s.after.IsZero() && at.Before(s.after) || !s.before.IsZero() && at.After(s.before):
			why = "the key of " + s.names + " was not good at the time of the bundle"
		default:
			return s.names, ""
		}
	}
	return "", why
}
