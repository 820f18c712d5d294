//go:build pkcs11

package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestKeysInAToken: roots and the authority's working keys are made in a
// PKCS#11 token and stay there. A device enrols and is read back, somebody is
// erased, the intermediates are renewed, and after a restart all is as it was;
// without the token nothing starts (design, section 2; CC 3.2, 4.7).
func TestKeysInAToken(t *testing.T) {
	module, pin := house.SoftHSM(t)
	token := "token_module: " + module + "\ntoken_label: hawser\ntoken_pin: " + pin + "\ntoken_holds: [roots, authority]\n"
	home := newHome(t, core.Test, token)
	conf, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	inClear := 0
	for _, dir := range []string{conf.CA, conf.Roots} {
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), "PRIVATE KEY") || strings.HasPrefix(filepath.Base(f), "root-0") {
				inClear++
			}
		}
	}
	if inClear != 0 {
		t.Errorf("%d keys lie in files", inClear)
	}
	l := start(t, home)
	l.publish(t, testDeclaration)
	a, b := l.enrol(t, "A1"), l.enrol(t, "B2")
	dialMQTT(t, l, a).publish(t, "telemetry/climate", `{"temp":20}`)
	dialMQTT(t, l, b).publish(t, "telemetry/climate", `{"temp":21}`)
	waitFor(t, 10*time.Second, "the readings are there", func() bool { got, err := l.readAll(t, "B2"); return err == nil && len(got) == 1 })
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "a test erases"}, nil)

	keys, letGo, err := AuthorityKeys(conf)
	if err != nil {
		t.Fatal(err)
	}
	o := identity.CAOptions{Environment: core.Test, RootDir: filepath.Join(filepath.Dir(conf.CA), "ca-root"), Dir: conf.CA, Keys: keys, Now: time.Now}
	if err := identity.RenewCA(o); err != nil {
		t.Fatal(err)
	}
	between := l.renew(t, b) // by the keys before, which are still there
	dialMQTT(t, l, between).close(t)
	l.call(t, "POST", "/v1/authority/take", nil, nil)
	if err := identity.DropOldKeys(o); err != nil {
		t.Fatal(err)
	}
	next := l.renew(t, between)
	if issuerName(t, next) == issuerName(t, a) {
		t.Error("the old issuer signs still")
	}
	if err := letGo(); err != nil {
		t.Fatal(err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	dialMQTT(t, l, next).publish(t, "telemetry/climate", `{"temp":22}`)
	waitFor(t, 10*time.Second, "both readings are there", func() bool { got, err := l.readAll(t, "B2"); return err == nil && len(got) == 2 })
	if got, err := l.readAll(t, "A1"); err == nil && len(got) > 0 {
		t.Errorf("%d readings of the erased one open", len(got))
	}
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "C3", Product: "test-sensor"}, nil)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	for what, change := range map[string]func(string) string{
		"token-closed":     func(s string) string { return strings.Replace(s, "token_label: hawser", "token_label: another", 1) },
		"ca-key-elsewhere": func(s string) string { return strings.Replace(s, "[roots, authority]", "[roots]", 1) },
	} {
		src, err := os.ReadFile(filepath.Join(home, "config.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(home, []byte(change(string(src))))
		if err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), c, Options{Version: "test", Log: &lockedBuffer{}}); core.ReasonOf(err) != what {
			t.Errorf("%s: %v", what, err)
		}
	}
}
