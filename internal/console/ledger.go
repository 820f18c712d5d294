package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

const entriesOnPage = 40

type ledgerView struct {
	Status  ledger.Status
	Signed  ledger.Checkpoint
	Key     string
	Kinds   []string
	Kind    string
	Entries []entryLine // newest first
	Older   string      // address of the next page; "": these are the oldest
	Newest  string      // address of the first page; "": this is it
	From    time.Time   // of an assessor's period: older entries are not shown; zero: all are
}

type entryLine struct {
	ledger.Entry
	Signed bool
}

// recordKinds are offered as filters; the ledger may hold others of later
// versions, which the list without a filter shows.
func recordKinds() []string {
	return []string{
		"account-guessed-at", "approver-waiting", "authority-renewed", "backup-written", "canary-planted", "certificate-issued", "child-linked", "child-moved", "child-unlinked", "clock-ahead", "clock-confirmed",
		"command-asked", "command-ended", "command-given", "command-seconded", "declaration-published", "device-added", "device-enrolled", "device-quarantined", "device-released", "device-revoked",
		"enrolment-code-issued", "epoch-damaged", "epoch-ended", "erasure-asked", "evidence-exported", "factory-ca-added", "factory-ca-ended", "factory-line-added",
		"factory-line-ended", "factory-list-taken", "founders-ended", "founders-reviewed", "gate-counters-forgotten", "identity-finding", "journal-loss",
		"ledger-origin-begun", "legacy-ca-added", "legacy-ca-ended", "legacy-credential-ended", "legacy-credential-used", "legacy-devices-added", "legal-hold-lost", "legal-hold-placed", "legal-hold-release-asked", "legal-hold-released", "means-changed", "observations", "ownership-ended",
		"ownership-opened", "passkey-added", "passkey-removed", "passkey-suspected", "person-disabled", "person-invited", "person-joined", "read-session-closed",
		"read-session-opened", "review-approved", "review-opened", "review-rejected", "review-taken-back", "review-vouched", "roles-changed", "sample-begun", "sample-drawn",
		"service-added", "service-answered", "service-canary-ended", "service-certified", "service-ordered", "service-refused", "service-revoked", "service-webhook-set",
		"session-ended", "settings-changed", "settings-reported", "setup-link-replayed", "setup-link-used", "sign-in-refused", "signed-in", "store-moved", "stream-closed", "stream-opened", "subject-erased",
		"subject-erased-again", "telemetry-batches", "undeclared-fields", "unit-certified", "waiver-approved", "waiver-asked", "waiver-ended",
	}
}

func (c *Console) ledgerPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, cancel := within(r)
	defer cancel()
	if _, err := c.d.Ledger.Sequence(ctx); err != nil {
		return fmt.Errorf("bring the ledger up to date: %w", err)
	}
	view := ledgerView{Status: c.d.Ledger.Status(), Signed: c.d.Ledger.Latest(), Key: c.d.Ledger.VerifierKey(), Kinds: recordKinds(), Kind: r.URL.Query().Get("kind")}
	end, err := ledgerEnd(ctx, c.d.Ledger)
	if err != nil {
		return fmt.Errorf("find the end of the ledger: %w", err)
	}
	if q := r.URL.Query().Get("before"); q != "" {
		before, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			return core.E(core.Invalid, "position", "this is no place in the ledger", "begin with its newest entries")
		}
		if before < end {
			end, view.Newest = before, ledgerURL(view.Kind, 0)
		}
	}
	found, err := newest(ctx, c.d.Ledger, ledger.Filter{Kind: core.RecordKind(view.Kind)}, end, entriesOnPage)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	view.From = v.From
	for _, e := range found {
		if e.Record.Time.Before(v.From) {
			continue
		}
		view.Entries = append(view.Entries, entryLine{e, e.Origin != view.Status.Origin || e.Index < view.Signed.Size})
	}
	// Entries are in the order in which they were written, which is almost that
	// of their times: only a page that is all older ends an assessor's.
	if n := len(found); n == entriesOnPage && found[n-1].Position > 0 && len(view.Entries) > 0 {
		view.Older = ledgerURL(view.Kind, found[n-1].Position)
	}
	return c.show(w, r, v, http.StatusOK, "ledger", page{
		Title: "Ledger", Here: "/ledger", Data: view,
		Lead: "Everything that happened, in one log that can be added to and never changed. People and devices appear under pseudonyms; what would name them is sealed and goes with its owner.",
	})
}

func ledgerURL(kind string, before uint64) string {
	u := url.Values{}
	if kind != "" {
		u.Set("kind", kind)
	}
	if before > 0 {
		u.Set("before", strconv.FormatUint(before, 10))
	}
	if len(u) == 0 {
		return "/ledger"
	}
	return "/ledger?" + u.Encode()
}

// ledgerEnd is the position after the newest entry, over all origins.
func ledgerEnd(ctx context.Context, l Ledger) (uint64, error) {
	var failed error
	has := func(p uint64) bool {
		found, err := l.Entries(ctx, p, p+1)
		if err != nil {
			failed = err
		}
		return len(found) > 0
	}
	high := max(l.Status().Size, 1) // exact while there is one origin
	for has(high) && failed == nil {
		high *= 2
	}
	low := high / 2
	if !has(low) {
		low = 0
	}
	end := low + uint64(sort.Search(int(high-low), func(i int) bool { return failed == nil && !has(low+uint64(i)) }))
	return end, failed
}

// newest are the last entries before a position that pass a filter, newest
// first. The ledger reads forward, so this looks at a window before the end,
// and at a wider one before that while it found too few.
func newest(ctx context.Context, l Ledger, f ledger.Filter, end uint64, want int) ([]ledger.Entry, error) {
	var out []ledger.Entry
	for width := uint64(256); end > 0 && len(out) < want; width *= 8 {
		begin := end - min(end, width)
		var window []ledger.Entry
		for from := begin; from < end; {
			found, next, err := l.List(ctx, f, from, ledger.MaxRange)
			if err != nil {
				return nil, err
			}
			for _, e := range found {
				if e.Position < end {
					window = append(window, e)
				}
			}
			if len(window) > want {
				window = slices.Clone(window[len(window)-want:])
			}
			if from = next; next == 0 {
				break
			}
		}
		slices.Reverse(window)
		out = append(out, window...)
		end = begin
	}
	return out[:min(want, len(out))], nil
}
