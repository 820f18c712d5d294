package server

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/console"
	"github.com/hawser-iot/hawser/internal/term"
)

// textChecks hold that what devices and persons say stays text (CC 2.2).
func (s *server) textChecks() []check.Check {
	return []check.Check{{
		ID: "text.inert", Version: 1, Rows: []string{"2.2"}, Kind: check.Probe, MaxAge: check.QueryAge,
		Says: "Every page of the console, with hostile markup in every place where a device or a person has a say, draws it as text; so do the pages that strangers reach, over the network; and a terminal gets no control character.",
		Do:   "Look at what stands between browsers and the console: a proxy that changes pages. If it is the program itself, close the console to people (`hawser people disable`) and report a vulnerability (SECURITY.md).",
		Look: s.lookAtText,
		Violations: []check.Violation{
			{ID: "text-as-markup", Says: "Has the twin's console draw every text as markup.", Do: own(drawMarkup)},
			{ID: "unescaping-proxy", Says: "Puts a proxy beside the console that takes the escapes out of each page.", Do: proxyBeside(func(r *http.Request) { r.Header.Del("Accept-Encoding") }, unescape)},
		},
	}}
}

// saidByStrangers are addresses in which a stranger has a say: what he says
// may come back on a page.
func saidByStrangers() []string {
	said := console.Hostile()
	said = said[strings.Index(said, `"`):] // its beginning would make the console leave out the rest
	if i := strings.IndexAny(said, "\x00\n\r\t\\"); i >= 0 {
		said = said[:i]
	}
	said = said[:min(len(said), 150)]
	return []string{
		"/sign-in?next=" + url.QueryEscape("/"+said), "/nowhere/" + url.PathEscape(said), "/set-up/" + url.PathEscape(said), "/device/" + url.PathEscape(said), "/static/" + url.PathEscape(said),
	}
}

func (s *server) lookAtText(ctx context.Context, l *check.Look) error {
	pages := s.pages.Load()
	if pages == nil {
		return nil // nobody has a page yet
	}
	l.Touch("source", "every template of the console, drawn with hostile text")
	all := pages.Inert()
	l.Expect("templates of the console, addresses of its pages, ways to a terminal", len(all))
	for _, d := range all {
		l.Holds(len(d.Wrong) == 0, "page "+d.Page, "draws text as markup: %s", strings.Join(d.Wrong, "; "))
	}
	if err := s.lookAtPages(inertPages)(ctx, l); err != nil {
		return err
	}
	l.Touch("source", "what the command line does with text from outside")
	l.Expect("", 1)
	shown := term.Safe(console.Hostile())
	l.Holds(strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) < 0, "the terminal", "gets control characters")
	return nil
}

// inertPages says which page turns into markup what a stranger says, if any.
func inertPages(ctx context.Context, at string) (string, error) {
	for _, path := range saidByStrangers() {
		p, err := ask(ctx, "GET", at, path, nil, "")
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
			continue
		}
		if wrong := console.Markup(p.body); len(wrong) > 0 {
			before, _, _ := strings.Cut(path, "%")
			return before + ": what a stranger says becomes markup: " + strings.Join(wrong, "; "), nil
		}
	}
	return "", nil
}

// drawMarkup puts a console in place that keeps no text from being markup.
func drawMarkup(_ context.Context, t *twin) (func(context.Context) error, error) {
	know := t.s.people.service()
	if know == nil {
		return nil, errNotOurs
	}
	broken, err := t.s.console(know, t.s.origin(t.s.people.address()))
	if err == nil {
		err = broken.Unescape()
	}
	if err != nil {
		return nil, err
	}
	t.Touch("console", "pages without escapes")
	whole := t.s.pages.Swap(broken)
	return func(context.Context) error { t.s.pages.Store(whole); return nil }, nil
}

// unescape takes the escapes out of a page.
func unescape(r *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxPageBytes))
	if err != nil {
		return err
	}
	b = []byte(html.UnescapeString(string(b)))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	r.Header.Del("Content-Length")
	return nil
}
