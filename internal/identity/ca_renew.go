package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordCARenewed stands for each renewal of the intermediates that the server
// took.
const RecordCARenewed core.RecordKind = "authority-renewed"

// retiredPrefix begins the file of an operational intermediate that signs no
// more; maxRetired bounds how many are looked at.
const (
	retiredPrefix = "retired-"
	maxRetired    = 32
	nextSuffix    = ".next"
	oldSuffix     = ".old"
)

// RenewCA makes new intermediates with the root's key and puts them into the
// working folder, whose earlier operational intermediate stays as a certificate
// without a key: what it signed is good until it runs out. The folder is
// replaced as a whole; after a crash in the middle RenewCA finishes, or begins
// again. A server that runs goes on with what it has until it takes the new;
// keys in a token stay for it until DropOldKeys.
func RenewCA(o CAOptions) error {
	if !o.Environment.Valid() || o.RootDir == "" || o.Dir == "" || o.Now == nil {
		return errors.New("renew CA: environment, two folders and a clock are needed")
	}
	dir := filepath.Clean(o.Dir)
	next, old := dir+nextSuffix, dir+oldSuffix
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return swapFolder(dir, next, old, o.Keys) // stopped between two steps
	}
	// What a renewal that was stopped has left is of no use: its keys signed nothing.
	if err := errors.Join(dropFolder(next, o.Keys), dropFolder(old, o.Keys)); err != nil {
		return fmt.Errorf("renew CA: %w", err)
	}
	now, err := OpenCA(OpenOptions{Environment: o.Environment, Dir: dir, Keys: o.Keys, Now: o.Now})
	if err != nil {
		return fmt.Errorf("renew CA: %w", err)
	}
	files, err := now.renewed(o)
	if err != nil {
		return fmt.Errorf("renew CA: %w", err)
	}
	if err := writeFolder(next, files); err != nil {
		return fmt.Errorf("renew CA: %w", err)
	}
	return swapFolder(dir, next, old, o.Keys)
}

// DropOldKeys deletes the keys of the intermediates before, in a token, once the
// server has taken the new ones. Without any it does nothing.
func DropOldKeys(o CAOptions) error {
	if err := dropFolder(filepath.Clean(o.Dir)+oldSuffix, o.Keys); err != nil {
		return fmt.Errorf("renew CA: delete the old keys: %w", err)
	}
	return nil
}

// swapFolder puts the folder next in the place of dir, and deletes the old one
// with its keys.
func swapFolder(dir, next, old string, keys KeyStore) error {
	if _, err := os.Stat(next); err != nil {
		return fmt.Errorf("renew CA: find the new folder: %w", err)
	}
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("renew CA: set the old folder aside: %w", err)
	}
	if err := os.Rename(next, dir); err != nil {
		return fmt.Errorf("renew CA: put the new folder in place: %w", err)
	}
	if err := syncFolder(filepath.Dir(dir)); err != nil {
		return err
	}
	if keys != nil {
		return nil // a server that runs signs with them still: DropOldKeys
	}
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("renew CA: delete the old keys: %w", err)
	}
	return nil
}

// renewed are the files of the folder that is to follow.
func (ca *CA) renewed(o CAOptions) (map[string][]byte, error) {
	root, err := readCert(o.RootDir, fileRoot)
	if err != nil {
		return nil, err
	}
	if !root.Equal(ca.root) {
		return nil, core.E(core.Denied, "foreign-root", "the root is not the one of this authority", "give the folder that `hawser init` wrote the root of this installation to")
	}
	rootKey, err := readKey(o.RootDir, fileRootKey)
	if err != nil {
		return nil, err
	}
	if pub, ok := rootKey.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(root.PublicKey) {
		return nil, errors.New("the root's key does not fit its certificate")
	}
	tag := make([]byte, 4)
	_, _ = rand.Read(tag) // crypto/rand.Read never fails
	files, err := ca.lint.issuerFiles(o, hex.EncodeToString(tag), root, rootKey)
	if err != nil {
		return nil, err
	}
	for _, c := range append(ca.set.Load().retired, ca.operational().cert) {
		sum := sha256.Sum256(c.Raw)
		files[retiredPrefix+hex.EncodeToString(sum[:8])+certSuffix] = certPEM(c.Raw)
	}
	return files, nil
}

// readRetired reads the intermediates that signed before, those that are good.
func (ca *CA) readRetired() ([]*x509.Certificate, error) {
	names, err := filepath.Glob(filepath.Join(ca.open.Dir, retiredPrefix+"*"+certSuffix))
	if err != nil {
		return nil, fmt.Errorf("find retired intermediates: %w", err)
	}
	if len(names) > maxRetired {
		return nil, fmt.Errorf("the folder has %d retired intermediates, more than %d", len(names), maxRetired)
	}
	var out []*x509.Certificate
	for _, name := range names {
		c, err := readCert(ca.open.Dir, filepath.Base(name))
		if err != nil {
			return nil, err
		}
		if !ca.now().Before(c.NotAfter) {
			continue
		}
		if err := ca.checkCert(kindOperational, c, x509.ExtKeyUsageClientAuth); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		out = append(out, c)
	}
	return out, nil
}

// issuerOf is the intermediate that signed a certificate of ours.
func (ca *CA) issuerOf(leaf []byte) *x509.Certificate {
	set := ca.set.Load()
	if c, err := x509.ParseCertificate(leaf); err == nil {
		for _, r := range set.retired {
			if bytes.Equal(c.RawIssuer, r.RawSubject) {
				return r
			}
		}
	}
	return set.operational.cert
}

// Authority is what signs devices' certificates.
type Authority struct {
	Environment  core.Environment
	Root, Issuer core.Hash // SHA-256 of the certificates
	Until        time.Time // of the issuer
	Retired      int       // intermediates whose certificates are still good
}

// Authority says which it is now.
func (s *Service) Authority() Authority {
	set := s.d.CA.set.Load()
	return Authority{Environment: s.env, Root: sha256.Sum256(s.d.CA.root.Raw), Issuer: sha256.Sum256(set.operational.cert.Raw), Until: set.operational.cert.NotAfter, Retired: len(set.retired)}
}

// TakeAuthority goes on with the intermediates that RenewCA put into the
// working folder, at once and without a restart. Devices stay connected; each
// renews into the new one in its time. It is refused when what signed until now
// is not among the retired: its devices could not come back.
func (s *Service) TakeAuthority(ctx context.Context, by core.Actor) (Authority, error) {
	ca := s.d.CA
	before := ca.operational().cert
	if err := checkFolder(ca.open.Dir); err != nil {
		return Authority{}, fmt.Errorf("take renewed authority: %w", err)
	}
	set, err := ca.read()
	if err != nil {
		return Authority{}, fmt.Errorf("take renewed authority: %w", err)
	}
	if set.operational.cert.Equal(before) {
		return s.Authority(), nil
	}
	known := false
	for _, c := range set.retired {
		known = known || c.Equal(before)
	}
	if !known {
		return Authority{}, core.E(core.Denied, "issuer-forgotten", "the new folder does not hold the certificate of the present issuer: every device would be refused", "make the new one with `hawser authority renew`")
	}
	err = s.d.Update(ctx, func(tx Tx) error {
		sum := func(c *x509.Certificate) string { return core.Hash(sha256.Sum256(c.Raw)).String() }
		return tx.Record(ctx, core.Record{Time: s.d.Now().UTC(), Kind: RecordCARenewed, Actor: by, Facts: []core.Fact{
			{Name: "issuer", Value: sum(set.operational.cert)}, {Name: "before", Value: sum(before)}, {Name: "until", Value: set.operational.cert.NotAfter.UTC().Format(time.RFC3339)},
		}})
	})
	if err != nil {
		return Authority{}, fmt.Errorf("take renewed authority: %w", err)
	}
	ca.set.Store(set)
	return s.Authority(), nil
}
