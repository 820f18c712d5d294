package seal

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/hawser-iot/hawser/internal/core"
)

// valueVersion is the first byte of a sealed value.
const valueVersion = 1

// SealValue seals a value that is kept as long as its subject's key is: a
// personal column, or the sealed part of a ledger record. context says what
// the value is ("ownership.contact"); the same one is needed to open it, so
// that values cannot change places. It fails with ErrNoKey for a subject
// without a key.
func (k *Keyring) SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error) {
	aead, err := k.valueKey(s)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, 1+len(plaintext)+Overhead), valueVersion)
	return aead.Seal(out, nil, plaintext, valueContext(s, context)), nil
}

// OpenValue is the inverse of SealValue. It fails with ErrNoKey when the
// subject was erased, and with core.Invalid when sealed was changed or belongs
// to another subject or context.
func (k *Keyring) OpenValue(s core.Subject, context string, sealed []byte) ([]byte, error) {
	aead, err := k.valueKey(s)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 1+Overhead || sealed[0] != valueVersion {
		return nil, notAuthentic()
	}
	out, err := aead.Open(nil, nil, sealed[1:], valueContext(s, context))
	if err != nil {
		return nil, notAuthentic()
	}
	return out, nil
}

type valueAEAD interface {
	Seal(dst, nonce, plaintext, aad []byte) []byte
	Open(dst, nonce, ciphertext, aad []byte) ([]byte, error)
}

func (k *Keyring) valueKey(s core.Subject) (valueAEAD, error) {
	var ikm [2 * secretBytes]byte
	defer clear(ikm[:])
	k.mu.RLock()
	l := k.subjects[s]
	if l == nil || l.dead.Load() {
		k.mu.RUnlock()
		return nil, noSubjectKey()
	}
	copy(ikm[:], l.secret[:])
	copy(ikm[secretBytes:], k.control[:])
	k.mu.RUnlock()
	return derive(ikm[:], infoValue)
}

func valueContext(s core.Subject, context string) []byte {
	b := append(make([]byte, 0, len(infoValue)+len(s)+8+len(context)), infoValue...)
	b = append(b, s[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(context)))
	return append(b, context...)
}

// ValueKeys seals and opens values; Keyring is one.
type ValueKeys interface {
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
	OpenValue(s core.Subject, context string, sealed []byte) ([]byte, error)
}

// Sealed is a personal value of type T as it is stored: ciphertext under its
// subject's key. It is the only type that a personal column may have. It never
// holds the plain value (CC 2.10), so no log, JSON answer or dump of it can give it away.
// The zero Sealed holds no value.
type Sealed[T any] struct{ ciphertext []byte }

// Seal seals v, as JSON, for subject s. context is as in SealValue.
func Seal[T any](keys ValueKeys, s core.Subject, context string, v T) (Sealed[T], error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return Sealed[T]{}, fmt.Errorf("seal %s: encode: %w", context, err)
	}
	defer clear(plain)
	b, err := keys.SealValue(s, context, plain)
	if err != nil {
		return Sealed[T]{}, fmt.Errorf("seal %s: %w", context, err)
	}
	return Sealed[T]{ciphertext: b}, nil
}

// SealedOf takes ciphertext as it was stored; see Bytes. It keeps b.
func SealedOf[T any](b []byte) Sealed[T] { return Sealed[T]{ciphertext: b} }

// Open gives the value back. It fails as OpenValue does, and with core.Unknown
// when there is none.
func (v Sealed[T]) Open(keys ValueKeys, s core.Subject, context string) (T, error) {
	var out T
	if v.IsZero() {
		return out, core.E(core.Unknown, "no-value", "there is no sealed value", "")
	}
	plain, err := keys.OpenValue(s, context, v.ciphertext)
	if err != nil {
		return out, fmt.Errorf("open %s: %w", context, err)
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &out); err != nil {
		return out, fmt.Errorf("open %s: decode: %w", context, err)
	}
	return out, nil
}

// Bytes is the ciphertext to store, nil for no value. It is not a copy.
func (v Sealed[T]) Bytes() []byte { return v.ciphertext }

// IsZero reports whether there is no value.
func (v Sealed[T]) IsZero() bool { return len(v.ciphertext) == 0 }

const sealedText = "[sealed]"

// String hides even the ciphertext: it is of no use to a reader of logs.
func (v Sealed[T]) String() string { return sealedText }

// GoString is what %#v prints.
func (v Sealed[T]) GoString() string { return sealedText }

// LogValue is what log/slog prints.
func (v Sealed[T]) LogValue() slog.Value { return slog.StringValue(sealedText) }

// MarshalJSON writes the ciphertext in base64, or null for no value.
func (v Sealed[T]) MarshalJSON() ([]byte, error) {
	if v.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(v.ciphertext))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Sealed[T]) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("sealed value is not a base64 string")
	}
	v.ciphertext = nil
	if text == nil {
		return nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(*text)
	if err != nil {
		return errors.New("sealed value is not a base64 string")
	}
	v.ciphertext = raw
	return nil
}

// Scan reads the ciphertext from a database column. It copies src.
func (v *Sealed[T]) Scan(src any) error {
	switch b := src.(type) {
	case nil:
		v.ciphertext = nil
	case []byte:
		v.ciphertext = append([]byte(nil), b...)
	default:
		return fmt.Errorf("sealed column has type %T, not bytes", src)
	}
	return nil
}

func (Sealed[T]) isSealed() {}

// IsSealed reports whether t is a Sealed of anything: what a test of a schema
// asks of the Go type behind each personal column.
func IsSealed(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[interface{ isSealed() }]())
}
