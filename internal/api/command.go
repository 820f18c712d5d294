package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// Commands tells devices what to do.
type Commands interface {
	Give(ctx context.Context, by core.Actor, id core.DeviceID, r CommandRequest) (Command, error)
	List(ctx context.Context, id core.DeviceID) ([]Command, error)
	Find(ctx context.Context, id core.DeviceID, command string) (Command, error)
	Cancel(ctx context.Context, by core.Actor, id core.DeviceID, command string) (Command, error)
}

// CommandRequest is what a device is to do.
type CommandRequest struct {
	Name    string          `json:"name"`             // as declared
	Params  json.RawMessage `json:"params,omitempty"` // an object of the declared values
	As      string          `json:"as"`               // the role, among the declaration's `by`: "support"
	Reason  string          `json:"reason"`
	Seconds int             `json:"seconds,omitempty"` // how long it may wait for the device; 0: a day
}

// Validate bounds the request; the rest is for the rules.
func (r *CommandRequest) Validate() error {
	if r.Name == "" || len(r.Name) > 63 || len(r.As) > 80 {
		return core.E(core.Invalid, "command-name", "the command has no name, or the role is none", "give `name` and `as`, as the declaration has them")
	}
	if r.Seconds < 0 || r.Seconds > int(command.MaxLife/time.Second) {
		return core.E(core.Invalid, "command-life", "the command would wait too long for its device", "give 1 s to 30 d")
	}
	return checkReason(r.Reason)
}

// Command is a command to a device, without its values: those are the owner's.
type Command struct {
	Command  string     `json:"command"`
	Name     string     `json:"name"`
	Kind     string     `json:"kind,omitempty"` // settings or back: a change of risky settings that is asked for; empty: a command
	State    string     `json:"state"`          // asked, waiting, taken, done, refused, failed, not-taken, unanswered, expired, withdrawn or cancelled
	Role     string     `json:"role"`
	Given    time.Time  `json:"given"`
	By       string     `json:"by"`
	Expires  time.Time  `json:"expires"`
	Risky    bool       `json:"risky,omitempty"` // it waits for a second person first
	Second   string     `json:"second,omitempty"`
	Seconded *time.Time `json:"seconded,omitempty"`
	Taken    *time.Time `json:"taken,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
	Said     string     `json:"said,omitempty"` // by the device, of one command
}

// CommandOf is a command as it is shown.
func CommandOf(c *command.Command, said string) Command {
	out := Command{Command: c.ID, Kind: string(c.Kind), Name: c.Name, State: c.State(), Role: c.Role, Given: c.Given, By: c.By.String(), Expires: c.Expires, Risky: c.Risky, Seconded: timeOrNil(c.Seconded), Said: said}
	if !c.Seconded.IsZero() {
		out.Second = c.Second.String()
	}
	if !c.Taken.IsZero() {
		out.Taken = &c.Taken
	}
	if !c.Ended.IsZero() {
		out.Ended = &c.Ended
	}
	return out
}

func commandRoutes(h handlers) []Route {
	return []Route{
		{"POST /v1/devices/{device}/commands", "command.give", h.giveCommand},
		{"GET /v1/devices/{device}/commands", "device.list", h.commands},
		{"GET /v1/devices/{device}/commands/{command}", "command.give", h.command},
		{"POST /v1/devices/{device}/commands/{command}/cancel", "command.give", h.cancelCommand},
	}
}

func (h handlers) giveCommand(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req CommandRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	c, err := h.Commands.Give(r.Context(), by, id, req)
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func (h handlers) commands(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	all, err := h.Commands.List(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h handlers) command(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	c, err := h.Commands.Find(r.Context(), id, r.PathValue("command"))
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func (h handlers) cancelCommand(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	c, err := h.Commands.Cancel(r.Context(), by, id, r.PathValue("command"))
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}
