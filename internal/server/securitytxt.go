package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Where strangers find whom to tell of a hole, and the evidence keys. Both
// paths are for good: auditors and programs write them down.
const (
	securityTXTPath   = "/.well-known/security.txt" // RFC 9116 §3
	evidenceKeysPath  = "/.well-known/hawser-evidence.signers"
	securityTXTLasts  = 30 * 24 * time.Hour
	evidenceKeysField = "Hawser-Evidence-Keys"
)

// publicHTTPS is what others type to come to the HTTPS door.
func (s *server) publicHTTPS() string {
	if s.c.PublicHTTPS != "" {
		return s.c.PublicHTTPS
	}
	name := "localhost"
	for _, n := range s.c.Names {
		if net.ParseIP(n) == nil {
			name = n
			break
		}
	}
	if _, port, err := net.SplitHostPort(s.addr.HTTPS); err == nil && port != "443" {
		return "https://" + net.JoinHostPort(name, port)
	}
	return "https://" + name
}

// securityContacts are where researchers report to: as the configuration says,
// or else as the declarations in force do.
func (s *server) securityContacts(ctx context.Context) ([]string, error) {
	if len(s.c.SecurityContact) > 0 {
		return s.c.SecurityContact, nil
	}
	all, err := s.decl.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read declarations in force: %w", err)
	}
	var out []string
	for _, p := range all {
		c := p.Contacts.Security
		if !strings.HasPrefix(c, "https://") {
			c = (&url.URL{Scheme: "mailto", Opaque: c}).String()
		}
		if goodContact(c) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// securityTXT is the file of RFC 9116; empty while nobody is named in it.
func (s *server) securityTXT(ctx context.Context) (string, error) {
	contacts, err := s.securityContacts(ctx)
	if err != nil || len(contacts) == 0 {
		return "", err
	}
	keys, err := s.evidenceKeys()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, c := range contacts {
		fmt.Fprintf(&b, "Contact: %s\n", c) // RFC 9116 §2.5.3
	}
	// RFC 9116 §2.5.5: Expires is required. Whole days, so that the file is the
	// same for all who ask on one day.
	fmt.Fprintf(&b, "Expires: %s\n", s.opt.Now().UTC().Truncate(24*time.Hour).Add(securityTXTLasts).Format(time.RFC3339))
	fmt.Fprintf(&b, "Canonical: %s%s\n", s.publicHTTPS(), securityTXTPath) // RFC 9116 §2.5.2
	if len(keys) > 0 {
		// RFC 9116 §2.4: readers pass over fields that they do not know.
		fmt.Fprintf(&b, "%s: %s%s\n", evidenceKeysField, s.publicHTTPS(), evidenceKeysPath)
	}
	for _, k := range keys {
		fmt.Fprintln(&b, k.SecurityTXT())
	}
	return b.String(), nil
}

func (s *server) serveSecurityTXT(w http.ResponseWriter, r *http.Request) {
	s.serveText(w, r, s.securityTXT)
}

// serveEvidenceKeys serves the public halves of the keys that evidence is
// signed with, as a file of allowed signers.
func (s *server) serveEvidenceKeys(w http.ResponseWriter, r *http.Request) {
	s.serveText(w, r, func(context.Context) (string, error) {
		keys, err := s.evidenceKeys()
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintln(&b, k.AllowedSigner())
		}
		return b.String(), err
	})
}

// serveText serves a small text to strangers; an empty one is not there.
func (s *server) serveText(w http.ResponseWriter, r *http.Request, text func(context.Context) (string, error)) {
	b, err := text(r.Context())
	switch {
	case err != nil:
		s.log.ErrorContext(r.Context(), "a public text could not be served", slog.String("path", r.URL.Path), slog.Any("err", err))
		http.Error(w, "internal error", http.StatusInternalServerError)
	case b == "":
		http.Error(w, "there is none", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = io.WriteString(w, b) // the client left
	}
}
