package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/probe"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// errNotOurs is a trial on something that is no twin of this package.
var errNotOurs = errors.New("this trial needs a twin of this program")

// doorBeside opens a TLS port in the twin's process that speaks MQTT: takes
// says by the CONNECT who is let in.
func doorBeside(auth tls.ClientAuthType, takes func(connect []byte) bool) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		conf := &tls.Config{Certificates: []tls.Certificate{t.Devices()[0].Certificate}, MinVersion: tls.VersionTLS12, ClientAuth: auth}
		return beside(ctx, t, func(c net.Conn) {
			s := tls.Server(c, conf)
			if s.HandshakeContext(ctx) != nil {
				return
			}
			var b [256]byte
			if n, _ := s.Read(b[:]); n > 0 && b[0] == 0x10 && takes(b[:n]) {
				_, _ = io.WriteString(s, "\x20\x02\x00\x00") // CONNACK; whoever asked may be gone
			}
		})
	}
}

// hasPassword reports whether a CONNECT of MQTT 3.1.1 shows one.
func hasPassword(connect []byte) bool { return len(connect) > 9 && connect[9]&0x40 != 0 }

// defaultDoor gives certificates to whom products are sold with.
func defaultDoor(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	conf := &tls.Config{Certificates: []tls.Certificate{t.Devices()[0].Certificate}, MinVersion: tls.VersionTLS12}
	undo, err := beside(ctx, t, func(c net.Conn) {
		s := tls.Server(c, conf)
		q, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		status := "401 Unauthorized"
		if user, password, _ := q.BasicAuth(); user == "admin" && password == "admin" {
			status = "200 OK"
		}
		_, _ = fmt.Fprintf(s, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status) // whoever asked may be gone
		_ = s.Close()                                                                                  // the answer is out
	})
	if err != nil {
		return nil, err
	}
	// Wrong credentials make a source wait: each look has its own tries.
	const forgiven = 15 * time.Minute
	t.Advance(forgiven)
	return func(ctx context.Context) error { t.Advance(forgiven); return undo(ctx) }, nil
}

func changeEnvironment(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	const set = `UPDATE installation SET environment = ? WHERE one = 1`
	if err := t.Exec(ctx, "control.db", set, string(core.Test)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, string(core.Live)) }, nil
}

// request is a key and what asks for its certificate.
type request struct {
	key crypto.Signer
	der []byte
}

func newRequest(id core.DeviceID) (request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return request{}, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(id)}}, key)
	if err != nil {
		return request{}, fmt.Errorf("make a request: %w", err)
	}
	return request{key, der}, nil
}

// strange enrols a unit of a product through the doors and gives its
// certificate, without a session of its own.
func (t *twin) strange(ctx context.Context, product core.ProductID, id core.DeviceID) (tls.Certificate, error) {
	var added api.DeviceAdded
	if err := t.Call(ctx, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: product}, &added); err != nil {
		return tls.Certificate{}, err
	}
	q, err := newRequest(id)
	if err != nil {
		return tls.Certificate{}, err
	}
	status, body, err := t.enrolAt(ctx, probe.Credential{User: string(id), Password: added.Code}, q.der)
	if err != nil {
		return tls.Certificate{}, err
	}
	if status != http.StatusOK {
		return tls.Certificate{}, fmt.Errorf("enrol %s: status %d: %s", id, status, body)
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(body)))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("enrol %s: %w", id, err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil || len(p7.Certificates) == 0 {
		return tls.Certificate{}, fmt.Errorf("enrol %s: no certificate came", id)
	}
	return tls.Certificate{Certificate: [][]byte{p7.Certificates[0].Raw}, PrivateKey: q.key}, nil
}

// enrolAt asks the twin's door for a certificate.
func (t *twin) enrolAt(ctx context.Context, c probe.Credential, csr []byte) (status int, body []byte, err error) {
	t.Touch("address", t.addr.HTTPS+" enrolment")
	q, err := probe.EnrolRequest(ctx, "https://"+t.addr.HTTPS, c, base64.StdEncoding.EncodeToString(csr))
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Timeout: settle, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: t.roots, ServerName: "localhost", Time: t.Now}, DisableKeepAlives: true,
	}}
	a, err := client.Do(q)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the twin for a certificate: %w", err)
	}
	body, err = io.ReadAll(io.LimitReader(a.Body, 64<<10))
	return a.StatusCode, body, errors.Join(err, a.Body.Close())
}

// session connects to the twin's devices' door with a certificate, over MQTT
// 3.1.1, with TLS up to a version.
func (t *twin) session(ctx context.Context, cert tls.Certificate, most uint16) (*tls.Conn, error) {
	t.Touch("address", t.addr.Devices)
	d := tls.Dialer{Config: &tls.Config{RootCAs: t.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}, MaxVersion: most, Time: t.Now}}
	c, err := d.DialContext(ctx, "tcp", t.addr.Devices)
	if err != nil {
		return nil, fmt.Errorf("connect to the twin: %w", err)
	}
	if err := c.SetDeadline(time.Now().Add(settle)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var ack [4]byte
	_, err = io.WriteString(c, connectPacket)
	if err == nil {
		_, err = io.ReadFull(c, ack[:])
	}
	if err == nil && (ack[0] != 0x20 || ack[3] != 0) {
		err = fmt.Errorf("refused with code %d", ack[3])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the twin: %w", err), c.Close())
	}
	return c.(*tls.Conn), c.SetDeadline(time.Time{})
}

// oldSession leaves a session of TLS 1.2 behind when its product does not
// declare it any more.
func oldSession(ctx context.Context, on check.Twin) (func(context.Context) error, error) {
	t, ok := on.(*twin)
	if !ok {
		return nil, errNotOurs
	}
	name := "twin-old-" + strings.ToLower(rand.Text()[:6])
	old := strings.NewReplacer("product: twin-sensor", "product: "+name, "wifi: [wpa2, wpa3]", `wifi: [wpa2, wpa3], tls: "1.2"`).Replace(twinDeclaration)
	if err := t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "old.yaml", Source: old}, nil); err != nil {
		return nil, err
	}
	cert, err := t.strange(ctx, core.ProductID(name), core.DeviceID(strings.ToUpper(name)))
	if err != nil {
		return nil, err
	}
	c, err := t.session(ctx, cert, tls.VersionTLS12)
	if err != nil {
		return nil, err
	}
	now := strings.NewReplacer("version: 1", "version: 2", `, tls: "1.2"`, "").Replace(old)
	if err := t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "old.yaml", Source: now}, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return func(context.Context) error { return c.Close() }, nil
}

// doorHook opens one of the twin's own doors wider than it should be.
func (t *twin) doorHook(name string) (undo func(), err error) {
	if name != "door:neighbours" {
		return nil, fmt.Errorf("a twin has no fault named %q", name)
	}
	t.Touch("door", "every device may name every other one")
	var all gateway.Authority = nosy{}
	t.s.reach.other.Store(&all)
	return func() { t.s.reach.other.Store(nil) }, nil
}

// nosy is an authority that takes everybody for whoever he names.
type nosy struct{}

func (nosy) named(own core.DeviceID, topic []byte) core.DeviceID {
	for _, prefix := range []string{"devices/", "$aws/things/"} {
		if rest, ok := strings.CutPrefix(string(topic), prefix); ok {
			id, _, _ := strings.Cut(rest, "/")
			return core.DeviceID(id)
		}
	}
	return own
}

// Publish lets everybody speak for whom he names.
func (n nosy) Publish(own core.DeviceID, topic []byte) wire.Topic {
	return gateway.Rules{}.Publish(n.named(own, topic), topic)
}

// Subscribe lets everybody listen to whom he names.
func (n nosy) Subscribe(own core.DeviceID, filter []byte) (wire.Kind, wire.Form, []byte) {
	return gateway.Rules{}.Subscribe(n.named(own, filter), filter)
}

// openToNeighbours opens the devices' door, and has one device publish on a
// neighbour's topic over its own session: the door takes it.
func openToNeighbours(ctx context.Context, on check.Twin) (func(context.Context) error, error) {
	t, ok := on.(*twin)
	if !ok || len(t.agents) < 2 {
		return nil, errNotOurs
	}
	shut, err := t.Hook("door:neighbours")
	if err != nil {
		return nil, err
	}
	undo := func(context.Context) error { shut(); return nil }
	topic := "devices/" + string(t.units[1].ID) + "/telemetry/climate"
	t.Touch("device", string(t.units[0].ID)+" "+topic)
	if err := t.until(ctx, func() bool { return t.agents[0].Status().Connected }); err != nil {
		return undo, err
	}
	code, err := t.agents[0].PublishRaw(ctx, topic, []byte(`{"temp":20.5}`))
	if err != nil || code != 0 {
		return undo, fmt.Errorf("publish on a neighbour's topic: 0x%02x, %w", code, err)
	}
	return undo, t.s.telem.projector.Settle(ctx)
}

// pathsBeside serves something under every path to everybody.
func pathsBeside(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	conf := &tls.Config{Certificates: []tls.Certificate{t.Devices()[0].Certificate}, MinVersion: tls.VersionTLS12}
	return beside(ctx, t, func(c net.Conn) {
		s := tls.Server(c, conf)
		q, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		status := "404 Not Found"
		if strings.HasPrefix(q.URL.Path, "/artefacts/") {
			status = "200 OK"
		}
		_, _ = fmt.Fprintf(s, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status) // whoever asked may be gone
		_ = s.Close()                                                                                  // the answer is out
	})
}

// undeclaredPort opens a port that looks like one of ours: TLS, and nobody is
// let in without a certificate.
func undeclaredPort(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	conf := &tls.Config{
		Certificates: []tls.Certificate{t.Devices()[0].Certificate}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: t.Roots(),
	}
	return beside(ctx, t, func(c net.Conn) { _ = tls.Server(c, conf).HandshakeContext(ctx) }) // it lets nobody in
}

func undeclaredDatagrams(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen beside the twin: %w", err)
	}
	t.Touch("address", "udp "+c.LocalAddr().String())
	return func(context.Context) error { return c.Close() }, nil
}

// lax is the twin's declaration with something changed in it, compiled and not
// published.
func lax(was, is string) (*declaration.Policy, error) {
	text := strings.Replace(twinDeclaration, was, is, 1)
	if text == twinDeclaration {
		return nil, fmt.Errorf("the declaration does not say %s", was)
	}
	d, err := declaration.Parse("lax.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	return declaration.Compile(d)
}

// withoutRate has the door go by a rate that was never published.
func withoutRate(ctx context.Context, t *twin) (func(context.Context) error, error) {
	p, err := lax("burst: 1000,", "burst: 9000,")
	if err != nil {
		return nil, err
	}
	right, err := t.s.decl.Current(ctx, check.TwinProduct)
	if err != nil {
		return nil, err
	}
	t.Touch("door", "9,000 messages at once, where 1,000 are declared")
	t.s.gateway.SetPolicy(p)
	return func(context.Context) error { t.s.gateway.SetPolicy(right); return nil }, nil
}

// withoutSchema has messages judged by a declaration that was never published.
func withoutSchema(ctx context.Context, t *twin) (func(context.Context) error, error) {
	p, err := lax("  latitude:", "  "+oddField+": {stream: climate, type: string, max_length: 8, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}\n  latitude:")
	if err != nil {
		return nil, err
	}
	plan, err := telemetry.NewPlan(p, t.Now())
	if err != nil {
		return nil, err
	}
	right := t.s.intake.Plan(check.TwinProduct)
	t.Touch("judge", "one more field than was ever published")
	t.s.intake.SetPlan(plan)
	return func(context.Context) error { t.s.intake.SetPlan(right); return nil }, nil
}

// leadsTo has the address of a door lead to a port beside.
func leadsTo(door string, serve func(context.Context, *twin) func(net.Conn)) func(context.Context, *twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t *twin) (func(context.Context) error, error) {
		at, undo, err := besideAt(ctx, t, serve(ctx, t))
		if err != nil {
			return nil, err
		}
		to := &t.s.public.https
		if door == "devices" {
			to = &t.s.public.devices
		}
		t.Touch("name", door+" leads to "+at)
		to.Store(&at)
		return func(ctx context.Context) error { to.Store(nil); return undo(ctx) }, nil
	}
}

func serveOldTLS(ctx context.Context, t *twin) func(net.Conn) {
	conf := &tls.Config{Certificates: []tls.Certificate{t.units[0].Certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	return func(c net.Conn) { _ = tls.Server(c, conf).HandshakeContext(ctx) } // a trial; who asked leaves
}

func serveAnybody(ctx context.Context, t *twin) func(net.Conn) {
	conf := &tls.Config{Certificates: []tls.Certificate{t.units[0].Certificate}, MinVersion: tls.VersionTLS13}
	return func(c net.Conn) {
		s := tls.Server(c, conf)
		if s.HandshakeContext(ctx) != nil {
			return
		}
		var b [256]byte
		if n, _ := s.Read(b[:]); n > 0 && b[0] == 0x10 {
			_, _ = io.WriteString(s, "\x20\x02\x00\x00") // CONNACK; whoever asked may be gone
		}
	}
}

// forkMemory changes the root that the last look remembers of the ledger.
func forkMemory(_ context.Context, t *twin) (func(context.Context) error, error) {
	path := filepath.Join(t.Data(), seenLedger)
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	at := bytes.Index(before, []byte(`"root": "`))
	if at < 0 {
		return nil, errors.New("no ledger is remembered")
	}
	after := bytes.Clone(before)
	root := after[at+len(`"root": "`):]
	for i, c := range []byte("WRONG") {
		root[i] = c
	}
	t.Touch("file", path)
	return func(context.Context) error { return os.WriteFile(path, before, 0o600) }, os.WriteFile(path, after, 0o600)
}
