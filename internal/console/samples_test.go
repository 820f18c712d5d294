package console

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// fleet is what samples are drawn from: the units of w, forty where it says
// nothing, and its ledger.
type fleet struct{ w *world }

func (f fleet) Population(ctx context.Context, q sampling.Request, _ []byte) (out []string, err error) {
	if kind, ok := sampling.KindOf(q.Of); ok {
		found, _, err := f.w.log.List(ctx, ledger.Filter{Kind: kind}, 0, 0)
		for _, e := range found {
			if !e.Record.Time.Before(q.From) && e.Record.Time.Before(q.Until) {
				out = append(out, fmt.Sprintf("%012d", e.Index))
			}
		}
		return out, err
	}
	for i := range max(40, f.w.units) {
		out = append(out, fmt.Sprintf("unit-%02d", i))
	}
	return out, nil
}

func (f fleet) Items(_ context.Context, s sampling.Sampling) (out []sampling.Item, _ error) {
	for i, id := range s.Drawn {
		it := sampling.Item{ID: id, Gone: i == 0}
		if i > 0 {
			it.Device, it.Product, it.Unit = core.DeviceID("NW-"+id), "aria-thermostat", "abcdef"
			if strings.HasPrefix(s.Of, "records/") {
				it.Device, it.Index, it.Position, it.Time = "", "17", 17, f.w.now
			}
		}
		out = append(out, it)
	}
	return out, nil
}

func (w *world) samples(t testing.TB) *sampling.Service {
	t.Helper()
	s, err := sampling.New(sampling.Deps{
		Update: inUpdate[sampling.Tx](w.store), View: inView[sampling.Tx](w.store), Populations: fleet{w}, Now: func() time.Time { return w.now },
	})
	must(t, err)
	return s
}

// assessor is somebody whose period begins at a time.
func (w *world) assessor(from time.Time) Visitor {
	v := w.visitor("auditor")
	v.From = from
	return v
}

// TestSamples: an assessor begins a sample, tells the nonce, and sees what was
// drawn; who is none sees it, and draws nothing.
func TestSamples(t *testing.T) {
	w := newWorld(t, nil)
	w.prove(t, "", aCheck("a.b", "1.9", "It is so.", passes(1)))
	page := w.must200(t, "/evidence")
	wants(t, "before", page, "No sample was drawn.", "Begin a sample", `<option value="records/read-session-opened">`)
	begin := func(form ...string) string {
		t.Helper()
		code, head := w.postHead(t, "/evidence/samples", form...)
		if code != http.StatusSeeOther {
			t.Fatalf("begin: %d", code)
		}
		return head.Get("Location")
	}
	at := begin("of", "devices", "size", "5", "from", "", "until", "")
	wants(t, "begun", w.must200(t, at), "5 of 40 devices", "Your nonce", "sample-begun")
	for _, nonce := range []string{"", "0011", strings.Repeat("zz", 16), strings.Repeat("00", 16)} {
		if code, body := w.post(t, at+"/draw", "nonce", nonce); code != http.StatusBadRequest || !strings.Contains(body, "openssl rand -hex 16") {
			t.Errorf("nonce %q: %d", nonce, code)
		}
	}
	const nonce = "8f3a77c2095be1d64f10a9b3c85d2e71"
	if code, _ := w.post(t, at+"/draw", "nonce", nonce); code != http.StatusSeeOther {
		t.Fatalf("draw: %d", code)
	}
	page = w.must200(t, at)
	wants(t, "drawn", page, "NW-unit-", "aria-thermostat", "is not registered any more", nonce, "hawser device certify")
	lacks(t, "drawn", page, "Your nonce", "waits for")
	if n := strings.Count(page, `<th scope="row"`); n != 5 {
		t.Errorf("%d units are shown", n)
	}
	wants(t, "list", w.must200(t, "/evidence"), at, ">drawn<")
	if code, _ := w.post(t, at+"/draw", "nonce", "00"+nonce[2:]); code != http.StatusConflict {
		t.Errorf("drawn twice: %d", code)
	}
	if n := len(w.records(t, sampling.RecordDrawn)); n != 1 {
		t.Errorf("%d records of a draw", n)
	}
	kinds := begin("of", "records/sample-drawn", "size", "1", "from", w.now.Format(time.DateOnly), "until", w.now.Format(time.DateOnly))
	if code, _ := w.post(t, kinds+"/draw", "nonce", "11"+nonce[2:]); code != http.StatusSeeOther {
		t.Fatalf("draw records: %d", code)
	}
	wants(t, "records", w.must200(t, kinds), "1 of 1 records/sample-drawn", "is of an earlier ledger")

	ask := w.who.Check
	w.who.Check = func(p string) error {
		if p == "evidence.sample" {
			return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator")
		}
		return ask(p)
	}
	lacks(t, "for who is no assessor", w.must200(t, "/evidence"), "Begin a sample")
	if code, _ := w.post(t, "/evidence/samples", "of", "devices", "size", "5"); code != http.StatusForbidden {
		t.Errorf("who is no assessor begins one: %d", code)
	}
}

// TestPeriod: an assessor sees nothing from before the period: neither entries
// of the ledger nor observations nor samples, nor evidence.
func TestPeriod(t *testing.T) {
	w := newWorld(t, nil)
	w.prove(t, "", aCheck("a.b", "1.9", "It is so.", passes(1)))
	for range 60 { // more than one page of the ledger
		w.now = w.now.Add(time.Minute)
		w.look(t)
	}
	old := w.must200(t, "/ledger?kind=observations")
	from := w.now.Add(30 * time.Second)
	code, head := w.postHead(t, "/evidence/samples", "of", "devices", "size", "5")
	if code != http.StatusSeeOther {
		t.Fatalf("begin: %d", code)
	}
	earlier := head.Get("Location")
	for range 3 {
		w.now = w.now.Add(time.Minute)
		w.look(t)
	}
	wants(t, "everybody", old, ">Older<")
	w.who = w.assessor(from)
	page := w.must200(t, "/ledger?kind=observations")
	wants(t, "ledger", page, "Your period begins on")
	if n := strings.Count(page, "<tr><th scope=\"row\""); n != 3 {
		t.Errorf("an assessor sees %d entries of 3", n)
	}
	if older := regexp.MustCompile(`href="(/ledger[^"]*before=[^"]*)"`).FindStringSubmatch(page); older != nil {
		page = w.must200(t, strings.ReplaceAll(older[1], "&amp;", "&"))
		wants(t, "older", page, "There is no entry")
		lacks(t, "older", page, ">Older<")
	}
	history := func() int {
		_, list, _ := strings.Cut(w.must200(t, "/check/a.b"), "<h2>History</h2>")
		return strings.Count(list, "<td class=\"w\"><time")
	}
	if n := history(); n != 3 {
		t.Errorf("an assessor sees %d observations of 3", n)
	}
	// The console has just been opened, and reads the past back for everybody.
	w.who = w.visitor("auditor")
	n := history()
	for range 50 { // each page reads back for a moment only
		if n == sightsOnPage {
			break
		}
		n = history()
	}
	if n != sightsOnPage {
		t.Errorf("others see %d observations, not %d", n, sightsOnPage)
	}
	w.who = w.assessor(from)
	page = w.must200(t, "/evidence")
	lacks(t, "evidence", page, earlier, `value="year"`)
	if code, _ := w.get(t, earlier); code != http.StatusNotFound {
		t.Errorf("a sample from before: %d", code)
	}
	e := &evidence{body: "tar"}
	w.deps.Evidence = e
	w.serve(t)
	if code, _ := w.post(t, "/evidence", "span", "year"); code != http.StatusBadRequest {
		t.Errorf("a year: %d", code)
	}
	if code, _ := w.post(t, "/evidence", "span", "period"); code != http.StatusOK || len(e.written) != 1 || !e.written[0].Equal(from) {
		t.Errorf("the period: %d, %v", code, e.written)
	}
	if code, _ := w.post(t, "/evidence/samples", "of", "records/observations", "size", "1", "from", from.AddDate(0, 0, -1).Format(time.DateOnly), "until", from.Format(time.DateOnly)); code != http.StatusForbidden {
		t.Errorf("records from before: %d", code)
	}
}

// TestRecordKinds: every kind of record that the program writes can be chosen.
func TestRecordKinds(t *testing.T) {
	constant := regexp.MustCompile(`RecordKind = "([a-z-]+)"`)
	var want []string
	for _, pattern := range []string{"../*/*.go", "../*/*/*.go"} {
		names, err := filepath.Glob(pattern)
		must(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			b, err := os.ReadFile(name)
			must(t, err)
			for _, m := range constant.FindAllStringSubmatch(string(b), -1) {
				want = append(want, m[1])
			}
		}
	}
	slices.Sort(want)
	if want = slices.Compact(want); len(want) < 40 || !slices.Equal(want, recordKinds()) {
		t.Errorf("the program writes %d kinds: %v", len(want), want)
	}
}
