// Package tpm makes a device's private keys in a TPM 2.0, which never gives
// them out (CC 3.2). Give what Open returns to device.Config as Keys.
//
// Keys are ECDSA on P-256 under the owner hierarchy's storage key, made by the
// TPM itself from its own seed, so nothing is written into the TPM and it never
// fills up. What stands in the state folder is encrypted by this very TPM: on
// another device it opens nothing. Who has the device, and may talk to its TPM,
// can sign with the key as long as he has it; clearing the TPM ends it.
package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// commandTime bounds one command of a TPM at the end of a socket. The kernel
// bounds those of a device file.
const commandTime = 30 * time.Second

// TPM is an open TPM 2.0. It may be used by any goroutine; the TPM does one
// thing at a time.
type TPM struct {
	mu     sync.Mutex // guards what follows
	closer io.Closer
	tpm    transport.TPM
	parent *tpm2.NamedHandle // the storage key; nil until it is needed
}

// Open opens the TPM at path: a device file of the kernel's resource manager
// (/dev/tpmrm0), or the socket of a software TPM, for rehearsals.
func Open(path string) (*TPM, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open TPM: %w", err)
	}
	var rw io.ReadWriteCloser
	switch {
	case st.Mode()&os.ModeSocket != 0:
		c, err := net.DialTimeout("unix", path, commandTime)
		if err != nil {
			return nil, fmt.Errorf("open TPM: %w", err)
		}
		rw = &timed{c}
	case st.Mode()&os.ModeCharDevice != 0:
		if rw, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
			return nil, fmt.Errorf("open TPM: %w", err)
		}
	default:
		return nil, fmt.Errorf("open TPM: %s is neither a device file nor a socket; on Linux it is /dev/tpmrm0", path)
	}
	t := &TPM{closer: rw, tpm: transport.FromReadWriter(rw)}
	if err := t.clear(); err != nil {
		_ = rw.Close() // the reason above is the one to tell
		return nil, err
	}
	return t, nil
}

// clear takes out what a process before us, killed at work, left loaded in a TPM
// without a resource manager; such a TPM has one user at a time. With one there
// is nothing to see but our own.
func (t *TPM) clear() error {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: transient, PropertyCount: 64}.Execute(t.tpm)
	if err != nil {
		return fmt.Errorf("open TPM: it does not answer as a TPM 2.0: %w", err)
	}
	loaded, err := r.CapabilityData.Data.Handles()
	if err != nil {
		return fmt.Errorf("open TPM: %w", err)
	}
	for _, h := range loaded.Handle {
		t.flush(h)
	}
	return nil
}

// transient is the first handle of what is loaded and gone with the power
// (TPM 2.0 Part 2, §7.2).
const transient = 0x80000000

// timed bounds each command and its answer.
type timed struct{ net.Conn }

// Write begins a command.
func (t *timed) Write(b []byte) (int, error) {
	if err := t.SetDeadline(time.Now().Add(commandTime)); err != nil {
		return 0, err
	}
	return t.Conn.Write(b)
}

// Close lets go of the TPM. Keys that came from it sign no more.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parent != nil {
		t.flush(t.parent.Handle)
		t.parent = nil
	}
	return t.closer.Close()
}

// storage is the storage key, which the TPM computes from its seed in the way
// that the TCG has laid down: the same each time, until the TPM is cleared.
func (t *TPM) storage() (tpm2.NamedHandle, error) {
	if t.parent != nil {
		return *t.parent, nil
	}
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("make the TPM's storage key: %w", err)
	}
	t.parent = &tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}
	return *t.parent, nil
}

func (t *TPM) flush(h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(t.tpm) // the resource manager forgets it at the latest when we close
}

// signing is what a key must be: made by the TPM, never to leave it, and good
// for signatures alone.
func signing() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
	}
}

// New makes a key in the TPM.
func (t *TPM) New() (crypto.Signer, []byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	parent, err := t.storage()
	if err != nil {
		return nil, nil, err
	}
	r, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(signing())}.Execute(t.tpm)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key in the TPM: %w", err)
	}
	k, err := t.key(r.OutPublic, r.OutPrivate)
	if err != nil {
		return nil, nil, err
	}
	return k, append(tpm2.Marshal(r.OutPublic), tpm2.Marshal(r.OutPrivate)...), nil
}

// maxHandle bounds a handle: what this package makes has some 250 bytes.
const maxHandle = 4 << 10

// Open gives the key of a handle that New gave. It fails in any other TPM.
func (t *TPM) Open(handle []byte) (crypto.Signer, error) {
	public, private, err := split(handle)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k, err := t.key(public, private)
	if err != nil {
		return nil, err
	}
	return k, t.with(k, func(tpm2.NamedHandle) error { return nil }) // is it in here?
}

// split takes a handle apart.
func split(handle []byte) (public tpm2.TPM2BPublic, private tpm2.TPM2BPrivate, err error) {
	bad := errors.New("the file is no handle of a key in a TPM, or damaged")
	if len(handle) > maxHandle || len(handle) < 2 {
		return public, private, bad
	}
	n := 2 + int(handle[0])<<8 + int(handle[1])
	if n > len(handle) {
		return public, private, bad
	}
	pub, err := tpm2.Unmarshal[tpm2.TPM2BPublic](handle[:n])
	if err != nil {
		return public, private, bad
	}
	priv, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](handle[n:])
	if err != nil || !bytes.Equal(append(tpm2.Marshal(*pub), tpm2.Marshal(*priv)...), handle) {
		return public, private, bad
	}
	return *pub, *priv, nil
}

// key is a key of this TPM, by its public part and what the TPM encrypted.
func (t *TPM) key(public tpm2.TPM2BPublic, private tpm2.TPM2BPrivate) (*key, error) {
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("read the key's public part: %w", err)
	}
	want := signing()
	if area.Type != want.Type || area.ObjectAttributes != want.ObjectAttributes {
		return nil, errors.New("the key may leave the TPM, or is not for signatures: it was not made by this program")
	}
	pub, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fmt.Errorf("read the key's public part: %w", err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("the key in the TPM is not on P-256")
	}
	return &key{t: t, public: public, private: private, pub: ec}, nil
}

// with loads a key, lets do use it, and takes it out again: a TPM has room for
// three.
func (t *TPM) with(k *key, do func(tpm2.NamedHandle) error) error {
	parent, err := t.storage()
	if err != nil {
		return err
	}
	r, err := tpm2.Load{ParentHandle: parent, InPrivate: k.private, InPublic: k.public}.Execute(t.tpm)
	if err != nil {
		if errors.Is(err, tpm2.TPMRCIntegrity) {
			return fmt.Errorf("load the key into the TPM: it was made in another one, or this one was cleared: %w", err)
		}
		return fmt.Errorf("load the key into the TPM: %w", err)
	}
	defer t.flush(r.ObjectHandle)
	return do(tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name})
}

// key is a private key in the TPM.
type key struct {
	t       *TPM
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate // encrypted by the TPM
	pub     *ecdsa.PublicKey
}

// Public is the public key.
func (k *key) Public() crypto.PublicKey { return k.pub }

// Sign signs a SHA-256 digest in the TPM and gives the signature in DER
// (RFC 3279 §2.2.3).
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("a key on P-256 in a TPM signs SHA-256, not %s", opts.HashFunc())
	}
	k.t.mu.Lock()
	defer k.t.mu.Unlock()
	var der []byte
	err := k.t.with(k, func(h tpm2.NamedHandle) error {
		r, err := tpm2.Sign{
			KeyHandle: h, Digest: tpm2.TPM2BDigest{Buffer: digest},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(k.t.tpm)
		if err != nil {
			return fmt.Errorf("sign in the TPM: %w", err)
		}
		sig, err := r.Signature.Signature.ECDSA()
		if err != nil {
			return fmt.Errorf("read the TPM's signature: %w", err)
		}
		der, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
		return err
	})
	return der, err
}
