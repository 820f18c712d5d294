package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hawser-iot/hawser/internal/core"
)

// KeyStore keeps the keys of intermediates where they cannot be copied from, a
// PKCS#11 token. The folder of the authority then holds their names.
type KeyStore interface {
	// NewSigner makes a key pair on P-256 under a name that is not taken.
	NewSigner(name string) (crypto.Signer, error)
	// Signer finds a key pair.
	Signer(name string) (crypto.Signer, error)
	// DeleteSigner deletes a key pair; one that is gone is no error.
	DeleteSigner(name string) error
}

// tokenKey is the PEM block that stands in a key's file when the key is in a
// KeyStore: its bytes are the name there.
const tokenKey = "TOKEN KEY NAME"

// newIssuerKey makes the key of an intermediate: the signer, and what stands in
// its file.
func newIssuerKey(in KeyStore, name string) (crypto.Signer, []byte, error) {
	if in != nil {
		k, err := in.NewSigner(name)
		if err != nil {
			return nil, nil, err
		}
		return k, pem.EncodeToMemory(&pem.Block{Type: tokenKey, Bytes: []byte(name)}), nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	file, err := keyPEM(k)
	return k, file, err
}

// readIssuerKey reads the key of an intermediate, from its file or from where
// the file says that it is.
func readIssuerKey(in KeyStore, dir, name string) (crypto.Signer, error) {
	ref, err := tokenName(filepath.Join(dir, name))
	switch {
	case err != nil:
		return readKey(dir, name)
	case in == nil:
		return nil, core.E(core.Unready, "ca-key-elsewhere", fmt.Sprintf("%s says that the key %s is in a token, and none is configured", name, ref), "set `token_module` and what belongs to it in config.yaml as they were")
	}
	return in.Signer(ref)
}

// tokenName is the name in a key's file; an error where it is no such file.
func tokenName(path string) (string, error) {
	b, err := readBlock(path, tokenKey, 0o077)
	return string(b), err
}

// dropFolder deletes a folder of an authority and the keys that it names.
func dropFolder(dir string, in KeyStore) error {
	if in != nil {
		for _, name := range []string{fileOperationalKey, fileServerKey} {
			ref, err := tokenName(filepath.Join(dir, name))
			if err != nil {
				continue // a key that lies in the folder, or none
			}
			if err := in.DeleteSigner(ref); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// issuerFiles makes the two intermediates: their certificates and what stands
// in the files of their keys. On an error the keys that were made are deleted.
func (l *linter) issuerFiles(o CAOptions, tag string, root *x509.Certificate, rootKey crypto.Signer) (files map[string][]byte, err error) {
	files = map[string][]byte{fileRoot: certPEM(root.Raw)}
	var made []string
	defer func() {
		for _, name := range made {
			if err != nil {
				err = errors.Join(err, o.Keys.DeleteSigner(name))
			}
		}
	}()
	now := o.Now().UTC()
	for _, im := range []struct {
		kind      kind
		name      string
		tmpl      *x509.Certificate
		cert, key string
	}{
		{kindOperational, "operational-" + tag, operationalTemplate(o.Environment, tag, now), fileOperational, fileOperationalKey},
		{kindServerCA, "server-" + tag, serverCATemplate(o.Environment, tag, now), fileServer, fileServerKey},
	} {
		key, file, err := newIssuerKey(o.Keys, im.name)
		if err != nil {
			return nil, fmt.Errorf("make %s key: %w", im.kind, err)
		}
		if o.Keys != nil {
			made = append(made, im.name)
		}
		if im.tmpl.NotAfter.After(root.NotAfter) {
			im.tmpl.NotAfter = root.NotAfter
		}
		der, err := l.sign(im.kind, im.tmpl, root, key.Public(), rootKey)
		if err != nil {
			return nil, err
		}
		files[im.cert], files[im.key] = certPEM(der), file
	}
	return files, nil
}
