package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// renew gives the holder of a certificate the next one, as EST would.
func (d *door) renew(c tls.Certificate) tls.Certificate {
	d.t.Helper()
	key, csr := newCSR(d.t)
	leaf := must[*x509.Certificate](d.t)(x509.ParseCertificate(c.Certificate[0]))
	chain, err := d.ids.Renew(d.t.Context(), leaf, csr)
	if err != nil {
		d.t.Fatal(err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}
}

func (d *door) deviceState(id core.DeviceID) identity.DeviceState {
	d.t.Helper()
	dev, err := d.ids.Device(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return dev.State
}

// TestRefreshOfASupersededSessionAccusesNobody: a look at a live session whose
// certificate was just replaced is no handshake, so it is no sign of a copy: the
// session ends, and the device keeps its good name (CC 3.2).
func TestRefreshOfASupersededSessionAccusesNobody(t *testing.T) {
	d := newDoor(t)
	old := d.enrol("A1")
	d.connect(old, mqtt.V5, "x")
	before := d.g.table.find("A1").live()
	next := d.renew(old)
	now := d.connect(next, mqtt.V5, "y") // the old session is told to end
	for _, c := range before {
		c.refresh() // as one that began with an earlier change comes late
	}
	if got := d.deviceState("A1"); got == identity.StateQuarantined {
		t.Error("an innocent device is in quarantine")
	}
	now.publish(1, "telemetry/light", level(1))
	if got := now.acked(1); got != 0 {
		t.Errorf("its new session's reading: %#x", got)
	}
}

// TestCopiedCertificateHoldsBoth: whoever connects with the certificate before
// the present one has a copy or is the original; both stay connected, and
// neither's readings are taken, until a person has looked (CC 3.2; design,
// section 5, Identity).
func TestCopiedCertificateHoldsBoth(t *testing.T) {
	d := newDoor(t)
	old := d.enrol("A1")
	d.connect(old, mqtt.V5, "x")
	honest := d.connect(d.renew(old), mqtt.V5, "honest")
	honest.publish(1, "telemetry/light", level(1))
	if got := honest.acked(1); got != 0 {
		t.Fatalf("before the copy: %#x", got)
	}
	clone := d.connect(old, mqtt.V5, "clone")
	clone.publish(1, "telemetry/light", level(2))
	if got := clone.acked(1); got != mqtt.NotAuthorized {
		t.Errorf("the copy's reading: %#x", got)
	}
	n := uint16(1)
	eventually(t, "the other is held, too", func() bool {
		n++
		honest.publish(n, "telemetry/light", level(int(n)))
		return honest.acked(n) == mqtt.NotAuthorized
	})
	if got := d.deviceState("A1"); got != identity.StateQuarantined {
		t.Errorf("state %s", got)
	}
	d.g.Refresh("A1")
	clone.publish(2, "telemetry/light", level(3))
	if got := clone.acked(2); got != mqtt.NotAuthorized {
		t.Errorf("the copy was cut, not held: %#x", got)
	}

	if err := d.ids.Release(t.Context(), staff, "A1", "the copy was found"); err != nil {
		t.Fatal(err)
	}
	clone.closed()
	eventually(t, "the device is free", func() bool {
		n++
		honest.publish(n, "telemetry/light", level(int(n)))
		return honest.acked(n) == 0
	})
	got, _ := d.stored()
	for i := range got {
		if s := d.sender(&got[i]); s != telemetry.Sender(d.g.table.find("A1").live()[0].serial) {
			t.Errorf("a reading of %x was stored", s)
		}
	}
}
