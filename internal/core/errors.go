package core

import "errors"

// Kind sorts errors by what the asker can do about them.
type Kind uint8

// The kinds of error. Edges map them to their own codes (HTTP status, EST
// answer, exit code); nothing else about an error leaves the program.
const (
	Internal Kind = iota // our fault; details only in the log
	Invalid              // the input is wrong; the message says what
	Denied               // known who asks; not allowed
	Unknown              // no such thing, or not for this asker: both look the same
	Conflict             // true once, but not in the present state
	TooLarge             // over a size limit
	TooMany              // over a rate or count limit; later it may pass
	Unavail              // our passing trouble: full disk, stopped journal; later it may pass
	Unready              // something must be done first; the hint says what
)

// String is the kind's stable name, as used in JSON answers.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Denied:
		return "denied"
	case Unknown:
		return "unknown"
	case Conflict:
		return "conflict"
	case TooLarge:
		return "too-large"
	case TooMany:
		return "too-many"
	case Unavail:
		return "unavailable"
	case Unready:
		return "unready"
	default:
		return "internal"
	}
}

// Error is the only text of an error that a stranger sees: what was tried and
// what is wrong (Message), and what to do (Hint). Reason is a short stable
// name for logs, counters and tests ("csr-ca-true"); it stays inside, because
// a stranger could learn from it. Err is the cause and never leaves the log.
type Error struct {
	Kind    Kind
	Reason  string
	Message string
	Hint    string
	Err     error
}

func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// E makes an Error without a cause.
func E(kind Kind, reason, message, hint string) *Error {
	return &Error{Kind: kind, Reason: reason, Message: message, Hint: hint}
}

// KindOf is the kind of the first *Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// ReasonOf is the reason of the first *Error in err's chain, or "internal".
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Reason != "" {
		return e.Reason
	}
	return "internal"
}
