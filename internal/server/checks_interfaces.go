package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// interfaceChecks hold that every way in is declared and controlled, ours and
// those of products (CC 4.13).
func (s *server) interfaceChecks() []check.Check {
	return []check.Check{{
		ID: "interfaces.declared", Version: 1, Rows: []string{"4.13"}, Kind: check.Query, MaxAge: check.Critical,
		Says: "Whatever this process listens on is a declared interface; and each interface, ours and of every product in force, says who may use it, how it is encrypted, how fast and in what form.",
		Do:   "An undeclared port was shut already when the server runs alone in its process: restart it, and find out what opened the port. Give a product's interface its control in the declaration and publish it; if nobody of yours changed it, find out who writes to control.db.",
		Look: s.lookAtInterfaces,
		Violations: []check.Violation{
			{ID: "undeclared-port", Says: "Opens a listener in the server's process that nobody declared, with TLS and certificates.", Do: undeclaredPort},
			{ID: "undeclared-datagrams", Says: "Opens a UDP port in the server's process that nobody declared.", Do: undeclaredDatagrams},
			{ID: "no-authentication", Says: "Takes the authentication out of a product's interface in the stored declaration behind the program's back.", Do: editCanonical(`"auth":"device-certificate"`, `"auth":"none"`)},
			{ID: "no-encryption", Says: "Makes a product's interface one in clear in the stored declaration behind the program's back.", Do: editCanonical(`"protocol":"mqtts"`, `"protocol":"mqtt"`)},
			{ID: "no-rate", Says: "Takes the rate out of a product's stream in the stored declaration behind the program's back.", Do: editCanonical(`"burst":1000`, `"burst":0`)},
		},
	}}
}

// ownInterface is a way into this program. One that lacks a control is not
// opened: see door.
type ownInterface struct {
	key      string // in the configuration
	protocol string
	auth     string // how who comes proves who he is
	crypt    string // how it is encrypted
	rate     string // how fast he may be
	schema   string // what he may say
}

// ownInterfaces are all ways into this program (CC 4.13).
func ownInterfaces() []ownInterface {
	return []ownInterface{
		{
			"devices", "mqtts", "the device's own certificate, issued by this installation, in the handshake", "TLS 1.3; 1.2 with authenticated encryption while a product declares it",
			"each stream's declared rate, a pace for each device and product, bounds of connections in all and by source", "the product's declaration, field by field; topics are the device's own",
		},
		{
			"https", "https", "enrolment by a one-time code or the certificate to be replaced; checkpoint, tiles, health, the revocation list, security.txt and the keys of the evidence are public on purpose", "TLS 1.3",
			"the gate for codes, certificates for each device, bounds of connections in all and by source", "PKCS#10 of at most 16 KB; no other request has a body",
		},
		{
			"balanced_devices", "mqtts behind a balancer's PROXY header", "the balancer's address, for whose connection it is; then the device's own certificate, as at the devices' door", "TLS as at the devices' door, from the device to here",
			"as at the devices' door, by the device's own address; 256 headers awaited at once", "a PROXY header of version 2 and at most 1 KB; then as at the devices' door",
		},
		{
			"balanced_https", "https behind a balancer's PROXY header", "the balancer's address, for whose connection it is; then as at the HTTPS door", "TLS 1.3, from the client to here",
			"as at the HTTPS door, and together with it; 256 headers awaited at once", "a PROXY header of version 2 and at most 1 KB; then as at the HTTPS door",
		},
		{
			"console", "https", "a passkey, or a password with a one-time code; every page but the way in asks for a session and its permission", "TLS 1.3",
			"the gate for whoever signs in, bounds of connections in all and by source", "forms of bounded size, with a token of ours",
		},
		{
			"services", "https", "the service's own certificate, issued by this installation and listed in its register, in the handshake", "TLS 1.3",
			"8 requests of a service at once and 200 a second, pages of bounded size, bounds of connections in all and by source", "cursor, fields, limit and wait; receipts and requests of at most 16 KB",
		},
		{
			"link", "https between servers of the installation", "a key derived from the gate's, of both ends, in the handshake", "TLS 1.3",
			"requests of bounded size from who has that key; each gateway bounds its devices before it asks", "JSON of one version of the program, of at most 1 MB, or 64 MB where sessions are listed",
		},
		{
			"socket", "http on a local socket", "the operating system says which user asks: root or the server's own", "none is needed: it never leaves the kernel, and its file is its owner's alone",
			"requests of at most 20 seconds and 512 KB, from this machine only", "JSON, decoded strictly (docs/openapi.json)",
		},
	}
}

// lacks is the control that an interface of ours does not have, "" when none.
func (i ownInterface) lacks() string {
	for _, c := range []struct{ name, text string }{
		{"authentication", i.auth}, {"encryption", i.crypt}, {"rate", i.rate}, {"schema", i.schema},
	} {
		if c.text == "" {
			return c.name
		}
	}
	return ""
}

// mayOpen refuses a door that is no declared interface, or one without a
// control: it is never reachable (CC 4.13).
func mayOpen(all []ownInterface, key string) error {
	for _, i := range all {
		if i.key != key {
			continue
		}
		if lacks := i.lacks(); lacks != "" {
			return core.E(core.Unready, "interface-uncontrolled", "the interface "+key+" has no "+lacks, "this is a fault of the program: report it")
		}
		return nil
	}
	return core.E(core.Unready, "interface-undeclared", "the door "+key+" is no declared interface", "this is a fault of the program: report it")
}

// heldSockets are sockets that nobody declared: what was shut, and is still held.
type heldSockets struct {
	mu   sync.Mutex        // guards what follows
	shut map[string]string // by inode, where it listened
}

// opening is how long after a first look one looks again: a door listens a
// moment before it is known which it is, and whoever asks then waits for that.
const opening = 200 * time.Millisecond

func (s *server) lookAtInterfaces(ctx context.Context, l *check.Look) error {
	l.Touch("file", "/proc/net/tcp, tcp6, udp, udp6, unix")
	for _, i := range ownInterfaces() {
		l.Touch("interface", i.key+": "+i.protocol+"; "+i.auth)
		l.Expect("interfaces that are declared, and sockets of this process in the kernel's tables", 1)
		l.Holds(i.lacks() == "", "interface "+i.key, "has no %s", i.lacks())
	}
	known, strange, err := s.ownSockets()
	if err == nil && len(strange) > 0 {
		if err = sleepFor(ctx, opening); err == nil {
			strange, err = s.stillThere(strange)
		}
	}
	if err != nil {
		return err
	}
	l.Expect("", known+len(strange))
	l.Pass(known)
	for _, x := range strange {
		text := "listens, and nobody declared it"
		if s.opt.Alone && x.protocol == "tcp" {
			if err := s.shutDown(x); err != nil {
				return fmt.Errorf("shut %s: %w", x.name, err)
			}
			text += "; it was shut"
		}
		l.Fail(x.name, "%s", text)
	}
	still, err := s.stillHeld()
	if err != nil {
		return err
	}
	for _, name := range still {
		if slices.ContainsFunc(strange, func(x ownSocket) bool { return x.name == name }) {
			continue // told above
		}
		l.Expect("", 1)
		l.Fail(name, "was opened though nobody declared it; it is shut, and still held")
	}
	return s.lookAtProducts(ctx, l)
}

// ownSocket is a socket of this process at which somebody else could come in.
type ownSocket struct{ protocol, name, inode string }

// ownSockets sorts them: how many are declared interfaces, and which are not.
func (s *server) ownSockets() (known int, strange []ownSocket, err error) {
	doors := []string{s.addr.Devices, s.addr.HTTPS, s.addr.BalancedDevices, s.addr.BalancedHTTPS, s.addr.Link, s.people.address(), s.services.address()}
	tcp, err := s.sockets.listeners()
	if err != nil {
		return 0, nil, err
	}
	for _, x := range tcp {
		switch {
		case !x.ours:
		case slices.ContainsFunc(doors, x.at):
			known++
		default:
			strange = append(strange, ownSocket{"tcp", x.addr.String(), x.inode})
		}
	}
	rest, err := s.sockets.others()
	if err != nil {
		return 0, nil, err
	}
	for _, x := range rest {
		if x.protocol == "unix" && x.name == s.addr.Socket {
			known++
			continue
		}
		strange = append(strange, x)
	}
	return known, strange, nil
}

// stillThere are those of the sockets that are there now and not declared.
func (s *server) stillThere(before []ownSocket) ([]ownSocket, error) {
	_, now, err := s.ownSockets()
	return slices.DeleteFunc(now, func(x ownSocket) bool { return !slices.Contains(before, x) }), err
}

func sleepFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// at reports whether it listens at exactly that address.
func (x listener) at(door string) bool {
	a, err := netip.ParseAddrPort(door)
	return err == nil && a == x.addr
}

// shutDown makes a socket of ours unreachable.
func (s *server) shutDown(x ownSocket) error {
	if err := s.sockets.shut(x.inode); err != nil {
		return err
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	if s.held.shut == nil {
		s.held.shut = map[string]string{}
	}
	s.held.shut[x.inode] = x.name
	s.log.Error("a port was open that nobody declared; it is shut")
	return nil
}

// stillHeld are the addresses of what was shut and is not closed.
func (s *server) stillHeld() ([]string, error) {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	if len(s.held.shut) == 0 {
		return nil, nil
	}
	own, err := ownInodes()
	if err != nil {
		return nil, err
	}
	var out []string
	for inode, name := range s.held.shut {
		if !own[inode] {
			delete(s.held.shut, inode)
			continue
		}
		out = append(out, name)
	}
	return out, nil
}

// surface is as much of a stored declaration as says how a product is reached:
// read here, and not by the code that would refuse what is wrong in it.
type surface struct {
	Interfaces []struct {
		Name, Protocol, Direction, On, Auth string
	} `json:"interfaces"`
	Streams map[string]struct {
		Every    string `json:"every"`
		Burst    int    `json:"burst"`
		MaxBytes int    `json:"max_bytes"`
	} `json:"streams"`
	Data map[string]json.RawMessage `json:"data"`
}

// lookAtProducts judges the interfaces of every declaration as it is stored.
func (s *server) lookAtProducts(ctx context.Context, l *check.Look) error {
	stored, err := s.storedDeclarations(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: declaration")
	for _, d := range stored {
		var x surface
		if err := json.Unmarshal(d.Canonical, &x); err != nil || len(x.Interfaces) == 0 {
			l.Expect("", 1)
			l.Fail(string(d.Product), "as stored it lists no interface")
			continue
		}
		for _, i := range x.Interfaces {
			name := string(d.Product) + "." + i.Name
			l.Expect("", 2)
			l.Holds(authenticates(i.Auth, i.Direction, i.Protocol), name, "says nothing of who may use it")
			l.Holds(encrypts(i.Protocol, i.On), name, "speaks %s, which is in clear", i.Protocol)
			l.Expect("", 1)
			if i.Protocol != "mqtts" || i.Direction != "out" || i.Auth != "device-certificate" {
				l.Exclude(name, "does not end at this server: how fast and in what form it speaks is the device's to hold")
				continue
			}
			why := ""
			for stream, r := range x.Streams {
				if r.Every == "" || r.Every[0] == '0' || r.Burst < 1 || r.MaxBytes < 1 {
					why = "its stream " + stream + " has no rate"
				}
			}
			if len(x.Streams) == 0 || len(x.Data) == 0 {
				why = "nothing says in what form it speaks"
			}
			l.Holds(why == "", name, "%s", why)
		}
	}
	return nil
}

// authenticates reports whether an interface says who may use it. Out to
// services that serve everybody nobody need say who he is.
func authenticates(auth, direction, protocol string) bool {
	if auth == "" || auth == "none" {
		return direction == "out" && slices.Contains([]string{"dns", "dhcp", "mdns", "ntp"}, protocol)
	}
	return true
}

// encrypts reports whether what is spoken on an interface is encrypted by its
// protocol or its link, or never leaves the hand or the cable; or carries
// nothing of anybody.
func encrypts(protocol, on string) bool {
	switch protocol {
	case "mqtts", "https", "wss", "coaps", "tls", "dtls", "ssh", "nts", "matter": // TLS, SSH and their like
		return true
	case "ble", "zigbee", "thread", "zwave", "lorawan", "cellular": // their link's own
		return true
	case "nfc", "usb", "serial": // touch and cable
		return on != "lan"
	case "dns", "dhcp", "mdns", "ntp": // names and times
		return true
	}
	return false
}
