package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

func settingCommands() []*command {
	return []*command{
		{
			name: "setting set", args: "SERIAL NAME=VALUE... --reason TEXT", nargs: [2]int{2, 65},
			short: "set something on a unit that its declaration lets you set",
			long: `Changes how a unit is to be set under its present owner; what is not named stays. The
declaration says what can be set, by which roles, and within what bounds; the unit holds
the same against it again. The unit is sent the whole of its settings when it next
listens, until it says that it has them. Who set it and why stand in the ledger; the
values are sealed for the owner, and those that are not public are not shown again, not
even here. What was before is kept for the declared time, so that "setting back" can
take it back. A setting that is declared risky asks for two persons who are signed in: one
asks for it in the console, on the page of the device, and another agrees. With --wait it
says what the unit says.`,
			example: `hawser setting set A1 display=bright --as support --reason "ticket 4712: cannot read it"`,
			flags: func(e *env) {
				reasonFlag(e)
				e.str("as", "support", "the `role` in which you set it, among those that the declaration names")
				e.str("wait", "", "wait so `long` for the unit's word, for example 30s")
			},
			run: settingSet,
		},
		{
			name: "setting show", args: "SERIAL", nargs: [2]int{1, 1},
			short:   "how a unit is to be set, and what it says of it",
			long:    "Shows every setting that is declared: whether somebody set it, its value if that is public, what the unit says of it, and which versions can be taken back until when.",
			example: "hawser setting show A1",
			run: func(ctx context.Context, e *env) error {
				var s api.DeviceSettings
				if err := e.ask(ctx, "GET", settingPath(e.args[0], ""), nil, &s); err != nil {
					return err
				}
				return e.print(s, func(w io.Writer) { settingText(w, &s) })
			},
		},
		{
			name: "setting back", args: "SERIAL --reason TEXT", nargs: [2]int{1, 1},
			short: "take back what was set on a unit last",
			long: `Sets what the newest version changed to what it was before; with --version, what that
version and all after it changed. It is a change like another: it needs the same role,
it is in the ledger, and it can be taken back itself. What was before is kept for the
time that the declaration says; "setting show" lists what can be taken back.`,
			example: `hawser setting back A1 --as support --reason "ticket 4712: it was the cable"`,
			flags: func(e *env) {
				reasonFlag(e)
				e.str("as", "support", "the `role` in which you do it, among those that the declaration names")
				e.str("version", "", "the `version` to take back, with all after it; the newest without it")
				e.str("wait", "", "wait so `long` for the unit's word, for example 30s")
			},
			run: settingBack,
		},
	}
}

func settingPath(serial, what string) string {
	return "/v1/devices/" + url.PathEscape(serial) + "/settings" + what
}

func settingSet(ctx context.Context, e *env) error {
	values, err := paramsOf(e.args[1:])
	if err != nil {
		return err
	}
	q := api.SettingsRequest{Values: json.RawMessage(values), As: *e.opt["as"], Reason: *e.opt["reason"]}
	if err := q.Validate(); err != nil {
		return err
	}
	return settingDone(ctx, e, "", q)
}

func settingBack(ctx context.Context, e *env) error {
	q := api.SettingsBack{As: *e.opt["as"], Reason: *e.opt["reason"]}
	if text := *e.opt["version"]; text != "" {
		v, err := strconv.ParseUint(text, 10, 53)
		if err != nil || v == 0 {
			return core.E(core.Invalid, "version", "--version is no version of settings", "`hawser setting show "+e.args[0]+"` lists those that can be taken back")
		}
		q.Version = v
	}
	if err := q.Validate(); err != nil {
		return err
	}
	return settingDone(ctx, e, "/back", q)
}

// settingDone has it done, waits for the unit's word if that is wanted, and
// shows how it is.
func settingDone(ctx context.Context, e *env, what string, q any) error {
	wait := time.Duration(0)
	if text := *e.opt["wait"]; text != "" {
		var err error
		if wait, err = spanOf("wait", text); err != nil {
			return err
		}
	}
	var s api.DeviceSettings
	if err := e.ask(ctx, "POST", settingPath(e.args[0], what), q, &s); err != nil {
		return err
	}
	for end := time.Now().Add(wait); s.State != "in-force" && s.State != "otherwise" && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := e.ask(ctx, "GET", settingPath(e.args[0], ""), nil, &s); err != nil {
			return err
		}
	}
	if err := e.print(s, func(w io.Writer) { settingText(w, &s) }); err != nil {
		return err
	}
	if wait > 0 && s.State != "in-force" {
		return &quiet{exitFailed}
	}
	return nil
}

func settingText(w io.Writer, s *api.DeviceSettings) {
	const form = "2006-01-02 15:04:05 UTC"
	if len(s.Settings) == 0 {
		fmt.Fprintln(w, "nothing can be set on this unit: it belongs to nobody, or its declaration has no settings")
		return
	}
	paragraph(w, settingState(s.State), 0)
	if s.Changed != nil {
		who := term.Safe(s.By)
		if s.Role != "" {
			who += " as " + s.Role
		}
		paragraph(w, fmt.Sprintf("version %d, %s by %s: %s", s.Version, s.Changed.UTC().Format(form), who, settingCause(s.Cause, s.Names)), 2)
	}
	if s.Reported != nil {
		fmt.Fprintf(w, "the unit last said how it is set %s\n", s.Reported.UTC().Format(form))
	}
	fmt.Fprintln(w)
	var rows [][]string
	for i := range s.Settings {
		x := &s.Settings[i]
		is := "as declared: " + string(x.Default)
		switch {
		case len(x.Value) > 0 && x.Set:
			is = string(x.Value)
		case x.Set:
			is = "set (the value is the owner's)"
		}
		if x.Unit != "" {
			is += " " + x.Unit
		}
		says := x.Device
		if x.Why != "" {
			says += ": " + term.Safe(x.Why)
		}
		rows = append(rows, []string{x.Name, term.Safe(is), says})
	}
	table(w, []string{"SETTING", "TO BE", "THE UNIT SAYS"}, rows)
	for i, b := range s.Back {
		if i == 0 {
			fmt.Fprintln(w, "\ncan be taken back:")
		}
		fmt.Fprintf(w, "  version %d (%s) until %s\n", b.Version, strings.Join(b.Names, ", "), b.Until.UTC().Format(form))
	}
}

func settingState(state string) string {
	switch state {
	case "never-set":
		return "nobody set anything on this unit under its present owner"
	case "waiting":
		return "waits for the unit to take it"
	case "taken":
		return "the unit took it, and has not said how it is set"
	case "in-force":
		return "the unit says that it is set so"
	}
	return "the unit says that it is not set so"
}

func settingCause(cause string, names []string) string {
	what := strings.Join(names, ", ")
	switch cause {
	case "set":
		return "set " + what
	case "back":
		return "set back " + what
	case "owner":
		return "as declared, for another owner"
	case "declaration":
		return "another declaration is in force: " + what
	}
	return "the unit had a version that this server does not remember"
}
