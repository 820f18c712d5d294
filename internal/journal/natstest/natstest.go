// Package natstest runs real NATS servers for tests: a cluster on loopback,
// each server a process of its own that can be killed, paused and started
// again. It is imported by tests only.
package natstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/house"
)

// Cluster is a number of servers that keep streams together.
type Cluster struct {
	Dir     string   // of everything
	Servers []string // where clients connect
	CA      string   // PEM file; "" without TLS
	Cert    string   // PEM file of a client that the servers take
	Key     string

	t       testing.TB
	program string
	nodes   []*node
}

type node struct {
	config string
	log    string
	cmd    *exec.Cmd
}

// Start runs n servers, which end with the test. With secure they take only
// clients with a certificate, over TLS.
func Start(t testing.TB, n int, secure bool) *Cluster {
	t.Helper()
	c := &Cluster{Dir: t.TempDir(), t: t, program: house.Peer(t, "github.com/nats-io/nats-server/v2")}
	ports := free(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
	}
	extra := ""
	scheme := "nats"
	if secure {
		scheme = "tls"
		server, key := c.certify("server"), filepath.Join(c.Dir, "server.key")
		c.Cert, c.Key = c.certify("client"), filepath.Join(c.Dir, "client.key")
		extra = fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", server, key, c.CA)
	}
	for i := range n {
		c.Servers = append(c.Servers, fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[i]))
		nd := &node{config: filepath.Join(c.Dir, fmt.Sprintf("n%d.conf", i)), log: filepath.Join(c.Dir, fmt.Sprintf("n%d.log", i))}
		conf := fmt.Sprintf("server_name: n%d\nhost: 127.0.0.1\nport: %d\nlog_file: %q\njetstream { store_dir: %q, max_mem: 64M, max_file: 4G }\n%s",
			i, ports[i], nd.log, filepath.Join(c.Dir, fmt.Sprintf("n%d", i)), extra)
		if n > 1 {
			conf += fmt.Sprintf("cluster { name: c, host: 127.0.0.1, port: %d, routes: [%s] }\n", ports[n+i], strings.Join(routes, ", "))
		}
		if err := os.WriteFile(nd.config, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, nd)
		c.Run(i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Kill(i)
		}
		if t.Failed() {
			for i, nd := range c.nodes {
				b, _ := os.ReadFile(nd.log) // without it there is less to tell
				t.Logf("NATS server %d:\n%s", i, b[max(0, len(b)-3000):])
			}
		}
	})
	c.Wait()
	return c
}

// Run starts a server that does not run.
func (c *Cluster) Run(i int) {
	c.t.Helper()
	cmd := exec.Command(c.program, "-c", c.nodes[i].config)
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i].cmd = cmd
}

// Kill is kill -9, and returns when the process is gone.
func (c *Cluster) Kill(i int) {
	if cmd := c.nodes[i].cmd; cmd != nil {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		c.nodes[i].cmd = nil
	}
}

// Pause stops a server without ending it; Resume lets it go on. It returns when
// every thread of it stands: until then it may still say yes.
func (c *Cluster) Pause(i int) {
	c.t.Helper()
	c.signal(i, syscall.SIGSTOP)
	time.Sleep(300 * time.Millisecond) // where the system does not tell
	for end := time.Now().Add(10 * time.Second); !stands(c.nodes[i].cmd.Process.Pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("NATS server %d does not stop", i)
		}
	}
}

// stands reports whether no thread of a process runs (proc(5)).
func stands(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is a good one
	for _, name := range threads {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		if at := strings.LastIndexByte(string(b), ')'); at < 0 || len(b) < at+3 || b[at+2] != 'T' {
			return false
		}
	}
	return true
}

// Resume ends a pause.
func (c *Cluster) Resume(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, s syscall.Signal) {
	c.t.Helper()
	if err := c.nodes[i].cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// Connect is a client of whichever server answers.
func (c *Cluster) Connect() (*nats.Conn, error) {
	opts := []nats.Option{nats.Timeout(2 * time.Second)}
	if c.CA != "" {
		opts = append(opts, nats.RootCAs(c.CA), nats.ClientCert(c.Cert, c.Key))
	}
	return nats.Connect(strings.Join(c.Servers, ","), opts...)
}

// Wait waits until the cluster takes orders.
func (c *Cluster) Wait() {
	c.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = c.ask(); err == nil {
			return
		}
	}
	c.t.Fatalf("the NATS servers do not work together: %v", err)
}

func (c *Cluster) ask() error {
	conn, err := c.Connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		return err
	}
	ctx := c.t.Context()
	if ctx.Err() != nil {
		return nil // the test is over
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: len(c.nodes)}); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "probe", nil)
	return err
}

// Leader is the server that leads a stream, -1 while there is none.
func (c *Cluster) Leader(stream string) int {
	conn, err := c.Connect()
	if err != nil {
		return -1
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		return -1
	}
	s, err := js.Stream(c.t.Context(), stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return -1
	}
	i := -1
	_, _ = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &i) // -1 stands otherwise
	return i
}

func free(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// certify makes a certificate with its key, under an authority that is made
// with the first, and returns its file.
func (c *Cluster) certify(name string) string {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	now := time.Now()
	self := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	file := filepath.Join(c.Dir, name+".pem")
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8}), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.CA = filepath.Join(c.Dir, "ca.pem") // both trust both
	all, _ := os.ReadFile(c.CA)           // none yet
	if err := os.WriteFile(c.CA, append(all, cert...), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}
