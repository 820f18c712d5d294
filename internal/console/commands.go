package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// Commands tells devices what to do; *command.Service.
type Commands interface {
	Give(ctx context.Context, by core.Actor, q command.Request) (command.Command, error)
	List(ctx context.Context, id core.DeviceID) ([]command.Command, error)
	Cancel(ctx context.Context, by core.Actor, id core.DeviceID, command string) (command.Command, error)
	Agree(ctx context.Context, by core.Actor, roles []string, id core.DeviceID, command string) (command.Command, error)
	Wanted(c *command.Command) (params json.RawMessage, reason string, err error)
}

// commandsOnPage is how many of the last commands the page of a device shows.
const commandsOnPage = 20

// commandLine is one command that was given.
type commandLine struct {
	command.Command
	Class  string
	Words  string
	Cancel bool   // the visitor may
	Agree  bool   // the visitor may
	Wanted string // of one that waits for a second person: its values, as JSON
	Why    string // and the reason
}

// tellForm is one command that the visitor may give.
type tellForm struct {
	Name, Role string
	Risky      bool
	Inputs     []tellInput
}

// tellInput is one value of it. Kind is that of the input: number, select, text.
type tellInput struct {
	Name, Kind, Unit string
	Min, Max, Step   string
	Least, Most      int
	Values           []string
	Risky            bool // of a setting
}

// tellView is what the page of a device says of commands.
type tellView struct {
	Device core.DeviceID
	Token  string
	Forms  []tellForm
	Barred []string // declared, and not for the visitor
	Given  []commandLine
}

func (c *Console) tellViewOf(ctx context.Context, p *declaration.Policy, d identity.Device, v Visitor) (tellView, error) {
	view := tellView{Device: d.ID, Token: c.tokens.of(v)}
	given, err := c.d.Commands.List(ctx, d.ID)
	if err != nil {
		return view, fmt.Errorf("read commands of a device: %w", err)
	}
	for i := range given[:min(commandsOnPage, len(given))] {
		l := commandLine{Command: given[i], Words: given[i].State(), Cancel: (given[i].State() == "waiting" || given[i].Asked()) && v.Holds("command.give")}
		if given[i].Asked() && v.Holds("command.second") {
			params, why, err := c.d.Commands.Wanted(&given[i])
			if err != nil {
				return view, fmt.Errorf("read what is asked for: %w", err)
			}
			l.Wanted, l.Why, l.Agree = string(params), why, given[i].By != v.Actor
		}
		switch given[i].End {
		case command.Open:
			l.Class = "hot"
		case command.Done:
			l.Class = "good"
		case command.Refused, command.Failed, command.NotTaken, command.Unanswered, command.Expired:
			l.Class = "bad"
		case command.Withdrawn, command.Cancelled:
		}
		view.Given = append(view.Given, l)
	}
	if p == nil || d.Subject.IsZero() {
		return view, nil
	}
	for i := range p.Commands {
		x := &p.Commands[i]
		at := slices.IndexFunc(x.By, func(role string) bool { return slices.Contains(v.Roles, role) })
		if at < 0 || d.Child || !v.Holds("command.give") {
			view.Barred = append(view.Barred, x.Name)
			continue
		}
		view.Forms = append(view.Forms, tellForm{Name: x.Name, Role: x.By[at], Risky: x.Risky, Inputs: inputsOf(x)})
	}
	return view, nil
}

func inputsOf(x *declaration.Command) []tellInput {
	out := make([]tellInput, 0, len(x.Params))
	for i := range x.Params {
		out = append(out, inputOf(&x.Params[i]))
	}
	return out
}

func inputOf(p *declaration.Param) tellInput {
	in := tellInput{Name: p.Name, Unit: p.Unit, Kind: "text", Least: p.MinLength, Most: p.MaxLength}
	switch p.Type {
	case declaration.Number, declaration.Integer:
		in.Kind, in.Step = "number", "any"
		in.Min, in.Max = strconv.FormatFloat(p.Min, 'f', -1, 64), strconv.FormatFloat(p.Max, 'f', -1, 64)
		if p.Type == declaration.Integer {
			in.Step = "1"
		}
	case declaration.Boolean:
		in.Kind, in.Values = "select", []string{"true", "false"}
	case declaration.Enum:
		in.Kind, in.Values = "select", p.Values
	case declaration.Timestamp:
		in.Most = 40
	case declaration.String:
	}
	return in
}

// giveCommand tells a device to do something that its declaration lets one of
// the visitor's roles tell it.
func (c *Console) giveCommand(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	d, err := c.d.Devices.Device(id)
	if err != nil {
		return err
	}
	p, err := c.d.Declarations.Current(r.Context(), d.Product)
	if err != nil {
		return err
	}
	name, role := r.PostFormValue("command"), r.PostFormValue("role")
	if !slices.Contains(v.Roles, role) {
		return core.E(core.Denied, "not-your-role", "you do not have the role that was named", "give the command as one of your own roles")
	}
	params := map[string]json.RawMessage{}
	if i := slices.IndexFunc(p.Commands, func(x declaration.Command) bool { return x.Name == name }); i >= 0 {
		for j := range p.Commands[i].Params {
			x := &p.Commands[i].Params[j]
			params[x.Name] = typed(x, strings.TrimSpace(r.PostFormValue("param."+x.Name)))
		}
	}
	b, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if _, err := c.d.Commands.Give(r.Context(), v.Actor, command.Request{Device: id, Name: name, Params: b, Role: role, Reason: r.PostFormValue("reason")}); err != nil {
		return err
	}
	return toCommands(w, r, id)
}

// typed is what was typed for a value, in the form of its type. What does not
// fit stays text, and is refused by the rules.
func typed(x *declaration.Param, text string) json.RawMessage {
	switch x.Type {
	case declaration.Number, declaration.Integer, declaration.Boolean:
		if json.Valid([]byte(text)) {
			return json.RawMessage(text)
		}
	case declaration.String, declaration.Enum, declaration.Timestamp:
	}
	b, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage(`""`) // a string is always JSON
	}
	return b
}

func (c *Console) cancelCommand(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	if _, err := c.d.Commands.Cancel(r.Context(), v.Actor, id, r.PathValue("command")); err != nil {
		return err
	}
	return toCommands(w, r, id)
}

// agreeCommand has something risky done that another person asked for.
func (c *Console) agreeCommand(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	if _, err := c.d.Commands.Agree(r.Context(), v.Actor, v.Roles, id, r.PathValue("command")); err != nil {
		return err
	}
	return toCommands(w, r, id)
}

func toCommands(w http.ResponseWriter, r *http.Request, id core.DeviceID) error {
	http.Redirect(w, r, "/device/"+url.PathEscape(string(id))+"#commands", http.StatusSeeOther)
	return nil
}
