package device

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// identity is one key of the device with its certificate. Generations grow by
// one with each certificate.
type identity struct {
	gen    uint64
	cert   tls.Certificate // leaf first, then intermediates; Leaf is set
	proven bool            // a server has taken it
}

func (id *identity) leaf() *x509.Certificate { return id.cert.Leaf }

// renewAt is when to ask for the next certificate: at two thirds of its life,
// moved by up to a twentieth of the life either way so that a fleet enrolled
// in one hour does not renew in one hour. The place in that span is drawn from
// the certificate itself, so a restart does not draw again.
func (id *identity) renewAt() time.Time {
	l := id.leaf()
	life := l.NotAfter.Sub(l.NotBefore)
	sum := sha256.Sum256(l.Raw)
	share := float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32) // [0, 1)
	jitter := time.Duration((share - 0.5) * float64(life) / 10)
	return l.NotBefore.Add(life/3*2 + jitter)
}

// keep is the folder of identities: one folder per generation, with key.pem,
// chain.pem, and the empty file proven once a server has taken it. A folder
// appears whole, by one rename, and goes by one rename; so a crash at any
// moment leaves only whole ones. The old generation stays until the new one is
// proven (design, section 5, Identity: renewal is two-phase).
type keep struct {
	dir  string
	keys Keys // nil: keys are files
	// step is called before each step that a crash may part from the next.
	// Tests kill the process there.
	step func(name string)
}

const (
	keyFile    = "key.pem"
	chainFile  = "chain.pem"
	provenFile = "proven"
	maxIDFile  = 64 << 10
)

func openKeep(dir string, keys Keys) (*keep, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	k := &keep{dir: dir, keys: keys, step: func(string) {}}
	return k, k.sweep()
}

// sweep removes what a crash left half-made or half-removed.
func (k *keep) sweep() error {
	names, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			if err := os.RemoveAll(filepath.Join(k.dir, n.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// all gives the identities, newest first. One that cannot be read is skipped
// when there is another: its device still has a way in.
func (k *keep) all() ([]*identity, error) {
	names, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, err
	}
	var ids []*identity
	var bad error
	for _, n := range names {
		gen, err := strconv.ParseUint(n.Name(), 10, 63)
		if err != nil || !n.IsDir() {
			continue
		}
		id, err := k.read(gen)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 && bad != nil {
		return nil, bad
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i].gen > ids[j].gen })
	return ids, nil
}

func (k *keep) path(gen uint64) string { return filepath.Join(k.dir, fmt.Sprintf("%08d", gen)) }

func (k *keep) read(gen uint64) (*identity, error) {
	dir := k.path(gen)
	keyPEM, err := readSmall(filepath.Join(dir, keyFile), maxIDFile)
	if err != nil {
		return nil, err
	}
	chainPEM, err := readSmall(filepath.Join(dir, chainFile), maxIDFile)
	if err != nil {
		return nil, err
	}
	cert, err := k.pair(chainPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("identity %d: %w", gen, err)
	}
	_, err = os.Stat(filepath.Join(dir, provenFile))
	return &identity{gen: gen, cert: cert, proven: err == nil}, nil
}

// pair puts a chain and its key together.
func (k *keep) pair(chainPEM, keyPEM []byte) (tls.Certificate, error) {
	var out tls.Certificate
	for rest := chainPEM; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			out.Certificate = append(out.Certificate, b.Bytes)
		}
	}
	if len(out.Certificate) == 0 {
		return out, errors.New("chain.pem holds no certificate")
	}
	var err error
	if out.Leaf, err = x509.ParseCertificate(out.Certificate[0]); err != nil {
		return out, err
	}
	key, err := openKey(keyPEM, k.keys)
	if err != nil {
		return out, err
	}
	if pub, ok := out.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return out, errors.New("the certificate is not of this key")
	}
	out.PrivateKey = key
	return out, nil
}

// add stores a new identity, as the generation after the newest.
func (k *keep) add(key *privateKey, chain []*x509.Certificate) (*identity, error) {
	gen := uint64(1)
	names, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if g, err := strconv.ParseUint(n.Name(), 10, 63); err == nil && g >= gen {
			gen = g + 1
		}
	}
	tmp, err := os.MkdirTemp(k.dir, ".new-*") // mode 0700
	if err != nil {
		return nil, err
	}
	k.step("folder made")
	if err := newFile(filepath.Join(tmp, keyFile), key.file); err != nil {
		return nil, err
	}
	k.step("key written")
	if err := newFile(filepath.Join(tmp, chainFile), encodePEM(chain)); err != nil {
		return nil, err
	}
	k.step("chain written")
	if err := syncDir(tmp); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, k.path(gen)); err != nil {
		return nil, err
	}
	k.step("renamed")
	if err := syncDir(k.dir); err != nil {
		return nil, err
	}
	k.step("stored")
	return k.read(gen)
}

// prove marks id as taken by a server and removes every older one.
func (k *keep) prove(id *identity) error {
	if !id.proven {
		k.step("handshake done")
		if err := newFile(filepath.Join(k.path(id.gen), provenFile), nil); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := syncDir(k.path(id.gen)); err != nil {
			return err
		}
		id.proven = true
		k.step("proven")
	}
	names, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if g, err := strconv.ParseUint(n.Name(), 10, 63); err == nil && g < id.gen {
			if err := k.remove(g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *keep) remove(gen uint64) error {
	gone := filepath.Join(k.dir, fmt.Sprintf(".old-%08d", gen))
	if err := os.Rename(k.path(gen), gone); err != nil {
		return err
	}
	k.step("old renamed")
	if err := os.Remove(filepath.Join(gone, keyFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	k.step("old key removed")
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	return syncDir(k.dir)
}

// checkIssued holds what a certificate from the server must be before the
// device takes it: for this key, for a client, for this serial number, from an
// authority under the pinned roots. It returns the chain to present.
func (t *trust) checkIssued(serial string, key *privateKey, certs []*x509.Certificate) ([]*x509.Certificate, error) {
	refuse := func(format string, args ...any) error {
		return fault(BadCertificate, nil, "ask the maker; the server's certificate policy and the device disagree", format, args...)
	}
	var leaf *x509.Certificate
	for _, c := range certs {
		if pub, ok := c.PublicKey.(*ecdsa.PublicKey); ok && pub.Equal(key.Public()) {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, refuse("the server's answer holds no certificate for this device's key")
	}
	named := false
	for _, u := range leaf.URIs {
		// urn:hawser:<environment>:device:<product>:<serial>
		parts := strings.Split(u.Opaque, ":")
		named = named || u.Scheme == "urn" && len(parts) == 5 && parts[0] == "hawser" && parts[2] == "device" && parts[4] == serial
	}
	if !named {
		return nil, refuse("the server's certificate does not name serial number %s", serial)
	}
	between := x509.NewCertPool()
	for _, c := range slices.Concat(certs, t.extra) {
		between.AddCert(c)
	}
	good, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: between, CurrentTime: t.clock.verifyAt([]*x509.Certificate{leaf}),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fault(BadCertificate, err, "", "the server's certificate for this device leads to no pinned root")
	}
	chain := good[0]
	// The root is known to the server; sending it only costs bytes.
	if len(chain) > 1 && bytes.Equal(chain[len(chain)-1].RawSubject, chain[len(chain)-1].RawIssuer) {
		chain = chain[:len(chain)-1]
	}
	return chain, nil
}
