package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"text/template/parse"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

//go:embed templates
var templateFiles embed.FS

// fragmentHeader asks for the part of a page that changes: our script sends it.
const fragmentHeader = "Hawser-Fragment"

// page is what every page is drawn from. Data is the page's own.
type page struct {
	Title   string // of the window and the first heading
	Lead    string // a sentence under it
	Here    string // address of the entry of the list at the side that it belongs to
	Up      []link // the way to it
	Narrow  bool   // one column of text
	Visitor Visitor
	Now     time.Time
	Token   string // of its forms
	Maker   string
	Live    bool  // the part "live" is repeated
	Every   int64 // milliseconds between two of it
	Data    any
}

type link struct{ Text, URL string }

// pageSet is one page's templates on top of the common ones.
type pageSet struct {
	t    drawer
	live bool // it has a part that can be drawn alone

	parsed *template.Template // what t is before it has drawn
}

// trees are its templates as they were read.
func (s *pageSet) trees() []*parse.Tree {
	var out []*parse.Tree
	for _, t := range s.parsed.Templates() {
		if t.Tree != nil {
			out = append(out, t.Tree)
		}
	}
	return out
}

// loadPages reads every template. What common.*.html define is in all of them.
func loadPages(a *assets) (map[string]*pageSet, error) {
	base, err := template.New("base").Funcs(funcs(a)).ParseFS(templateFiles, "templates/common.*.html")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	out := map[string]*pageSet{}
	for _, n := range names {
		name := strings.TrimSuffix(path.Base(n), ".html")
		if strings.HasPrefix(name, "common.") {
			continue
		}
		t, err := base.Clone()
		if err != nil {
			return nil, fmt.Errorf("read templates: %w", err)
		}
		if t, err = t.ParseFS(templateFiles, n); err != nil {
			return nil, fmt.Errorf("read template %s: %w", n, err)
		}
		live := t.Lookup("live") // the common one is empty
		out[name] = &pageSet{t: t, parsed: t, live: live != nil && !parse.IsEmptyTree(live.Tree.Root)}
	}
	return out, nil
}

// show draws a page, or its part that changes when our script asks for it.
// Nothing is sent before the whole of it is drawn.
func (c *Console) show(w http.ResponseWriter, r *http.Request, v Visitor, status int, name string, p page) error {
	set := c.pages[name]
	if set == nil {
		return fmt.Errorf("draw page: there is no template %s", name)
	}
	p.Visitor, p.Now, p.Maker, p.Live, p.Every = v, c.d.Now().UTC(), c.d.Maker, set.live, c.d.Every.Milliseconds()
	if v.Signed() {
		p.Token = c.tokens.of(v)
	}
	part := "layout"
	if set.live && r.Header.Get(fragmentHeader) != "" {
		part = "fragment"
	}
	var b bytes.Buffer
	if err := set.t.ExecuteTemplate(&b, part, p); err != nil {
		return fmt.Errorf("draw page %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(inert(b.Bytes())) // the client left
	return nil
}

// inert replaces what no text of ours holds and what could deceive the eye:
// control characters, those that turn the direction of text or join nothing,
// and what is not UTF-8. The templates have none, so it came from outside.
func inert(b []byte) []byte {
	if clean(b) {
		return b
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if deceptive(r) || r == utf8.RuneError {
			r = utf8.RuneError
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}

func clean(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError || deceptive(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

func deceptive(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ' || r >= 0x7f && r < 0xa0: // C0, DEL, C1
		return true
	case r == 0xad || r == 0x61c || r == 0x180e || r == 0xfeff: // soft hyphen, Arabic letter mark, Mongolian separator, BOM
		return true
	case r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f: // zero width, lines, directions
		return true
	case r >= 0xfff9 && r <= 0xfffb || r >= 0xe0000 && r <= 0xe007f: // annotations, tags
		return true
	}
	return false
}

// fail shows an error as a page: what was tried, what is wrong, what to do.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, v Visitor, err error) {
	p, status := troubleOf(r, err)
	if status == http.StatusConflict && core.ReasonOf(err) == stepUp {
		to := p.Back
		if r.Method == http.MethodGet {
			to = r.URL.RequestURI()
		}
		p.Again = c.d.StepUp + "?next=" + url.QueryEscape(to)
	}
	if derr := c.show(w, r, v, status, "trouble", page{Title: p.Title, Narrow: true, Data: p}); derr != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
