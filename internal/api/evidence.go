package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Evidence puts evidence together.
type Evidence interface {
	// Draft writes a tar stream, to be signed where the evidence key is. Zero
	// since: as late as the verdicts of now allow. It shows that the ledger
	// grew out of the earlier checkpoints. cosigned, unless empty, is its
	// newest checkpoint with the cosignatures of witnesses.
	Draft(ctx context.Context, by core.Actor, since time.Time, earlier [][]byte, cosigned []byte, w io.Writer) error
}

// EvidenceRequest asks for a draft of everything that is proved.
type EvidenceRequest struct {
	Since   *time.Time `json:"since,omitempty"`
	Earlier []string   `json:"earlier,omitempty"` // checkpoints from before
	// Cosigned is a checkpoint of this ledger with cosignatures of witnesses.
	Cosigned string `json:"cosigned,omitempty"`
}

// Validate bounds the request.
func (r *EvidenceRequest) Validate() error {
	if len(r.Earlier) > 16 {
		return core.E(core.Invalid, "earlier", "too many earlier checkpoints", "send at most 16")
	}
	return nil
}

func (h handlers) evidence(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req EvidenceRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	var since time.Time
	if req.Since != nil {
		since = *req.Since
	}
	var earlier [][]byte
	for _, note := range req.Earlier {
		earlier = append(earlier, []byte(note))
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return h.Evidence.Draft(r.Context(), by, since, earlier, []byte(req.Cosigned), w)
}

// Fetch sends in and copies the answer, whatever it is, to w.
func (c *Client) Fetch(ctx context.Context, method, path string, in any, w io.Writer) error {
	body, err := c.do(ctx, method, path, "application/x-tar", in)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to its end, or given up
	_, err = io.Copy(w, body)
	return err
}
