package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

func tellCommands() []*command {
	return []*command{
		{
			name: "command give", args: "SERIAL NAME [VALUE=...] --reason TEXT", nargs: [2]int{2, 40},
			short: "tell a unit to do something that its declaration allows",
			long: `Queues a command for a unit under its present owner. The declaration says whether there
is such a command, which roles may give it, and within what bounds its values must be;
the unit holds the same against it again. It waits until the unit takes it, for a day or
as --within says, over restarts of either side. Who gave it, why and how it ended stand in
the ledger; the values are sealed for the owner. Nothing is done twice. A command that is
declared risky asks for two persons who are signed in: one asks for it in the console, on
the page of the device, and another agrees. With --wait it says how it ended.`,
			example: `hawser command give A1 blink seconds=10 --as support --reason "ticket 4711: which of the two is it"`,
			flags: func(e *env) {
				reasonFlag(e)
				e.str("as", "support", "the `role` in which you give it, among those that the declaration names")
				e.str("within", "24h", "how `long` it may wait for the unit: 1s to 30d")
				e.str("wait", "", "wait so `long` for its end, for example 30s")
			},
			run: tellGive,
		},
		{
			name: "command list", args: "SERIAL", nargs: [2]int{1, 1},
			short:   "the last commands to a unit, and how they ended",
			long:    "Lists up to a hundred commands to a unit under its present owner, newest first, without their values. A command is kept for 30 days after its end.",
			example: "hawser command list A1",
			run: func(ctx context.Context, e *env) error {
				all := []api.Command{}
				if err := e.ask(ctx, "GET", commandPath(e.args[0], "", ""), nil, &all); err != nil {
					return err
				}
				return e.print(all, func(w io.Writer) {
					var rows [][]string
					for i := range all {
						c := &all[i]
						rows = append(rows, []string{c.Given.UTC().Format("2006-01-02 15:04:05"), c.Command, c.Name, c.State, term.Safe(c.By)})
					}
					if len(rows) == 0 {
						fmt.Fprintln(w, "no command was given to this unit under its present owner in the last 30 days")
						return
					}
					table(w, []string{"GIVEN", "COMMAND", "NAME", "STATE", "BY"}, rows)
				})
			},
		},
		{
			name: "command show", args: "SERIAL COMMAND", nargs: [2]int{2, 2},
			short:   "one command, and what the unit said of it",
			long:    "Shows one command to a unit: who gave it, until when it waits, when the unit took it, how it ended, and what the unit said.",
			example: "hawser command show A1 cabcdefghijklmnop",
			run: func(ctx context.Context, e *env) error {
				return tellOne(ctx, e, "GET", "")
			},
		},
		{
			name: "command cancel", args: "SERIAL COMMAND", nargs: [2]int{2, 2},
			short:   "end a command that its unit has not taken yet",
			long:    "Ends a command that still waits for its unit. What the unit has taken cannot be taken back; give the opposite command, if there is one.",
			example: "hawser command cancel A1 cabcdefghijklmnop",
			run: func(ctx context.Context, e *env) error {
				return tellOne(ctx, e, "POST", "/cancel")
			},
		},
	}
}

func commandPath(serial, id, what string) string {
	path := "/v1/devices/" + url.PathEscape(serial) + "/commands"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return path + what
}

// ask calls the running server.
func (e *env) ask(ctx context.Context, method, path string, in, out any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	return c.Call(ctx, method, path, in, out)
}

func tellGive(ctx context.Context, e *env) error {
	within, err := spanOf("within", *e.opt["within"])
	if err != nil {
		return err
	}
	wait := time.Duration(0)
	if text := *e.opt["wait"]; text != "" {
		if wait, err = spanOf("wait", text); err != nil {
			return err
		}
	}
	params, err := paramsOf(e.args[2:])
	if err != nil {
		return err
	}
	q := api.CommandRequest{Name: e.args[1], Params: params, As: *e.opt["as"], Reason: *e.opt["reason"], Seconds: int(within / time.Second)}
	if err := q.Validate(); err != nil {
		return err
	}
	var c api.Command
	if err := e.ask(ctx, "POST", commandPath(e.args[0], "", ""), q, &c); err != nil {
		return err
	}
	for end := time.Now().Add(wait); c.Ended == nil && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := e.ask(ctx, "GET", commandPath(e.args[0], c.Command, ""), nil, &c); err != nil {
			return err
		}
	}
	if err := e.print(c, func(w io.Writer) { tellText(w, &c) }); err != nil {
		return err
	}
	if wait > 0 && c.State != "done" {
		return &quiet{exitFailed}
	}
	return nil
}

// spanOf reads how long something may take.
func spanOf(flag, text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		text = days + "h"
		d, err := time.ParseDuration(text)
		if err == nil && d > 0 && d <= 400*time.Hour {
			return 24 * d, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, core.E(core.Invalid, flag, "--"+flag+" is no span of time", "write it as in 30s, 24h or 7d")
	}
	return d, nil
}

// paramsOf makes an object of NAME=VALUE. What is written like JSON is that,
// everything else is text.
func paramsOf(args []string) (json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" || out[name] != nil {
			return nil, core.E(core.Invalid, "command-params", fmt.Sprintf("%.80q is no value, or stands twice", a), "write each once, as in celsius=21 or mode=eco")
		}
		if json.Valid([]byte(value)) {
			out[name] = json.RawMessage(value)
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		out[name] = text
	}
	return json.Marshal(out)
}

func tellOne(ctx context.Context, e *env, method, what string) error {
	var c api.Command
	if err := e.ask(ctx, method, commandPath(e.args[0], e.args[1], what), nil, &c); err != nil {
		return err
	}
	return e.print(c, func(w io.Writer) { tellText(w, &c) })
}

func tellText(w io.Writer, c *api.Command) {
	const form = "2006-01-02 15:04:05 UTC"
	fmt.Fprintf(w, "%s  %s: %s\n", c.Command, c.Name, c.State)
	paragraph(w, fmt.Sprintf("  given %s by %s as %s", c.Given.UTC().Format(form), term.Safe(c.By), c.Role), 4)
	if c.Seconded != nil {
		fmt.Fprintf(w, "  agreed to %s by %s\n", c.Seconded.UTC().Format(form), term.Safe(c.Second))
	}
	if c.Taken != nil {
		fmt.Fprintf(w, "  taken by the unit %s\n", c.Taken.UTC().Format(form))
	}
	switch {
	case c.Ended != nil:
		fmt.Fprintf(w, "  ended %s\n", c.Ended.UTC().Format(form))
	case c.State == "asked":
		fmt.Fprintf(w, "  waits for a second person until %s\n", c.Expires.UTC().Format(form))
	case c.Taken == nil:
		fmt.Fprintf(w, "  waits for the unit until %s\n", c.Expires.UTC().Format(form))
	default:
		fmt.Fprintf(w, "  waits for the unit's answer until %s\n", c.Expires.UTC().Format(form))
	}
	if c.Said != "" {
		paragraph(w, "  the unit says: "+term.Safe(c.Said), 4)
	}
}
