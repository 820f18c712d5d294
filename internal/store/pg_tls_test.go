package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// TestPGOverTLS: over a network the database is verified, the password comes
// from a file, and nothing goes out in cleartext: not the password, not even to
// a server that would take it.
func TestPGOverTLS(t *testing.T) {
	t.Parallel()
	const host = "127.72.11.9"
	if l, err := net.Listen("tcp", host+":5432"); err != nil {
		t.Skipf("there is no address %s here: %v", host, err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cl := pgtest.Start(t, "")
	dir := t.TempDir()
	file := func(path string, b []byte) string {
		t.Helper()
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(host)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	root := file("root.pem", cert)
	uid, err := strconv.Atoi(cl.User())
	if err != nil {
		t.Fatal(err)
	}
	own := func(path string) {
		t.Helper()
		if err := os.Chown(path, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	own(file(filepath.Join(cl.Data(), "server.crt"), cert))
	own(file(filepath.Join(cl.Data(), "server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	const pw = "correct horse 7"
	if err := cl.Exec("postgres", `CREATE ROLE maker LOGIN PASSWORD '`+pw+`'`, `CREATE DATABASE over TEMPLATE template0 ENCODING 'UTF8' OWNER maker`); err != nil {
		t.Fatal(err)
	}
	if err := cl.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(cl.Data(), "postgresql.conf"))
	if err != nil {
		t.Fatal(err)
	}
	own(file(filepath.Join(cl.Data(), "postgresql.conf"), append(conf, "listen_addresses = '"+host+"'\nssl = on\n"...)))
	// It would take the password in cleartext, too.
	own(file(filepath.Join(cl.Data(), "pg_hba.conf"), []byte("local all all trust\nhostssl all maker all scram-sha-256\nhostnossl all maker all password\n")))
	if err := cl.Run(); err != nil {
		t.Fatal(err)
	}
	good, wrong := file("password", []byte(pw+"\n")), file("wrong", []byte("guess"))
	name := "postgres://maker@" + host + "/over?sslmode=verify-full&sslrootcert=" + root
	for what, c := range map[string]struct {
		dsn, file string
		want      core.Kind
	}{
		"right":             {name, good, 0},
		"wrong password":    {name, wrong, core.Invalid},
		"no password":       {name, "", core.Invalid},
		"another authority": {strings.Replace(name, "&sslrootcert="+root, "", 1), good, core.Unavail},
		"cleartext":         {strings.Replace(name, "verify-full", "disable", 1), good, core.Invalid},
		"not verified":      {"postgres://maker@" + host + "/over?sslmode=require", good, core.Invalid},
	} {
		s, err := Open(t.Context(), Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: c.dsn, PasswordFile: c.file}})
		if what == "right" {
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			var tls bool
			if err := s.pg.r.QueryRowContext(t.Context(), `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&tls); err != nil || !tls {
				t.Errorf("TLS: %v, %v", tls, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil {
			_ = s.Close()
		}
		if core.KindOf(err) != c.want || strings.Contains(err.Error(), pw) {
			t.Errorf("%s: %v, want kind %v", what, err, c.want)
		}
	}
}
