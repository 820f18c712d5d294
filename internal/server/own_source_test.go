package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestOwnChecksHoldUpNobody: our checks try many known passwords at our own
// doors. Somebody on this machine who opens a founder's link meanwhile is not
// told to wait for that.
func TestOwnChecksHoldUpNobody(t *testing.T) {
	if !ownSource.IsValid() {
		t.Skip("this system has no loopback address to spare")
	}
	l := start(t, newHome(t, core.Test, ""))
	var link api.Link
	l.call(t, "POST", "/v1/people/founder", nil, &link)
	for range 4 {
		l.call(t, "POST", "/v1/checks/run", api.RunRequest{Row: "1.9"}, nil)
		l.call(t, "POST", "/v1/checks/run", api.RunRequest{Row: "2.9"}, nil)
	}
	browser := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.roots, MinVersion: tls.VersionTLS13}}}
	defer browser.CloseIdleConnections()
	r, err := browser.Get(link.Link)
	if err != nil {
		t.Fatal(err)
	}
	if _ = r.Body.Close(); r.StatusCode != http.StatusOK { // only the status counts
		t.Errorf("the founder's link: %s", r.Status)
	}

	// The gate counts them where they come from.
	c, err := dialOwn(t.Context(), "tcp", l.addr.HTTPS, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); a != ownSource {
		t.Errorf("our own checks come from %s", a)
	}
	_ = c.Close() // it was only to see
}
