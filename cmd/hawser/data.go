package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

func dataCommands() []*command {
	return []*command{
		{
			name: "read", args: "SERIAL --purpose WORD --reason TEXT", nargs: [2]int{1, 1},
			short: "read a unit's readings back, for a purpose and with a reason",
			long: `Reads the readings of a unit's present ownership. The reason and who asked stand
in the ledger before the first value is shown, and the count after the last. You see
the fields that are collected for the purpose and whose readers include support; the
others are named as withheld. Without a purpose it says which ones there are.`,
			example: `hawser read A1 --purpose service.control --reason "ticket 4711: says it is cold" --from 2026-11-21T00:00:00Z`,
			flags: func(e *env) {
				reasonFlag(e)
				e.str("fields", "", "only these fields, a comma-separated `list`")
				e.str("from", "", "readings from this `time` on (RFC 3339)")
				e.str("to", "", "readings before this `time` (RFC 3339)")
				e.str("purpose", "", "the declared `purpose` that the read serves; required")
			},
			run: readData,
		},
		{
			name: "erase", args: "SERIAL --reason TEXT", nargs: [2]int{1, 1},
			short: "erase a unit's owner: destroy the key, everywhere, with a receipt",
			long: `Ends the unit's ownership and destroys its key: every reading of it becomes
unreadable at once, here and in every backup. This cannot be undone. The receipt
stands in the ledger. A legal hold keeps what it covers aside; the receipt says so.`,
			example: `hawser erase A1 --reason "owner asked by e-mail, case 12"`,
			flags:   reasonFlag,
			run:     erase,
		},
		{
			name: "hold place", args: "SERIAL --reason TEXT", nargs: [2]int{1, 1},
			short:   "put a unit's readings aside under a legal hold",
			long:    "Copies the readings of a unit's present ownership aside and keeps new ones, against expiry and erasure, until the hold is released.",
			example: `hawser hold place A1 --reason "court order 3 C 17/26"`,
			flags:   reasonFlag,
			run:     holdPlace,
		},
		{
			name: "hold list", nargs: [2]int{0, 0},
			short: "list the legal holds", long: "Lists the legal holds: since when, by whom, why.",
			example: "hawser hold list",
			run:     holdList,
		},
		{
			name: "hold release", args: "HOLD --reason TEXT", nargs: [2]int{1, 1},
			short:   "release a legal hold",
			long:    "Releases a hold and destroys what it kept aside.",
			example: `hawser hold release h-4f2a --reason "order lifted"`,
			flags:   reasonFlag,
			run:     holdRelease,
		},
		{
			name: "counts", nargs: [2]int{0, 0},
			short:   "what became of all messages",
			long:    "Prints how many messages were accepted, stored, dropped and refused, by reason, as the store counted them.",
			example: "hawser counts --json",
			run:     counts,
		},
	}
}

func readData(ctx context.Context, e *env) error {
	req := api.ReadRequest{Reason: *e.opt["reason"], Purpose: *e.opt["purpose"]}
	if f := *e.opt["fields"]; f != "" {
		req.Fields = strings.Split(f, ",")
	}
	for name, t := range map[string]*time.Time{"from": &req.From, "to": &req.To} {
		if v := *e.opt[name]; v != "" {
			parsed, err := time.Parse(time.RFC3339, v)
			if err != nil {
				return core.E(core.Invalid, "time", fmt.Sprintf("--%s %q is no time", name, v), "write it as in 2026-11-21T00:00:00Z")
			}
			*t = parsed
		}
	}
	if err := req.Validate(); err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var done *api.ReadDone
	err = c.Stream(ctx, "POST", devicePath(e, "/read"), req, func(line []byte) error {
		if e.json {
			if _, err := fmt.Fprintf(e.io.out, "%s\n", line); err != nil {
				return err
			}
		}
		var l api.ReadLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		switch {
		case l.Problem != nil:
			return core.E(core.Unavail, "read-broke-off", "the read broke off: "+l.Problem.Title, l.Problem.Hint)
		case l.Done != nil:
			done = l.Done
		case !e.json:
			note := ""
			if l.VouchedBy != "" {
				note = vouchedFor(l.VouchedBy)
			}
			if l.WrongClock {
				note += "  (time of receipt: the unit sent no possible time)"
			}
			paragraph(e.io.out, fmt.Sprintf("%s  %-12s %s%s", l.Time.Format("2006-01-02 15:04:05.000"), l.Stream, term.Safe(string(l.Values)), note), 25)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if done == nil {
		return core.E(core.Unavail, "read-cut-short", "the answer was cut short", "read again; the ledger shows this attempt")
	}
	if !e.json {
		printReadDone(e.io.out, e.args[0], done)
	}
	return nil
}

// printReadDone says how many readings there were, and all that keeps them from
// being the whole truth.
func printReadDone(w io.Writer, serial string, d *api.ReadDone) {
	fmt.Fprintln(w, count(d.Readings, "reading"))
	say := func(format string, args ...any) { paragraph(w, term.Safe(fmt.Sprintf(format, args...)), 2) }
	if len(d.Withheld) > 0 {
		say("not yours to see: %s", strings.Join(d.Withheld, ", "))
	}
	if d.Behind {
		say("the newest readings are not filed yet: read again in a moment")
	}
	if len(d.Damaged) > 0 {
		say("NOT COMPLETE: what lies in damaged files is missing: %s; see `hawser doctor`", strings.Join(d.Damaged, ", "))
	}
	if d.Unreadable > 0 {
		say("NOT COMPLETE: %s changed on disk and did not open; `hawser ledger verify` names the rows", count(d.Unreadable, "part"))
	}
	if d.Undeclared > 0 {
		say("FAULT of the server: %s stored that no declaration names; please report it", count(d.Undeclared, "value"))
	}
	if d.Readings == 0 {
		say("`hawser device show %s` says what became of its messages", serial)
	}
}

func erase(ctx context.Context, e *env) error {
	return receiptCall(ctx, e, devicePath(e, "/erase"), func(w io.Writer, r api.Receipt) {
		fmt.Fprintf(w, "%s: the owner's key is destroyed (%s). Receipt, as it stands in the ledger:\n", r.Device, r.Destroys)
		for _, k := range slices.Sorted(maps.Keys(r.Facts)) {
			fmt.Fprintf(w, "  %-24s %s\n", strings.ReplaceAll(k, "_", " "), r.Facts[k])
		}
		fmt.Fprintf(w, "Until `hawser device reopen %s`, its readings are acknowledged, dropped and counted.\n", r.Device)
	})
}

func holdPlace(ctx context.Context, e *env) error {
	return receiptCall(ctx, e, devicePath(e, "/hold"), func(w io.Writer, r api.Receipt) {
		fmt.Fprintf(w, "hold %s is on %s\n", r.Facts["hold"], r.Device)
	})
}

func holdRelease(ctx context.Context, e *env) error {
	return receiptCall(ctx, e, "/v1/holds/"+url.PathEscape(e.args[0])+"/release", func(w io.Writer, _ api.Receipt) {
		fmt.Fprintf(w, "hold %s is released\n", e.args[0])
	})
}

func holdList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out []api.Hold
	if err := c.Call(ctx, "GET", "/v1/holds", nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		if len(out) == 0 {
			fmt.Fprintln(w, "no legal holds")
			return
		}
		var rows [][]string
		for _, h := range out {
			rows = append(rows, []string{h.ID, string(h.Device), h.Subject, fmt.Sprint(h.Rows), h.Since.Format("2006-01-02 15:04"), h.By, h.Reason})
		}
		table(w, []string{"HOLD", "DEVICE", "SUBJECT", "ROWS", "SINCE (UTC)", "BY", "REASON"}, rows)
	})
}

func counts(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.Counts
	if err := c.Call(ctx, "GET", "/v1/counts", nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { printCounts(w, out) })
}

func printCounts(w io.Writer, c api.Counts) {
	rows := [][]string{
		{"accepted", fmt.Sprint(c.Accepted)},
		{"stored", fmt.Sprint(c.Stored)},
		{"fields dropped", fmt.Sprint(c.DroppedFields)},
		{"sent twice, stored once", fmt.Sprint(c.Duplicates)},
	}
	for _, r := range slices.Sorted(maps.Keys(c.Dropped)) {
		rows = append(rows, []string{"dropped: " + r, fmt.Sprint(c.Dropped[r])})
	}
	for _, r := range slices.Sorted(maps.Keys(c.Refused)) {
		rows = append(rows, []string{"refused: " + r, fmt.Sprint(c.Refused[r])})
	}
	table(w, []string{"MESSAGES", ""}, rows)
}
