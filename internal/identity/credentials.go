package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Credentials are what a unit came with and what it has, compared with every
// other unit of the register (CC 2.15).
type Credentials struct {
	Device  core.DeviceID
	Product core.ProductID
	Unit    string // its random number, as findings and the ledger name it
	Added   time.Time
	// CodeBits is the strength of the enrolment code it came with.
	CodeBits int
	// CodeSpent says that the code was used or withdrawn: it opens nothing now.
	CodeSpent bool
	// Units is how many units its code was compared with, itself among them.
	Units int
	// SameCode are the other units that had the same code.
	SameCode int
	// Keys are the public keys of its certificates that are kept, oldest first.
	Keys []OwnKey
}

// OwnKey is one public key of a unit.
type OwnKey struct {
	Key       core.Hash // SHA-256 of the SubjectPublicKeyInfo
	Certified time.Time // when it first got a certificate
	Units     int       // that ever showed it; 1: this one alone
}

// Credentials compares one unit with the whole register.
func (s *Service) Credentials(ctx context.Context, id core.DeviceID) (Credentials, error) {
	var c Credentials
	err := s.d.View(ctx, func(tx Tx) error {
		d, err := tx.Device(ctx, id)
		if err != nil {
			return err
		}
		birth, err := tx.Birth(ctx, id)
		if err != nil {
			return err
		}
		certs, err := tx.Certificates(ctx, id)
		if err != nil {
			return err
		}
		c = Credentials{
			Device: id, Product: d.Product, Unit: core.Subject(d.Unit).String(), Added: d.Added,
			CodeBits: birth.CodeBits, CodeSpent: d.Code.IsZero(),
		}
		for i := range certs {
			if !slices.ContainsFunc(c.Keys, func(k OwnKey) bool { return k.Key == certs[i].Key }) {
				c.Keys = append(c.Keys, OwnKey{Key: certs[i].Key, Certified: certs[i].Issued})
			}
		}
		if c.Units, c.SameCode, err = tx.CodeShared(ctx, id); err != nil {
			return err
		}
		for i := range c.Keys {
			if c.Keys[i].Units, err = tx.UnitsOfKey(ctx, c.Keys[i].Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("compare the credentials of a unit: %w", err)
	}
	return c, nil
}
