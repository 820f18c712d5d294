package device

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/wire"
)

func TestEnrolmentRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, c := range map[string]struct {
		serial string
		code   func() (string, error)
		want   Reason
	}{
		"wrong code":    {"A1", func() (string, error) { return "guess", nil }, EnrolmentRefused},
		"wrong serial":  {"B2", func() (string, error) { return "code-of-A1", nil }, EnrolmentRefused},
		"empty code":    {"A1", func() (string, error) { return "", nil }, BadConfig},
		"split header":  {"A1", func() (string, error) { return "x\r\nHost: y", nil }, BadConfig},
		"endless code":  {"A1", func() (string, error) { return strings.Repeat("x", 1000), nil }, BadConfig},
		"no code given": {"A1", nil, NotEnrolled},
		"no code found": {"A1", func() (string, error) { return "", io.ErrUnexpectedEOF }, NotEnrolled},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := b.cfg
			cfg.StateDir, cfg.Serial, cfg.EnrolmentCode = t.TempDir(), c.serial, c.code
			d, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() // a test's device
			isReason(t, d.Run(t.Context()), c.want)
			if ids, err := d.keep.all(); err != nil || len(ids) != 0 {
				t.Errorf("%d identities, %v", len(ids), err)
			}
		})
	}
	if len(b.est.issued) != 0 {
		t.Errorf("%d certificates were issued", len(b.est.issued))
	}
}

// TestEnrolmentWaits: passing trouble at the server is waited for.
func TestEnrolmentWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tries := 0
	b.est.answer = func(path string, w http.ResponseWriter) bool {
		if path != wire.ESTEnrol {
			return false
		}
		tries++
		switch tries {
		case 1:
			http.Error(w, "later", http.StatusServiceUnavailable)
		case 2:
			http.Error(w, "slower", http.StatusTooManyRequests)
		case 3:
			w.WriteHeader(http.StatusAccepted) // RFC 7030 §4.2.3: not decided yet
		default:
			return false
		}
		return true
	}
	d := b.open(t)
	if err := d.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tries != 4 || len(b.est.issued) != 1 {
		t.Errorf("%d tries, %d certificates", tries, len(b.est.issued))
	}
	// But not for ever when the program ends.
	b.est.answer = func(_ string, w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "3000")
		http.Error(w, "later", http.StatusServiceUnavailable)
		return true
	}
	cfg := b.cfg
	cfg.StateDir = t.TempDir()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test's device
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.Run(ctx); err != nil {
		t.Errorf("Run when told to end: %v", err)
	}
}

// TestHostileAnswers: no certificate that is not this device's is ever taken.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := newAuthority(t)
	now := time.Now()
	good := func(serial string, pub any) ([]byte, error) {
		return b.auth.deviceCert(serial, pub, now.Add(-time.Minute), now.Add(time.Hour))
	}
	stolen, err := newKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	body := func(status int, kind, text string) func(string, http.ResponseWriter) bool {
		return func(path string, w http.ResponseWriter) bool {
			if path == wire.ESTCACerts {
				return false
			}
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
			return true
		}
	}
	for name, c := range map[string]struct {
		sign   func(string, any) ([]byte, error)
		answer func(string, http.ResponseWriter) bool
		want   Reason
	}{
		"certificate for another key":    {sign: func(s string, _ any) ([]byte, error) { return good(s, stolen.Public()) }, want: BadCertificate},
		"certificate for another serial": {sign: func(_ string, p any) ([]byte, error) { return good("B2", p) }, want: BadCertificate},
		"certificate of a foreign CA": {sign: func(s string, p any) ([]byte, error) {
			return other.deviceCert(s, p, now.Add(-time.Minute), now.Add(time.Hour))
		}, want: BadCertificate},
		"expired certificate": {sign: func(s string, p any) ([]byte, error) {
			return b.auth.deviceCert(s, p, now.Add(-2*time.Hour), now.Add(-time.Hour))
		}, want: BadCertificate},
		"not base64":       {answer: body(200, wire.PKCS7Type, "!!!"), want: ServerConfused},
		"not PKCS#7":       {answer: body(200, wire.PKCS7Type, base64.StdEncoding.EncodeToString([]byte("hello"))), want: ServerConfused},
		"empty":            {answer: body(200, wire.PKCS7Type, ""), want: ServerConfused},
		"endless":          {answer: body(200, wire.PKCS7Type, strings.Repeat("A", wire.MaxESTBody+1)), want: ServerConfused},
		"a web page":       {answer: body(200, "text/html", "<html>"), want: ServerConfused},
		"a redirect":       {answer: body(302, "text/html", ""), want: EnrolmentRefused},
		"nothing there":    {answer: body(404, "text/html", ""), want: EnrolmentRefused},
		"no body, no type": {answer: body(204, "", ""), want: EnrolmentRefused},
	} {
		t.Run(name, func(t *testing.T) {
			b.est.mu.Lock()
			b.est.sign, b.est.answer = c.sign, c.answer
			b.est.mu.Unlock()
			cfg := b.cfg
			cfg.StateDir = t.TempDir()
			d, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() // a test's device
			isReason(t, d.Enrol(t.Context()), c.want)
			if ids, err := d.keep.all(); err != nil || len(ids) != 0 {
				t.Errorf("%d identities, %v", len(ids), err)
			}
		})
	}
}

// TestCertsWithLineBreaks: base64 in lines, as older EST servers send it.
func TestCertsWithLineBreaks(t *testing.T) {
	a := newAuthority(t)
	p7, err := pkcs7.DegenerateCertificate(append(append([]byte{}, a.root.cert.Raw...), a.device.cert.Raw...))
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(p7)
	var lines strings.Builder
	for i := 0; i < len(text); i += 64 {
		lines.WriteString(text[i:min(i+64, len(text))] + "\r\n")
	}
	got, err := parseCertsOnly([]byte(lines.String()))
	if err != nil || len(got) != 2 || !got[0].Equal(a.root.cert) {
		t.Errorf("got %d certificates, %v", len(got), err)
	}
}

func TestRenewalDate(t *testing.T) {
	a := newAuthority(t)
	from := time.Now().Truncate(time.Second)
	life := 30 * 24 * time.Hour
	seen := map[time.Time]bool{}
	for range 40 {
		key, err := newKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		der, err := a.deviceCert("A1", key.Public(), from, from.Add(life))
		if err != nil {
			t.Fatal(err)
		}
		leaf := mustParse(t, der)
		id := &identity{}
		id.cert.Leaf = leaf
		at := id.renewAt()
		if at != id.renewAt() {
			t.Fatal("the date is drawn anew each time")
		}
		if share := at.Sub(from).Hours() / life.Hours(); share < 0.61 || share > 0.72 {
			t.Errorf("renewed at %.3f of its life", share)
		}
		seen[at] = true
	}
	if len(seen) < 40 {
		t.Errorf("40 devices renew at %d times", len(seen))
	}
}

func FuzzCertsOnly(f *testing.F) {
	a := newAuthority(f)
	p7, err := pkcs7.DegenerateCertificate(a.root.cert.Raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(base64.StdEncoding.EncodeToString(p7)))
	f.Add([]byte("MIIB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := parseCertsOnly(b)
		if err == nil && (len(certs) == 0 || len(certs) > maxCerts) {
			t.Errorf("%d certificates", len(certs))
		}
		if err == nil {
			// Nothing that was not signed by the pinned root is ever learnt.
			pool := x509.NewCertPool()
			tr := &trust{roots: pool, clock: openClock(t.TempDir()+"/time", time.Now, time.Time{})}
			if n := len(tr.learn(certs)); n != 0 {
				t.Errorf("learnt %d from an empty pool", n)
			}
		}
	})
}
