package access

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// A recovery code is 26 random characters of 5 bits (130 bits) in Crockford's
// base 32, written in groups: it takes the place of a one-time code, once.
const (
	recoveryCodes      = 10
	recoveryChars      = 26
	recoveryGroup      = 5
	recoveryAlphabet   = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	recoveryScarce     = 3
	domainRecovery     = "recovery code"
	maxRecoveryTyped   = 4 * recoveryChars
	recoverySeparators = " -\u00a0\t"
)

// newRecoveryCodes makes a set, and what is kept of it.
func newRecoveryCodes() (codes []string, hashes []core.Hash) {
	for range recoveryCodes {
		var b [recoveryChars]byte
		_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
		for i := range b {
			b[i] = recoveryAlphabet[b[i]&31] // 256 is a multiple of 32: no bias
		}
		var out strings.Builder
		for i := 0; i < len(b); i += recoveryGroup {
			if i > 0 {
				out.WriteByte('-')
			}
			out.Write(b[i:min(i+recoveryGroup, len(b))])
		}
		codes = append(codes, out.String())
		hashes = append(hashes, secretHash(domainRecovery, string(b[:])))
	}
	return codes, hashes
}

// parseRecovery reads a code as people type it; false for what has not its
// form.
func parseRecovery(typed string) (core.Hash, bool) {
	if len(typed) > maxRecoveryTyped {
		return core.Hash{}, false
	}
	var b []byte
	for _, r := range strings.ToUpper(typed) {
		switch {
		case strings.ContainsRune(recoverySeparators, r):
			continue
		case r == 'O':
			r = '0'
		case r == 'I' || r == 'L':
			r = '1'
		}
		if !strings.ContainsRune(recoveryAlphabet, r) {
			return core.Hash{}, false
		}
		b = append(b, byte(r))
	}
	if len(b) != recoveryChars {
		return core.Hash{}, false
	}
	return secretHash(domainRecovery, string(b)), true
}

// verifyRecovery spends a code, in the transaction of what it opens.
func (s *Service) verifyRecovery(ctx context.Context, tx Tx, t *gate.Ticket, account string, p PersonID, typed string) (bool, error) {
	if err := t.Use(gate.RecoveryCode, account); err != nil {
		return false, err
	}
	hash, formed := parseRecovery(typed)
	ok, err := tx.SpendRecovery(ctx, p, hash, s.now())
	return ok && formed, err
}
