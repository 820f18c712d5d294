package console

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// trouble is an error as a person sees it.
type trouble struct {
	Title string
	Tried string // what was asked for
	Wrong string
	Do    string
	Back  string // a page of ours to go on from
	Again string // where a passkey is used; "": not needed
}

// troubleOf puts an error in words. What is not a core.Error is our own fault
// and says nothing to a stranger.
func troubleOf(r *http.Request, err error) (trouble, int) {
	t := trouble{Tried: tried(r), Back: back(r)}
	e, ok := errors.AsType[*core.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		t.Title, t.Wrong, t.Do = "This took too long", "The server did not find the answer in time.", "Ask for less at once, or try again in a minute."
		return t, http.StatusServiceUnavailable
	case !ok || e.Kind == core.Internal:
		t.Title, t.Wrong, t.Do = "Our fault", "Something went wrong inside the server.", "Try again. If it stays so, the server's log says more."
		return t, http.StatusInternalServerError
	}
	t.Wrong, t.Do = sentence(e.Message), sentence(e.Hint)
	title, status := titleOf(e.Kind)
	t.Title = title
	if e.Reason == stepUp {
		t.Title = "Your passkey, once more"
	}
	return t, status
}

func titleOf(k core.Kind) (string, int) {
	switch k {
	case core.Invalid:
		return "That does not fit", http.StatusBadRequest
	case core.Denied:
		return "Not allowed", http.StatusForbidden
	case core.Unknown:
		return "Not found", http.StatusNotFound
	case core.Conflict:
		return "Not as things stand", http.StatusConflict
	case core.TooLarge:
		return "Too large", http.StatusRequestEntityTooLarge
	case core.TooMany:
		return "Too often", http.StatusTooManyRequests
	case core.Unavail:
		return "Not just now", http.StatusServiceUnavailable
	case core.Unready:
		return "Something comes first", http.StatusConflict
	default:
		return "Our fault", http.StatusInternalServerError
	}
}

// tried is the request in words: the path is the browser's, so it is only text.
func tried(r *http.Request) string {
	if r.Method == http.MethodPost {
		return "Sending a form to " + r.URL.Path
	}
	return "Opening " + r.URL.Path
}

// back is the page that a failed request belongs to: the list of its kind.
func back(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch first {
	case "product", "products":
		return "/products"
	case "device", "devices":
		return "/devices"
	case "people", "waivers", "evidence", "ledger", "refusals":
		return "/" + first
	}
	return "/"
}

// sentence is an error's text with a capital and a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	first, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[n:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?:`") {
		s += "."
	}
	return s
}
