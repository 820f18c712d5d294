package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

// The bounds of a probe: of all of it, of one question, and how many
// connections it may open.
const (
	wholeTime   = 2 * time.Minute
	oneTime     = 6 * time.Second
	maxConns    = 160
	maxTextByte = 400
)

// Options say whom to ask.
type Options struct {
	URL     string // of the HTTPS door: "https://maker.example"
	Devices string // host:port of the devices' door; "": not asked
	Console string // URL of the console; "": not asked
	// Roots are the authorities that the installation's certificates are held
	// against; nil: those of this machine.
	Roots *x509.CertPool
	// LedgerKey is the ledger's public key (NAME+ID+KEY), got from elsewhere;
	// "": its signature is not verified.
	LedgerKey string
	// State is the file in which the last checkpoint is remembered; "":
	// nothing is.
	State string
	Now   func() time.Time // nil: time.Now
	// Cleartext are the ports of the host that must not serve in clear; nil:
	// 80 and 1883.
	Cleartext []string
	// Dial opens a connection; nil: a net.Dialer. The server that asks itself
	// gives one that stays on its machine.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Gentle leaves out what counts as a wrong try at a credential: a server
	// that asks itself again and again must slow nobody down.
	Gentle bool
}

// Outcome is how one answer compares with what it should be.
type Outcome string

// The outcomes.
const (
	Good Outcome = "good"
	Bad  Outcome = "BAD"
	// Seen is neither: what it means depends on what a stranger cannot know.
	Seen Outcome = "seen"
	// Mute is a question that got no answer: it proves nothing.
	Mute Outcome = "no answer"
)

// Answer is one question and what came back.
type Answer struct {
	ID      string   `json:"id"`   // stable: "tls-1.1"
	Door    string   `json:"door"` // "devices", "https", "console", "host"
	Address string   `json:"address"`
	Rows    []string `json:"rows"` // of the mission
	Asked   string   `json:"asked"`
	Came    string   `json:"came"`
	Outcome Outcome  `json:"outcome"`
}

// Report is everything that was asked, and what was not.
type Report struct {
	Of        string    `json:"of"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	Answers   []Answer  `json:"answers"`
	NotAsked  []string  `json:"not_asked"`
	Trust     string    `json:"trust"` // what the certificates were held against
	Ledger    *Memory   `json:"ledger,omitempty"`
	Accuses   bool      `json:"ledger_contradicts"` // the ledger contradicts what it showed before
	Connected int       `json:"connections"`
}

// Bad counts the answers that are not as they should be.
func (r *Report) Bad() int { return r.count(Bad) }

func (r *Report) count(o Outcome) int {
	n := 0
	for i := range r.Answers {
		if r.Answers[i].Outcome == o {
			n++
		}
	}
	return n
}

// door is one address that is asked.
type door struct {
	name string // "devices", "https", "console"
	addr string // host:port
	host string // name that its certificate must have
}

// run is one probe under way.
type run struct {
	o     Options
	r     *Report
	left  int // connections that may still be opened
	https door
	base  string // URL without its path's end
	where door   // the door that is asked now
}

// Run asks. An error means that it could not begin; whatever an installation
// answers, or does not, stands in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Cleartext == nil {
		o.Cleartext = []string{"80", "1883"}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: oneTime}).DialContext
	}
	p := &run{o: o, left: maxConns}
	var err error
	if p.https, err = doorOf("https", o.URL); err != nil {
		return nil, err
	}
	p.base = strings.TrimSuffix(o.URL, "/")
	doors := []door{p.https}
	p.r = &Report{Of: p.base, Began: o.Now().UTC(), Trust: "the authorities of this machine", Answers: []Answer{}}
	if o.Roots != nil {
		p.r.Trust = "the authorities of the file that was given; whether browsers trust it was not asked"
	}
	if o.Devices != "" {
		host, _, err := net.SplitHostPort(o.Devices)
		if err != nil {
			return nil, core.E(core.Invalid, "probe-devices", fmt.Sprintf("%q is no host:port", o.Devices), "give the devices' door like maker.example:8883")
		}
		doors = append(doors, door{"devices", o.Devices, host})
	}
	var pages *door
	if o.Console != "" {
		c, err := doorOf("console", o.Console)
		if err != nil {
			return nil, err
		}
		doors, pages = append(doors, c), &c
	}
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	for _, d := range doors {
		p.where = d
		p.askTLS(ctx)
		p.askClear(ctx)
	}
	p.askPorts(ctx)
	if o.Devices != "" {
		p.where = doors[1]
		p.askStrangers(ctx)
	}
	p.where = p.https
	if !o.Gentle {
		p.askEnrolment(ctx)
	}
	p.askSecurityTXT(ctx)
	p.askLedger(ctx)
	if pages != nil {
		p.where = *pages
		p.askConsole(ctx)
	}
	p.rest()
	p.r.Connected, p.r.Ended = maxConns-p.left, o.Now().UTC()
	if ctx.Err() != nil {
		p.r.NotAsked = append(p.r.NotAsked, "what was still to be asked when the time was over")
	}
	return p.r, nil
}

// doorOf reads the address of an HTTPS door.
func doorOf(name, text string) (door, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return door{}, core.E(core.Invalid, "probe-url", fmt.Sprintf("%q is no https address", text), "give it like https://maker.example")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return door{name, net.JoinHostPort(u.Hostname(), port), u.Hostname()}, nil
}

// rest says what a stranger did not ask.
func (p *run) rest() {
	say := func(s string) { p.r.NotAsked = append(p.r.NotAsked, s) }
	if p.o.Devices == "" {
		say("the devices' door: no address was given (--devices)")
	}
	if p.o.Console == "" {
		say("the console, its headers and what it says of unknown users: no address was given (--console)")
	}
	if p.o.LedgerKey == "" {
		say("whether the ledger's key signed the checkpoint: no key was given (--ledger-key)")
	}
	if p.o.State == "" {
		say("whether the ledger still is the one of the last time: nothing is remembered (--state)")
	}
	if p.o.Gentle {
		say("whether known defaults are taken: that counts as guessing")
	}
	say("other ports of the host, and other hosts")
	say("a device with a credential: neighbours' topics, rates, schemas; the bench asks that")
	say("whether a user that exists is answered like one that does not: a stranger knows none")
	say("what happens to data inside")
}

// dial opens one of a bounded number of connections.
func (p *run) dial(ctx context.Context, addr string) (net.Conn, error) {
	if p.left <= 0 {
		return nil, errors.New("too many connections were opened already")
	}
	p.left--
	ctx, cancel := context.WithTimeout(ctx, oneTime)
	defer cancel()
	c, err := p.o.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(oneTime)); err != nil {
		_ = c.Close() // the error says it
		return nil, err
	}
	return c, nil
}

// say notes an answer about the door that is asked.
func (p *run) say(id string, rows []string, asked string, o Outcome, format string, args ...any) {
	p.sayAt(id, p.where.name, p.where.addr, rows, asked, o, format, args...)
}

func (p *run) sayAt(id, name, addr string, rows []string, asked string, o Outcome, format string, args ...any) {
	came := term.Safe(fmt.Sprintf(format, args...))
	if len(came) > maxTextByte {
		came = strings.ToValidUTF8(came[:maxTextByte], "") + "…"
	}
	p.r.Answers = append(p.r.Answers, Answer{ID: id, Door: name, Address: addr, Rows: rows, Asked: asked, Came: came, Outcome: o})
}

func or(ok bool) Outcome {
	if ok {
		return Good
	}
	return Bad
}
