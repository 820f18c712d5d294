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
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// Settings says how devices are to be set; *command.Service.
type Settings interface {
	Show(ctx context.Context, id core.DeviceID) (command.ShownSettings, error)
	Set(ctx context.Context, by core.Actor, q command.SetRequest) (command.Settings, error)
	SetBack(ctx context.Context, by core.Actor, q command.BackRequest) (command.Settings, error)
}

// setView is what the page of a device says of its settings.
type setView struct {
	command.ShownSettings

	Device core.DeviceID
	Token  string
	Now    time.Time
	Lines  []setLine
	Role   string      // in which the visitor sets; empty: nothing
	Inputs []tellInput // of what the visitor may set
	Backs  []backLine
}

type setLine struct {
	command.ShownSetting

	Mark, Words string // what the device says of it
}

// backLine is a version that can be taken back. May is whether the visitor may.
type backLine struct {
	command.Back

	Newest, May bool
}

// Mark is the colour of the whole.
func (v setView) Mark() string {
	switch v.State {
	case command.SetInForce:
		return "good"
	case command.SetOtherwise:
		return "bad"
	case command.SetWaiting:
		return "hot"
	}
	return ""
}

// Words is the state in words.
func (v setView) Words() string {
	switch v.State {
	case command.SetInForce:
		return "the device says that it is set so"
	case command.SetOtherwise:
		return "the device says that it is not set so"
	case command.SetWaiting:
		return "waits for the device"
	case command.SetTaken:
		return "the device took it, and says nothing of it"
	}
	return "nobody set anything under the present owner"
}

// Why is what made the version.
func (v setView) Why() string {
	names := strings.Join(v.Names, ", ")
	switch v.Cause {
	case command.BySet:
		return "set " + names
	case command.ByBack:
		return "set back " + names
	case command.ByOwner:
		return "as declared, for another owner"
	case command.ByDeclaration:
		return "another declaration is in force"
	case command.ByDevice:
	}
	return "the device had a version that this server does not remember"
}

func (c *Console) setViewOf(ctx context.Context, p *declaration.Policy, d identity.Device, v Visitor) (view setView, err error) {
	view.Device, view.Token, view.Now = d.ID, c.tokens.of(v), c.d.Now()
	if p == nil || len(p.Settings) == 0 || d.Subject.IsZero() {
		return view, nil
	}
	if view.ShownSettings, err = c.d.Settings.Show(ctx, d.ID); err != nil {
		return view, fmt.Errorf("read how a device is to be set: %w", err)
	}
	for _, x := range view.List {
		l := setLine{ShownSetting: x}
		switch x.Device {
		case command.SetInForce:
			l.Mark, l.Words = "good", "set so"
		case command.SetOtherwise:
			l.Mark, l.Words = "bad", "set otherwise"
		case "refused":
			l.Mark, l.Words = "bad", "refused"
		}
		view.Lines = append(view.Lines, l)
	}
	if d.Child || !v.Holds("setting.set") {
		return view, nil
	}
	for i := range p.Settings {
		x := &p.Settings[i]
		if role := roleAmong(x.By, v); role != "" && (view.Role == "" || view.Role == role) {
			view.Role = role
			in := inputOf(&x.Param)
			in.Risky = x.Risky
			view.Inputs = append(view.Inputs, in)
		}
	}
	for i, b := range view.ShownSettings.Backs {
		may := view.Role != "" && !slices.ContainsFunc(b.Names, func(name string) bool {
			return !slices.ContainsFunc(view.Inputs, func(in tellInput) bool { return in.Name == name })
		})
		view.Backs = append(view.Backs, backLine{b, i == 0, may && (i == 0 || view.Backs[i-1].May)})
	}
	return view, nil
}

// roleAmong is the role in which the visitor may do something; empty: none.
func roleAmong(by []string, v Visitor) string {
	if at := slices.IndexFunc(by, func(role string) bool { return slices.Contains(v.Roles, role) }); at >= 0 {
		return by[at]
	}
	return ""
}

// setDevice sets what was filled in; what was left empty stays.
func (c *Console) setDevice(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, p, role, err := c.toBeSet(r, v)
	if err != nil {
		return err
	}
	values := map[string]json.RawMessage{}
	for i := range p.Settings {
		x := &p.Settings[i].Param
		if text := strings.TrimSpace(r.PostFormValue("param." + x.Name)); text != "" {
			values[x.Name] = typed(x, text)
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		return err
	}
	if _, err := c.d.Settings.Set(r.Context(), v.Actor, command.SetRequest{Device: id, Values: b, Role: role, Reason: r.PostFormValue("reason")}); err != nil {
		return err
	}
	return toSettings(w, r, id)
}

// setDeviceBack takes back a version, and all after it.
func (c *Console) setDeviceBack(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, _, role, err := c.toBeSet(r, v)
	if err != nil {
		return err
	}
	version, err := strconv.ParseUint(r.PostFormValue("version"), 10, 53)
	if err != nil {
		return core.E(core.Invalid, "version", "no version is named", "choose one of those on the page of the device")
	}
	if _, err := c.d.Settings.SetBack(r.Context(), v.Actor, command.BackRequest{Device: id, Version: version, Role: role, Reason: r.PostFormValue("reason")}); err != nil {
		return err
	}
	return toSettings(w, r, id)
}

// toBeSet is the device that a form is about, and the role in which its visitor
// acts: one of their own.
func (c *Console) toBeSet(r *http.Request, v Visitor) (core.DeviceID, *declaration.Policy, string, error) {
	id, err := deviceIn(r)
	if err != nil {
		return "", nil, "", err
	}
	d, err := c.d.Devices.Device(id)
	if err != nil {
		return "", nil, "", err
	}
	p, err := c.d.Declarations.Current(r.Context(), d.Product)
	if err != nil {
		return "", nil, "", err
	}
	role := r.PostFormValue("role")
	if !slices.Contains(v.Roles, role) {
		return "", nil, "", core.E(core.Denied, "not-your-role", "you do not have the role that was named", "set it as one of your own roles")
	}
	return id, p, role, nil
}

func toSettings(w http.ResponseWriter, r *http.Request, id core.DeviceID) error {
	http.Redirect(w, r, "/device/"+url.PathEscape(string(id))+"#settings", http.StatusSeeOther)
	return nil
}
