package bundle

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/hawser-iot/hawser/internal/core"
)

func newKey(t testing.TB) Key {
	t.Helper()
	k, err := CreateKey(filepath.Join(t.TempDir(), "evidence.key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	k, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadKey(path); err != nil || !again.priv.Equal(k.priv) {
		t.Errorf("the key read back: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(s, fmt.Sprint(k.priv[0])+" ") {
		t.Errorf("the key prints as %s", s)
	}
	if _, err := CreateKey(path); err == nil {
		t.Error("a key is made over another")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); core.ReasonOf(err) != "evidence-key-open" {
		t.Errorf("a key that others read: %v", err)
	}
	if _, err := LoadKey(path + "x"); core.ReasonOf(err) != "evidence-key-missing" {
		t.Errorf("no key: %v", err)
	}
	if err := os.WriteFile(path+"y", []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path + "y"); core.ReasonOf(err) != "evidence-key-bad" {
		t.Errorf("half a key: %v", err)
	}
}

// TestSignature: one form, one message, one namespace; another implementation
// agrees.
func TestSignature(t *testing.T) {
	k := newKey(t)
	m := []byte("what is signed\n")
	sig := k.Sign(m)
	if p, err := openSignature(m, sig); err != nil || !p.key.Equal(k.Public().key) {
		t.Fatalf("our own signature: %v", err)
	}
	theirs, err := sshsig.Unarmor(sig)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.Public().AuthorizedKey()))
	if err != nil {
		t.Fatal(err)
	}
	if err := sshsig.Verify(bytes.NewReader(m), theirs, pub, sshsig.HashSHA512, Namespace); err != nil {
		t.Errorf("another implementation: %v", err)
	}
	if got, want := k.Public().Fingerprint(), ssh.FingerprintSHA256(pub); got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
	if _, err := openSignature([]byte("other"), sig); err == nil {
		t.Error("a signature over something else is taken")
	}
	for i := range sig {
		for _, bit := range []byte{1, 0x20} {
			bad := bytes.Clone(sig)
			bad[i] ^= bit
			if _, err := openSignature(m, bad); err == nil {
				t.Fatalf("byte %d of the signature changed and it stays good:\n%s", i, bad)
			}
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "a blank before": append([]byte(" "), sig...), "a line after": append(bytes.Clone(sig), '\n'),
		"wrapped otherwise": sshsig.Armor(theirs), "CRLF": bytes.ReplaceAll(sig, []byte("\n"), []byte("\r\n")),
	} {
		if _, err := openSignature(m, bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	signer, err := ssh.NewSignerFromKey(k.priv)
	if err != nil {
		t.Fatal(err)
	}
	other, err := sshsig.Sign(bytes.NewReader(m), signer, sshsig.HashSHA512, "file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSignature(m, other.Marshal()); err == nil {
		t.Error("a signature for another purpose is taken")
	}
}

func TestAllowedSigners(t *testing.T) {
	k, other := newKey(t).Public(), newKey(t).Public()
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		file, want string
	}{
		{k.AllowedSigner(), "evidence"},
		{"# note\n\n" + other.AllowedSigner() + "\n" + k.AllowedSigner() + " a comment\n", "evidence"},
		{"qa@maker.example " + k.AuthorizedKey(), "qa@maker.example"},
		{`a,b namespaces="git,hawser-evidence" ` + k.AuthorizedKey(), "a,b"},
		{`a namespaces="git" ` + k.AuthorizedKey(), ""},
		{`a cert-authority ` + k.AuthorizedKey(), ""},
		{`a valid-before="20261121Z" ` + k.AuthorizedKey(), ""},
		{`a valid-after="20261123Z" ` + k.AuthorizedKey(), ""},
		{`a valid-after="20261121Z",valid-before="20271121235959Z" ` + k.AuthorizedKey(), "a"},
		{other.AllowedSigner(), ""},
		{"", ""},
	} {
		list, err := parseSigners([]byte(c.file))
		if err != nil {
			t.Errorf("%q: %v", c.file, err)
		}
		if got, why := allowed(list, k, at); got != c.want || (got == "") == (why == "") {
			t.Errorf("%q: %q (%s), want %q", c.file, got, why, c.want)
		}
	}
	for _, bad := range []string{"evidence", "a ssh-ed25519 AAAA", `a valid-before="20261121" ` + k.AuthorizedKey(), `a touch=1 ` + k.AuthorizedKey()} {
		if _, err := parseSigners([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// TestSSHKeygen has the stock tool read the key, verify ours and sign for us.
func TestSSHKeygen(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen (Debian: openssh-client) is missing")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	k, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-y", "-f", path).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), k.Public().AuthorizedKey()) {
		t.Fatalf("ssh-keygen reads %s, %v; want %s", out, err, k.Public().AuthorizedKey())
	}
	m := filepath.Join(dir, "m")
	for name, b := range map[string][]byte{"m": []byte("message"), "m.ours": k.Sign([]byte("message")), "signers": []byte(k.Public().AllowedSigner() + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stdin, err := os.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", filepath.Join(dir, "signers"), "-I", Principal, "-n", Namespace, "-s", m+".ours")
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen does not take our signature: %s", out)
	}
	if out, err := exec.Command("ssh-keygen", "-Y", "sign", "-f", path, "-n", Namespace, m).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen signs: %s", out)
	}
	sig, err := os.ReadFile(m + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSignature([]byte("message"), sig); err != nil {
		t.Errorf("what ssh-keygen signed: %v\n%s", err, sig)
	}
}
