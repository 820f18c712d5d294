package device

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/wire"
)

// Config is what a Device needs to know. Serial, Server, Roots and StateDir
// are required.
type Config struct {
	// Serial is the unit's serial number: 1 to 64 letters, digits, '.', '_' and
	// '-', a letter or digit first.
	Serial string

	// Server is the address of the MQTT door, "host:port" or "host" (port 8883).
	Server string

	// EnrolServer is the address of the EST door, "host:port" or "host" (port
	// 8443). Default: the host of Server.
	EnrolServer string

	// ServerName is the name that must be in the server's certificate, when it
	// is not the host of the address, for example behind a tunnel.
	ServerName string

	// Roots is the pinned bundle: PEM certificates of the roots under which the
	// server and this device are. No other root is ever trusted.
	Roots []byte

	// StateDir is a folder for keys, certificates and the queue, used by one
	// process at a time. It is made with mode 0700.
	StateDir string

	// EnrolmentCode gives the unit's one-time code. It is asked only while the
	// device has no certificate.
	EnrolmentCode func() (string, error)

	// Keys is the hardware in which this device's private keys are made and stay,
	// as package device/tpm has it. Default: none; keys are files in StateDir. A
	// device that has a key in a file goes over with its next renewal.
	Keys Keys

	// CBOR sends readings as CBOR maps (RFC 8949) in place of JSON objects: the
	// same to the server, a sixth or more shorter, and cheaper to judge. A server
	// that is too old for it refuses them as "not-json". Default: JSON. What is
	// in the queue already is sent as it is.
	CBOR bool

	// QueueBytes bounds the readings on disk. Default 8 MiB, at least 64 KiB.
	QueueBytes int64

	// Window is the most readings under way at once, if the server allows as
	// many. Default 16.
	Window int

	// KeepAlive is the longest silence on the connection. Default 1 minute, at
	// least 1 second.
	KeepAlive time.Duration

	// Grace is how long Run waits for acknowledgements that are under way when
	// it is told to end. Default 3 seconds.
	Grace time.Duration

	// BuildTime is when the firmware was built: the clock cannot be before it.
	// Optional, and worth setting on devices without a battery-backed clock.
	BuildTime time.Time

	// Sleeps says that the device may be off for longer than its certificate
	// lives. While its clock was never set it then asks the enrolment door first
	// what time it is at least, and renews there if it must: so it is back with
	// two connections. Without it, it takes three, and one less on every other
	// day.
	Sleeps bool

	// Commands are what the device can be told to do. Default: nothing.
	Commands []Command

	// Settings are what can be set on the device. Default: nothing. Apply puts
	// them in force: it is called with the values of all of them once in each
	// Run, before anything else is done, and whenever the server sets one, never
	// while a command is done. An error's text is told to the maker, so it must
	// name nobody; what was in force before is applied again then. ctx ends with
	// Run.
	Settings []Setting
	Apply    func(ctx context.Context, values map[string]any) error

	// Refused is called for each notice that the server refused a message or
	// dropped a field of it. It must not block.
	Refused func(Refusal)

	// Log takes what happens. Default: nothing is logged. Neither keys nor
	// codes nor readings are ever logged.
	Log *slog.Logger

	// Now is the device's clock. Default time.Now.
	Now func() time.Time

	// Dial opens connections. Default: a net.Dialer with a time limit.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultWindow    = 16
	maxWindow        = 1024
	defaultKeepAlive = time.Minute
	defaultGrace     = 3 * time.Second
	handshakeTimeout = 20 * time.Second
	writeTimeout     = 20 * time.Second
)

// Via is how a refusal was told.
type Via string

// The two ways. Each message that the server refused is told once by its
// acknowledgement. Notices are about fields that were dropped out of readings
// that were taken, and sums over messages that were told already.
const (
	ByAck    Via = "ack"
	ByNotice Via = "notice"
)

// Refusal is why the server refused something.
type Refusal struct {
	Via     Via
	Reason  string // stable word: "bad-field", "unknown-stream"; "0x87" when only a code came
	Text    string // what is wrong and what to do; may be empty
	Stream  string // may be empty
	Child   string // whose reading it was; empty: the device's own, or for one that it does not have
	Held    bool   // nothing was refused: readings wait on the device until the maker has looked
	Dropped bool   // the reading was taken without the fields at fault
	Count   int    // how many messages this stands for, at least 1
	Boot    uint64 // with Seq: the reading, when the server's word is about one that this library sent
	Seq     uint64
}

// checked fills in what was left out and refuses what cannot work.
func (c Config) checked() (Config, *x509.CertPool, error) {
	bad := func(format string, args ...any) (Config, *x509.CertPool, error) {
		return c, nil, fault(BadConfig, nil, "", format, args...)
	}
	if !wire.ValidSerial(c.Serial) {
		return bad("serial number %q is not 1 to 64 letters, digits, '.', '_' and '-'", c.Serial)
	}
	if c.StateDir == "" {
		return bad("no state folder is given")
	}
	var err error
	var host string
	if c.Server, host, err = address(c.Server, wire.MQTTPort); err != nil {
		return bad("server address: %v", err)
	}
	if c.EnrolServer == "" {
		c.EnrolServer = net.JoinHostPort(host, strconv.Itoa(wire.ESTPort))
	}
	if c.EnrolServer, _, err = address(c.EnrolServer, wire.ESTPort); err != nil {
		return bad("enrolment server address: %v", err)
	}
	switch {
	case c.QueueBytes == 0:
		c.QueueBytes = defaultQueueBytes
	case c.QueueBytes < minQueueBytes:
		return bad("a queue of %d bytes is too small; the least is %d", c.QueueBytes, minQueueBytes)
	}
	switch {
	case c.Window == 0:
		c.Window = defaultWindow
	case c.Window < 0 || c.Window > maxWindow:
		return bad("a window of %d is not between 1 and %d", c.Window, maxWindow)
	}
	switch {
	case c.KeepAlive == 0:
		c.KeepAlive = defaultKeepAlive
	case c.KeepAlive < time.Second || c.KeepAlive > 18*time.Hour:
		return bad("a keep-alive of %s is not between 1 second and 18 hours", c.KeepAlive)
	}
	if c.Grace <= 0 {
		c.Grace = defaultGrace
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Refused == nil {
		c.Refused = func(Refusal) {}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: handshakeTimeout}).DialContext
	}
	if err := checkSettings(c.Settings, c.Apply); err != nil {
		return bad("settings: %v", err)
	}
	roots, err := parseRoots(c.Roots)
	return c, roots, err
}

// address completes "host" to "host:port".
func address(s string, port int) (addr, host string, err error) {
	host, _, err = net.SplitHostPort(s)
	if err != nil {
		// No port, or an IPv6 address without brackets.
		host, s = s, net.JoinHostPort(s, strconv.Itoa(port))
		if _, _, err = net.SplitHostPort(s); err != nil {
			return "", "", err
		}
	}
	if host == "" {
		return "", "", fault(BadConfig, nil, "", "no host in %q", s)
	}
	return s, host, nil
}

// nameFor is the name that the certificate of the server at addr must carry.
func (c Config) nameFor(addr string) string {
	if c.ServerName != "" {
		return c.ServerName
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
