package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"net/url"
	"strings"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/hawser-iot/hawser/internal/gate"
)

// One-time codes are those of RFC 6238 that every authenticator app makes:
// HMAC-SHA-1, six digits, thirty seconds. A code of the step before or after
// is taken too (§5.2), and each step once.
const (
	totpSeconds     = 30
	totpDigits      = 6
	totpSecretBytes = 20 // RFC 4226 §4: 160 bits
	totpSkew        = 1
	maxCodeBytes    = 64
)

func newTOTPSecret() []byte {
	b := make([]byte, totpSecretBytes)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return b
}

func totpText(secret []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

// totpURI is what a QR code for an authenticator app holds.
func totpURI(issuer, account string, secret []byte) string {
	v := url.Values{"secret": {totpText(secret)}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + account, RawQuery: strings.ReplaceAll(v.Encode(), "+", "%20")}).String()
}

func totpCode(secret []byte, step int64) (string, error) {
	return hotp.GenerateCodeCustom(totpText(secret), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// cleanCode is a one-time code as people type it, without blanks and hyphens.
func cleanCode(typed string) (string, bool) {
	if len(typed) > maxCodeBytes {
		return "", false
	}
	c := strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(typed)
	return c, len(c) == totpDigits && strings.Trim(c, "0123456789") == ""
}

// verifyTOTP finds the time step that a code is of, among those that may be
// used now and were not; false when there is none. Without a secret it takes as
// long. That no step is used twice is decided where the step is written.
func (s *Service) verifyTOTP(t *gate.Ticket, account string, secret []byte, last int64, typed string) (step int64, ok bool, err error) {
	if err := t.Use(gate.TOTP, account); err != nil {
		return 0, false, err
	}
	exists := len(secret) > 0
	if !exists {
		secret = newTOTPSecret()
	}
	code, formed := cleanCode(typed)
	if !formed {
		code = "------"
	}
	now := s.now().Unix() / totpSeconds
	for at := now - totpSkew; at <= now+totpSkew; at++ {
		want, err := totpCode(secret, at)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(code), []byte(want)) == 1 && exists && formed && at > last && !ok {
			step, ok = at, true
		}
	}
	return step, ok, nil
}
