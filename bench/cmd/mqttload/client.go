package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// target is what every measuring command needs to reach a server.
type target struct {
	addr, dir, ca, serverName string
	n, version, pid           int
	keepAlive                 int
	json                      bool
	conf                      *tls.Config
	names                     []string
	pairs                     []tls.Certificate
}

func (t *target) flags(fs *flag.FlagSet) {
	fs.StringVar(&t.addr, "addr", "127.0.0.1:8883", "server address")
	fs.StringVar(&t.dir, "certs", "certs", "folder with ca.crt and one NAME.crt and NAME.key per device")
	fs.StringVar(&t.ca, "ca", "", "the server's CA, if not ca.crt in the folder")
	fs.StringVar(&t.serverName, "server-name", "localhost", "name that the server's certificate must carry")
	fs.IntVar(&t.n, "n", 100, "connections, one certificate each")
	fs.IntVar(&t.version, "v", 5, "MQTT protocol level: 4 (3.1.1) or 5")
	fs.IntVar(&t.keepAlive, "keepalive", 3600, "keep-alive in seconds")
	fs.IntVar(&t.pid, "pid", 0, "process id of the server, for its processor time and memory")
	fs.BoolVar(&t.json, "json", false, "print one JSON object")
}

// load reads the certificates. A device is named by its file.
func (t *target) load() error {
	if t.version != 4 && t.version != 5 {
		return fmt.Errorf("-v %d: only 4 and 5 exist", t.version)
	}
	if t.ca == "" {
		t.ca = filepath.Join(t.dir, "ca.crt")
	}
	pem, err := os.ReadFile(t.ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", t.ca)
	}
	t.conf = &tls.Config{RootCAs: pool, ServerName: t.serverName, MinVersion: tls.VersionTLS13}
	keys, err := filepath.Glob(filepath.Join(t.dir, "*.key"))
	if err != nil {
		return err
	}
	sort.Strings(keys)
	for _, k := range keys {
		name := strings.TrimSuffix(filepath.Base(k), ".key")
		if name == "ca" || name == "server" {
			continue
		}
		pair, err := tls.LoadX509KeyPair(strings.TrimSuffix(k, ".key")+".crt", k)
		if err != nil {
			return err
		}
		t.names, t.pairs = append(t.names, name), append(t.pairs, pair)
		if len(t.names) == t.n {
			return nil
		}
	}
	return fmt.Errorf("%s holds %d device certificates, %d asked for", t.dir, len(t.names), t.n)
}

// dial opens connection i and finishes its handshake.
func (t *target) dial(ctx context.Context, i int) (*tls.Conn, error) {
	raw, err := (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	conf := t.conf.Clone()
	conf.Certificates = t.pairs[i : i+1]
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the one to tell
		return nil, err
	}
	return c, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendLength(b []byte, n int) []byte {
	for {
		d := byte(n % 128)
		if n /= 128; n > 0 {
			b = append(b, d|0x80)
			continue
		}
		return append(b, d)
	}
}

// connect sends CONNECT with a clean start and waits for its acceptance.
func (t *target) connect(c *tls.Conn, id string) error {
	body := appendString(nil, "MQTT")
	body = append(body, byte(t.version), 2)
	body = binary.BigEndian.AppendUint16(body, uint16(t.keepAlive))
	if t.version == 5 {
		body = append(body, 0)
	}
	body = appendString(body, id)
	if _, err := c.Write(append(appendLength([]byte{0x10}, len(body)), body...)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	kind, b, err := readPacket(c)
	if err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if kind>>4 != 2 || len(b) < 2 || b[1] != 0 {
		return fmt.Errorf("CONNECT refused: packet type %d, % x", kind>>4, b)
	}
	return c.SetReadDeadline(time.Time{})
}

func readPacket(r io.Reader) (kind byte, body []byte, err error) {
	var one [1]byte
	if _, err := io.ReadFull(r, one[:]); err != nil {
		return 0, nil, err
	}
	kind = one[0]
	length, shift := 0, 0
	for {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return 0, nil, err
		}
		length |= int(one[0]&0x7f) << shift
		if one[0] < 0x80 {
			break
		}
		if shift += 7; shift > 21 {
			return 0, nil, errors.New("remaining length of more than four bytes")
		}
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return kind, body, err
}

// dialAll opens every connection with at most 32 at a time under way.
func (t *target) dialAll(mqtt connectMode) ([]*tls.Conn, error) {
	conns := make([]*tls.Conn, t.n)
	errs := make(chan error, t.n)
	slots := make(chan struct{}, 32)
	for i := range t.n {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			c, err := t.dial(ctx, i)
			if err == nil && mqtt == withConnect {
				err = t.connect(c, t.names[i])
			}
			conns[i] = c
			if err != nil {
				err = fmt.Errorf("connection %d (%s): %w", i, t.names[i], err)
			}
			errs <- err
		}()
	}
	for range t.n {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return conns, nil
}

// connectMode says whether MQTT is spoken on a new connection.
type connectMode int

const (
	tlsOnly connectMode = iota
	withConnect
)
