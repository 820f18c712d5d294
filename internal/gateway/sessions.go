package gateway

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// Session is one live session of a device: what is at the other end of a
// connection now.
type Session struct {
	Device core.DeviceID
	Serial identity.Serial // of the certificate that it was opened with
	TLS    uint16          // version that was negotiated (crypto/tls)
	Cipher uint16          // suite that was negotiated (crypto/tls)
	Since  time.Time
}

// Sessions are all live ones, in no order. At 100,000 it takes some ten
// milliseconds: it is for checks, not for every request.
func (g *Gateway) Sessions() []Session {
	var out []Session
	g.table.each(func(_ core.DeviceID, d *device) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, c := range d.sessions {
			if c != nil {
				out = append(out, Session{Device: c.device, Serial: c.serial, TLS: c.tlsVersion, Cipher: c.cipher, Since: c.since})
			}
		}
	})
	return out
}
