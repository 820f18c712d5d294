package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// softHSMPlaces are where Debian and others put SoftHSM's module.
func softHSMPlaces() []string {
	return []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"}
}

// SoftHSM makes a PKCS#11 token in software, labelled "hawser", for one test,
// and gives its module and the file of its PIN. It sets SOFTHSM2_CONF, so that
// such a test cannot be parallel.
func SoftHSM(t *testing.T) (module, pin string) {
	t.Helper()
	for _, p := range softHSMPlaces() {
		if _, err := os.Stat(p); err == nil {
			module = p
		}
	}
	util, err := exec.LookPath("softhsm2-util")
	if module == "" || err != nil {
		t.Skip("softhsm2 is missing (Debian: softhsm2): no PKCS#11 token")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	pin = filepath.Join(dir, "pin")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	const secret = "4711-of-a-test"
	for name, text := range map[string]string{conf: "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n", pin: secret + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	softHSMToken(t, util, "hawser", secret)
	return module, pin
}

// softHSMToken makes a token with a label and a PIN.
func softHSMToken(t *testing.T, util, label, secret string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), util, "--init-token", "--free", "--label", label, "--so-pin", strings.Repeat("9", 8), "--pin", secret).CombinedOutput(); err != nil {
		t.Fatalf("make a token: %v: %s", err, out)
	}
}
