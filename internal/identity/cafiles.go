package identity

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hawser-iot/hawser/internal/core"
)

// The files of an authority. Keys are PKCS#8 (RFC 5958) in PEM.
const (
	certSuffix         = ".pem"
	keySuffix          = "-key.pem"
	fileRoot           = "root" + certSuffix
	fileRootKey        = "root" + keySuffix
	fileOperational    = "operational" + certSuffix
	fileOperationalKey = "operational" + keySuffix
	fileServer         = "server" + certSuffix
	fileServerKey      = "server" + keySuffix
)

// maxPEMBytes bounds a file of the authority.
const maxPEMBytes = 64 << 10

// apartFolders fails when one folder lies in the other.
func apartFolders(a, b string) error {
	aa, err := filepath.Abs(a)
	if err != nil {
		return fmt.Errorf("find %s: %w", a, err)
	}
	bb, err := filepath.Abs(b)
	if err != nil {
		return fmt.Errorf("find %s: %w", b, err)
	}
	in := func(x, y string) bool {
		return x == y || strings.HasPrefix(x, strings.TrimSuffix(y, string(filepath.Separator))+string(filepath.Separator))
	}
	if in(aa, bb) || in(bb, aa) {
		return core.E(core.Denied, "root-inside", "the root's folder and the working folder of the authority lie in one another", "name two folders apart, best on two media")
	}
	return nil
}

// writeFolder makes a folder with these files in one step: a folder that
// exists is complete. It fails when the folder is there and not empty.
func writeFolder(dir string, files map[string][]byte) error {
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // after the rename there is nothing left
	for name, b := range files {
		if err := writeSynced(filepath.Join(tmp, name), b); err != nil {
			return err
		}
	}
	if err := syncFolder(tmp); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return core.E(core.Denied, "ca-exists", "the folder "+dir+" is not empty", "an authority is made once; to begin anew, move the old folder away")
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("put folder in place: %w", err)
	}
	return syncFolder(parent)
}

func writeSynced(name string, b []byte) error {
	mode := fs.FileMode(0o644)
	if strings.HasSuffix(name, keySuffix) {
		mode = 0o400
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// checkFolder refuses a folder that others can write to, and one in which the
// root's key lies.
func checkFolder(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("find CA folder: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return core.E(core.Denied, "ca-folder-open", "others on this machine can write to "+dir, "chmod 700 "+dir)
	}
	if _, err := os.Lstat(filepath.Join(dir, fileRootKey)); !errors.Is(err, fs.ErrNotExist) {
		return core.E(core.Denied, "root-key-near", "the root's key lies in the working folder of the authority", "move "+fileRootKey+" to a medium that this machine does not need")
	}
	return nil
}

func readCert(dir, name string) (*x509.Certificate, error) {
	b, err := readBlock(filepath.Join(dir, name), "CERTIFICATE", 0o022)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return c, nil
}

func readKey(dir, name string) (crypto.Signer, error) {
	b, err := readBlock(filepath.Join(dir, name), "PRIVATE KEY", 0o077)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no signing key", name)
	}
	return s, nil
}

// readBlock reads a file that is exactly one PEM block, owned by us or root,
// with none of the forbidden permissions. Owner and permissions are those of
// the very file that is read.
func readBlock(path, typ string, forbidden fs.FileMode) ([]byte, error) {
	name := filepath.Base(path)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { _ = f.Close() }() // read only
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", name, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if st.Mode().Perm()&forbidden != 0 {
		return nil, core.E(core.Denied, "ca-file-open", "others on this machine have access to "+path, "chmod go-rwx "+path)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return nil, core.E(core.Denied, "ca-file-owner", path+" belongs to another user", "chown it to the user that runs the server")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEMBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	block, rest := pem.Decode(b)
	if len(b) > maxPEMBytes || block == nil || block.Type != typ || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%s is not one PEM block of type %s", name, typ)
	}
	return block.Bytes, nil
}
