package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hawser-iot/hawser/internal/house"
)

// soft is a software TPM whose state lies in dir.
func soft(t *testing.T, dir string) (*TPM, func()) {
	t.Helper()
	socket, off := house.SoftTPM(t, dir)
	x, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	return x, func() { _ = x.Close(); off() }
}

// TestKeys is the life of a key: made, used by several at once, opened again
// after the TPM had no power, and of no use anywhere else.
func TestKeys(t *testing.T) {
	state := t.TempDir()
	tpm, off := soft(t, state)
	k, handle, err := tpm.New()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	signs := func(k crypto.Signer) error {
		sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Error("the signature is not one")
		}
		return err
	}
	var all sync.WaitGroup
	for range 8 { // more than a TPM has room for
		all.Go(func() {
			if err := signs(k); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	long := sha512.Sum512([]byte("hello"))
	if _, err := k.Sign(rand.Reader, long[:], crypto.SHA512); err == nil {
		t.Error("it signed what it cannot")
	}
	other, handle2, err := tpm.New()
	if err != nil {
		t.Fatal(err)
	}
	if other.Public().(*ecdsa.PublicKey).Equal(k.Public()) || bytes.Equal(handle, handle2) {
		t.Error("two keys are one")
	}
	off()
	if err := signs(k); err == nil {
		t.Error("a key signs without its TPM")
	}

	tpm, off = soft(t, state)
	again, err := tpm.Open(handle)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Error("another key came back")
	}
	if err := signs(again); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "cut": handle[:len(handle)-1], "longer": append(bytes.Clone(handle), 0), "half of each": append(bytes.Clone(handle[:92]), handle2[92:]...),
		"large": make([]byte, maxHandle+1),
	} {
		if _, err := tpm.Open(bad); err == nil {
			t.Errorf("a handle that is %s opens", name)
		}
	}
	off()

	elsewhere, off := soft(t, t.TempDir())
	defer off()
	if _, err := elsewhere.Open(handle); err == nil {
		t.Error("the key opens in another TPM")
	}
}

// TestKilledUsers: processes that were killed with a key loaded leave no room
// taken for good.
func TestKilledUsers(t *testing.T) {
	socket, off := house.SoftTPM(t, t.TempDir())
	defer off()
	for i := range 8 {
		x, err := Open(socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.New(); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		if err := x.closer.Close(); err != nil { // nothing is taken out
			t.Fatal(err)
		}
	}
}

func TestOpenWrongThings(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, dir, filepath.Join(dir, "none")} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s opened as a TPM", path)
		}
	}
	// Something else that listens is found out.
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the test is over
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b [1024]byte
			_, _ = c.Read(b[:])
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	if _, err := Open(sock); err == nil {
		t.Error("what is no TPM opened as one")
	}
}

// FuzzHandle: the file in the state folder may hold anything.
func FuzzHandle(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		public, private, err := split(b)
		if err != nil {
			return
		}
		_, _ = (&TPM{}).key(public, private) // it must not fall over
	})
}
