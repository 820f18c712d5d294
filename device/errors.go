package device

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
)

// Reason is a stable word for what went wrong, for programs and logs.
type Reason string

// The reasons of an Error.
const (
	BadConfig         Reason = "bad-config"           // a field of Config is missing or wrong
	BadReading        Reason = "bad-reading"          // a reading that no server could take
	StateInUse        Reason = "state-in-use"         // another process uses the state folder
	StateUnusable     Reason = "state-unusable"       // the state folder cannot be read or written
	Closed            Reason = "closed"               // the device was closed
	NotConnected      Reason = "not-connected"        // only PublishRaw: there is no session
	ServerForeign     Reason = "server-foreign"       // its certificate leads to no root of the bundle
	ServerExpired     Reason = "server-expired"       // its certificate is no longer valid
	ServerNotYetValid Reason = "server-not-yet-valid" // its certificate is valid only later
	ServerWrongName   Reason = "server-wrong-name"    // its certificate is for another name
	ServerNotTLS      Reason = "server-not-tls"       // it does not speak TLS
	ServerOldTLS      Reason = "server-old-tls"       // it does not speak TLS 1.3
	ServerBadCert     Reason = "server-bad-certificate"
	ServerUnreachable Reason = "server-unreachable" // no connection, or it broke
	ServerBusy        Reason = "server-busy"        // passing trouble at the server
	ServerConfused    Reason = "server-confused"    // an answer outside of the protocol
	IdentityRefused   Reason = "identity-refused"   // the server does not take this device's certificate
	NotEnrolled       Reason = "not-enrolled"       // no certificate, and no enrolment code to get one
	EnrolmentRefused  Reason = "enrolment-refused"  // wrong serial or code, or the code is spent
	BadCertificate    Reason = "bad-certificate"    // the server issued a certificate that is not for this device
)

// Error is what the library's functions return: a stable reason, what was
// tried and what is wrong, and what to do.
type Error struct {
	Reason  Reason
	Message string
	Hint    string // what to do; may be empty
	Err     error  // the cause; may be nil
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

func fault(r Reason, err error, hint, format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...), Hint: hint, Err: err}
}

func reasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// dialFault says in plain words why there is no safe connection to server.
func dialFault(server string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fault(ServerNotTLS, err, "check the port: MQTT over TLS is usually 8883", "server %s does not speak TLS", server)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return alertFault(server, op.Err, err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return fault(ServerUnreachable, err, "", "server %s closed the connection", server)
	}
	if ne, ok := errors.AsType[net.Error](err); ok {
		if ne.Timeout() {
			return fault(ServerUnreachable, err, "", "server %s does not answer", server)
		}
		return fault(ServerUnreachable, err, "", "server %s cannot be reached", server)
	}
	return fault(ServerConfused, err, "", "no safe connection to server %s", server)
}

// alertFault reads a TLS alert (RFC 8446 §6.2). The standard library gives one
// a type of its own that cannot be named here, and the same text as the number
// has.
func alertFault(server string, alert, err error) *Error {
	if alert == nil {
		alert = err
	}
	is := func(numbers ...tls.AlertError) bool {
		for _, n := range numbers {
			if alert.Error() == n.Error() {
				return true
			}
		}
		return false
	}
	switch {
	// bad, unsupported, revoked, expired and unknown certificate, unknown CA,
	// access denied, certificate required.
	case is(42, 43, 44, 45, 46, 48, 49, 116):
		return fault(IdentityRefused, err, "ask the maker whether the device was revoked", "server %s does not take this device's certificate", server)
	case is(70):
		return fault(ServerOldTLS, err, "", "server %s does not speak TLS 1.3", server)
	default:
		return fault(ServerUnreachable, err, "", "server %s ended the handshake", server)
	}
}
