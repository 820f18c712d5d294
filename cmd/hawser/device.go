package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

func deviceCommands() []*command {
	return []*command{
		{
			name: "device add", args: "SERIAL --product PRODUCT [--station WORD] [--hardware WORD] [--batch WORD]", nargs: [2]int{1, 1},
			short: "register a unit and print its enrolment code",
			long: `Registers one unit by its serial number and prints its enrolment code, once.
Hawser keeps only a hash of it. The code is for this unit alone, is spent when
the unit first connects with its certificate, and can be asked for again until then.
Where the unit comes from is written once, as its birth record, and its digest stands in
the ledger: station, hardware revision and batch are words that are kept for ever, so
they name no person.`,
			example: "hawser device add A1 --product aria-thermostat --station line-4 --hardware C --batch 2026-W47",
			flags: func(e *env) {
				e.str("product", "", "the `product` of a published declaration")
				e.str("station", "", "the line or bench where it is registered, a `word`")
				e.str("hardware", "", "hardware revision, a `word`")
				e.str("batch", "", "batch, a `word`")
			},
			run: deviceAdd,
		},
		{
			name: "device list", nargs: [2]int{0, 0},
			short:   "list the units",
			long:    "Lists every unit of the register: product, state, how long its certificate is good, whether it is connected.",
			example: "hawser device list",
			run:     deviceList,
		},
		{
			name: "device show", args: "SERIAL", nargs: [2]int{1, 1},
			short: "show one unit and what became of its messages",
			long: `Shows one unit: where it comes from, state, certificate, connection, how many of
its messages were accepted, dropped and refused, by reason, and why its connections
were refused or ended lately.`,
			example: "hawser device show A1",
			run:     deviceShow,
		},
		{
			name: "device revoke", args: "SERIAL --cause WORD [--reason TEXT]", nargs: [2]int{1, 1},
			short: "cut a unit off for good",
			long: `Revokes the unit's certificates. A live session is cut within one second, the
unit cannot renew, and a receipt stands in the ledger.
` + aboutWhy,
			example: `hawser device revoke A1 --cause stolen --reason "from the test lab"`,
			flags:   whyFlags,
			run:     deviceRevoke,
		},
		{
			name: "device code", args: "SERIAL", nargs: [2]int{1, 1},
			short: "make a new enrolment code for a unit",
			long: `Makes a new enrolment code, for a unit that lost its key or was revoked. The old
code and an unused certificate stop working; the good certificate stays good until the
one got with the new code is used.`,
			example: "hawser device code A1",
			run:     deviceCode,
		},
		{
			name: "device release", args: "SERIAL --cause WORD [--reason TEXT]", nargs: [2]int{1, 1},
			short: "take a unit out of quarantine",
			long: `A unit is in quarantine after two machines seemed to use its certificate: one that
had been replaced came back, or two took the session from each other. Its readings wait
on the unit, without an answer. Release it when you know which of the two is the unit;
give it a new code first if the copy has the certificate that is good now. Certificates
that were replaced before are refused from then on.
` + aboutWhy,
			example: `hawser device release A1 --cause copy-found --reason "the lab's image"`,
			flags:   whyFlags,
			run:     deviceRelease,
		},
		{
			name: "device reopen", args: "SERIAL", nargs: [2]int{1, 1},
			short: "begin a new ownership after an erasure",
			long: `After an erasure a unit has no owner: its readings are acknowledged, dropped and
counted. This begins a new ownership with a new key; nothing of the old one comes back.`,
			example: "hawser device reopen A1",
			run:     deviceReopen,
		},
	}
}

func reasonFlag(e *env) {
	e.str("reason", "", "why, in a `text` of 5 to 300 characters that stands in the ledger")
}

// aboutWhy is what becomes of the two flags of whyFlags.
const aboutWhy = `The cause stands in clear in the ledger, from which nothing can be erased. The reason
is sealed under the key of the unit's present owner and goes with it; when the unit has
no owner, it is not kept.`

func whyFlags(e *env) {
	words := []string{}
	for _, c := range identity.Causes() {
		words = append(words, string(c))
	}
	e.str("cause", "", "why, a `word`: "+strings.Join(words, ", ")+" (without one: other)")
	e.str("reason", "", "what there is to add, a `text`")
}

func devicePath(e *env, tail string) string { return "/v1/devices/" + url.PathEscape(e.args[0]) + tail }

func deviceAdd(ctx context.Context, e *env) error {
	req := api.AddDeviceRequest{
		Device: core.DeviceID(e.args[0]), Product: core.ProductID(*e.opt["product"]),
		Station: *e.opt["station"], Hardware: *e.opt["hardware"], Batch: *e.opt["batch"],
	}
	if err := req.Validate(); err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.DeviceAdded
	if err := c.Call(ctx, "POST", "/v1/devices", req, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { printCode(w, out) })
}

func printCode(w io.Writer, d api.DeviceAdded) {
	fmt.Fprintf(w, "%s, product %s. Its enrolment code, shown only now:\n\n  %s\n\n", d.Device, d.Product, d.Code)
	fmt.Fprintf(w, "Give it to that unit alone, in a file:\n\n  hawser-agent --serial %s --code-file FILE …\n", d.Device)
}

func deviceCode(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.DeviceAdded
	if err := c.Call(ctx, "POST", devicePath(e, "/code"), nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { printCode(w, out) })
}

func deviceRelease(ctx context.Context, e *env) error {
	return whyCall(ctx, e, devicePath(e, "/release"), func(w io.Writer, r api.Receipt) {
		if r.Time.IsZero() {
			fmt.Fprintf(w, "%s was not in quarantine\n", r.Device)
			return
		}
		fmt.Fprintf(w, "%s is out of quarantine\n", r.Device)
	})
}

func deviceList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	out := []api.Device{}
	for after := ""; ; {
		var page []api.Device
		if err := c.Call(ctx, "GET", "/v1/devices?after="+url.QueryEscape(after), nil, &page); err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		out = append(out, page...)
		after = string(page[len(page)-1].Device)
	}
	return e.print(out, func(w io.Writer) {
		if len(out) == 0 {
			fmt.Fprintln(w, "no devices yet; `hawser device add SERIAL --product PRODUCT` registers the first")
			return
		}
		var rows [][]string
		for _, d := range out {
			until := "-"
			if d.NotAfter != nil {
				until = d.NotAfter.Format("2006-01-02 15:04")
			}
			if d.Hub != "" {
				until = "vouched for by hub " + string(d.Hub)
			}
			rows = append(rows, []string{string(d.Device), string(d.Product), d.State, until, yesNo(d.Connected)})
		}
		table(w, []string{"SERIAL", "PRODUCT", "STATE", "CERTIFICATE UNTIL (UTC)", "CONNECTED"}, rows)
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func deviceShow(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var d api.Device
	if err := c.Call(ctx, "GET", devicePath(e, ""), nil, &d); err != nil {
		return err
	}
	return e.print(d, func(w io.Writer) {
		rows := [][]string{{"product", string(d.Product)}, {"state", d.State}, {"connected", yesNo(d.Connected)}}
		if d.Quarantined != nil {
			rows = append(rows, []string{"quarantine", "since " + d.Quarantined.Format("2006-01-02 15:04 MST") + ": " + suspicion(d.Suspicion)})
		}
		if d.Subject != "" {
			rows = append(rows, []string{"subject", d.Subject + "  (pseudonym of the present ownership)"})
		} else {
			rows = append(rows, []string{"subject", "none: its readings are acknowledged, dropped and counted; `hawser device reopen` begins an ownership"})
		}
		switch {
		case d.Hub != "":
			rows = append(rows, []string{"vouched for by", "hub " + string(d.Hub) + ", since " + d.HubSince.Format("2006-01-02 15:04 MST") + "; it has no certificate of its own"})
		case d.Child:
			rows = append(rows, []string{"vouched for by", "no hub at present; `hawser child adopt HUB " + string(d.Device) + "` gives it one"})
		}
		if d.NotAfter != nil {
			rows = append(rows, []string{"certificate", d.Certificate + ", until " + d.NotAfter.Format("2006-01-02 15:04 MST")})
		}
		if b := d.Birth; b != nil {
			rows = append(rows, birthRows(b)...)
		}
		table(w, []string{"device", string(d.Device)}, rows)
		if d.Counts != nil {
			fmt.Fprintln(w)
			printCounts(w, *d.Counts)
		}
		printRefusals(w, d.Refusals)
	})
}

// birthRows is where a unit comes from (CC 1.7).
func birthRows(b *api.Birth) [][]string {
	added := b.Added.Format("2006-01-02 15:04 MST") + ", by " + b.By
	if b.Station != "" {
		added += ", at " + b.Station
	}
	rows := [][]string{{"added", added}}
	if b.Door != "" {
		rows = append(rows, []string{"came by", b.Door})
	}
	for _, x := range [][]string{{"hardware", b.Hardware}, {"batch", b.Batch}, {"factory source", b.Source}} {
		if x[1] != "" {
			rows = append(rows, x)
		}
	}
	if b.Enrolled != nil {
		rows = append(rows, []string{"enrolled", b.Enrolled.Format("2006-01-02 15:04 MST") + ", key made by the " + b.KeyOrigin})
	}
	if b.Key != "" {
		rows = append(rows, []string{"first key", b.Key})
	}
	if b.Digest != "" {
		rows = append(rows, []string{"birth record", b.Digest + "  (the digest that stands in the ledger)"})
	}
	return rows
}

// printRefusals says how often, and when last, connections were refused or
// ended for each reason.
func printRefusals(w io.Writer, all []api.Refusal) {
	type sum struct {
		n    int
		last api.Refusal
	}
	by := map[string]sum{}
	for _, r := range all {
		by[r.Reason] = sum{by[r.Reason].n + 1, r}
	}
	if len(by) == 0 {
		return
	}
	var rows [][]string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		s := by[reason]
		rows = append(rows, []string{reason, fmt.Sprint(s.n), s.last.Time.Format("2006-01-02 15:04:05"), s.last.Source})
	}
	fmt.Fprintln(w)
	table(w, []string{"CONNECTIONS ENDED", "TIMES", "LAST (UTC)", "FROM"}, rows)
}

// suspicion is what was seen, in a sentence.
func suspicion(word string) string {
	switch word {
	case "certificate-used-twice":
		return "two machines take the session of its certificate from each other"
	case "superseded-certificate-used":
		return "a certificate was used after its successor had been"
	}
	return word
}

func deviceRevoke(ctx context.Context, e *env) error {
	return whyCall(ctx, e, devicePath(e, "/revoke"), func(w io.Writer, r api.Receipt) {
		fmt.Fprintf(w, "%s is revoked. The receipt stands in the ledger (%s).\n", r.Device, r.Time.Format("2006-01-02 15:04:05 MST"))
	})
}

func deviceReopen(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var r api.Receipt
	if err := c.Call(ctx, "POST", devicePath(e, "/reopen"), nil, &r); err != nil {
		return err
	}
	return e.print(r, func(w io.Writer) { fmt.Fprintf(w, "%s has a new ownership, subject %s.\n", r.Device, r.Subject) })
}

// whyCall posts why something ends and prints the receipt that comes back.
func whyCall(ctx context.Context, e *env, path string, human func(io.Writer, api.Receipt)) error {
	req := api.WhyRequest{Cause: *e.opt["cause"], Reason: *e.opt["reason"]}
	if err := req.Validate(); err != nil {
		return err
	}
	return post(ctx, e, path, req, func(w io.Writer, r api.Receipt) {
		human(w, r)
		if req.Reason != "" && !r.Time.IsZero() && r.Facts["reason_kept"] != "true" {
			fmt.Fprintln(w, "The reason was not kept: there is no owner under whose key it could be sealed.")
		}
	})
}

// receiptCall posts the reason and prints the receipt that comes back.
func receiptCall(ctx context.Context, e *env, path string, human func(io.Writer, api.Receipt)) error {
	req := api.ReasonRequest{Reason: *e.opt["reason"]}
	if err := req.Validate(); err != nil {
		return err
	}
	return post(ctx, e, path, req, human)
}

func post(ctx context.Context, e *env, path string, req any, human func(io.Writer, api.Receipt)) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var r api.Receipt
	if err := c.Call(ctx, "POST", path, req, &r); err != nil {
		return err
	}
	return e.print(r, func(w io.Writer) { human(w, r) })
}
