package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hawser-iot/hawser/internal/core"
)

// ListNamespace is what a line's signature is for (PROTOCOL.sshsig): a
// signature that was made for something else says nothing about a list.
const ListNamespace = "hawser-factory-list"

// A line signs with `ssh-keygen -Y sign -n hawser-factory-list -f KEY LIST`: a
// factory has ssh-keygen, and needs no tool of ours.
const (
	sshsigMagic = "SSHSIG"
	sshsigBegin = "-----BEGIN SSH SIGNATURE-----"
	sshsigEnd   = "-----END SSH SIGNATURE-----"
	maxSSHSig   = 4096 // bytes, armour and all
	maxSSHKey   = 1024
)

// ParseLineKey reads an Ed25519 public key as ssh-keygen writes it.
func ParseLineKey(b []byte) (ed25519.PublicKey, error) {
	bad := func() error {
		return core.E(core.Invalid, "line-key", "this is no Ed25519 public key as ssh-keygen writes it", "make one on the line's own machine: `ssh-keygen -t ed25519 -f line`, and give line.pub; the other file never leaves that machine")
	}
	if len(b) > maxSSHKey {
		return nil, bad()
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey(b)
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, bad()
	}
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, bad()
	}
	p, ok := c.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return nil, bad()
	}
	return p, nil
}

func badSignature(message, hint string) *core.Error {
	return core.E(core.Denied, "list-signature", message, hint)
}

const hintSign = "sign the very file with `ssh-keygen -Y sign -n " + ListNamespace + " -f line LIST`, which writes LIST.sig"

// signedList checks that sig is a line's signature over a list.
func signedList(key ed25519.PublicKey, list, sig []byte) error {
	form := badSignature("this is no Ed25519 signature as ssh-keygen writes it", hintSign)
	if len(sig) > maxSSHSig {
		return form
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(sig), "\r\n", "\n"))
	text, ok := strings.CutPrefix(text, sshsigBegin)
	text, ok2 := strings.CutSuffix(text, sshsigEnd)
	if !ok || !ok2 {
		return form
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		return form
	}
	blob, ok = bytes.CutPrefix(blob, []byte(sshsigMagic))
	var x struct {
		Version                        uint32
		Key, Namespace, Reserved, Hash string
		Signature                      string
	}
	if !ok || ssh.Unmarshal(blob, &x) != nil || x.Version != 1 {
		return form
	}
	var signer struct{ Type, Key string }
	var inner struct{ Type, Sig string }
	if ssh.Unmarshal([]byte(x.Key), &signer) != nil || ssh.Unmarshal([]byte(x.Signature), &inner) != nil ||
		signer.Type != ssh.KeyAlgoED25519 || inner.Type != ssh.KeyAlgoED25519 || len(inner.Sig) != ed25519.SignatureSize {
		return form
	}
	if x.Namespace != ListNamespace {
		return badSignature("the signature was made for something else than a factory list", hintSign)
	}
	if !bytes.Equal([]byte(signer.Key), key) {
		return badSignature("the list is signed with another key than its line's", "`hawser factory show` shows the key of each line; a line that has a new key is a new line")
	}
	var sum []byte
	switch x.Hash {
	case "sha512":
		h := sha512.Sum512(list)
		sum = h[:]
	case "sha256":
		h := sha256.Sum256(list)
		sum = h[:]
	default:
		return form
	}
	signed := append([]byte(sshsigMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{x.Namespace, x.Reserved, x.Hash, string(sum)})...)
	if !ed25519.Verify(key, signed, []byte(inner.Sig)) {
		return badSignature("the signature does not fit the list: the list was altered, or the signature is of another one", hintSign)
	}
	return nil
}
