package access

import (
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser-iot/hawser/internal/core"
)

// offerLasts is how long a second step may take (ASVS 6.5.5 allows ten
// minutes; a challenge lives five).
const offerLasts = 5 * time.Minute

// offer is a means that was begun and not finished: the other half is in
// somebody's browser. There is one for each link and session, in memory only:
// after a restart one begins again.
type offer struct {
	until    time.Time
	details  Details
	key      *webauthn.SessionData
	password string // encoded hash
	secret   []byte // of one-time codes
}

func (s *Service) putOffer(whose string, o offer) {
	o.until = s.now().Add(offerLasts)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers[whose] = o
}

// takeOffer gives an offer once.
func (s *Service) takeOffer(whose string) (offer, error) {
	s.mu.Lock()
	o, ok := s.offers[whose]
	delete(s.offers, whose)
	s.mu.Unlock()
	if !ok || !s.now().Before(o.until) {
		return offer{}, core.E(core.Conflict, "begin-again", "this took longer than five minutes, or was done already", "begin again; nothing was changed")
	}
	return o, nil
}

func (s *Service) dropOffers(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, o := range s.offers {
		if !now.Before(o.until) {
			delete(s.offers, k)
		}
	}
}
