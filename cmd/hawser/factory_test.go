package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hawser-iot/hawser/internal/identity"
)

// factoryFiles is what a factory sends: a line's public key, a list with its
// signature in the form of ssh-keygen (PROTOCOL.sshsig), an authority.
func factoryFiles(t *testing.T, write func(name, content string)) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	list := fmt.Sprintf("# hawser factory list 1\n# product: aria-thermostat\n# line: line-4\n# list: 2026-W47\nserial,sha256\nA100,%x\n", sha256.Sum256([]byte("a key")))
	sum := sha512.Sum512([]byte(list))
	wire := func(v any) string { return string(ssh.Marshal(v)) }
	signed := "SSHSIG" + wire(struct{ Namespace, Reserved, Hash, Sum string }{identity.ListNamespace, "", "sha512", string(sum[:])})
	blob := "SSHSIG" + wire(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, string(line.Marshal()), identity.ListNamespace, "", "sha512", wire(struct{ Type, Sig string }{"ssh-ed25519", string(ed25519.Sign(private, []byte(signed)))})})
	write("line-4.pub", string(ssh.MarshalAuthorizedKey(line)))
	write("w47.csv", list)
	write("w47.csv.sig", "-----BEGIN SSH SIGNATURE-----\n"+base64.StdEncoding.EncodeToString([]byte(blob))+"\n-----END SSH SIGNATURE-----\n")

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Works 2"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write("works-2.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}
