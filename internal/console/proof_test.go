package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// roundsIn finds rounds in the real ledger, as the server does.
type roundsIn struct{ l *ledger.Ledger }

func (r roundsIn) Round(ctx context.Context, number, from uint64) (assurance.RoundRecord, error) {
	found, _, err := r.l.List(ctx, ledger.Filter{Kind: assurance.RecordObserved}, from, 1000)
	if err != nil {
		return assurance.RoundRecord{}, err
	}
	for _, e := range found {
		if factOf(&e.Record, "round") == strconv.FormatUint(number, 10) {
			h, err := core.ParseHash(factOf(&e.Record, "digest"))
			return assurance.RoundRecord{Position: e.Position, Digest: h, Time: e.Record.Time}, err
		}
	}
	return assurance.RoundRecord{}, core.E(core.Unknown, "no-round-record", "no record", "")
}

func (r roundsIn) Waivers(ctx context.Context) (out []assurance.WaiverRecord, err error) {
	if _, err := r.l.Sequence(ctx); err != nil {
		return nil, err
	}
	for _, kind := range assurance.WaiverRecordKinds() {
		found, _, err := r.l.List(ctx, ledger.Filter{Kind: kind}, 0, 1000)
		if err != nil {
			return nil, err
		}
		for i := range found {
			x, err := assurance.ParseWaiverRecord(&found[i].Record)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}

// passes is a look at n things that are as they should be.
func passes(n int) func(context.Context, *check.Look) error {
	return func(_ context.Context, l *check.Look) error {
		l.Touch("table", "device_certificate")
		l.Touch("address", "127.0.0.1:8883")
		l.Expect("devices seen by the gateway", n)
		l.Pass(n)
		return nil
	}
}

// fails is a look at n things of which those named are not as they should be.
func fails(n int, text string, subjects ...string) func(context.Context, *check.Look) error {
	return func(_ context.Context, l *check.Look) error {
		l.Touch("address", "192.0.2.10:1883")
		l.Expect("sockets of the process", n)
		l.Exclude("127.0.0.1:6060", "bound to this machine only")
		l.Pass(n - len(subjects) - 1)
		for _, s := range subjects {
			l.Fail(s, "%s", text)
		}
		return nil
	}
}

func aCheck(id, row, says string, look func(context.Context, *check.Look) error) check.Check {
	c := check.Check{
		ID: id, Version: 1, Rows: []string{row}, Kind: check.Query, Says: says, Do: "find the process that opened it, and stop it",
		MaxAge: time.Minute, Look: look,
		Violations: []check.Violation{{ID: "one-breaks", Says: "Breaks one.", Do: func(context.Context, check.Twin) (func(context.Context) error, error) { return nil, nil }}},
	}
	if look == nil {
		c.Missing, c.Violations = "updates do not exist in this version", nil
	}
	return c
}

// prove opens assurance over these checks, takes a look with each, and closes
// a round. Each built check has been seen red but those named.
func (w *world) prove(t testing.TB, unseen string, checks ...check.Check) *assurance.Service {
	t.Helper()
	w.checks = checks
	w.reprove(t)
	s := w.proof
	var proofs []check.Proof
	for i := range checks {
		c := &checks[i]
		for _, v := range c.Violations {
			if c.ID == unseen {
				continue
			}
			proofs = append(proofs, check.Proof{
				Check: c.ID, Version: 1, Program: "1.4.0", Violation: v.ID, Taken: w.now.Add(-2 * time.Hour), Expires: w.now.Add(6 * 24 * time.Hour),
				Before: check.Pass, Red: check.Fail, After: check.Pass, Saw: "127.0.0.1:1883: takes connections without TLS",
			})
		}
	}
	must(t, s.Prove(t.Context(), proofs...))
	w.look(t)
	return s
}

// look takes a look with every check and closes a round.
func (w *world) look(t testing.TB) {
	t.Helper()
	var seen []check.Observation
	for i := range w.checks {
		if w.checks[i].Built() {
			seen = append(seen, check.Take(t.Context(), &w.checks[i], "1.4.0", func() time.Time { return w.now }, time.Second))
		}
	}
	must(t, w.proof.Observe(t.Context(), seen...))
	must(t, w.proof.CloseRound(t.Context()))
	_, err := w.log.Sequence(t.Context())
	must(t, err)
}

// TestTodaySaysFiveNumbers: live, bench, attested, not proved and failing
// stand apart; there is no percentage.
func TestTodaySaysFiveNumbers(t *testing.T) {
	w := newWorld(t, nil)
	page := w.must200(t, "/")
	wants(t, "before the first look", page, "No check has looked yet.", "<b>63</b>", "Not proved")
	lacks(t, "before the first look", page, "%")
	w.prove(t, "never.red",
		aCheck("passwords.none", "1.9", "No password is shared.", passes(4)),
		aCheck("passwords.change", "1.10", "A set-up code opens nothing else.", passes(4)),
		aCheck("passwords.certificate", "2.15", "Each unit has its own.", passes(4)),
		aCheck("access.policy", "4.4", "Expiry ran.", fails(9, "is 2 days late", "k2592000/20261001T000000Z")),
		aCheck("never.red", "4.7", "It has a disposal.", passes(3)),
		aCheck("updates.signed", "5.14", "Updates are signed.", nil),
	)
	page = w.must200(t, "/")
	wants(t, "today", page, ">Proved live<", ">Failing<", "DS-05", "DM-03", "k2592000/20261001T000000Z")
	st, err := w.proof.State(t.Context())
	must(t, err)
	h := st.Headline
	if h.Live != 1 || h.Failing != 1 || h.Live+h.Bench+h.Attested+h.NotProved+h.Failing+h.NotApplicable != 63 {
		t.Fatalf("headline %+v", h)
	}
	for _, c := range st.Controls {
		wants(t, "today", page, `href="/control/`+string(c.Control.ID)+`"`)
	}
	if n := len(page); n > 90<<10 {
		t.Errorf("the page has %d bytes", n)
	}
	failing := w.must200(t, "/?show=failing")
	wants(t, "failing", failing, "DM-03", "Shown: 1 of")
	lacks(t, "failing", failing, `href="/control/DS-05"`, "%")
	wants(t, "bench", w.must200(t, "/?show=bench"), "None is Proved on the bench.")
	wants(t, "a filter that does not exist", w.must200(t, "/?show=%3Cscript%3E"), "DS-05", "DM-03")

	// The part that our script asks for is a part, and nothing else.
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	must(t, err)
	r.Header.Set(fragmentHeader, "live")
	code, part := w.ask(t, r)
	if code != http.StatusOK || strings.Contains(part, "<nav") || !strings.Contains(part, "data-live") {
		t.Errorf("part: %d %.200s", code, part)
	}
	w.who = Visitor{}
	if code, _ := w.ask(t, r); code != http.StatusUnauthorized {
		t.Errorf("part for nobody: %d", code)
	}
}

// TestControl follows one control down to what was seen, what was touched, the
// proof that the check turns red, and the place in the ledger.
func TestControl(t *testing.T) {
	w := newWorld(t, nil)
	bad := true
	w.prove(t, "",
		aCheck("listeners.cleartext", "2.8", "Nothing listens in clear.", func(ctx context.Context, l *check.Look) error {
			if bad {
				return fails(5, "takes connections without TLS", "192.0.2.10:1883")(ctx, l)
			}
			return passes(5)(ctx, l)
		}),
		aCheck("disk.sealed", "2.9", "Nothing lies in clear on disk.", func(context.Context, *check.Look) error { return errors.New("the disk is away") }),
		aCheck("updates.signed", "5.14", "Updates are signed.", nil),
	)
	page := w.must200(t, "/control/RP-03")
	wants(t, "control", page, "Nothing listens in clear.", "takes connections without TLS", "192.0.2.10:1883", "in all (sockets of the process)", "Find the process that opened it",
		"What was touched", "Seen to turn red (1 of 1)", "pass, fail, pass", "round 1", "of the ledger", "bound to this machine only", "the disk is away", "/waivers?row=2.8#ask", "so for as long as remembered")
	first := w.now
	w.now = w.now.Add(20 * time.Second)
	w.look(t)
	bad, w.now = false, w.now.Add(20*time.Second)
	w.look(t)
	w.now = w.now.Add(20 * time.Second)
	w.look(t)
	page = w.must200(t, "/control/RP-03")
	wants(t, "mended", page, "round 4", "so since "+`<time datetime="`+first.Add(40*time.Second).Format(time.RFC3339))
	wants(t, "history", w.must200(t, "/check/listeners.cleartext"), "version 1", "as it should be", "not as it should be", "<rect", "2.8", "60 seconds")
	wants(t, "not built", w.must200(t, "/check/updates.signed"), "It has never looked.", "Updates do not exist in this version.")
	for _, bad := range []string{"/control/XX-01", "/control/%3Cb%3E", "/check/none"} {
		if code, _ := w.get(t, bad); code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
	// The link leads to the record of the round.
	i := strings.Index(page, "/ledger?before=")
	wants(t, "ledger", w.must200(t, strings.SplitN(page[i:], `"`, 2)[0]), "observations", ">4</span>")
}

// TestAgesAreThoseOfTheVerdict: where a product is guarded more strictly, an
// observation counts for less long, and the page says so and why.
func TestAgesAreThoseOfTheVerdict(t *testing.T) {
	w := newWorld(t, nil)
	w.publish(t, example(t, "story-bear"))
	c := aCheck("a.b", "1.9", "So.", passes(1))
	c.MaxAge = 8 * time.Hour
	w.prove(t, "", c)
	wants(t, "check", w.must200(t, "/check/a.b"), "2 hours, and not 8 hours", "story-bear is of the high level")
	wants(t, "control", w.must200(t, "/control/DS-05"), "counts until "+w.now.Add(2*time.Hour).Format("15:04:05"))
	for after, want := range map[time.Duration]assurance.Verdict{119 * time.Minute: assurance.Met, 121 * time.Minute: assurance.Stale} {
		began := w.now
		w.now = began.Add(after)
		st, err := w.proof.State(t.Context())
		must(t, err)
		if k, _ := findCheck(&st, "a.b"); k.Verdict != want {
			t.Errorf("%s later it is %s, want %s", after, k.Verdict, want)
		}
		w.now = began
	}
}

// TestWhatToDo: the help fits how the check stands; a deed that mends is only
// said where something is wrong.
func TestWhatToDo(t *testing.T) {
	w := newWorld(t, nil)
	w.prove(t, "never.red",
		aCheck("is.fine", "1.1", "So.", passes(1)), aCheck("never.red", "1.2", "So.", passes(1)), aCheck("has.failed", "1.4", "So.", fails(9, "is bad", "x")),
		aCheck("saw.nothing", "1.6", "So.", func(_ context.Context, l *check.Look) error { l.Touch("table", "t"); l.Expect("s", 0); return nil }),
		aCheck("could.not", "1.7", "So.", func(context.Context, *check.Look) error { return errors.New("away") }), aCheck("is.missing", "1.8", "So.", nil),
	)
	st, err := w.proof.State(t.Context())
	must(t, err)
	for id, want := range map[string]string{
		"is.fine": "", "is.missing": "", "never.red": "hawser check selftest", "has.failed": "find the process", "saw.nothing": "when there is something to look at", "could.not": "`hawser check run could.not`",
	} {
		k, _ := findCheck(&st, id)
		if got := todo(k); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s is %s: %q, want %q", id, k.Verdict, got, want)
		}
	}
	w.now = w.now.Add(time.Hour)
	if st, err = w.proof.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k, _ := findCheck(&st, "is.fine"); k.Verdict != assurance.Stale || !strings.Contains(todo(k), "have it look") {
		t.Errorf("an hour later it is %s: %q", k.Verdict, todo(k))
	}
	wants(t, "what is typed", w.must200(t, "/control/DS-01"), "<code>hawser check run is.fine</code>")
}

// TestCommandsExist: what pages tell people to type is in the reference of the
// command line.
func TestCommandsExist(t *testing.T) {
	reference, err := os.ReadFile("../../docs/cli.md")
	must(t, err)
	names, err := fs.Glob(templateFiles, "templates/*.html")
	must(t, err)
	seen := 0
	for _, n := range names {
		b, err := fs.ReadFile(templateFiles, n)
		must(t, err)
		for _, m := range regexp.MustCompile(`<code>(hawser [a-z]+(?: [a-z]+\b)?)([^<]*)</code>`).FindAllStringSubmatch(string(b), -1) {
			seen++
			if !strings.Contains(string(reference), "\n## "+m[1]+"\n") {
				t.Errorf("%s: `%s` does not exist", n, m[1])
			}
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(m[2], -1) {
				if !strings.Contains(string(reference), "| `"+flag) {
					t.Errorf("%s: `%s` has no %s", n, m[1], flag)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("found %d commands", seen)
	}
}

// TestTampered: evidence that was changed behind the program's back is said so
// on the first page.
func TestTampered(t *testing.T) {
	w := newWorld(t, nil)
	w.prove(t, "", aCheck("a.b", "1.9", "It is so.", passes(1)))
	must(t, w.exec(t, `UPDATE assurance_round SET digest = zeroblob(32)`))
	w.reprove(t)
	wants(t, "today", w.must200(t, "/"), "The evidence was tampered with", "Tampered with")
}

func (w *world) manyChecks() []check.Check {
	var out []check.Check
	for i, r := range assurance.Rows() {
		look := passes(3 + i*7%900)
		switch {
		case i%11 == 4:
			look = fails(12, "is not as it was declared", fmt.Sprintf("device-%d", i), "192.0.2.10:1883")
		case i%7 == 3:
			look = nil
		case i%13 == 6:
			look = func(context.Context, *check.Look) error { return errors.New("connect: connection refused") }
		}
		out = append(out, aCheck("area."+strings.ReplaceAll(string(r.ID), ".", "-"), string(r.ID), r.Must+".", look))
	}
	return out
}
