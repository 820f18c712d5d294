package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Keys makes this device's private keys in hardware that never gives them out,
// a TPM or a secure element, and opens them there again (CC 3.2). Package
// device/tpm is one for TPM 2.0. Both methods may be called by any goroutine.
type Keys interface {
	// New makes a P-256 key. handle is what Open finds it by: at most 16 KiB, and
	// of no use to who has it without the hardware.
	New() (key crypto.Signer, handle []byte, err error)
	// Open gives the key of a handle. It must fail where the key is not in this
	// hardware.
	Open(handle []byte) (crypto.Signer, error)
}

// privateKey is a key of this device. It signs, and it is kept.
type privateKey struct {
	crypto.Signer
	file []byte // what stands in key.pem
}

// Kinds of PEM blocks in key.pem.
const (
	softKey   = "PRIVATE KEY" // PKCS#8
	hardKey   = "HARDWARE KEY HANDLE"
	maxHandle = 16 << 10
)

// newKey makes a P-256 key, on the device and for this device alone (CC 3.2).
// It stays in memory, or in the hardware, until its certificate has come, and
// reaches the disk together with it.
func newKey(in Keys) (*privateKey, error) {
	if in != nil {
		key, handle, err := in.New()
		if err != nil {
			return nil, err
		}
		if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
			return nil, errors.New("the hardware made a key that is not on P-256")
		}
		if len(handle) == 0 || len(handle) > maxHandle {
			return nil, fmt.Errorf("the hardware's handle has %d bytes; 1 to %d can be kept", len(handle), maxHandle)
		}
		return &privateKey{key, pem.EncodeToMemory(&pem.Block{Type: hardKey, Bytes: handle})}, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &privateKey{key, pem.EncodeToMemory(&pem.Block{Type: softKey, Bytes: der})}, nil
}

// openKey reads key.pem. A key that was made in software opens whether or not
// there is hardware: the next renewal moves to it.
func openKey(file []byte, in Keys) (crypto.Signer, error) {
	b, _ := pem.Decode(file)
	switch {
	case b == nil:
		return nil, errors.New("key.pem holds no PEM block")
	case b.Type == hardKey && in == nil:
		return nil, fault(BadConfig, nil, "give the device its hardware again; the key is nowhere else", "the key lies in hardware, and none is configured")
	case b.Type == hardKey:
		return in.Open(b.Bytes)
	case b.Type != softKey:
		return nil, fmt.Errorf("key.pem holds %.40q and no key", b.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return s, nil
}
