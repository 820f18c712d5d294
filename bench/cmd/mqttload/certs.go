package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// certs writes ca.crt, ca.key, server.crt, server.key and dev-NNNNN.crt/.key.
func certs(args []string) error {
	fs := flag.NewFlagSet("certs", flag.ContinueOnError)
	dir := fs.String("dir", "certs", "folder to write to")
	n := fs.Int("n", 100, "device certificates")
	product := fs.String("product", "bench", "product in the URI name")
	environment := fs.String("environment", "test", "environment in the URI name")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "mqttload CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	sign := func(name string, t *x509.Certificate, key *ecdsa.PrivateKey) error {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			return err
		}
		t.SerialNumber = serial
		der, err := x509.CreateCertificate(rand.Reader, t, ca, &key.PublicKey, caKey)
		if err != nil {
			return err
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		for _, f := range []struct {
			ext, kind string
			der       []byte
		}{{".crt", "CERTIFICATE", der}, {".key", "PRIVATE KEY", pkcs8}} {
			b := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
			if err := os.WriteFile(filepath.Join(*dir, name+f.ext), b, 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	if err := sign("ca", ca, caKey); err != nil {
		return err
	}
	leaf := func(usage x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := leaf(x509.ExtKeyUsageServerAuth)
	server.Subject = pkix.Name{CommonName: "localhost"}
	server.DNSNames = []string{"localhost"}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if err := sign("server", server, key); err != nil {
		return err
	}
	for i := range *n {
		name := fmt.Sprintf("dev-%05d", i)
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		t := leaf(x509.ExtKeyUsageClientAuth)
		t.Subject = pkix.Name{CommonName: name}
		t.URIs = []*url.URL{{Scheme: "urn", Opaque: "hawser:" + *environment + ":device:" + *product + ":" + name}}
		if err := sign(name, t, key); err != nil {
			return err
		}
	}
	return nil
}
