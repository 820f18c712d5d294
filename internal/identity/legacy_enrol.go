package identity

import (
	"context"
	"net/netip"

	"github.com/hawser-iot/hawser/internal/core"
)

// enrolLegacy gives a device at the legacy door a certificate of its own for
// what it has: the way out. Its legacy credential is spent by the first
// handshake with the certificate, like an enrolment code; until then both are
// good, so that a lost answer loses no device.
func (s *Service) enrolLegacy(ctx context.Context, st *state, csrDER []byte) ([][]byte, error) {
	if _, err := s.legacyOpen(st); err != nil {
		if core.ReasonOf(err) == "legacy-ended" {
			if ferr := s.finding(ctx, st.dev.ID, "legacy-credential-used-again"); ferr != nil {
				return nil, unavailable(ferr)
			}
		}
		return nil, err
	}
	if !st.dev.Suspect.IsZero() {
		// Who asks may be the copy, and would end the device's way in.
		return nil, core.E(core.Denied, "quarantined", "the device is in quarantine", "the maker has to look first")
	}
	return s.issueBorn(ctx, st, csrDER, DoorLegacy, st.legacy.Proof)
}

// enrolByToken is enrolLegacy for who shows a token where others show an
// enrolment code. mistyped is the answer to a code that is none: it says more
// to a person than that a token is wrong.
func (s *Service) enrolByToken(ctx context.Context, source netip.Addr, id core.DeviceID, token string, csrDER []byte, mistyped error) ([][]byte, error) {
	st, err := s.deviceByToken(ctx, source, id, []byte(token))
	if core.ReasonOf(err) == "wrong-token" {
		return nil, mistyped
	}
	if err != nil {
		return nil, err
	}
	return s.enrolLegacy(ctx, st, csrDER)
}
