package access

import (
	"crypto/sha1" //nolint:gosec // the form in which lists of breached passwords are published
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/hawser-iot/hawser/internal/core"
)

// What a password must be (ASVS 6.2): 12 characters or more of any kind, never
// alone, never one that is known or easily guessed. No kinds of characters are
// asked for, and it is never asked to be changed without a reason.
const (
	minPasswordRunes = 12
	maxPasswordBytes = 1024
	minGuesses       = 1e10 // what the estimate must come to
)

// judgePassword refuses a new password that is too short, known or easy.
func (s *Service) judgePassword(typed string, d Details) error {
	p := norm.NFC.String(typed)
	switch {
	case !utf8.ValidString(p):
		return core.E(core.Invalid, "password", "the password is not text", "type it")
	case utf8.RuneCountInString(p) < minPasswordRunes:
		return core.E(core.Invalid, "password-short", "the password is shorter than 12 characters", "four words that do not belong together are easy to remember")
	case len(p) > maxPasswordBytes:
		return core.E(core.Invalid, "password-long", "the password is longer than 1024 bytes", "a sentence is enough")
	}
	if s.easy().contains(p) {
		return tooEasy("it is one of the passwords that are tried first")
	}
	if s.d.Breached != nil {
		found, err := s.d.Breached.Contains(sha1.Sum([]byte(p)))
		if err != nil {
			return fmt.Errorf("look up breached passwords: %w", err)
		}
		if found {
			return core.E(core.Invalid, "password-breached", "this password is in a list of passwords that were stolen somewhere", "choose one that you use nowhere else")
		}
	}
	own := append([]string{"hawser", s.d.Name, s.host}, s.d.Words...)
	if s.d.Products != nil {
		own = append(own, s.d.Products()...)
	}
	own = append(own, strings.FieldsFunc(d.Name+" "+d.Mail, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })...)
	if newEstimator(own).guesses(p) < minGuesses {
		return tooEasy("a program that knows how people choose would guess it soon")
	}
	return nil
}

func tooEasy(why string) error {
	return core.E(core.Invalid, "password-easy", "this password is too easy: "+why, "take four or five words that do not belong together, or let your password manager make one")
}
