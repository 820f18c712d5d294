package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// Hashes of tokens are for one purpose each.
const (
	tokenProof = "hawser device token of its device v1"
	tokenAlone = "hawser device token alone v1"
	tokenKeyID = "hawser device token key v1"
)

// tokenHash is a keyed hash of some words, each with its length. A token has at
// least 128 bits, so it needs no slow hash (CC 1.12).
func (s *Service) tokenHash(purpose string, words ...[]byte) core.Hash {
	h := hmac.New(sha256.New, s.d.TokenKey)
	_, _ = h.Write([]byte(purpose)) // a hash never fails
	for _, w := range words {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(w)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(w)
	}
	return core.Hash(h.Sum(nil))
}

// tokenKey names the key that hashes of tokens are made under now.
func (s *Service) tokenKey() []byte {
	id := s.tokenHash(tokenKeyID)
	return id[:8]
}

// badToken is the one answer to an unknown device, a wrong token and one that
// is another device's: a stranger learns nothing about which devices exist.
func badToken(reason string) *core.Error {
	return core.E(core.Denied, reason, "this device and token do not belong together", "user name: the serial number; password: the device's own token")
}

// IdentifyToken says which device a token is of, and whose: user is the serial
// number. It counts the try at the gate before it compares anything; the answer
// for a device that does not exist takes the same way. Like Identify, the
// caller must be ready for Notify before it calls.
func (s *Service) IdentifyToken(ctx context.Context, source netip.Addr, user, token []byte) (Identified, error) {
	st, err := s.deviceByToken(ctx, source, core.DeviceID(user), token)
	if err != nil {
		return Identified{}, s.refused(err)
	}
	who, err := s.welcomeLegacy(ctx, st)
	return who, s.refused(err)
}

// deviceByToken passes a token through the gate.
func (s *Service) deviceByToken(ctx context.Context, source netip.Addr, id core.DeviceID, token []byte) (*state, error) {
	if s.d.TokenKey == nil {
		return nil, refusedLegacy("legacy-not-declared")
	}
	if !id.Valid() {
		id = "" // nobody's; what a stranger writes is no key of the gate's tables
	}
	// CC 1.13, 1.14: only the source is slowed down. Who guesses at a device
	// locks nobody out of it.
	ticket, err := s.d.Gate.Open(ctx, gate.Attempt{Means: gate.DeviceToken, Account: string(id), Source: source})
	if err != nil {
		var w *gate.Wait
		if errors.As(err, &w) {
			return nil, tooMany(w.Refusal.Reason, "too many wrong tokens from this address", w.After)
		}
		return nil, unavailable(err)
	}
	st, err := s.verifyToken(ticket, id, token)
	if err != nil {
		if gerr := ticket.Wrong(ctx); gerr != nil {
			return nil, unavailable(gerr)
		}
		return nil, err
	}
	if err := ticket.Right(ctx); err != nil {
		return nil, unavailable(err)
	}
	return st, nil
}

// verifyToken compares a token with the device's. It does the same work for a
// device that does not exist. The hash has the device in it, so a token that is
// another device's is wrong like any other.
func (s *Service) verifyToken(ticket *gate.Ticket, id core.DeviceID, token []byte) (*state, error) {
	if err := ticket.Use(gate.DeviceToken, string(id)); err != nil {
		return nil, err
	}
	shown := s.tokenHash(tokenProof, []byte(id), token)
	var want core.Hash
	st := s.index.device(id)
	if st != nil && st.legacy != nil && st.legacy.Kind == DeviceToken {
		want = st.legacy.Proof
	}
	if subtle.ConstantTimeCompare(shown[:], want[:]) == 1 {
		return st, nil
	}
	return nil, badToken("wrong-token")
}

// LegacyToken is a device with its token.
type LegacyToken struct {
	Device core.DeviceID
	Token  string // "": one is made
}

// AddTokens registers devices that come with a token of their own, all of them
// or none, and gives the tokens that it made: they are shown this once and kept
// only as keyed hashes (CC 1.9, 1.12). What was registered before, just so, is
// no error and makes nothing.
func (s *Service) AddTokens(ctx context.Context, by core.Actor, product core.ProductID, list []LegacyToken, reason string) (made []LegacyToken, fresh int, err error) {
	if s.d.TokenKey == nil {
		return nil, 0, errors.New("add device tokens: there is no key for them")
	}
	if err := checkTokens(list); err != nil {
		return nil, 0, err
	}
	terms, err := s.mayBring(ctx, product, DeviceToken, 0, reason)
	if err != nil {
		return nil, 0, err
	}
	s.taking.Lock() // so that two lists at once keep max_devices together
	defer s.taking.Unlock()
	var shown []*state
	err = s.d.Update(ctx, func(tx Tx) error {
		made, shown = nil, nil
		for _, u := range list {
			token := u.Token
			if token == "" {
				token = rand.Text() // 130 bits
				made = append(made, LegacyToken{u.Device, token})
			}
			st, err := s.bringOne(ctx, tx, by, product, LegacyRow{
				ID: newLegacyID(DeviceToken), Device: u.Device, Kind: DeviceToken, KeyID: s.tokenKey(),
				Proof: s.tokenHash(tokenProof, []byte(u.Device), []byte(token)), Alone: s.tokenHash(tokenAlone, []byte(token)),
			})
			if errors.Is(err, errNoChange) {
				continue
			}
			if err != nil {
				return err
			}
			shown = append(shown, st)
		}
		if len(shown) == 0 {
			return nil
		}
		if err := s.fits(product, len(shown)); err != nil {
			return err
		}
		return s.recordLegacyAdded(ctx, tx, by, product, &terms, DeviceToken, len(shown), reason)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("add device tokens: %w", err)
	}
	for _, st := range shown {
		s.index.apply(st)
	}
	return made, len(shown), nil
}

// fits holds max_devices against what is new.
func (s *Service) fits(product core.ProductID, more int) error {
	if have, most := s.index.legacyLive(product), s.LegacyTerms(product).MaxDevices; have+more > most {
		return tooManyLegacy(product, have, more, most)
	}
	return nil
}

// ForeignTokens is how many live tokens were made under another key than the
// one that is there: nobody can come with them until that key is put back.
func (s *Service) ForeignTokens() int {
	if s.d.TokenKey == nil {
		return 0
	}
	n, key := 0, string(s.tokenKey())
	for _, st := range s.index.snapshot() {
		if st.legacy.Live() && st.legacy.Kind == DeviceToken && string(st.legacy.KeyID) != key {
			n++
		}
	}
	return n
}
