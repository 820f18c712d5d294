package server

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
)

// tokenKey is the key under which the tokens of old devices are hashed. It is
// derived from the gate's, which lies outside the data folder.
func (s *server) tokenKey() ([]byte, error) {
	gateKey, _, err := gate.OpenKey(s.c.GateKey)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, gateKey, nil, "hawser device tokens v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of device tokens: %w", err)
	}
	return key, nil
}

// legacyTerms is what a declaration says of its door for old devices. Its last
// day is included.
func legacyTerms(p *declaration.Policy) identity.LegacyTerms {
	if p.Legacy == nil {
		return identity.LegacyTerms{}
	}
	return identity.LegacyTerms{Auth: identity.Credential(p.Legacy.Auth), Until: p.Legacy.Until.Add(time.Second), MaxDevices: p.Legacy.MaxDevices}
}

// legacyFindings counts the days of a product's door for old devices.
func (s *server) legacyFindings(d *diagnosis, p *declaration.Policy) {
	live, out := 0, 0
	for _, x := range s.devices.Legacy(p.Product) {
		if !x.Live() {
			continue
		}
		if live++; !x.Admitted {
			out++
		}
	}
	list := fmt.Sprintf("`hawser legacy list %s` shows who is left; enrol them", p.Product)
	switch t := s.devices.LegacyTerms(p.Product); {
	case t.Auth == "" && live > 0:
		d.warn("legacy", fmt.Sprintf("%s: %d old devices have a credential, and the declaration has no door for them: nobody of them gets in", p.Product, live), list)
	case t.Auth == "":
	case !s.opt.Now().Before(t.Until):
		d.err("legacy", fmt.Sprintf("%s: the door for old devices closed on %s, with %d of them outside", p.Product, t.Until.Add(-time.Second).Format(time.DateOnly), live), "take `legacy` out of the declaration; who is outside needs an enrolment code: `hawser device code`")
	default:
		days := int(t.Until.Sub(s.opt.Now()) / (24 * time.Hour))
		d.warn("legacy", fmt.Sprintf("%s: the door for old devices (%s) is open for %d more days, with %d devices of at most %d; each is a failing row 3.2", p.Product, t.Auth, days, live, t.MaxDevices), list)
		if out > 0 {
			d.warn("legacy", fmt.Sprintf("%s: %d of its old devices have a credential and are not let in", p.Product, out), list)
		}
	}
	if n := s.devices.ForeignTokens(); n > 0 && p.Legacy != nil {
		d.err("legacy", fmt.Sprintf("%d tokens were made under another key than the one in %s: nobody gets in with them", n, s.c.GateKey), "put the old gate key back, or give the devices new tokens or enrolment codes")
	}
}
