package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/server"
)

func checkCommands() []*command {
	only := func(e *env) {
		e.str("verdict", "", "only rows of this `verdict`: met, failing, unproven, …")
		e.str("control", "", "only rows of this `control`: DS-05, …")
	}
	return []*command{
		{
			name: "check list", nargs: [2]int{0, 0},
			short: "is each of the guide's recommendations followed today?",
			long: `Lists the 132 rows of the mission: which recommendation each belongs to, the checks
that look at it, how it stands and why. Nobody can set how it stands: it follows from
what the checks saw, and a check that was never seen to turn red counts for nothing.`,
			example: "hawser check list --control RP-03",
			flags:   only,
			run:     checkList,
		},
		{
			name: "check run", args: "[CHECK]", nargs: [2]int{0, 1},
			short: "look now, with one check, those of one row, or all",
			long: `The server looks by itself, the most important things every twenty seconds. This makes
it look at once, keeps what was seen like any other observation, and says how the rows
stand then. The exit code is 1 when anything fails.`,
			example: "hawser check run --row 2.8",
			flags:   func(e *env) { e.str("row", "", "only the checks of this `row`") },
			run:     checkRun,
		},
		{
			name: "check claims", nargs: [2]int{0, 0},
			short: "may the products' public promises be made today?",
			long: `Lists the claims of the declarations in force, and how the controls stand that each
rests on. A claim is proved while all of them are met; one that is not proved should not
be printed on a box.`,
			example: "hawser check claims",
			run:     checkClaims,
		},
		{
			name: "check selftest", nargs: [2]int{0, 0},
			short: "see every check turn red: break what it watches, on a twin",
			long: `Makes a twin: a disposable installation with keys, ports and a folder of its own, that
dials nobody; on Linux, where the system allows it, in a network of its own from which no
route leads out. On it, each check's violations are committed, through an outside surface or
on raw files, and the check must be green before, red during and green after. The running
server does this by itself with every new version and every week, and keeps the outcome as
evidence; this command shows it, without touching any installation. The exit code is 1
when a check was not seen red.`,
			example: "hawser check selftest --only doors",
			flags: func(e *env) {
				e.str("only", "", "only checks whose name begins with this `text`")
				e.flag("lines", "print each trial as a line of JSON, for the server that asked")
			},
			run: checkSelftest,
		},
	}
}

// rowLine is one row of `check list --json`.
type rowLine struct {
	Row      assurance.RowID     `json:"row"`
	Control  assurance.ControlID `json:"control"`
	Must     string              `json:"must"`
	Required bool                `json:"required"`
	Verdict  assurance.Verdict   `json:"verdict"`
	Why      string              `json:"why"`
	Checks   []checkLine         `json:"checks"`
}

type checkLine struct {
	Check         string            `json:"check"`
	Kind          check.Kind        `json:"kind"`
	MaxAgeSeconds int64             `json:"max_age_seconds"`
	Verdict       assurance.Verdict `json:"verdict"`
	Why           string            `json:"why"`
	Looked        *time.Time        `json:"looked,omitempty"`
}

func rowLines(st *assurance.State) []rowLine {
	out := []rowLine{}
	for _, r := range assurance.Rows() {
		x := st.Row(r.ID)
		if x == nil {
			continue
		}
		l := rowLine{Row: r.ID, Control: r.Control, Must: r.Must, Required: x.Required, Verdict: x.Verdict, Why: x.Why, Checks: []checkLine{}}
		for _, c := range x.Checks {
			cl := checkLine{Check: c.ID, Kind: c.Kind, MaxAgeSeconds: int64(c.MaxAge / time.Second), Verdict: c.Verdict, Why: c.Why}
			if c.Observation != nil {
				cl.Looked = &c.Observation.Began
			}
			l.Checks = append(l.Checks, cl)
		}
		out = append(out, l)
	}
	return out
}

func checkList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var st assurance.State
	if err := c.Call(ctx, "GET", "/v1/checks", nil, &st); err != nil {
		return err
	}
	rows := []rowLine{}
	for _, l := range rowLines(&st) {
		if (*e.opt["verdict"] == "" || string(l.Verdict) == *e.opt["verdict"]) && (*e.opt["control"] == "" || string(l.Control) == *e.opt["control"]) {
			rows = append(rows, l)
		}
	}
	return e.print(rows, func(w io.Writer) {
		printRows(w, rows)
		fmt.Fprintf(w, "\n63 recommendations: %s\n", st.Headline)
	})
}

func checkClaims(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	claims := []assurance.ClaimState{}
	if err := c.Call(ctx, "GET", "/v1/claims", nil, &claims); err != nil {
		return err
	}
	return e.print(claims, func(w io.Writer) {
		for _, x := range claims {
			mark := "NOT PROVED"
			if x.Proved {
				mark = "proved"
			}
			paragraph(w, fmt.Sprintf("%s: “%s”: %s", x.Product, x.Say, mark), 2)
			for _, r := range x.RestsOn {
				paragraph(w, fmt.Sprintf("  %s %s: %s", r.Control, r.Verdict, r.Why), 4)
			}
		}
		if len(claims) == 0 {
			fmt.Fprintln(w, "no declaration in force claims anything")
		}
	})
}

func printRows(w io.Writer, rows []rowLine) {
	var cells [][]string
	for _, l := range rows {
		var checks []string
		for _, c := range l.Checks {
			checks = append(checks, c.Check)
		}
		cells = append(cells, []string{string(l.Row), string(l.Control), string(l.Verdict), strings.Join(checks, " "), l.Why})
	}
	table(w, []string{"ROW", "CONTROL", "VERDICT", "CHECKS", "WHY"}, cells)
}

func checkRun(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	q := api.RunRequest{Row: *e.opt["row"]}
	if len(e.args) == 1 {
		q.Check = e.args[0]
	}
	p := e.progress("look")
	var st assurance.State
	err = c.Long(ctx, "POST", "/v1/checks/run", q, &st, p.share)
	p.end()
	if err != nil {
		return err
	}
	rows, failing := []rowLine{}, false
	for _, l := range rowLines(&st) {
		looked := false
		for _, k := range l.Checks {
			looked = looked || (q.Check == "" || k.Check == q.Check) && k.Looked != nil
		}
		if looked && (q.Row == "" || string(l.Row) == q.Row) {
			rows = append(rows, l)
			failing = failing || l.Verdict == assurance.Failing || l.Verdict == assurance.Tampered
		}
	}
	if err := e.print(rows, func(w io.Writer) { printRows(w, rows) }); err != nil {
		return err
	}
	if failing {
		return &quiet{exitFailed}
	}
	return nil
}

// trials is what `check selftest --json` prints.
type trials struct {
	Program string        `json:"program"`
	Seen    int           `json:"seen_red"`
	Unseen  int           `json:"not_seen_red"`
	Proofs  []check.Proof `json:"proofs"`
}

func checkSelftest(ctx context.Context, e *env) error {
	switch cut := os.Getenv(cutVar); {
	case cut == "try":
		return loopbackUp()
	case cut == "yes":
		if err := loopbackUp(); err != nil {
			return err
		}
	case cut == "" && e.io.alone:
		return again(ctx, e)
	}
	bar := e.progress("selftest")
	lines := json.NewEncoder(e.io.out)
	proofs, err := server.Selftest(ctx, server.SelftestOptions{
		Version: version, Alone: e.io.alone,
		Only: func(id string) bool { return strings.HasPrefix(id, *e.opt["only"]) },
		Progress: func(p check.Proof, done, total int) {
			bar.say(fmt.Sprintf("%d of %d trials", done, total))
			if *e.on["lines"] {
				_ = lines.Encode(p) // who asked is gone: so is the answer
			}
		},
	})
	bar.end()
	if err != nil {
		return err
	}
	t := trials{Program: version, Proofs: proofs}
	for i := range proofs {
		if proofs[i].OK() {
			t.Seen++
		} else {
			t.Unseen++
		}
	}
	if *e.on["lines"] {
		return nil
	}
	if len(proofs) == 0 {
		return core.E(core.Unknown, "no-trial", "no check begins with "+*e.opt["only"], "`hawser check list` names them")
	}
	if err := e.print(t, func(w io.Writer) {
		var rows [][]string
		for _, p := range proofs {
			mark, text := "seen red", p.Saw
			if !p.OK() {
				mark, text = "NOT SEEN RED", p.Error
			}
			rows = append(rows, []string{p.Check, p.Violation, mark, text})
		}
		table(w, []string{"CHECK", "VIOLATION", "", "WHAT IT SAID"}, rows)
		fmt.Fprintf(w, "\n%d seen red, %d not\n", t.Seen, t.Unseen)
	}); err != nil {
		return err
	}
	if t.Unseen > 0 {
		return &quiet{exitFailed}
	}
	return nil
}
