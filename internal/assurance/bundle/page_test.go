package bundle

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/assurance"
)

// TestPageIsInert: nothing in the page runs or loads, and what others have
// named stands in it as text.
func TestPageIsInert(t *testing.T) {
	f, e := oscalBundle(t)
	page := string(f[namePage])
	for _, bad := range []string{"<script", "javascript:", " src=", "@import", "url(", " on", "<iframe", "<form", "<link", "<object", "<base", "http-equiv=\"refresh"} {
		at := strings.Index(strings.ToLower(tagsOf(page)), bad)
		if at >= 0 {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") || !strings.Contains(page, "Encrypted &lt;on&gt; its way.") {
		t.Error("what a device and a declaration named is not in the page: the test shows nothing")
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "#") || !strings.Contains(page, `id="`+m[1][1:]+`"`) {
			t.Errorf("the link %s leads nowhere in the page", m[1])
		}
	}
	style := page[strings.Index(page, "<style>")+7 : strings.Index(page, "</style>")]
	sum := sha256.Sum256([]byte(style))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(page, want) {
		t.Errorf("the policy does not allow the page's own style: want %s", want)
	}
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			t.Errorf("id %s stands twice", m[1])
		}
	}
	for _, c := range e.state.Controls {
		if ids[string(c.Control.ID)] != 1 {
			t.Errorf("%s is not in the page", c.Control.ID)
		}
		for _, r := range c.Rows {
			if !strings.Contains(page, "<strong>Row "+string(r.Row.ID)+"</strong>") {
				t.Errorf("row %s is not in the page", r.Row.ID)
			}
		}
	}
	if regexp.MustCompile(`[0-9] ?%`).MatchString(page[strings.Index(page, "</style>"):]) {
		t.Error("the headline is a percentage")
	}
}

// tagsOf is a page's tags without the text between them.
func tagsOf(page string) string {
	return strings.Join(regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1), "\n")
}

// TestPagesSayTheSame: the five numbers stand in page, README and OSCAL as in
// the verdicts.
func TestPagesSayTheSame(t *testing.T) {
	f, e := oscalBundle(t)
	h := e.state.Headline
	if h == (assurance.Headline{}) {
		t.Fatal("no numbers")
	}
	for name, want := range map[string]string{
		namePage:    fmt.Sprintf("%d</b> not proved", h.NotProved),
		nameReadme:  h.String(),
		nameResults: h.String(),
	} {
		if !strings.Contains(string(f[name]), want) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
	if p := os.Getenv("HAWSER_KEEP_PAGE"); p != "" { // for who wants to look at it
		if err := os.WriteFile(p, f[namePage], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
