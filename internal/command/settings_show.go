package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// ShownSettings is how a device is to be set, and what it says of it, for the
// maker's people. Values that are personal are the owner's, and are not in it.
type ShownSettings struct {
	Settings

	State string // one of the states below
	List  []ShownSetting
	Backs []Back // what can be taken back, newest first
}

// The states of settings.
const (
	NeverSet     = "never-set" // under this owner
	SetWaiting   = "waiting"   // for the device
	SetTaken     = "taken"     // acknowledged, and nothing said of it
	SetInForce   = "in-force"  // the device says that it is set so
	SetOtherwise = "otherwise" // the device says that it is not, or refused some
)

// ShownSetting is one setting of a device.
type ShownSetting struct {
	Name    string
	Class   declaration.Class
	Unit    string
	Default string // as JSON
	Set     bool   // somebody set it; else the default is meant
	Value   string // as JSON, of a setting whose class is public; empty: it is the owner's
	Device  string // in-force, otherwise or refused; empty: the device said nothing of it
	Why     string // what the device says of one that it refused
	Risky   bool
	By      []string
}

// Back is a version that can be taken back.
type Back struct {
	Version uint64
	Names   []string
	Until   time.Time
}

// Show is how a device is to be set under its present owner. Without one, or
// without settings in its declaration, there is nothing to show.
func (s *Service) Show(ctx context.Context, id core.DeviceID) (out ShownSettings, err error) {
	out.State = NeverSet
	owned, err := s.d.Owner(ctx, id)
	if err != nil || owned.Subject.IsZero() {
		return out, err
	}
	pol, err := s.d.Policy(ctx, owned.Product)
	if err != nil {
		return out, err
	}
	r, err := s.row(ctx, id)
	if err != nil {
		return out, err
	}
	var c setContent
	var said wire.SettingsReport
	if r.Subject == owned.Subject {
		out.Settings = r
		if c, err = s.setContent(&r); err != nil {
			return out, err
		}
		if said, err = s.said(&r); err != nil {
			return out, err
		}
		if out.Backs, err = s.backs(ctx, &r); err != nil {
			return out, err
		}
	}
	set, has := objectOf(c.Set), objectOf(said.Values)
	values := objectOf(c.Values)
	current := r.Subject == owned.Subject && said.Version == r.Version
	wrong := false
	for i := range pol.Settings {
		x := &pol.Settings[i]
		d := jsonOf(defaultOf(x))
		l := ShownSetting{Name: x.Name, Class: x.Class, Unit: x.Unit, Default: string(d), Set: set[x.Name] != nil, Risky: x.Risky, By: x.By}
		want := values[x.Name]
		if want == nil {
			want = d
		}
		if x.Class == declaration.Public {
			l.Value = string(want)
		}
		why, refused := said.Refused[x.Name]
		switch {
		case !current:
		case refused:
			l.Device, l.Why, wrong = "refused", why, true
		case has[x.Name] == nil || !sameValue(x, has[x.Name], want):
			l.Device, wrong = SetOtherwise, true
		default:
			l.Device = SetInForce
		}
		out.List = append(out.List, l)
	}
	switch {
	case r.Subject != owned.Subject:
	case current && wrong:
		out.State = SetOtherwise
	case current:
		out.State = SetInForce
	case !r.Taken.IsZero():
		out.State = SetTaken
	default:
		out.State = SetWaiting
	}
	return out, nil
}

// sameValue compares two values as the declaration reads them: 21 is 21.0.
func sameValue(x *declaration.Setting, a, b json.RawMessage) bool {
	one := func(v json.RawMessage) []byte {
		p := paramOf(&x.Param)
		got, _, err := wire.ParseSome([]wire.Param{p}, slices.Concat(wire.AppendString([]byte("{"), x.Name), []byte(":"), v, []byte("}")))
		if err != nil || len(got) == 0 {
			return nil
		}
		return jsonOf(got[0].Is)
	}
	va, vb := one(a), one(b)
	return va != nil && bytes.Equal(va, vb)
}

func objectOf(b []byte) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if len(b) > 0 {
		_ = json.Unmarshal(b, &out) // it was read before it was kept
	}
	return out
}

// said is the last report of a device.
func (s *Service) said(r *Settings) (wire.SettingsReport, error) {
	if len(r.Report) == 0 {
		return wire.SettingsReport{}, nil
	}
	b, err := s.d.Keys.OpenValue(r.Subject, sealReport, r.Report)
	if err != nil {
		return wire.SettingsReport{}, fmt.Errorf("open what a device said: %w", err)
	}
	return wire.ParseReport(b)
}

// backs are the versions that can be taken back: the newest, and those before
// it as far as all of each is still kept.
func (s *Service) backs(ctx context.Context, r *Settings) (out []Back, err error) {
	var list []Change
	if err := s.d.View(ctx, func(tx Tx) (err error) { list, err = tx.Changes(ctx, r.Device, r.Subject); return err }); err != nil {
		return nil, err
	}
	now := s.now()
	for at := r.Version; at != 0; {
		b := Back{Version: at}
		before := uint64(0)
		of := 0
		for i := range list {
			c := &list[i]
			if c.Version != at || !c.Until.After(now) {
				continue
			}
			if before, of = c.Before, c.Of; b.Until.IsZero() || c.Until.Before(b.Until) {
				b.Until = c.Until
			}
			b.Names = append(b.Names, c.Name)
		}
		if len(b.Names) == 0 || len(b.Names) != of {
			break
		}
		out = append(out, b)
		at = before
	}
	return out, nil
}
