package witness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hawser-iot/hawser/internal/ledger"
)

// Client shows a ledger as a stranger sees it.
type Client interface {
	// Checkpoint is the signed note of the newest head.
	Checkpoint(context.Context) ([]byte, error)
	// Tile is the content of a hash tile (https://c2sp.org/tlog-tiles).
	Tile(context.Context, ledger.TileRef) ([]byte, error)
}

// HTTP is a Client over HTTPS: base is where /checkpoint and /tile/ lie.
func HTTP(base string, c *http.Client) (Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no https address of a ledger", base)
	}
	return &overHTTP{strings.TrimSuffix(u.String(), "/"), c}, nil
}

type overHTTP struct {
	base string
	c    *http.Client
}

func (h *overHTTP) Checkpoint(ctx context.Context) ([]byte, error) {
	return h.get(ctx, "/checkpoint", ledger.MaxNoteBytes)
}

func (h *overHTTP) Tile(ctx context.Context, t ledger.TileRef) ([]byte, error) {
	return h.get(ctx, "/tile/"+t.Path(), t.Width*32)
}

// get reads at most so many bytes; what is longer is an error.
func (h *overHTTP) get(ctx context.Context, path string, most int) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+path, nil)
	if err != nil {
		return nil, err
	}
	a, err := h.c.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }() // only read
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s%s answers %s", h.base, path, a.Status)
	}
	b, err := io.ReadAll(io.LimitReader(a.Body, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("%s%s has more than %d bytes", h.base, path, most)
	}
	return b, nil
}
