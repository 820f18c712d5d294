package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// held is what memory has of a row of settings: what sessions ask at every
// subscription must not ask the disk.
type held struct {
	subject  core.Subject
	product  core.ProductID
	shape    core.Hash
	version  uint64
	reported uint64
}

// SetRequest is how somebody wants a device to be set.
type SetRequest struct {
	Device core.DeviceID
	Values []byte // a JSON object of some declared settings
	Role   string // what who sets it is to the device: "support"
	Reason string // 5 to 300 characters, for the ledger
}

// BackRequest is what somebody wants to be as it was.
type BackRequest struct {
	Device  core.DeviceID
	Version uint64 // take back this version and all after it; 0: the newest
	Role    string
	Reason  string
}

// loadSettings reads every row at start.
func (s *Service) loadSettings(ctx context.Context) error {
	const at1 = 1000
	for after := uint64(0); ; {
		var list []Settings
		if err := s.d.View(ctx, func(tx Tx) (err error) { list, err = tx.AllSettings(ctx, after, at1); return err }); err != nil {
			return fmt.Errorf("read how devices are to be set: %w", err)
		}
		for i := range list {
			s.hold(&list[i])
		}
		if len(list) < at1 {
			return nil
		}
		after = list[at1-1].Version
	}
}

// hold puts a row in its place in memory.
func (s *Service) hold(r *Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[r.Device] = held{r.Subject, r.Product, r.Shape, r.Version, r.Reported}
	s.last = max(s.last, r.Version)
}

// EverSet is how many devices were ever set, by memory.
func (s *Service) EverSet() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.held)
}

// number gives the number of a new command or version. Numbers grow with the
// clock, so that an installation that was restored does not use one again.
func (s *Service) number(now time.Time, above uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last+1, above+1, uint64(now.UnixMicro()))
	return s.last
}

// checkReason bounds why something is done.
func checkReason(reason string) error {
	if n := utf8.RuneCountInString(strings.TrimSpace(reason)); n < minReason || n > maxReason {
		return core.E(core.Invalid, "reason", "the reason is missing, too short or too long", fmt.Sprintf("say in %d to %d characters why; it goes to the ledger, sealed for the owner", minReason, maxReason))
	}
	return nil
}

// target is the device that somebody wants to tell something, and what is
// declared of it.
func (s *Service) target(ctx context.Context, by core.Actor, id core.DeviceID, role string) (Owned, *declaration.Policy, error) {
	if by.Kind == core.ActorStaff && !declaration.IsStaffRole(role) {
		return Owned{}, nil, core.E(core.Denied, "command-by", fmt.Sprintf("%.80q is no role of the maker's staff", role), "nobody acts as the owner or as a service; name your own role, for example support")
	}
	owned, err := s.d.Owner(ctx, id)
	if err != nil {
		return Owned{}, nil, err
	}
	if owned.Subject.IsZero() {
		return Owned{}, nil, core.E(core.Conflict, "unowned", "the device belongs to nobody: there is nobody for whom it could be told to do something", "`hawser device show "+string(id)+"` says since when")
	}
	if owned.Child {
		return Owned{}, nil, core.E(core.Conflict, "not-yet", "commands and settings for children of hubs are not brought yet", "a child has no session of its own; tell its hub, if its declaration lets you")
	}
	pol, err := s.d.Policy(ctx, owned.Product)
	return owned, pol, err
}

// Set changes how a device is to be set under its present owner. The
// declaration in force says what can be set, by whom and within what bounds;
// the device holds the same against it again. What is so already stays.
func (s *Service) Set(ctx context.Context, by core.Actor, q SetRequest) (Settings, error) {
	if err := checkReason(q.Reason); err != nil {
		return Settings{}, err
	}
	owned, pol, err := s.target(ctx, by, q.Device, q.Role)
	if err != nil {
		return Settings{}, err
	}
	if len(pol.Settings) == 0 {
		return Settings{}, core.E(core.Invalid, "setting-undeclared", string(pol.Product)+" declares no settings", "publish a declaration with `settings`")
	}
	values, refused, err := wire.ParseSome(settingParams(pol), q.Values)
	if err != nil {
		return Settings{}, &core.Error{Kind: core.Invalid, Reason: "setting-value", Message: err.Error(), Hint: "give one JSON object, each setting once", Err: err}
	}
	for name, why := range refused {
		if settingOf(pol, name) == nil {
			return Settings{}, core.E(core.Invalid, "setting-undeclared", fmt.Sprintf("%s declares no setting %.63q", pol.Product, name), "it declares: "+strings.Join(settingNames(pol), ", "))
		}
		return Settings{}, core.E(core.Invalid, "setting-value", name+" "+why, "the declaration of "+string(pol.Product)+" says within what bounds "+name+" must be")
	}
	if len(values) == 0 {
		return Settings{}, core.E(core.Invalid, "setting-value", "no setting is named", "give at least one, as in level=3")
	}
	risky, err := maySet(pol, q.Role, namesOf(values))
	if err != nil {
		return Settings{}, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if risky {
		return s.ask(ctx, Command{Kind: OfSettings, Name: "settings", Device: q.Device, Role: q.Role, By: by}, owned, pol, content{wire.AppendParams(nil, values), strings.TrimSpace(q.Reason)})
	}
	return s.turn(ctx, setting(q.Device, owned, pol, by, q.Role, strings.TrimSpace(q.Reason), values))
}

func setting(id core.DeviceID, owned Owned, pol *declaration.Policy, by core.Actor, role, reason string, values []wire.Value) turning {
	return turning{
		device: id, owned: owned, pol: pol, by: by, role: role, cause: BySet, reason: reason,
		set: func(_ *Settings, old []wire.Value) ([]wire.Value, error) { return merged(pol, old, values), nil },
	}
}

func namesOf(values []wire.Value) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, v.Name)
	}
	return out
}

// maySet reports whether a role may set all of names, and whether one of them
// is risky.
func maySet(pol *declaration.Policy, role string, names []string) (risky bool, err error) {
	for _, name := range names {
		x := settingOf(pol, name)
		switch {
		case x == nil:
			return false, core.E(core.Conflict, "setting-undeclared", name+" is declared no more", "leave it: the device has no such setting now")
		case !slices.Contains(x.By, role):
			return false, core.E(core.Denied, "setting-by", fmt.Sprintf("%s may not set %s", cmp.Or(role, "nobody in particular"), name), "the declaration lets: "+strings.Join(x.By, ", "))
		}
		risky = risky || x.Risky
	}
	return risky, nil
}

func settingNames(pol *declaration.Policy) []string {
	out := make([]string, 0, len(pol.Settings))
	for i := range pol.Settings {
		out = append(out, pol.Settings[i].Name)
	}
	return out
}

// merged are old values with others in their place, in the order of the
// declaration.
func merged(pol *declaration.Policy, old, changed []wire.Value) (out []wire.Value) {
	for i := range pol.Settings {
		is := func(v wire.Value) bool { return v.Name == pol.Settings[i].Name }
		for _, list := range [][]wire.Value{changed, old} {
			if at := slices.IndexFunc(list, is); at >= 0 {
				out = append(out, list[at])
				break
			}
		}
	}
	return out
}

// SetBack takes back a version and all after it: what they changed is as it was
// before them. It is a change of its own, and can be taken back as one.
func (s *Service) SetBack(ctx context.Context, by core.Actor, q BackRequest) (Settings, error) {
	if err := checkReason(q.Reason); err != nil {
		return Settings{}, err
	}
	owned, pol, err := s.target(ctx, by, q.Device, q.Role)
	if err != nil {
		return Settings{}, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	r, err := s.row(ctx, q.Device)
	if err != nil {
		return Settings{}, err
	}
	if q.Version == 0 {
		q.Version = r.Version
	}
	reason := strings.TrimSpace(q.Reason)
	risky, err := s.backRisky(ctx, &r, owned, pol, &q)
	if err != nil {
		return Settings{}, err
	}
	if risky {
		said := content{[]byte(fmt.Sprintf(`{"version":%d}`, q.Version)), reason}
		return s.ask(ctx, Command{Kind: OfSettingsBack, Name: "settings-back", Device: q.Device, Role: q.Role, By: by}, owned, pol, said)
	}
	return s.turn(ctx, s.settingBack(ctx, owned, pol, by, reason, q))
}

func (s *Service) settingBack(ctx context.Context, owned Owned, pol *declaration.Policy, by core.Actor, reason string, q BackRequest) turning {
	return turning{
		device: q.Device, owned: owned, pol: pol, by: by, role: q.Role, cause: ByBack, reason: reason,
		set: func(r *Settings, old []wire.Value) ([]wire.Value, error) {
			if r == nil {
				return nil, nothingBefore(q.Device)
			}
			set, _, err := s.before(ctx, r, pol, &q, old)
			return set, err
		},
	}
}

// backRisky reports whether taking back changes something risky.
func (s *Service) backRisky(ctx context.Context, r *Settings, owned Owned, pol *declaration.Policy, q *BackRequest) (bool, error) {
	if r.Subject != owned.Subject || q.Version > r.Version {
		return false, nothingBefore(q.Device)
	}
	_, risky, err := s.before(ctx, r, pol, q, nil)
	return risky, err
}

func nothingBefore(id core.DeviceID) error {
	return core.E(core.Conflict, "nothing-before", "what was set before is not kept any more, or nothing was", "`hawser setting show "+string(id)+"` says what can be set back, and until when; set the values that you want instead")
}

// before is what somebody had set before a version, and whether something risky
// is among what changes.
func (s *Service) before(ctx context.Context, r *Settings, pol *declaration.Policy, q *BackRequest, old []wire.Value) (set []wire.Value, risky bool, err error) {
	var list []Change
	if err = s.d.View(ctx, func(tx Tx) (err error) { list, err = tx.Changes(ctx, r.Device, r.Subject); return err }); err != nil {
		return nil, false, err
	}
	set = slices.Clone(old)
	for at, now := r.Version, s.now(); at >= q.Version; {
		of := slices.DeleteFunc(slices.Clone(list), func(c Change) bool { return c.Version != at || !c.Until.After(now) })
		if len(of) == 0 || len(of) != of[0].Of {
			return nil, false, nothingBefore(q.Device)
		}
		for i := range of {
			c := &of[i]
			danger, err := maySet(pol, q.Role, []string{c.Name})
			if err != nil {
				return nil, false, err
			}
			risky = risky || danger
			set = slices.DeleteFunc(set, func(v wire.Value) bool { return v.Name == c.Name })
			if len(c.Sealed) == 0 {
				continue
			}
			b, err := s.d.Keys.OpenValue(r.Subject, sealSettingBefore, c.Sealed)
			if err != nil {
				return nil, false, fmt.Errorf("open what a setting was: %w", err)
			}
			v, refused, err := wire.ParseSome(settingParams(pol), b)
			if err != nil {
				return nil, false, err
			}
			if len(v) != 1 || len(refused) > 0 {
				return nil, false, core.E(core.Conflict, "setting-value", "what "+c.Name+" was is not allowed any more", "set a value that is")
			}
			set = append(set, v[0])
		}
		at = of[0].Before
		if at == 0 {
			break
		}
	}
	return merged(pol, set, nil), risky, nil
}

// turning is one change of how a device is to be set. set gives what is
// somebody's wish afterwards, of what it was; r is nil when the device was
// never set under this owner.
type turning struct {
	device core.DeviceID
	owned  Owned
	pol    *declaration.Policy
	by     core.Actor
	role   string
	cause  Cause
	reason string
	above  uint64 // the version must be higher
	asked  string // the Command to which a second person agreed; empty: none was needed
	set    func(r *Settings, old []wire.Value) ([]wire.Value, error)
}

// turn makes a new version, if it differs. The caller holds s.change.
func (s *Service) turn(ctx context.Context, q turning) (Settings, error) {
	r, err := s.row(ctx, q.device)
	if err != nil {
		return Settings{}, err
	}
	shape, err := shapeOf(q.pol)
	if err != nil {
		return Settings{}, err
	}
	var was setContent // nothing under another owner
	var mine *Settings
	if r.Subject == q.owned.Subject {
		mine = &r
		if was, err = s.setContent(&r); err != nil {
			return Settings{}, err
		}
	}
	old, _, err := resolved(q.pol, was.Set)
	if err != nil {
		return Settings{}, err
	}
	wish, err := q.set(mine, old)
	if err != nil {
		return Settings{}, err
	}
	kept, values, err := resolved(q.pol, wire.AppendParams(nil, wish))
	if err != nil {
		return Settings{}, err
	}
	c := newContent(kept, values)
	names := different(&was, values, q.pol)
	if mine != nil && len(names) == 0 && bytes.Equal(c.Values, was.Values) && q.above == 0 {
		if shape != r.Shape { // another declaration, which leaves this device as it is
			r.Shape = shape
			return r, s.keep(ctx, &r, nil, nil)
		}
		return r, nil
	}
	now := s.now()
	next := Settings{
		Device: q.device, Subject: q.owned.Subject, Product: q.owned.Product, Policy: q.pol.Hash, Shape: shape, Version: s.number(now, max(r.Version, q.above)),
		Changed: now, By: q.by, Role: q.role, Cause: q.cause, Names: names, Asked: q.asked,
	}
	if n := len(wire.AppendConfig(nil, &wire.ConfigMessage{Version: next.Version, Given: now.UnixMilli(), Settings: c.Values})); n > wire.MaxNotice {
		return Settings{}, core.E(core.Invalid, "settings-size", fmt.Sprintf("all settings together would take %d bytes, and a device is sent at most %d", n, wire.MaxNotice), "make the texts shorter")
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return Settings{}, err
	}
	if next.Sealed, err = s.d.Keys.SealValue(next.Subject, sealSettings, plain); err != nil {
		return Settings{}, fmt.Errorf("seal settings: %w", err)
	}
	before := uint64(0)
	if mine != nil {
		before = r.Version
	}
	changes, err := s.changesOf(&next, before, old, q.pol)
	if err != nil {
		return Settings{}, err
	}
	var reason []byte
	if q.reason != "" {
		if reason, err = s.d.Keys.SealValue(next.Subject, sealSettingReason, []byte(q.reason)); err != nil {
			return Settings{}, fmt.Errorf("seal a reason: %w", err)
		}
	}
	rec := next.changed(c.digest(), reason)
	if err := s.keep(ctx, &next, changes, &rec); err != nil {
		return Settings{}, err
	}
	s.d.Wake(next.Device)
	return next, nil
}

// different are the names of the settings whose value is another one now.
func different(was *setContent, values []wire.Value, pol *declaration.Policy) (out []string) {
	old := map[string]json.RawMessage{}
	if len(was.Values) > 0 {
		_ = json.Unmarshal(was.Values, &old) // we wrote it
	}
	for i := range values {
		if len(was.Values) == 0 {
			old[values[i].Name] = jsonOf(defaultOf(&pol.Settings[i])) // before anybody set anything
		}
		if !bytes.Equal(old[values[i].Name], jsonOf(values[i].Is)) {
			out = append(out, values[i].Name)
		}
	}
	return out
}

// jsonOf is a value as it is sent.
func jsonOf(v any) []byte {
	b := wire.AppendParams(nil, []wire.Value{{Name: "v", Is: v}})
	return b[len(`{"v":`) : len(b)-1]
}

// changesOf is what was before a version.
func (s *Service) changesOf(next *Settings, before uint64, old []wire.Value, pol *declaration.Policy) ([]Change, error) {
	if next.Cause == ByOwner {
		return nil, nil // what it was is the former owner's
	}
	out := make([]Change, 0, len(next.Names))
	for _, name := range next.Names {
		c := Change{
			Device: next.Device, Subject: next.Subject, Version: next.Version, Before: before, Of: len(next.Names), Name: name,
			Until: next.Changed.Add(settingOf(pol, name).Keep),
		}
		if at := slices.IndexFunc(old, func(v wire.Value) bool { return v.Name == name }); at >= 0 {
			b, err := s.d.Keys.SealValue(next.Subject, sealSettingBefore, wire.AppendParams(nil, old[at:at+1]))
			if err != nil {
				return nil, fmt.Errorf("seal what a setting was: %w", err)
			}
			c.Sealed = b
		}
		out = append(out, c)
	}
	return out, nil
}

// keep writes a row and what goes with it, and remembers it.
func (s *Service) keep(ctx context.Context, r *Settings, changes []Change, rec *core.Record) error {
	if err := s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutSettings(ctx, *r); err != nil {
			return err
		}
		if err := tx.PutChanges(ctx, changes); err != nil {
			return err
		}
		if rec == nil {
			return nil
		}
		return tx.Record(ctx, *rec)
	}); err != nil {
		return fmt.Errorf("keep how a device is to be set: %w", err)
	}
	s.hold(r)
	return nil
}

// row is that of a device; an empty one when there is none.
func (s *Service) row(ctx context.Context, id core.DeviceID) (r Settings, err error) {
	err = s.d.View(ctx, func(tx Tx) (err error) { r, err = tx.Settings(ctx, id); return err })
	if core.KindOf(err) == core.Unknown {
		return Settings{Device: id}, nil
	}
	return r, err
}
