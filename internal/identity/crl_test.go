package identity_test

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/identity"
)

// TestRevocationList: a revoked device's certificate is on the list until it
// has run out, others are not, a replaced one neither; openssl refuses with it what it should, and
// nothing else.
func TestRevocationList(t *testing.T) {
	f := newFixture(t)
	old, bad := f.device("GOOD"), f.device("BAD")
	issuer, err := x509.ParseCertificate(f.ca.Bundle()[1])
	if err != nil {
		t.Fatal(err)
	}
	list := func() *x509.RevocationList {
		t.Helper()
		der, err := f.svc.RevocationList()
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(issuer); err != nil {
			t.Fatal(err)
		}
		return l
	}
	chain, err := f.svc.Renew(t.Context(), old, csrFor(t, newKey(t), "GOOD"))
	if err != nil {
		t.Fatal(err)
	}
	good, err := x509.ParseCertificate(chain[0]) // old is replaced now, and not revoked
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(good)
	first := list()
	if len(first.RevokedCertificateEntries) != 0 {
		t.Errorf("%d entries before anything was revoked", len(first.RevokedCertificateEntries))
	}
	f.advance(time.Minute)
	if _, err := f.svc.Revoke(t.Context(), admin, "BAD", identity.Why{Text: "stolen"}); err != nil {
		t.Fatal(err)
	}
	at := f.clock()
	f.advance(time.Minute)
	second := list()
	if len(second.RevokedCertificateEntries) != 1 || second.RevokedCertificateEntries[0].SerialNumber.Cmp(bad.SerialNumber) != 0 ||
		!second.RevokedCertificateEntries[0].RevocationTime.Equal(at) || second.Number.Cmp(first.Number) <= 0 || !second.NextUpdate.Equal(f.clock().Add(identity.RevocationListLife)) {
		t.Errorf("the list has %+v, number %s after %s", second.RevokedCertificateEntries, second.Number, first.Number)
	}
	f.restart()
	if again := list(); len(again.RevokedCertificateEntries) != 1 || again.Number.Cmp(big.NewInt(0)) <= 0 {
		t.Errorf("after a restart: %+v", again.RevokedCertificateEntries)
	}

	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing: its verdict on the list is not checked")
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"root.pem": {Type: "CERTIFICATE", Bytes: f.ca.Root().Raw}, "mid.pem": {Type: "CERTIFICATE", Bytes: issuer.Raw}, "crl.pem": {Type: "X509 CRL", Bytes: second.Raw},
		"good.pem": {Type: "CERTIFICATE", Bytes: good.Raw}, "bad.pem": {Type: "CERTIFICATE", Bytes: bad.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(leaf string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "openssl", "verify", "-attime", big.NewInt(f.clock().Unix()).String(), "-crl_check", "-CRLfile", "crl.pem", "-CAfile", "root.pem", "-untrusted", "mid.pem", leaf)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify("good.pem"); err != nil {
		t.Errorf("openssl refuses a good device: %s", out)
	}
	if out, err := verify("bad.pem"); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("openssl takes a revoked device: %v, %s", err, out)
	}
	f.advance(40 * 24 * time.Hour)
	if late := list(); len(late.RevokedCertificateEntries) != 0 {
		t.Errorf("what has run out is still on the list: %+v", late.RevokedCertificateEntries)
	}
}
