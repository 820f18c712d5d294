package readers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of a receipt.
const (
	MaxReceipt   = 1 << 10
	maxSignature = 200 // base64 of an ECDSA signature on P-256 in ASN.1 has at most 96
)

// Receipt is what a service says that it did. The signature is over the very
// bytes of the body, so that anybody verifies it later with the certificate and
// openssl alone.
type Receipt struct {
	Order string `json:"order"`
	Done  *bool  `json:"done,omitempty"` // of erase and expire: true
	Held  *bool  `json:"held,omitempty"` // of tell: whether anything is there
}

// ParseReceipt reads the body of a receipt: one JSON object of exactly these
// members.
func ParseReceipt(body []byte) (Receipt, error) {
	var r Receipt
	bad := func(what string) (Receipt, error) {
		return Receipt{}, core.E(core.Invalid, "receipt", "this is no receipt: "+what, `send {"order":"…","done":true}, or {"order":"…","held":false} to an order that asks`)
	}
	if len(body) == 0 || len(body) > MaxReceipt {
		return bad(fmt.Sprintf("it is empty, or larger than %d bytes", MaxReceipt))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return bad("it is not JSON of these members")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows it")
	}
	if len(r.Order) < 2 || len(r.Order) > 64 || (r.Done == nil) == (r.Held == nil) || r.Done != nil && !*r.Done {
		return bad("it names no order, or says neither or both")
	}
	return r, nil
}

// ParseSignature reads the signature of a receipt, base64.
func ParseSignature(text string) ([]byte, error) {
	if text == "" || len(text) > maxSignature {
		return nil, errSignature
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errSignature
	}
	return b, nil
}

var errSignature error = core.E(core.Invalid, "receipt-signature", "the receipt is not signed by the key of this certificate",
	"sign the very bytes of the body: `openssl dgst -sha256 -sign key.pem body | openssl base64 -A`, in the header Hawser-Signature")

// Answer takes a service's receipt for an order, once: the first stays. The
// signature is by the key of the certificate that the service shows.
func (s *Service) Answer(ctx context.Context, peer *Peer, body, signature []byte) error {
	r, err := ParseReceipt(body)
	if err != nil {
		return err
	}
	key, ok := peer.Leaf.PublicKey.(*ecdsa.PublicKey)
	digest := sha256.Sum256(body)
	if !ok || !ecdsa.VerifyASN1(key, digest[:], signature) {
		return errSignature
	}
	now := micro(s.d.Now())
	err = s.d.Update(ctx, func(tx Tx) error {
		e, found, err := tx.ReaderEvent(ctx, peer.Name, r.Order)
		if err != nil {
			return err
		}
		if !found || e.Due.IsZero() {
			return core.E(core.Unknown, "no-such-order", "this service has no such order", "answer with the `order` of a line of your stream")
		}
		held := Unsaid
		switch {
		case e.Kind == Tell && r.Held == nil, e.Kind != Tell && r.Done == nil:
			return core.E(core.Invalid, "receipt", "this is no answer to that order", "answer `done` to erase and expire, `held` to tell")
		case e.Kind == Tell && *r.Held:
			held = Holds
		case e.Kind == Tell:
			held = HoldsNothing
		}
		if !e.Answered.IsZero() {
			if e.Held != held {
				return core.E(core.Conflict, "answered-otherwise", "this order was answered otherwise before", "the first answer stays")
			}
			return nil
		}
		e.Answered, e.Held, e.Receipt, e.Signature, e.Certificate = now, held, body, signature, peer.Number
		if err := tx.AnswerReaderEvent(ctx, e); err != nil {
			return err
		}
		rec := core.Record{
			Time: now, Kind: RecordAnswered, Actor: core.Actor{Kind: core.ActorService, ID: peer.Name}, Product: e.Product,
			Facts: []core.Fact{
				{Name: "service", Value: peer.Name},
				{Name: "order", Value: e.ID},
				{Name: "do", Value: string(e.Kind)},
				{Name: "certificate", Value: hex.EncodeToString(peer.Number[:])},
				{Name: "receipt", Value: string(body)},
				{Name: "signature", Value: base64.StdEncoding.EncodeToString(signature)},
			},
		}
		if now.After(e.Due) {
			rec.Facts = append(rec.Facts, core.Fact{Name: "late_seconds", Value: fmt.Sprint(int64(now.Sub(e.Due) / time.Second))})
		}
		return tx.Record(ctx, rec)
	})
	if err != nil {
		if _, ours := errors.AsType[*core.Error](err); ours {
			return err
		}
		return fmt.Errorf("take a receipt of %s: %w", peer.Name, err)
	}
	return nil
}
