package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/probe"
	"github.com/hawser-iot/hawser/internal/wire"
)

// surfaceChecks are the checks of what can be reached, by whom, and how.
func (s *server) surfaceChecks() []check.Check {
	return slices.Concat(s.neighbourChecks(), s.interfaceChecks(), s.enrolChecks(), s.layerChecks(), s.agentChecks(), s.textChecks(), s.factorChecks(), s.outsideChecks())
}

// neighbourChecks hold that a device's credential reaches nothing of another
// device (CC 3.6).
func (s *server) neighbourChecks() []check.Check {
	const mend = "Stop the server and report a vulnerability (SECURITY.md): one stolen credential would reach every device. Then see in `hawser ledger list` what was done meanwhile."
	return []check.Check{
		{
			ID: "neighbours.decision", Version: 1, Rows: []string{"3.6"}, Kind: check.Query, MaxAge: check.QueryAge,
			Says: "The devices' door lets no device name a topic of any of 10,000 others, real and made up, nor any wildcard that reaches beyond itself.",
			Do:   mend,
			Look: s.lookAtAuthority,
			Violations: []check.Violation{
				{ID: "door-open-to-neighbours", Says: "Opens the twin's devices' door, so that a device may name its neighbours, and has one of them do it.", Do: openToNeighbours},
			},
		},
		{
			ID: "neighbours.session", Version: 1, Rows: []string{"3.6"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "A device with a valid certificate that subscribes to wildcards and to 10,000 others, and publishes as each of them, reads nothing and writes nothing: at a door with the code, authority and judge of the devices' door.",
			Do:   mend,
			Look: s.lookAtNeighbours,
			Violations: []check.Violation{
				{ID: "door-open-to-neighbours", Says: "Opens the twin's devices' door, so that a device may name its neighbours, and has one of them do it.", Do: openToNeighbours},
			},
		},
		{
			ID: "neighbours.paths", Version: 1, Rows: []string{"3.6"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "No port of this program serves jobs, artefacts or readings of a device under a path, neither to a stranger nor to somebody with a certificate of his own making.",
			Do:   "Find out with `ss -ltnp` which port it is and end what opened it; this program serves nothing of a device but over its own session.",
			Look: s.lookAtPaths,
			Violations: []check.Violation{
				{ID: "artefacts-for-everybody", Says: "Opens a listener beside the server that serves each device's artefacts to everybody.", Do: pathsBeside},
			},
		},
	}
}

// reach is what a device may name: the contract's rules, unless a twin's trial
// has others in place.
type reach struct {
	other atomic.Pointer[gateway.Authority]
}

func (r *reach) now() gateway.Authority {
	if a := r.other.Load(); a != nil {
		return *a
	}
	return gateway.Rules{}
}

// Publish asks the rules in place.
func (r *reach) Publish(own core.DeviceID, topic []byte) wire.Topic {
	return r.now().Publish(own, topic)
}

// Subscribe asks the rules in place.
func (r *reach) Subscribe(own core.DeviceID, filter []byte) (wire.Kind, wire.Form, []byte) {
	return r.now().Subscribe(own, filter)
}

const (
	otherIDs  = 10_000 // that are tried (CC 3.6)
	realIDs   = 2_000  // at most of them are of devices that are there
	decisions = 2      // devices on whose behalf the running door is asked
)

// beyond are the filters that would reach more than one device: none is ever
// granted. OWN stands for the id of who asks.
func beyond() []string {
	return []string{
		"#", "+/#", "+", "/#", "devices/#", "devices/+/#", "devices/+/telemetry/#", "devices/+/refused", "devices/+/command/#", "+/telemetry/climate", "telemetry/#",
		"$share/all/#", "$share/all/devices/+/telemetry/#", "$share/all/command/#", "$share/all/refused", "$SYS/#", "$aws/#", "$aws/things/+/#", "$aws/things/+/defender/#",
		"devices/OWN/../+/#", "devices//#", "command/+/+", "+/command/#",
	}
}

// readForms are the topics of a device that somebody could listen to, and
// writeForms those that he could speak on. ID stands for whose they are.
func readForms() []string {
	return []string{"devices/ID/refused", "devices/ID/command/#", "devices/ID/config", "devices/ID/update", "devices/ID/notice", "devices/ID/telemetry/climate", "devices/ID/#", "$aws/things/ID/#"}
}

func writeForms() []string {
	return []string{"devices/ID/telemetry/climate", "devices/ID/state", "devices/ID/posture", "devices/ID/command/set/reply/1", "$aws/things/ID/defender/metrics/json", "devices/ID/child/a/telemetry/climate"}
}

// others are ids that are not own: first devices of the register, from a place
// drawn at random on, then made-up ones, the first of which resemble own.
func (s *server) others(own core.DeviceID) (ids []core.DeviceID, registered int) {
	after := core.DeviceID("")
	if n := s.devices.Counts().Devices; n > realIDs {
		after = core.DeviceID(rand.Text()[:1])
	}
	for len(ids) < realIDs {
		f := s.devices.Find(identity.Query{After: after, Limit: 1000})
		for _, d := range f.Devices {
			if d.ID != own {
				ids = append(ids, d.ID)
			}
		}
		if after = f.Next; after == "" {
			break
		}
	}
	registered = len(ids)
	text := string(own)
	for _, like := range []string{text + "0", text + "-", text[:len(text)-1], strings.ToLower(text), strings.ToUpper(text), "x" + text, text + "." + text, "." + text, text + "%2f", text + "\u200b"} {
		if like != text && like != "" {
			ids = append(ids, core.DeviceID(like))
		}
	}
	for n := len(ids); n < otherIDs; n++ {
		ids = append(ids, core.DeviceID(fmt.Sprintf("NEIGHBOUR-%05d", n)))
	}
	return ids, registered
}

// nameOf is what a finding calls somebody else's id.
func (s *server) nameOf(i, registered int, id core.DeviceID) string {
	if i < registered {
		return s.devices.UnitName(id)
	}
	return "an id that was made up"
}

// lookAtAuthority asks the running door for its own decision, for devices that
// are there and one that is not.
func (s *server) lookAtAuthority(_ context.Context, l *check.Look) error {
	own := []core.DeviceID{core.DeviceID("LOOK-" + rand.Text()[:8])}
	some := s.devices.Find(identity.Query{Limit: 1000}).Devices
	for _, i := range mrand.Perm(len(some))[:min(len(some), decisions-1)] {
		own = append(own, some[i].ID)
	}
	l.Touch("source", "the devices' door, asked for its own decision")
	l.Touch("table", "the register of devices, from memory")
	for _, me := range own {
		ids, registered := s.others(me)
		l.Expect("ids of the register and made-up ones, and wildcards, by who names them", len(ids)+len(beyond()))
		for i, id := range ids {
			l.Holds(s.reached(me, id) == "", s.nameOf(i, registered, id), "%s may name %s", s.devices.UnitName(me), s.reached(me, id))
		}
		for _, f := range beyond() {
			f = strings.ReplaceAll(f, "OWN", string(me))
			l.Holds(!s.gateway.MaySubscribe(me, f), "a wildcard", "%s may subscribe to %s", s.devices.UnitName(me), f)
		}
		// What is refused to everybody would prove nothing.
		mine := "devices/" + string(me) + "/"
		l.Expect("", 2)
		l.Holds(s.gateway.MaySubscribe(me, mine+"command/#"), s.devices.UnitName(me), "may not listen to its own commands")
		l.Holds(s.gateway.MayPublish(me, mine+"telemetry/climate"), s.devices.UnitName(me), "may not publish on its own topic")
	}
	return nil
}

// reached is the first topic of another device that own may name, "" when none.
func (s *server) reached(own, other core.DeviceID) string {
	for _, f := range readForms() {
		if topic := strings.Replace(f, "ID", string(other), 1); s.gateway.MaySubscribe(own, topic) {
			return "its topic " + f
		}
	}
	for _, f := range writeForms() {
		if topic := strings.Replace(f, "ID", string(other), 1); s.gateway.MayPublish(own, topic) {
			return "its topic " + f
		}
	}
	return ""
}

// lookAtNeighbours tries it over a session.
func (s *server) lookAtNeighbours(ctx context.Context, l *check.Look) error {
	d, err := s.openSideDoor()
	if err != nil {
		return err
	}
	err = s.tryNeighbours(ctx, l, d)
	if cerr := d.close(); err == nil {
		err = cerr
	}
	return err
}

// patient is how much of a side door's time passes before each few messages:
// so long that a door that loses patience with who names others (it should)
// has it back, and every id is really tried.
const (
	fewAtOnce = 8
	patient   = 2 * time.Minute
)

func (s *server) tryNeighbours(ctx context.Context, l *check.Look, d *sideDoor) error {
	own := core.DeviceID("LOOK-" + rand.Text()[:8])
	c, err := d.device(ctx, l, "", own)
	if err != nil {
		return err
	}
	defer c.close()
	mine := "devices/" + string(own) + "/"
	got, err := c.subscribe([]string{mine + "command/#", mine + "config"})
	if err != nil {
		return fmt.Errorf("subscribe to its own: %w", err)
	}
	if len(got) != 2 {
		return fmt.Errorf("of a device's own topics only %d of 2 are granted: what is refused proves nothing", len(got))
	}
	ids, registered := s.others(own)
	filters := make([]string, 0, len(ids)+len(beyond()))
	for _, f := range beyond() {
		filters = append(filters, strings.ReplaceAll(f, "OWN", string(own)))
	}
	messages := make([]message, 0, len(ids))
	for i, id := range ids {
		filters = append(filters, strings.Replace(readForms()[i%len(readForms())], "ID", string(id), 1))
		messages = append(messages, message{strings.Replace(writeForms()[i%len(writeForms())], "ID", string(id), 1), `{"temp":66}`})
	}
	l.Touch("table", "the register of devices, from memory")
	l.Expect("ids of the register and made-up ones, and wildcards, by reading and writing", len(filters)+len(messages))
	granted, err := c.subscribe(filters)
	if err != nil {
		return fmt.Errorf("subscribe to others: %w", err)
	}
	l.Pass(len(filters) - len(granted))
	for _, f := range granted {
		l.Fail("a topic of others", "is granted: %s", shape(f, ids))
	}
	codes, err := c.publish(messages, fewAtOnce, func() { d.advance(patient) })
	if err != nil {
		return fmt.Errorf("publish as others: %w", err)
	}
	for i, code := range codes {
		l.Holds(code == mqtt.NotAuthorized, s.nameOf(i, registered, ids[i]), "another device that publishes to %s is answered 0x%02x", writeForms()[i%len(writeForms())], uint8(code))
	}
	l.Expect("", 1)
	l.Holds(len(d.took()) == 0, "readings", "%d messages on others' topics got as far as the judge", len(d.took()))
	return nil
}

// shape is a topic without whose it is.
func shape(topic string, ids []core.DeviceID) string {
	parts := strings.Split(topic, "/")
	for i, p := range parts {
		if slices.Contains(ids, core.DeviceID(p)) {
			parts[i] = "ID"
		}
	}
	return strings.Join(parts, "/")
}

// deviceThings are the paths under which servers for devices use to serve what
// belongs to one.
func deviceThings() []string {
	return []string{
		"/devices/ID", "/devices/ID/update", "/v1/devices/ID", "/v1/devices/ID/read", "/v1/devices/ID/jobs", "/api/devices/ID/readings",
		"/jobs/ID", "/updates/ID/latest", "/artefacts/ID/firmware.bin", "/artifacts/ID/firmware.bin", "/firmware/ID", "/telemetry/ID", "/.well-known/est/ID/cacerts",
	}
}

// lookAtPaths asks every port of ours that speaks HTTP.
func (s *server) lookAtPaths(ctx context.Context, l *check.Look) error {
	doors, err := s.ownDoors(l)
	if err != nil {
		return err
	}
	ids, registered := s.others("LOOK")
	some := ids[max(registered-1, 0):][:2] // one that is there, if any is, and one that is not
	l.Expect("listening sockets of this process in the kernel's table, by path and by who asks", 0)
	for _, x := range doors {
		if x.is(s.addr.Devices) {
			l.Expect("", 1)
			l.Exclude(x.addr.String(), "speaks MQTT; sessions are another check")
			continue
		}
		for _, shown := range []bool{false, true} {
			l.Expect("", len(deviceThings()))
			if err := s.askPaths(ctx, l, x, some, shown); err != nil {
				return err
			}
		}
	}
	return nil
}

// askPaths asks one port for everything, as a stranger or with a certificate
// that is shown.
func (s *server) askPaths(ctx context.Context, l *check.Look, x listener, ids []core.DeviceID, shown bool) error {
	who, conf := "a stranger", &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"} // our own port, as the kernel says
	if shown {
		who = "somebody with a certificate of his own making"
		cert, err := foreigner(s.inst.Environment, s.opt.Now())
		if err != nil {
			return err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	client := &http.Client{
		Timeout: ownWait, Transport: &http.Transport{DialContext: ownDial, TLSClientConfig: conf},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for i, f := range deviceThings() {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+x.reach()+strings.Replace(f, "ID", string(ids[i%len(ids)]), 1), nil)
		if err != nil {
			return err
		}
		a, err := client.Do(q)
		switch {
		case err != nil && timedOut(err):
			return fmt.Errorf("ask %s: %w", x.addr, err)
		case err != nil:
			l.Pass(1) // it speaks no HTTP, or has sent whoever asks away
			continue
		}
		_ = a.Body.Close() // how it begins is what counts
		l.Holds(a.StatusCode >= 300, x.addr.String(), "%s is served %s (status %d)", who, f, a.StatusCode)
	}
	return nil
}

// foreigner is a device's certificate of an authority of nobody.
func foreigner(env core.Environment, now time.Time) (tls.Certificate, error) {
	for _, x := range probe.Strangers() {
		if x.ID == "foreign-authority" {
			return x.Certificate(env, now)
		}
	}
	return tls.Certificate{}, errors.New("no stranger has a certificate")
}

// timedOut reports whether nobody answered in time: then nothing was seen.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
