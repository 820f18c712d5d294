package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/term"
)

func legacyCommands() []*command {
	word := func(e *env) {
		e.str("reason", "", "why, a `word` such as the number of a change; it stands in the ledger for ever")
	}
	return []*command{
		{
			name: "legacy token", args: "PRODUCT FILE --reason WORD", nargs: [2]int{2, 2},
			short: "let old devices come with a token of their own",
			long: `Registers units of a product whose declaration has ` + "`legacy: {auth: device-token, ...}`" + `.
The file is CSV, a line for each unit: SERIAL,TOKEN takes the token that a device has; it
must be its own, with 128 bits or more. SERIAL alone makes one. Made tokens are printed this
once, as SERIAL,TOKEN: send them to a file that nobody else reads. A device connects over
TLS with its serial number as user name and the token as password.`,
			example: "hawser legacy token old-lamp old-lamps.csv --reason CHG-7",
			flags:   word,
			run:     legacyToken,
		},
		{
			name: "legacy authority", args: "PRODUCT NAME FILE --reason WORD", nargs: [2]int{3, 3},
			short: "let certificates of your own authority stand for old devices",
			long: `Registers the authority, a PEM certificate, that signed the certificates which devices of a
product have; its declaration must have ` + "`legacy: {auth: own-ca, ...}`" + `. The authority alone lets
nobody in: each certificate is registered with ` + "`hawser legacy certificate`" + `.`,
			example: "hawser legacy authority old-camera works-ca works-ca.pem --reason CHG-7",
			flags:   word,
			run:     legacyAuthority,
		},
		{
			name: "legacy certificate", args: "PRODUCT NAME FILE --serial-from cn|serialNumber --reason WORD", nargs: [2]int{3, 3},
			short: "register old devices by their certificates",
			long: `Registers units by the certificates that they have from a registered authority: one PEM
file, up to 200 certificates, none of them with its key. All are taken, or none.
--serial-from says where a certificate has the serial number.`,
			example: "hawser legacy certificate old-camera works-ca cameras.pem --serial-from cn --reason CHG-7",
			flags: func(e *env) {
				e.str("serial-from", "", "`place` of the serial number: cn or serialNumber")
				word(e)
			},
			run: legacyCertificate,
		},
		{
			name: "legacy list", args: "PRODUCT", nargs: [2]int{1, 1},
			short: "who still comes by the door for old devices",
			long: `Shows until when the door is open, which units have a credential there, when each was last
seen, and the authorities. The way out is a certificate of this installation: a unit enrols
over EST with its token as password, with its old certificate, or with an enrolment code.
The first use of the new certificate ends the old credential.`,
			example: "hawser legacy list old-camera",
			run: func(ctx context.Context, e *env) error {
				return legacyCall(ctx, e, "GET", legacyOf(e), nil)
			},
		},
		{
			name: "legacy withdraw", args: "SERIAL --cause WORD", nargs: [2]int{1, 1},
			short:   "end the old credential of one device",
			long:    "Ends a unit's token or certificate at the door for old devices; its session is cut. The unit stays, and may enrol with a code. The cause stands in clear in the ledger.",
			example: "hawser legacy withdraw L1 --cause compromised",
			flags:   causeFlag,
			run: func(ctx context.Context, e *env) error {
				return legacyCall(ctx, e, "POST", "/v1/devices/"+url.PathEscape(e.args[0])+"/legacy/withdraw", api.WithdrawLegacyRequest{Cause: *e.opt["cause"]})
			},
		},
		{
			name: "legacy end", args: "PRODUCT NAME --cause WORD", nargs: [2]int{2, 2},
			short:   "end an authority of your own",
			long:    "Ends an authority: no certificate of it opens anything any more, and sessions that began with one are cut.",
			example: "hawser legacy end old-camera works-ca --cause retired",
			flags:   causeFlag,
			run: func(ctx context.Context, e *env) error {
				return legacyCall(ctx, e, "POST", legacyOf(e)+"/authorities/"+url.PathEscape(e.args[1])+"/end", api.WithdrawLegacyRequest{Cause: *e.opt["cause"]})
			},
		},
	}
}

func causeFlag(e *env) {
	e.str("cause", "", "why, a `word`: compromised, retired, test, other")
}

func legacyOf(e *env) string { return "/v1/products/" + url.PathEscape(e.args[0]) + "/legacy" }

func legacyToken(ctx context.Context, e *env) error {
	list, err := readSmall(e.args[1], "the second argument", identity.MaxTokenListBytes)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.TokensAdded
	if err := c.Call(ctx, "POST", legacyOf(e)+"/tokens", api.AddTokensRequest{List: list, Reason: *e.opt["reason"]}, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "# %d devices may come with a token of their own; %d tokens were made and are shown this once\n", out.Added, len(out.Tokens))
		for _, t := range out.Tokens {
			fmt.Fprintf(w, "%s,%s\n", t.Device, t.Token)
		}
	})
}

func legacyAuthority(ctx context.Context, e *env) error {
	cert, err := readSmall(e.args[2], "the third argument", 64<<10)
	if err != nil {
		return err
	}
	return legacyCall(ctx, e, "POST", legacyOf(e)+"/authorities", api.AddLegacyAuthorityRequest{Name: e.args[1], Certificate: cert, Reason: *e.opt["reason"]})
}

func legacyCertificate(ctx context.Context, e *env) error {
	certs, err := readSmall(e.args[2], "the third argument", identity.MaxLegacyLeaves*4<<10)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.LegacyCertificatesAdded
	if err := c.Call(ctx, "POST", legacyOf(e)+"/certificates", api.AddLegacyCertificatesRequest{
		Authority: e.args[1], Certificates: certs, SerialFrom: *e.opt["serial-from"], Reason: *e.opt["reason"],
	}, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%d devices may come with their certificates\n", out.Added) })
}

// legacyCall makes a request that is answered with the product's door.
func legacyCall(ctx context.Context, e *env, method, path string, in any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var l api.Legacy
	if err := c.Call(ctx, method, path, in, &l); err != nil {
		return err
	}
	return e.print(l, func(w io.Writer) {
		if l.Auth == "" {
			fmt.Fprintf(w, "%s has no door for old devices in the declaration in force\n", l.Product)
		} else {
			fmt.Fprintf(w, "%s: %s until %s, %d days left; %d of at most %d devices\n", l.Product, l.Auth, l.Until.Format(time.DateOnly), l.DaysLeft, l.Live, l.MaxDevices)
		}
		day := func(t *time.Time) string {
			if t == nil {
				return "-"
			}
			return t.Format(time.DateOnly)
		}
		for _, d := range l.Devices {
			how := "may come"
			switch {
			case d.Ended != nil:
				how = "ended " + day(d.Ended) + ", " + d.Why
			case !d.Admitted:
				how = "not let in: " + d.Reason
			}
			fmt.Fprintf(w, "%-20s %-13s last seen %-10s  %s\n", d.Device, d.Credential, day(d.Seen), how)
		}
		for _, a := range l.Authorities {
			fmt.Fprintf(w, "authority %s  %s…  %s\n", term.Safe(a.Name), a.Certificate[:min(16, len(a.Certificate))], strings.TrimSpace("added "+day(&a.Added)+map[bool]string{true: ", ended " + day(a.Ended)}[a.Ended != nil]))
		}
		if l.Locked > 0 {
			fmt.Fprintf(w, "%d tokens open nothing: the gate's key is another one than theirs\n", l.Locked)
		}
	})
}
