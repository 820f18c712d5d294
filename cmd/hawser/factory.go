package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

func factoryCommands() []*command {
	bounds := func(e *env) {
		e.str("product", "", "the `product` of a published declaration")
		e.str("until", "", "the last `day` on which something new is taken, as in 2027-06-30")
		e.str("max-units", "", "how many units it may bring in all, a `number`")
	}
	return []*command{
		{
			name: "factory line", args: "NAME --key FILE --product PRODUCT --until DAY --max-units N", nargs: [2]int{1, 1},
			short: "take the signed lists of a production line",
			long: `Registers a production line by the key that signs its lists, for one declared product,
until a day and up to a number of units, so that a stolen key brings no more. The key is
Ed25519 and is made on the line's own machine, which it never leaves:
  ssh-keygen -t ed25519 -f line-4
Give line-4.pub here. The name stands in the ledger for ever: it names no person.`,
			example: "hawser factory line line-4 --key line-4.pub --product aria-thermostat --until 2027-06-30 --max-units 20000",
			flags: func(e *env) {
				e.str("key", "", "the line's public key, a `file` that ssh-keygen wrote")
				bounds(e)
			},
			run: factoryLine,
		},
		{
			name: "factory authority", args: "NAME --certificate FILE --serial-from cn|serialNumber --product PRODUCT --until DAY --max-units N", nargs: [2]int{1, 1},
			short: "take the birth certificates of a factory's authority",
			long: `Registers an authority of yours that gives each unit a birth certificate in the factory.
A unit that shows one gets its operational certificate over EST, for a new key, and can
do so again when it has lost all else. A unit is registered when it first comes, until
the day and up to the number given here. --serial-from says where a birth certificate has
the serial number: in the common name, or in serialNumber as IEEE 802.1AR has it. A unit
that is on a line's list, or has an enrolment code, cannot be taken over by one.`,
			example: "hawser factory authority works-2 --certificate works-2.pem --serial-from serialNumber --product aria-thermostat --until 2027-06-30 --max-units 20000",
			flags: func(e *env) {
				e.str("certificate", "", "the authority's certificate, a PEM `file`")
				e.str("serial-from", "", "`place` of the serial number: cn or serialNumber")
				bounds(e)
			},
			run: factoryAuthority,
		},
		{
			name: "factory list", args: "FILE --signature FILE", nargs: [2]int{1, 1},
			short: "register the units of a line's signed list",
			long: `Registers all units of a list, or none. A list is CSV:
  # hawser factory list 1
  # product: aria-thermostat
  # line: line-4
  # list: 2026-W47
  serial,sha256
  A100,SHA-256 of the unit's public key (SubjectPublicKeyInfo, DER) in hexadecimal digits
with hardware and batch in the head if you like, or JSON, an object per line:
  {"factory_list":1,"product":"aria-thermostat","line":"line-4","list":"2026-W47"}
  {"serial":"A100","sha256":"..."}
up to 50,000 units each. The line signs the very file, which writes FILE.sig:
  ssh-keygen -Y sign -n hawser-factory-list -f line-4 FILE
A list that was taken is taken again without effect; another of the same name, a serial
number or a key that is known, and a list that was altered are refused.`,
			example: "hawser factory list w47.csv --signature w47.csv.sig",
			flags:   func(e *env) { e.str("signature", "", "what ssh-keygen wrote, a `file`") },
			run:     factoryList,
		},
		{
			name: "factory show", nargs: [2]int{0, 0},
			short:   "lines, lists and authorities, and what each brought",
			long:    "Shows the production lines and authorities that are taken, until when, how many units each brought of how many, and every list.",
			example: "hawser factory show",
			run: func(ctx context.Context, e *env) error {
				return factoryCall(ctx, e, "GET", "/v1/factory", nil)
			},
		},
		{
			name: "factory end", args: "line|authority NAME --cause WORD", nargs: [2]int{2, 2},
			short: "take nothing more from a line or an authority",
			long: `Ends a line or an authority: its lists and birth certificates open nothing any more. Units
that enrolled keep their certificates; a unit that has not enrolled needs a code. The cause
stands in clear in the ledger. A line that goes on is registered with a new key and name.`,
			example: "hawser factory end line line-4 --cause compromised",
			flags:   func(e *env) { e.str("cause", "", "why, a `word`: compromised, retired, test, other") },
			run: func(ctx context.Context, e *env) error {
				kind := map[string]string{"line": "lines", "authority": "authorities"}[e.args[0]]
				if kind == "" {
					return core.E(core.Invalid, "factory-kind", "it is not said what ends", "write `hawser factory end line NAME` or `hawser factory end authority NAME`")
				}
				return factoryCall(ctx, e, "POST", "/v1/factory/"+kind+"/"+url.PathEscape(e.args[1])+"/end", api.EndFactoryRequest{Cause: *e.opt["cause"]})
			},
		},
	}
}

// readSmall reads a file that the server would refuse if it were larger.
func readSmall(path, flag string, most int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", core.E(core.Invalid, "file", "a file cannot be read: "+err.Error(), "name it with "+flag)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > most {
		return "", core.E(core.TooLarge, "file", fmt.Sprintf("%s is larger than %d KB", path, most>>10), "is it the right file?")
	}
	return string(b), nil
}

func maxUnits(e *env) (int, error) {
	n, err := strconv.Atoi(*e.opt["max-units"])
	if err != nil {
		return 0, core.E(core.Invalid, "factory-units", "the number of units is missing or no number", "give --max-units: how many are made at most")
	}
	return n, nil
}

func factoryLine(ctx context.Context, e *env) error {
	n, err := maxUnits(e)
	if err != nil {
		return err
	}
	key, err := readSmall(*e.opt["key"], "--key", 4<<10)
	if err != nil {
		return err
	}
	return factoryCall(ctx, e, "POST", "/v1/factory/lines", api.AddFactoryLineRequest{
		Line: e.args[0], Product: core.ProductID(*e.opt["product"]), Key: key, Until: *e.opt["until"], MaxUnits: n,
	})
}

func factoryAuthority(ctx context.Context, e *env) error {
	n, err := maxUnits(e)
	if err != nil {
		return err
	}
	cert, err := readSmall(*e.opt["certificate"], "--certificate", identity.MaxFactoryCABytes)
	if err != nil {
		return err
	}
	return factoryCall(ctx, e, "POST", "/v1/factory/authorities", api.AddFactoryCARequest{
		Name: e.args[0], Product: core.ProductID(*e.opt["product"]), Certificate: cert, SerialFrom: *e.opt["serial-from"], Until: *e.opt["until"], MaxUnits: n,
	})
}

func factoryList(ctx context.Context, e *env) error {
	list, err := readSmall(e.args[0], "the first argument", identity.MaxListBytes)
	if err != nil {
		return err
	}
	sig, err := readSmall(*e.opt["signature"], "--signature", 16<<10)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.FactoryList
	if err := c.Call(ctx, "POST", "/v1/factory/lists", api.TakeFactoryListRequest{List: list, Signature: sig}, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		if out.Before {
			fmt.Fprintf(w, "list %s of %s was taken before, on %s; nothing was changed\n", out.List, out.Line, out.Taken.Format(time.DateOnly))
			return
		}
		fmt.Fprintf(w, "list %s of %s: %d units, %d of them new; SHA-256 %s\n", out.List, out.Line, out.Units, out.Fresh, out.Digest)
	})
}

func factoryCall(ctx context.Context, e *env, method, path string, req any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var f api.Factory
	if err := c.Call(ctx, method, path, req, &f); err != nil {
		return err
	}
	return e.print(f, func(w io.Writer) { showFactory(w, &f) })
}

func showFactory(w io.Writer, f *api.Factory) {
	if len(f.Lines)+len(f.CAs) == 0 {
		fmt.Fprintln(w, "nothing is taken from a factory; `hawser factory line` and `hawser factory authority` begin it")
		return
	}
	ends := func(until time.Time, ended *time.Time) string {
		if ended != nil {
			return "ended " + ended.Format(time.DateOnly)
		}
		return "until " + until.Add(-time.Second).Format(time.DateOnly)
	}
	brought := map[string]int{}
	for _, l := range f.Lists {
		brought[l.Line] += l.Units
	}
	var rows [][]string
	for _, l := range f.Lines {
		rows = append(rows, []string{"line", l.Line, string(l.Product), ends(l.Until, l.Ended), fmt.Sprintf("%d of %d", brought[l.Line], l.MaxUnits), l.Key})
	}
	for _, c := range f.CAs {
		rows = append(rows, []string{"authority", c.Name, string(c.Product), ends(c.Until, c.Ended), fmt.Sprintf("%d of %d", c.Units, c.MaxUnits), c.Certificate})
	}
	table(w, []string{"KIND", "NAME", "PRODUCT", "TAKEN", "UNITS", "SHA-256 OF KEY OR CERTIFICATE"}, rows)
	if len(f.Lists) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows = nil
	for _, l := range f.Lists {
		name := l.List
		if !l.Whole {
			name += " (not whole: give it again)"
		}
		rows = append(rows, []string{name, l.Line, fmt.Sprint(l.Units), l.Taken.Format("2006-01-02 15:04"), l.By, l.Digest})
	}
	table(w, []string{"LIST", "LINE", "UNITS", "TAKEN (UTC)", "BY", "SHA-256"}, rows)
}
