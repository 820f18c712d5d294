package rig

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// Unit is an enrolled device.
type Unit struct {
	ID   core.DeviceID
	Cert tls.Certificate
}

// CA is the certificate that devices trust.
func (h *Home) CA() ([]byte, error) {
	return os.ReadFile(filepath.Join(h.Dir, "keys/ca/root.pem"))
}

// TLS is what a unit dials with; nil is nobody.
func (h *Home) TLS(u *Unit) (*tls.Config, error) {
	root, err := h.CA()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS13}
	if !c.RootCAs.AppendCertsFromPEM(root) {
		return nil, errors.New("the installation has no root certificate")
	}
	if u != nil {
		c.Certificates = []tls.Certificate{u.Cert}
	}
	return c, nil
}

// Enrol registers units and enrols each over EST (RFC 7030 §4.2) with its own
// code and key, eight at a time.
func (h *Home) Enrol(ctx context.Context, product core.ProductID, ids []core.DeviceID) ([]*Unit, error) {
	conf, err := h.TLS(nil)
	if err != nil {
		return nil, err
	}
	s, err := h.Ask(ctx)
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 8}}
	defer hc.CloseIdleConnections()
	units, errs := make([]*Unit, len(ids)), make([]error, len(ids))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			units[i], errs[i] = h.enrol(ctx, hc, s.HTTPS, product, id)
			<-slots
		})
		if ctx.Err() != nil {
			break
		}
	}
	wg.Wait()
	return units, errors.Join(append(errs, ctx.Err())...)
}

// Code registers a unit and gives its enrolment code.
func (h *Home) Code(ctx context.Context, product core.ProductID, id core.DeviceID) (string, error) {
	var added api.DeviceAdded
	err := h.client.Call(ctx, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: product}, &added)
	return added.Code, err
}

func (h *Home) enrol(ctx context.Context, hc *http.Client, https string, product core.ProductID, id core.DeviceID) (*Unit, error) {
	code, err := h.Code(ctx, product, id)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "https://"+https+"/.well-known/est/simpleenroll",
		bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(csr))))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	req.SetBasicAuth(string(id), code)
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("enrol %s: %s: %s", id, resp.Status, body)
	}
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	u := &Unit{ID: id, Cert: tls.Certificate{PrivateKey: key}}
	for _, c := range p7.Certificates {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			u.Cert.Certificate = append(u.Cert.Certificate, c.Raw)
		}
	}
	return u, nil
}

// WriteUnits writes ca.crt and each unit's NAME.crt and NAME.key into a
// folder, for programs that read PEM.
func (h *Home) WriteUnits(dir string, units []*Unit) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := h.CA()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), root, 0o600); err != nil {
		return err
	}
	for _, u := range units {
		key, err := x509.MarshalPKCS8PrivateKey(u.Cert.PrivateKey)
		if err != nil {
			return err
		}
		var chain []byte
		for _, c := range u.Cert.Certificate {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(dir, string(u.ID)+".crt"), chain, 0o600),
			os.WriteFile(filepath.Join(dir, string(u.ID)+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
		); err != nil {
			return err
		}
	}
	return nil
}
