package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/observe"
	"github.com/hawser-iot/hawser/internal/term"
)

func observeCommands() []*command {
	return []*command{{
		name: "observe", args: "--broker URL | --pcap FILE", nargs: [2]int{0, 0},
		short: "learn what a fleet sends today, and draft its declarations",
		long: `Listens to the broker that a fleet uses now, as one more subscriber that never says
anything, and learns shapes: topics, fields, types, ranges, rates. It keeps no value: no
text, no number that was measured; ranges are rounded outward. Parts of topics and names
of fields that look like a device's name are taken out; look at the topics all the same
before you hand the report on. Then it says what it found, what of it looks like a place, a network or a secret, and writes a
draft declaration for each product into the folder of --out. What only people know is a
question mark there: class, purposes, keep-time, readers. No draft compiles before all
are answered, and a field that nobody needs is best taken out.
With --pcap it reads packets that tcpdump or Wireshark captured, instead of listening;
what is encrypted there, or was open before the capture began, is counted as not read.
With --declaration, the answered drafts, it judges every message as the server would, and
says what enforcing them would drop or refuse. Ctrl-C ends it early, with what it has.`,
		example: "hawser observe --broker mqtts://broker.example:8883 --roots old-ca.pem --for 24h --out drafts",
		flags: func(e *env) {
			e.str("broker", "", "`URL` of the broker: mqtts://HOST:8883, or mqtt://HOST:1883 where it has no TLS")
			e.str("pcap", "", "a `file` of captured packets, pcap or pcapng, instead of a broker")
			e.str("topic", "#", "the `filter` of topics to listen to; several with commas")
			e.str("for", "10m", "for how `long`: 10m, 24h, at most 30 days")
			e.str("roots", "", "`file` with the broker's authorities, PEM; without it those of this machine")
			e.str("cert", "", "`file` with a client certificate, PEM, where the broker asks for one")
			e.str("key", "", "`file` with its key")
			e.str("user", "", "the `name` to sign in with, where the broker asks for one")
			e.str("password-file", "", "`file` with the password; never on the command line")
			e.str("out", "", "the `folder` to write drafts to, one file a product")
			e.str("declaration", "", "answered `files`, to be tried on the fleet; several with commas")
		},
		run: runObserve,
	}}
}

// observed is what `observe --json` prints.
type observed struct {
	*observe.Report
	Captured *observe.Captured `json:"captured,omitempty"` // of a file of packets
	Drafts   []string          `json:"drafts"`
	Enforced *observe.Enforced `json:"enforced,omitempty"`
}

func runObserve(ctx context.Context, e *env) error {
	span, err := time.ParseDuration(*e.opt["for"])
	if err != nil || span < time.Second || span > 30*24*time.Hour {
		return core.E(core.Invalid, "for", "--for is no span of 1 second to 30 days", "write it as in 10m or 24h")
	}
	var o *paho.ClientOptions
	switch file := *e.opt["pcap"]; {
	case file != "" && *e.opt["broker"] != "":
		return core.E(core.Invalid, "source", "--broker and --pcap are both given", "give one of them")
	case file == "":
		if o, err = brokerOptions(e); err != nil {
			return err
		}
	}
	var hold *observe.Holder
	if names := *e.opt["declaration"]; names != "" {
		if hold, err = holderOf(strings.Split(names, ",")); err != nil {
			return err
		}
	}
	out := *e.opt["out"]
	if out != "" {
		if err := os.Mkdir(out, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the folder of drafts: %w", err)
		}
	}
	rec := observe.New()
	var captured *observe.Captured
	if o != nil {
		err = listen(ctx, e, o, span, rec, hold)
	} else {
		captured, err = readCapture(ctx, *e.opt["pcap"], rec, hold)
	}
	if err != nil {
		return err
	}
	r := observed{Report: rec.Report(), Captured: captured, Drafts: []string{}}
	switch {
	case r.Messages > 0:
	case captured != nil:
		return core.E(core.Unready, "silence", fmt.Sprintf("no message could be read: %d connections, %d with TLS, %d open before the capture began, %d broken", captured.Flows, captured.Encrypted, captured.Unbegun, captured.Broken), "what is encrypted can only be heard at the broker: hawser observe --broker; capture from before the devices connect")
	default:
		return core.E(core.Unready, "silence", "nothing came in "+span.String(), "is --topic what the fleet sends on, and may this account read it? brokers often answer a forbidden filter with silence")
	}
	if hold != nil {
		e := hold.Enforced()
		r.Enforced = &e
	}
	if out != "" {
		if r.Drafts, err = writeDrafts(out, r.Report); err != nil {
			return err
		}
	}
	return e.print(r, func(w io.Writer) { printObserved(w, &r) })
}

// brokerOptions are for a client that only listens.
func brokerOptions(e *env) (*paho.ClientOptions, error) {
	u, err := url.Parse(*e.opt["broker"])
	if err != nil || u.Host == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, core.E(core.Invalid, "broker", "--broker is no address of a broker", "write it as in mqtts://broker.example:8883; name and password have flags of their own")
	}
	scheme, port := "ssl", "8883"
	if u.Scheme == "mqtt" {
		scheme, port = "tcp", "1883"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	o := paho.NewClientOptions().AddBroker(scheme + "://" + u.Hostname() + ":" + port).SetClientID("hawser-observe-" + hex.EncodeToString(id[:4])).
		SetCleanSession(true).SetConnectTimeout(20 * time.Second).SetOrderMatters(true).SetKeepAlive(30 * time.Second).SetMaxReconnectInterval(30 * time.Second)
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if path := *e.opt["roots"]; path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the broker's authorities: %w", err)
		}
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(b) {
			return nil, core.E(core.Invalid, "roots", path+" has no certificate", "give a PEM file")
		}
	}
	if cert := *e.opt["cert"]; cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, *e.opt["key"])
		if err != nil {
			return nil, fmt.Errorf("read --cert and --key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	o.SetTLSConfig(conf)
	if name := *e.opt["user"]; name != "" {
		o.SetUsername(name)
	}
	if path := *e.opt["password-file"]; path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		o.SetPassword(strings.TrimRight(string(b), "\r\n"))
	}
	return o, nil
}

// holderOf compiles answered drafts.
func holderOf(names []string) (*observe.Holder, error) {
	var all []*declaration.Policy
	for _, name := range names {
		b, err := readBounded(name)
		if err != nil {
			return nil, err
		}
		d, err := declaration.Parse(name, b)
		if err != nil {
			return nil, core.E(core.Invalid, "declaration", name+" is no declaration yet", "`hawser declaration check "+name+"` shows what is open")
		}
		p, err := declaration.Compile(d)
		if err != nil {
			return nil, fmt.Errorf("compile %s: %w", name, err)
		}
		all = append(all, p)
	}
	return observe.NewHolder(all)
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read a declaration: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, 256<<10+1))
	if err != nil {
		return nil, fmt.Errorf("read a declaration: %w", err)
	}
	return b, nil
}

// readCapture learns from a file of packets.
func readCapture(ctx context.Context, name string, rec *observe.Recorder, hold *observe.Holder) (*observe.Captured, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the capture: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	c, err := observe.ReadCapture(ctx, f, func(topic string, payload []byte, at time.Time) {
		rec.Take(topic, payload, at)
		if hold != nil {
			hold.Take(topic, payload, at)
		}
	})
	return &c, err
}

// listen takes what the broker hands out until the time is over or ctx ends.
func listen(ctx context.Context, e *env, o *paho.ClientOptions, span time.Duration, rec *observe.Recorder, hold *observe.Holder) error {
	take := func(m paho.Message) {
		if m.Retained() {
			rec.Take(m.Topic(), m.Payload(), time.Time{}) // from whenever: its pace says nothing
			return
		}
		now := time.Now()
		rec.Take(m.Topic(), m.Payload(), now)
		if hold != nil && !strings.HasPrefix(m.Topic(), "$") {
			hold.Take(m.Topic(), m.Payload(), now) // handlers run one after the other: SetOrderMatters
		}
	}
	filters := map[string]byte{}
	for _, f := range strings.Split(*e.opt["topic"], ",") {
		filters[f] = 0
	}
	refused := make(chan error, 1)
	o.SetOnConnectHandler(func(c paho.Client) {
		t := c.SubscribeMultiple(filters, func(_ paho.Client, m paho.Message) {
			take(m)
		})
		go func() {
			t.Wait()
			err := t.Error()
			if s, ok := t.(*paho.SubscribeToken); ok && err == nil && slices.Contains(slices.Collect(maps.Values(s.Result())), 0x80) {
				err = errors.New("the broker refuses the filter of topics")
			}
			if err != nil {
				select {
				case refused <- err:
				default: // one is enough
				}
			}
		}()
	})
	c := paho.NewClient(o)
	t := c.Connect()
	if !t.WaitTimeout(25 * time.Second) {
		return core.E(core.Unready, "broker", "the broker does not answer", "look at host and port; is it TLS?")
	}
	if err := t.Error(); err != nil {
		return &core.Error{Kind: core.Unready, Reason: "broker", Message: "the broker cannot be listened to", Hint: "look at host, port, --roots, --user and --password-file", Err: err}
	}
	defer c.Disconnect(250)
	show := e.progress("listening")
	end, tick := time.NewTimer(span), time.NewTicker(time.Second)
	defer end.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done(): // Ctrl-C: with what there is
			return nil
		case <-end.C:
			return nil
		case err := <-refused:
			return &core.Error{Kind: core.Denied, Reason: "subscribe", Message: "the broker does not let this account listen", Hint: "give it the right to read --topic; it needs no other", Err: err}
		case <-tick.C:
			n, topics := rec.Messages()
			show.say(fmt.Sprintf("%d messages on %d kinds of topics", n, topics))
		}
	}
}

// writeDrafts writes one file a product, and overwrites none: somebody may have
// answered it.
func writeDrafts(folder string, r *observe.Report) (out []string, err error) {
	for i := range r.Products {
		p := &r.Products[i]
		if !p.Declarable() {
			continue
		}
		name := filepath.Join(folder, p.Name+".yaml")
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return out, core.E(core.Conflict, "exists", name+" exists already", "give another folder: somebody may have answered this draft")
		}
		if err != nil {
			return out, fmt.Errorf("write a draft: %w", err)
		}
		if err := errors.Join(p.Draft(f, r), f.Close()); err != nil {
			return out, fmt.Errorf("write a draft: %w", err)
		}
		out = append(out, name)
	}
	return out, nil
}

func printObserved(w io.Writer, r *observed) {
	c := r.Counts()
	for _, p := range r.Products {
		of := "devices that no topic names"
		if p.Devices > 0 {
			of = fmt.Sprintf("%d devices", p.Devices)
		}
		fmt.Fprintf(w, "%s, %s\n", term.Safe(p.Name), of)
		for _, s := range p.Streams {
			rate := "too few to say how fast"
			if s.Every > 0 {
				rate = fmt.Sprintf("one in %s and %d at once", s.Every, s.Burst)
			}
			paragraph(w, fmt.Sprintf("  %s: %s, %d messages, %s, up to %d bytes", s.Name, term.Safe(strings.Join(s.Topics, ", ")), s.Messages, rate, s.MaxBytes), 4)
			for _, what := range slices.Sorted(maps.Keys(s.Odd)) {
				paragraph(w, fmt.Sprintf("    %d messages are %s: nothing of them can be judged", s.Odd[what], what), 6)
			}
			for _, f := range s.Fields {
				text := "    " + f.Name + " " + f.Type
				switch f.Type {
				case "integer", "number":
					text += fmt.Sprintf(" %g to %g", f.Min, f.Max)
				case "string":
					text += fmt.Sprintf(" of up to %d", f.MaxLength)
				}
				if f.Lost > 0 {
					text += fmt.Sprintf("; %d of %d values are something else", f.Lost, f.Seen)
				}
				if f.Look != "" {
					text += "; LOOKS LIKE " + strings.ToUpper(string(f.Look))
				}
				if f.Undeclarable != "" {
					text += "; cannot be declared: " + f.Undeclarable
				}
				paragraph(w, text, 6)
			}
		}
	}
	fmt.Fprintf(w, "\n%d messages on %d topics of %d products, %d fields\n", r.Messages, c.Topics, len(r.Products), c.Fields)
	for _, look := range slices.Sorted(maps.Keys(c.Looks)) {
		fmt.Fprintf(w, "  %d of them look like %s\n", c.Looks[look], look)
	}
	if c.Undeclarable > 0 {
		fmt.Fprintf(w, "  %d of them cannot be declared as they are\n", c.Undeclarable)
	}
	if r.NotLooked > 0 {
		fmt.Fprintf(w, "  %d were beyond what is held: listen to fewer topics at once\n", r.NotLooked)
	}
	if c := r.Captured; c != nil {
		fmt.Fprintf(w, "  read out of %d packets, %d connections: %d of MQTT, %d with TLS, %d open before it began, %d broken\n", c.Packets, c.Flows, c.MQTT, c.Encrypted, c.Unbegun, c.Broken)
	}
	if e := r.Enforced; e != nil {
		printEnforced(w, e)
	}
	for _, name := range r.Drafts {
		fmt.Fprintf(w, "\n  %s: answer its question marks, then hawser declaration check %s", name, name)
	}
	if len(r.Drafts) > 0 {
		fmt.Fprintln(w)
	}
}

func printEnforced(w io.Writer, e *observe.Enforced) {
	looks := 0
	for _, d := range e.Dropped {
		if d.Look != "" {
			looks++
		}
	}
	fmt.Fprintf(w, "\nIf the declarations were enforced: %d messages accepted\n", e.Accepted)
	for _, why := range slices.Sorted(maps.Keys(e.Refused)) {
		fmt.Fprintf(w, "  %d refused: %s\n", e.Refused[why], why)
	}
	if e.BadValues > 0 {
		fmt.Fprintf(w, "  %d values dropped, because their type or range does not allow them\n", e.BadValues)
	}
	fmt.Fprintf(w, "  %d fields that nobody reads dropped, %d of them look like somebody's business\n", len(e.Dropped), looks)
	for _, d := range e.Dropped[:min(40, len(e.Dropped))] {
		text := fmt.Sprintf("    %s/%s %s, %d values", d.Product, d.Stream, term.Safe(d.Name), d.Values)
		if d.Look != "" {
			text += "; LOOKS LIKE " + strings.ToUpper(string(d.Look))
		}
		paragraph(w, text, 6)
	}
}
