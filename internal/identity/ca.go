package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// CAOptions says where a new certificate authority is put.
type CAOptions struct {
	Environment core.Environment
	RootDir     string   // for the root's key and certificate; the running server never needs it
	Dir         string   // for the certificates and the intermediates' keys
	Keys        KeyStore // for the intermediates' keys; nil: files in Dir
	Now         func() time.Time
}

// CA issues certificates with the intermediates' keys. It never has the
// root's key. It is safe for concurrent use.
type CA struct {
	env  core.Environment
	root *x509.Certificate
	lint *linter
	now  func() time.Time
	open OpenOptions
	set  atomic.Pointer[issuers] // changed by a renewal of the intermediates
}

// issuers are what the root signed: the intermediates that sign now, and those
// that signed before, whose certificates are good until they run out.
type issuers struct {
	operational, server issuer
	retired             []*x509.Certificate // operational, without a key
	clients             *x509.CertPool
}

func (ca *CA) operational() *issuer { return &ca.set.Load().operational }
func (ca *CA) server() *issuer      { return &ca.set.Load().server }

// issuer is a CA certificate and its key. The key may live in a token: nothing
// but crypto.Signer is asked of it.
type issuer struct {
	cert   *x509.Certificate
	signer crypto.Signer
}

// CreateCA makes a root and its two intermediates, and writes them to two
// folders that must not exist or be empty. Nobody outside the two folders ever
// sees the keys. It fails when one folder contains the other: a copy of the
// working folder must not carry the root.
func CreateCA(o CAOptions) error {
	if !o.Environment.Valid() || o.RootDir == "" || o.Dir == "" || o.Now == nil {
		return errors.New("create CA: environment, two folders and a clock are needed")
	}
	if err := apartFolders(o.RootDir, o.Dir); err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	l, err := newLinter()
	if err != nil {
		return err
	}
	now := o.Now().UTC()
	tag := make([]byte, 4)
	_, _ = rand.Read(tag) // crypto/rand.Read never fails
	name := hex.EncodeToString(tag)

	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make root key: %w", err)
	}
	rootDER, err := l.sign(kindRoot, rootTemplate(o.Environment, name, now), nil, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return fmt.Errorf("parse root: %w", err)
	}
	files, err := l.issuerFiles(o, name, root, rootKey)
	if err != nil {
		return err
	}
	rootFiles := map[string][]byte{fileRoot: certPEM(rootDER)}
	if rootFiles[fileRootKey], err = keyPEM(rootKey); err != nil {
		return err
	}
	if err := writeFolder(o.RootDir, rootFiles); err != nil {
		return fmt.Errorf("write root: %w", err)
	}
	if err := writeFolder(o.Dir, files); err != nil {
		return fmt.Errorf("write CA: %w", err)
	}
	return nil
}

// OpenOptions says where the working folder of an authority is.
type OpenOptions struct {
	Environment core.Environment
	Dir         string
	Now         func() time.Time
	Keys        KeyStore // where the intermediates' keys are; nil: files in Dir
}

// OpenCA opens the working folder of an authority. It refuses keys that others
// on this machine can read, a folder in which the root's key lies, certificates
// of another environment, and keys that do not fit their certificates.
func OpenCA(o OpenOptions) (*CA, error) {
	if !o.Environment.Valid() || o.Dir == "" || o.Now == nil {
		return nil, errors.New("open CA: environment, folder and a clock are needed")
	}
	l, err := newLinter()
	if err != nil {
		return nil, err
	}
	if err := checkFolder(o.Dir); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	ca := &CA{env: o.Environment, lint: l, now: o.Now, open: o}
	if ca.root, err = readCert(o.Dir, fileRoot); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if err := conform(kindRoot, ca.root); err != nil {
		return nil, fmt.Errorf("open CA: root: %w", err)
	}
	set, err := ca.read()
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	ca.set.Store(set)
	return ca, nil
}

// Reread takes the intermediates as they are in the folder by now. It is for
// who only looks at certificates; who issues them uses Service.TakeAuthority.
func (ca *CA) Reread() error {
	if err := checkFolder(ca.open.Dir); err != nil {
		return fmt.Errorf("read the authority again: %w", err)
	}
	set, err := ca.read()
	if err != nil {
		return fmt.Errorf("read the authority again: %w", err)
	}
	ca.set.Store(set)
	return nil
}

// read reads the intermediates of the working folder, and checks them.
func (ca *CA) read() (*issuers, error) {
	o, set := &ca.open, &issuers{clients: x509.NewCertPool()}
	for _, im := range []struct {
		kind kind
		name string
		to   *issuer
		use  x509.ExtKeyUsage
	}{
		{kindOperational, "operational", &set.operational, x509.ExtKeyUsageClientAuth},
		{kindServerCA, "server", &set.server, x509.ExtKeyUsageServerAuth},
	} {
		var err error
		if im.to.cert, err = readCert(o.Dir, im.name+certSuffix); err != nil {
			return nil, err
		}
		if im.to.signer, err = readIssuerKey(o.Keys, o.Dir, im.name+keySuffix); err != nil {
			return nil, err
		}
		if err := ca.checkIssuer(im.kind, im.to, im.use); err != nil {
			return nil, fmt.Errorf("%s: %w", im.name, err)
		}
	}
	var err error
	if set.retired, err = ca.readRetired(); err != nil {
		return nil, err
	}
	for _, c := range append([]*x509.Certificate{set.operational.cert}, set.retired...) {
		set.clients.AddCert(c)
	}
	return set, nil
}

func (ca *CA) checkIssuer(k kind, im *issuer, use x509.ExtKeyUsage) error {
	pub, ok := im.signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(im.cert.PublicKey) {
		return errors.New("the key does not fit the certificate")
	}
	return ca.checkCert(k, im.cert, use)
}

// checkCert holds an intermediate's certificate against the root.
func (ca *CA) checkCert(k kind, cert *x509.Certificate, use x509.ExtKeyUsage) error {
	if err := conform(k, cert); err != nil {
		return err
	}
	if want := caName(k, ca.env); !strings.HasPrefix(cert.Subject.CommonName, want) {
		return core.E(core.Denied, "foreign-environment",
			fmt.Sprintf("the CA folder belongs to another environment than %s", ca.env), "point `ca` at the folder that was made for this installation")
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.root)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: ca.now(), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func caName(k kind, env core.Environment) string {
	if k == kindOperational {
		return fmt.Sprintf("Hawser %s operational ", env)
	}
	return fmt.Sprintf("Hawser %s server ", env)
}

// Root is the certificate that devices pin.
func (ca *CA) Root() *x509.Certificate { return ca.root }

// Environment is where the authority belongs.
func (ca *CA) Environment() core.Environment { return ca.env }

// Bundle is what EST's /cacerts answers, as DER: the root, and the
// intermediate that devices' certificates are issued by (RFC 7030 §4.1.3).
func (ca *CA) Bundle() [][]byte { return [][]byte{ca.root.Raw, ca.operational().cert.Raw} }

// ClientPool is the pool for tls.Config.ClientCAs, to be asked for at each
// handshake and not to be changed. Its only members are the operational
// intermediate and those before it: a device need not send it, no other branch
// of the root is accepted, and the handshake is spared a P-384 verification.
func (ca *CA) ClientPool() *x509.CertPool { return ca.set.Load().clients }

// Expires is when the first of the authority's certificates runs out.
func (ca *CA) Expires() time.Time {
	t := ca.root.NotAfter
	for _, c := range []*x509.Certificate{ca.operational().cert, ca.server().cert} {
		if c.NotAfter.Before(t) {
			t = c.NotAfter
		}
	}
	return t
}

// issueDevice makes a device's certificate.
func (ca *CA) issueDevice(product core.ProductID, device core.DeviceID, serial Serial, life time.Duration, pub crypto.PublicKey) (*x509.Certificate, error) {
	if life < minDeviceLife || life > maxDeviceLife {
		return nil, fmt.Errorf("certificate life %s is not between %s and %s", life, minDeviceLife, maxDeviceLife)
	}
	now := ca.now().UTC()
	t := deviceTemplate(ca.env, product, device, serial, now, life)
	from := ca.operational()
	if t.NotAfter.After(from.cert.NotAfter) {
		return nil, core.E(core.Unavail, "ca-expires", "certificates cannot be issued at present", "the operational intermediate runs out before the certificate would; make new intermediates")
	}
	der, err := ca.lint.sign(kindDevice, t, from.cert, pub, from.signer)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse device certificate: %w", err)
	}
	return c, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
