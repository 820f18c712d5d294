package server

import (
	"crypto/x509"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestCrowdAtTheHTTPSDoor: one source that holds as many connections open as
// it can keeps nobody else from enrolling (CC 1.13).
func TestCrowdAtTheHTTPSDoor(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	code := l.add(t, "A1")
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range maxHTTPSConnections + 50 {
		c, err := d.DialContext(t.Context(), "tcp", l.addr.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	began := time.Now()
	if status, body := l.est(t, estCall{path: "simpleenroll", user: "A1", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status != http.StatusOK {
		t.Errorf("enrolment behind a crowd: %d: %s", status, body)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("enrolment waited %s behind the crowd of one source", took)
	}
}

// TestRevokedRenewsNothing: a revoked certificate opens neither door, and its
// spent code none either; a neighbour is untouched (CC 3.2).
func TestRevokedRenewsNothing(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	code := l.add(t, "A1")
	u, neighbour := l.enrolWith(t, "A1", code), l.enrol(t, "B1")
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":1}`)
	pending := l.renew(t, u) // got, and not used yet
	l.call(t, "POST", "/v1/devices/A1/revoke", api.ReasonRequest{Reason: "stolen from a van"}, nil)
	for name, x := range map[string]*unit{"its certificate": u, "the one that it had ready": pending} {
		if status, _ := l.est(t, estCall{path: "simplereenroll", client: &x.cert, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status != http.StatusForbidden {
			t.Errorf("renewal with %s: %d", name, status)
		}
		if _, err := tryMQTT(t.Context(), l, x); err == nil {
			t.Errorf("connected with %s", name)
		}
	}
	if status, _ := l.est(t, estCall{path: "simpleenroll", user: "A1", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status != http.StatusUnauthorized {
		t.Errorf("its old code: %d", status)
	}
	dialMQTT(t, l, l.renew(t, neighbour)).publish(t, "telemetry/climate", `{"temp":2}`)
}
