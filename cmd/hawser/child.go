package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

func childCommands() []*command {
	product := func(e *env, usage string) {
		reasonFlag(e)
		e.str("product", "", usage)
	}
	return []*command{
		{
			name: "child add", args: "HUB CHILD --product PRODUCT --reason TEXT", nargs: [2]int{2, 2},
			short: "register a child under a hub",
			long: `Registers a unit that has no certificate, as the child of the hub that may speak for
it. The hub's declaration must name the child's product (` + "`hub`" + `), and what the child
sends is judged by its own product's declaration, at its own rates. It has an owner and
a key of its own from then on: read, hold, erase and export mean what they mean for
every device. The reason is sealed under that key.`,
			example: `hawser child add H1 K1 --product leaf-contact --reason "sold with the hub, order 88"`,
			flags:   func(e *env) { product(e, "the `product` of a published declaration") },
			run:     childAdd,
		},
		{
			name: "child list", args: "HUB", nargs: [2]int{1, 1},
			short: "list a hub's children, and those that it proposes",
			long: `Lists the children that a hub speaks for, and the ids that it proposes: what a hub
says without anybody having asked, and nothing more. Of a proposed id that is taken it
says by what; the hub is never told.`,
			example: "hawser child list H1",
			run:     childList,
		},
		{
			name: "child adopt", args: "HUB CHILD [--product PRODUCT] --reason TEXT", nargs: [2]int{2, 2},
			short: "make a child of what a hub proposed",
			long: `Makes a child of an id that the hub proposed; the product is what you say, not what
the hub says. Also gives a hub a child that is registered and has none at present: one
that was removed, or whose hub's owner was erased.`,
			example: `hawser child adopt H1 K2 --product leaf-contact --reason "owner confirmed in the app"`,
			flags:   func(e *env) { product(e, "the `product` of a child that is new") },
			run:     childAdopt,
		},
		{
			name: "child move", args: "CHILD HUB --reason TEXT", nargs: [2]int{2, 2},
			short: "give a child to another hub",
			long: `From then on the other hub speaks for the child, and nobody else, also in sessions
that are open. Owner, key and readings stay. What the other hub counts is a series of
its own: no reading of it passes for one of the hub before.`,
			example: `hawser child move K1 H2 --reason "hub was replaced, case 19"`,
			flags:   reasonFlag,
			run:     childMove,
		},
		{
			name: "child remove", args: "CHILD --reason TEXT", nargs: [2]int{1, 1},
			short: "take a child from its hub",
			long: `From then on nobody speaks for the child: the hub gets the same answer as for an id
that never was. Its readings stay as long as they are kept; ` + "`hawser erase`" + ` ends them.`,
			example: `hawser child remove K2 --reason "returned to the shop"`,
			flags:   reasonFlag,
			run:     childRemove,
		},
	}
}

// vouchedFor says in the line of a reading who vouched for it.
func vouchedFor(hub core.DeviceID) string {
	if hub == "?" {
		return "  (vouched for by a hub whose certificate is not kept any more)"
	}
	return "  (vouched for by hub " + term.Safe(string(hub)) + ")"
}

func childPost(ctx context.Context, e *env, path string, req any, human func(io.Writer, api.Device)) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var d api.Device
	if err := c.Call(ctx, "POST", path, req, &d); err != nil {
		return err
	}
	return e.print(d, func(w io.Writer) { human(w, d) })
}

func childRequest(e *env) (*api.ChildRequest, error) {
	req := &api.ChildRequest{Child: core.DeviceID(e.args[1]), Product: core.ProductID(*e.opt["product"]), Reason: *e.opt["reason"]}
	return req, req.Validate()
}

func printChild(w io.Writer, d api.Device) {
	fmt.Fprintf(w, "%s, product %s, is vouched for by hub %s. Subject %s.\n", d.Device, d.Product, d.Hub, d.Subject)
	fmt.Fprintf(w, "The hub publishes its readings to child/%s/telemetry/STREAM.\n", d.Device)
}

func childAdd(ctx context.Context, e *env) error {
	req, err := childRequest(e)
	if err != nil {
		return err
	}
	return childPost(ctx, e, devicePath(e, "/children"), req, printChild)
}

func childAdopt(ctx context.Context, e *env) error {
	req, err := childRequest(e)
	if err != nil {
		return err
	}
	return childPost(ctx, e, devicePath(e, "/children/adopt"), req, printChild)
}

func childMove(ctx context.Context, e *env) error {
	req := &api.MoveRequest{Hub: core.DeviceID(e.args[1]), Reason: *e.opt["reason"]}
	if err := req.Validate(); err != nil {
		return err
	}
	return childPost(ctx, e, "/v1/devices/"+url.PathEscape(e.args[0])+"/move", req, printChild)
}

func childRemove(ctx context.Context, e *env) error {
	req := &api.ReasonRequest{Reason: *e.opt["reason"]}
	if err := req.Validate(); err != nil {
		return err
	}
	return childPost(ctx, e, devicePath(e, "/remove"), req, func(w io.Writer, d api.Device) {
		fmt.Fprintf(w, "no hub speaks for %s any more. Its readings stay as long as they are kept.\n", d.Device)
	})
}

func childList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.Children
	if err := c.Call(ctx, "GET", devicePath(e, "/children"), nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		if len(out.Children) == 0 {
			fmt.Fprintf(w, "%s speaks for no children\n", out.Hub)
		} else {
			var rows [][]string
			for _, d := range out.Children {
				rows = append(rows, []string{string(d.Device), string(d.Product), d.HubSince.Format("2006-01-02 15:04"), "vouched for by hub " + string(out.Hub)})
			}
			table(w, []string{"CHILD", "PRODUCT", "SINCE (UTC)", "IDENTITY"}, rows)
		}
		if len(out.Proposals) == 0 {
			return
		}
		fmt.Fprintln(w)
		var rows [][]string
		for _, p := range out.Proposals {
			taken := p.Taken
			if taken == "" {
				taken = "free"
			}
			rows = append(rows, []string{string(p.Child), p.Last.Format("2006-01-02 15:04"), term.Safe(taken)})
		}
		table(w, []string{"PROPOSED", "LAST (UTC)", "THE ID IS"}, rows)
	})
}
