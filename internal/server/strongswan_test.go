package server

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestStrongSwan is the life of a device whose EST client is strongSwan's `pki`,
// which knows nothing of us: it fetches the authorities, enrols with a code, and
// renews with its certificate. It speaks TLS 1.2, so its product declares it
// (RFC 7030; design, section 6; CC 3.2).
func TestStrongSwan(t *testing.T) {
	pki, err := exec.LookPath("pki")
	if err != nil {
		t.Skip("pki is missing (Debian: strongswan-pki): no second EST client")
	}
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, strings.NewReplacer("wifi: [wpa2, wpa3]", `wifi: [wpa2, wpa3], tls: "1.2"`).Replace(testDeclaration))
	l.publish(t, strings.Replace(testDeclaration, "test-sensor", "modern-sensor", 1))
	dir := t.TempDir()
	once := func(in, out string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), pki, args...)
		cmd.Dir = dir
		if in != "" {
			f, err := os.Open(filepath.Join(dir, in))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdin = f
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		b, err := cmd.Output()
		if err == nil && out != "" {
			if err := os.WriteFile(filepath.Join(dir, out), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return errs.String(), err
	}
	// It gives up when an answer comes in two records of TLS, and not at once.
	try := func(in, out string, args ...string) (said string, err error) {
		t.Helper()
		for range 6 {
			if said, err = once(in, out, args...); err == nil || !strings.Contains(said, "second read failed") {
				break
			}
		}
		return said, err
	}
	run := func(in, out string, args ...string) {
		t.Helper()
		if said, err := try(in, out, args...); err != nil {
			t.Fatalf("pki %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	request := func(name, id string) {
		t.Helper()
		run("", name+".key", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
		run("", name+".csr", "--req", "--type", "ecdsa", "--in", name+".key", "--dn", "CN="+id, "--outform", "der")
	}
	_, port, err := net.SplitHostPort(l.addr.HTTPS)
	if err != nil {
		t.Fatal(err)
	}
	url, root := "https://localhost:"+port, l.rootFile(t)

	if said, err := try("", "", "--print", "--type", "x509", "--in", root); err != nil {
		t.Skipf("pki cannot read ECDSA (Debian: libstrongswan-standard-plugins): no second EST client: %s", said)
	}
	run("", "", "--estca", "--url", url, "--cacert", root, "--caout", "ca.pem", "--outform", "pem")
	// It names the certificates one by one after the file that it is given.
	files, err := filepath.Glob(filepath.Join(dir, "ca*.pem"))
	if err != nil || len(files) != 2 {
		t.Fatalf("authorities: %v, %v", files, err)
	}
	trust := []string{"--cacert", root}
	for _, f := range files {
		trust = append(trust, "--cacert", f)
	}
	est := func(args ...string) []string {
		return append(append([]string{"--est", "--url", url, "--outform", "pem"}, trust...), args...)
	}

	code := l.add(t, "A1")
	request("first", "A1")
	if said, err := try("first.csr", "", est("--userpass", "A1:"+strings.Repeat("A", len(code)))...); err == nil {
		t.Errorf("a wrong code enrolled it:\n%s", said)
	}
	run("first.csr", "first.pem", est("--userpass", "A1:"+code)...)
	request("second", "A1")
	run("second.csr", "second.pem", est("--cert", "first.pem", "--key", "first.key")...)
	if d := l.device(t, "A1"); d.State != "active" || d.Birth == nil || d.Birth.Enrolled == nil {
		t.Errorf("it is %+v", d)
	}
	run("", "", "--verify", "--in", "second.pem", "--cacert", root, "--cacert", files[0], "--cacert", files[1])

	// The one that was replaced renews nothing once the new one was used.
	request("third", "A1")
	run("third.csr", "third.pem", est("--cert", "second.pem", "--key", "second.key")...)
	request("fourth", "A1")
	if said, err := try("fourth.csr", "", est("--cert", "first.pem", "--key", "first.key")...); err == nil {
		t.Errorf("a replaced certificate renewed:\n%s", said)
	}
	// Nor does a device whose product does not declare TLS 1.2 enrol this way.
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "M1", Product: "modern-sensor"}, &added)
	request("modern", "M1")
	if said, err := try("modern.csr", "", est("--userpass", "M1:"+added.Code)...); err == nil {
		t.Errorf("TLS 1.2 enrolled a device of a product that does not declare it:\n%s", said)
	}
}
