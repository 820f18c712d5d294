package observe

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// FuzzObserve: whatever a broker hands out, learning from it does not fail, and
// what is written stays a draft: no line of a stranger's making, no value.
func FuzzObserve(f *testing.F) {
	f.Add("lamps/a4cf12aabbcc/state", []byte(`{"level":17,"wifi_ssid":"secret network of ada"}`))
	f.Add("x\n  evil: yes/1234", []byte(`{"a\nb":1,"ok":"x"}`))
	f.Add("//", []byte(`{"t":1,"T":2,"Boot":3}`))
	f.Add("a/+/#", []byte(`[1,2]`))
	f.Add("", []byte("\x00"))
	f.Add("t/1", []byte(`{"n":1e308,"m":-1e-320,"o":{"p":[]},"q":null}`))
	f.Add("t/1", []byte("\xa2\x65level\x11\x69wifi_ssid\x6esecret network"))
	f.Add("t/1", []byte("\x82\xa4\x21\x6aurn:dev:a:\x00\x65level\x02\xf9\x3e\x00\x24\x14\xa2\x00\x61x\x03\x6esecret network"))
	f.Add("t/1", []byte(`[{"bn":"urn:dev:a:","n":"level","v":1},{"n":"x","vs":"secret network"}]`))
	syntax := []string{"yaml", "utf-8", "character", "tab", "anchor", "tag", "depth", "duplicate-key", "unknown-key", "one-document", "directive"}
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		r := New()
		at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
		for i := range 5 {
			r.Take(topic, payload, at.Add(time.Duration(i)*time.Second))
			r.Take(topic+"/more", payload, time.Time{})
		}
		report := r.Report()
		for i := range report.Products {
			p := &report.Products[i]
			var b bytes.Buffer
			if err := p.Draft(&b, report); err != nil {
				t.Fatal(err)
			}
			d, err := declaration.Parse("draft.yaml", b.Bytes())
			if err == nil && d != nil {
				t.Fatalf("a draft with open questions is taken:\n%s", b.String())
			}
			faults, ok := err.(declaration.Faults)
			if !ok {
				t.Fatalf("%v\n%s", err, b.String())
			}
			for _, x := range faults {
				if p.Declarable() && slices.Contains(syntax, x.Rule) {
					t.Fatalf("a stranger writes in the draft: %v\n%s", x, b.String())
				}
			}
			for _, c := range b.String() {
				if c != '\n' && (c < ' ' || c > '~') {
					t.Fatalf("%q in a draft", c)
				}
			}
			if strings.Contains(b.String(), "secret network") {
				t.Fatalf("a value in a draft:\n%s", b.String())
			}
		}
	})
}
