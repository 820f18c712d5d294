package server

import (
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// crlPath is where others find which devices' certificates were revoked.
const crlPath = "/crl"

// crlEvery is how often the list is signed anew at most: strangers ask, and a
// signature over a long list is work.
const crlEvery = time.Minute

// crl keeps the last list.
type crl struct {
	mu   sync.Mutex // guards what follows, and makes one list at a time
	der  []byte
	made time.Time
}

// serveCRL serves the revocation list (RFC 5280 §5, RFC 2585 §4.2), at most a
// minute old.
func (s *server) serveCRL(w http.ResponseWriter, r *http.Request) {
	der, err := s.crl.get(s.opt.Now(), func() ([]byte, error) { return s.devices.RevocationList(s.services.readers.RevokedCertificates()...) })
	if err != nil {
		s.log.ErrorContext(r.Context(), "the revocation list cannot be made", slog.Any("err", err))
		http.Error(w, "there is no revocation list at present", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Header().Set("Content-Length", strconv.Itoa(len(der)))
	w.Header().Set("Cache-Control", "max-age="+strconv.Itoa(int(crlEvery/time.Second)))
	_, _ = w.Write(der) // the client left; nothing to do
}

// get is the list that was made last, or a new one where that is too old.
func (c *crl) get(now time.Time, list func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.made); c.der != nil && age < crlEvery && age >= 0 {
		return c.der, nil
	}
	der, err := list()
	if err != nil {
		return nil, err
	}
	c.der, c.made = der, now
	return der, nil
}
