package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"
)

// What a signature over evidence is for (PROTOCOL.sshsig), and how its signer
// is called in files of allowed signers.
const (
	Namespace = "hawser-evidence"
	Principal = "evidence"
)

const (
	sigMagic    = "SSHSIG"
	sigVersion  = 1
	sigHash     = "sha512"
	sigBegin    = "-----BEGIN SSH SIGNATURE-----\n"
	sigEnd      = "-----END SSH SIGNATURE-----\n"
	sigColumns  = 70 // as ssh-keygen wraps
	maxSigBytes = 2048
)

// Sign is a signature over m that `ssh-keygen -Y verify` takes.
func (k Key) Sign(m []byte) []byte {
	return armored(k.Public(), ed25519.Sign(k.priv, signedBytes(m)))
}

// signedBytes is what is signed in place of a message (PROTOCOL.sshsig).
func signedBytes(m []byte) []byte {
	sum := sha512.Sum512(m)
	return append([]byte(sigMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{Namespace, "", sigHash, string(sum[:])})...)
}

// armored is a signature in the one form in which ssh-keygen writes it.
func armored(p PublicKey, sig []byte) []byte {
	inner := ssh.Marshal(struct{ Type, Sig string }{ssh.KeyAlgoED25519, string(sig)})
	blob := append([]byte(sigMagic), ssh.Marshal(struct {
		Version                        uint32
		Key, Namespace, Reserved, Hash string
		Signature                      string
	}{sigVersion, string(p.wire()), Namespace, "", sigHash, string(inner)})...)
	text := base64.StdEncoding.EncodeToString(blob)
	var b bytes.Buffer
	b.WriteString(sigBegin)
	for len(text) > 0 {
		n := min(sigColumns, len(text))
		b.WriteString(text[:n])
		b.WriteByte('\n')
		text = text[n:]
	}
	b.WriteString(sigEnd)
	return b.Bytes()
}

var errSignature = errors.New("it is not an Ed25519 signature for " + Namespace + " as ssh-keygen writes it")

// openSignature says whose signature over m it is. A signature has one form
// here: what is not byte for byte as ssh-keygen writes it is none, so that
// nobody can change a bundle's bytes and have it stay good.
func openSignature(m, sig []byte) (PublicKey, error) {
	if len(sig) > maxSigBytes {
		return PublicKey{}, errSignature
	}
	body, ok := strings.CutPrefix(string(sig), sigBegin)
	body, ok2 := strings.CutSuffix(body, sigEnd)
	blob, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(body, "\n", ""))
	if !ok || !ok2 || err != nil {
		return PublicKey{}, errSignature
	}
	rest, ok := bytes.CutPrefix(blob, []byte(sigMagic))
	var x struct {
		Version                        uint32
		Key, Namespace, Reserved, Hash string
		Signature                      string
	}
	if !ok || ssh.Unmarshal(rest, &x) != nil {
		return PublicKey{}, errSignature
	}
	var key struct{ Type, Key string }
	var inner struct{ Type, Sig string }
	if ssh.Unmarshal([]byte(x.Key), &key) != nil || ssh.Unmarshal([]byte(x.Signature), &inner) != nil ||
		len(key.Key) != ed25519.PublicKeySize || len(inner.Sig) != ed25519.SignatureSize {
		return PublicKey{}, errSignature
	}
	p := PublicKey{ed25519.PublicKey(key.Key)}
	if !bytes.Equal(armored(p, []byte(inner.Sig)), sig) {
		return PublicKey{}, errSignature
	}
	if !ed25519.Verify(p.key, signedBytes(m), []byte(inner.Sig)) {
		return PublicKey{}, errors.New("the signature does not fit what it is to sign")
	}
	return p, nil
}
