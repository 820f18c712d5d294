package server

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestAuthorityRenewed: the intermediate that signs devices' certificates is
// replaced while devices are connected. Nobody is touched: those that are there
// stay, their certificates stay good, each renews into the new one, newcomers
// get it at once, and so it is after a restart (CC 3.2).
func TestAuthorityRenewed(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	conf, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(filepath.Dir(conf.CA), "ca-root")
	renewCA := func() {
		t.Helper()
		if err := identity.RenewCA(identity.CAOptions{Environment: core.Test, RootDir: root, Dir: conf.CA, Now: time.Now}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := l.enrol(t, "A1"), l.enrol(t, "B2")
	there := dialMQTT(t, l, a)
	there.publish(t, "telemetry/climate", `{"temp":20,"boot":1,"seq":1}`)
	dialMQTT(t, l, b).close(t)
	var before, now api.Authority
	l.call(t, "GET", "/v1/authority", nil, &before)

	// The root of another installation makes nothing, and what is not there is not taken.
	other := start(t, newHome(t, core.Test, ""))
	foreign := filepath.Join(filepath.Dir(other.rootFile(t)), "..", "ca-root")
	if err := identity.RenewCA(identity.CAOptions{Environment: core.Test, RootDir: foreign, Dir: conf.CA, Now: time.Now}); core.ReasonOf(err) != "foreign-root" {
		t.Errorf("a foreign root: %v", err)
	}
	l.call(t, "POST", "/v1/authority/take", nil, &now)
	if now != before {
		t.Errorf("taken without a renewal: %+v", now)
	}

	renewCA()
	l.call(t, "POST", "/v1/authority/take", nil, &now)
	if now.Issuer == before.Issuer || now.Root != before.Root || now.Retired != 1 || !now.Until.After(before.Until.Add(-time.Hour)) {
		t.Errorf("before %+v, now %+v", before, now)
	}
	there.publish(t, "telemetry/climate", `{"temp":21,"boot":1,"seq":2}`) // it never noticed
	dialMQTT(t, l, b).close(t)                                            // what the old one signed is good
	next := l.renew(t, b)
	dialMQTT(t, l, next).close(t)
	fresh := l.enrol(t, "C3")
	dialMQTT(t, l, fresh).close(t)
	for name, u := range map[string]*unit{"renewed": next, "new": fresh} {
		if got := issuerName(t, u); got == issuerName(t, a) {
			t.Errorf("the %s one is signed by the old issuer %s", name, got)
		}
	}
	if n := l.records(t, "authority-renewed"); n != 1 {
		t.Errorf("%d records", n)
	}

	// An issuer that the folder does not know any more would lock devices out.
	kept := t.TempDir()
	retired, err := filepath.Glob(filepath.Join(conf.CA, "retired-*.pem"))
	if err != nil || len(retired) != 1 {
		t.Fatalf("retired: %v, %v", retired, err)
	}
	renewCA()
	again, err := filepath.Glob(filepath.Join(conf.CA, "retired-*.pem"))
	if err != nil || len(again) != 2 {
		t.Fatalf("retired: %v, %v", again, err)
	}
	for _, f := range again {
		if err := os.Rename(f, filepath.Join(kept, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.client.Call(t.Context(), "POST", "/v1/authority/take", nil, nil); err == nil || !strings.Contains(err.Error(), "every device would be refused") {
		t.Errorf("an issuer was forgotten: %v", err)
	}
	for _, f := range again {
		if err := os.Rename(filepath.Join(kept, filepath.Base(f)), f); err != nil {
			t.Fatal(err)
		}
	}
	there.close(t)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	for _, u := range []*unit{a, next, fresh} {
		dialMQTT(t, l, u).close(t)
	}
	l.call(t, "GET", "/v1/authority", nil, &now)
	if now.Retired != 2 {
		t.Errorf("after a restart: %+v", now)
	}
}

func issuerName(t *testing.T, u *unit) string {
	t.Helper()
	c, err := x509.ParseCertificate(u.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.Issuer.CommonName
}
