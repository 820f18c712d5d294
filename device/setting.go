package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hawser-iot/hawser/internal/wire"
)

// Setting is one value that can be set on this device and stays until it is set
// anew, as the product's declaration has it, or narrower. What the server sends
// is held against it again (CC 3.7).
type Setting struct {
	Param

	// Default is in force until the server sets another value: a number, a
	// boolean or a string of Param's type, within its bounds.
	Default any
}

// settingsMax bounds the file, in bytes.
const settingsMax = 64 << 10

// settings is what the device keeps of how it is set.
type settings struct {
	path     string
	declared []wire.Param

	mu    sync.Mutex // guards what follows, over disk writes on purpose
	state settingsState
	ready chan struct{} // has a token when there is something to apply
}

type settingsState struct {
	Version uint64          `json:"version"` // the last one that was taken
	Values  json.RawMessage `json:"values"`
	// Before is what was in force before a version that was not applied yet;
	// empty: Values are in force.
	Before  json.RawMessage   `json:"before,omitempty"`
	Refused map[string]string `json:"refused,omitempty"` // of Version
}

func (s settingsState) pending() bool { return len(s.Before) > 0 }

// checkSettings refuses settings that cannot work.
func checkSettings(list []Setting, apply func(context.Context, map[string]any) error) error {
	if len(list) > 0 && apply == nil {
		return errors.New("there are settings, and no Apply that puts them in force")
	}
	seen := map[string]bool{}
	for i := range list {
		s := &list[i]
		if !wire.ValidName([]byte(s.Name)) || seen[s.Name] {
			return fmt.Errorf("%q is no name of a setting, or stands twice", s.Name)
		}
		seen[s.Name] = true
		b, err := json.Marshal(map[string]any{s.Name: s.Default})
		if err != nil {
			return fmt.Errorf("the default of %s: %w", s.Name, err)
		}
		if _, refused, err := wire.ParseSome([]wire.Param{wire.Param(s.Param)}, b); err != nil || len(refused) > 0 {
			return fmt.Errorf("the default of %s %s", s.Name, refused[s.Name])
		}
	}
	return nil
}

// openSettings reads what is kept. Of a value that this firmware does not take
// any more the default is in force.
func openSettings(path string, list []Setting) (*settings, error) {
	s := &settings{path: path, ready: make(chan struct{}, 1)}
	defaults := map[string]any{}
	for i := range list {
		s.declared = append(s.declared, wire.Param(list[i].Param))
		defaults[list[i].Name] = list[i].Default
	}
	base, err := json.Marshal(defaults)
	if err != nil {
		return nil, err
	}
	s.state.Values = []byte("{}")
	b, err := readSmall(path, settingsMax)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, &s.state); err != nil {
			// Without the version something old could be set again.
			return nil, fmt.Errorf("%s cannot be read: %w", path, err)
		}
	}
	if s.state.Values, err = s.merged(base, s.state.Values); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if s.state.pending() {
		if s.state.Before, err = s.merged(base, s.state.Before); err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", path, err)
		}
	}
	return s, nil
}

// merged are all settings: those of over that are within bounds, the rest of
// base.
func (s *settings) merged(base, over []byte) ([]byte, error) {
	under, _, err := wire.ParseSome(s.declared, base)
	if err != nil {
		return nil, err
	}
	above, _, err := wire.ParseSome(s.declared, over)
	if err != nil {
		return nil, err
	}
	for i := range under {
		if at := slices.IndexFunc(above, func(v wire.Value) bool { return v.Name == under[i].Name }); at >= 0 {
			under[i] = above[at]
		}
	}
	return wire.AppendParams(nil, under), nil
}

func (s *settings) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// save writes another state. It is called with the lock held; what is not on
// disk is not so.
func (s *settings) save(next settingsState) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := writeFile(s.path, b); err != nil {
		return err
	}
	s.state = next
	return nil
}

// take notes a version on disk, before anything is done; false when it, or a
// higher one, was here before.
func (s *settings) take(c *wire.ConfigMessage) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Version <= s.state.Version {
		return false, nil
	}
	_, refused, err := wire.ParseSome(s.declared, c.Settings)
	if err != nil {
		// It is taken all the same: it would come again for ever.
		refused = map[string]string{}
		for i := range s.declared {
			refused[s.declared[i].Name] = "the message cannot be read"
		}
	}
	maps.DeleteFunc(refused, func(name, _ string) bool { return !wire.ValidName([]byte(name)) })
	next := settingsState{Version: c.Version, Values: s.state.Values, Before: s.state.Before, Refused: refused}
	if err == nil {
		if next.Values, err = s.merged(s.state.Values, c.Settings); err != nil {
			return false, err
		}
	}
	if !next.pending() {
		next.Before = s.state.Values
	}
	if err := s.save(next); err != nil {
		return false, err
	}
	s.wake()
	return true, nil
}

// now is the state of this moment.
func (s *settings) now() settingsState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Refused = maps.Clone(st.Refused)
	return st
}

// applied notes that a version is in force, or why it could not be: then what
// was before it is. It reports false when another version came meanwhile.
func (s *settings) applied(st settingsState, failed string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state
	if failed == "" {
		next.Before = st.Values // what a later version falls back to
	}
	if next.Version != st.Version {
		return false, s.save(next)
	}
	if failed != "" {
		next.Refused = maps.Clone(st.Refused)
		if next.Refused == nil {
			next.Refused = map[string]string{}
		}
		for name := range differ(st.Before, st.Values) {
			next.Refused[name] = failed
		}
		next.Values = st.Before
	}
	next.Before = nil
	return true, s.save(next)
}

// differ are the names of values that are not the same.
func differ(a, b []byte) map[string]bool {
	var x, y map[string]json.RawMessage
	_, _ = json.Unmarshal(a, &x), json.Unmarshal(b, &y) // we wrote both
	out := map[string]bool{}
	for name := range y {
		if !bytes.Equal(x[name], y[name]) {
			out[name] = true
		}
	}
	return out
}

// report is what the server is told, short enough to be taken.
func (st settingsState) report() []byte {
	r := wire.SettingsReport{Version: st.Version, Values: st.Values, Refused: maps.Clone(st.Refused)}
	for cut := wire.MaxReplyText; ; cut /= 2 {
		for name, why := range r.Refused {
			if t := []rune(why); len(t) > cut {
				r.Refused[name] = string(t[:cut])
			}
		}
		if b := wire.AppendReport(nil, &r); len(b) <= wire.MaxNotice || cut == 0 {
			return b
		}
	}
}

// configured takes how the device is to be set, from the server.
func (s *session) configured(p packetIn) error {
	d := s.d
	c, err := wire.ParseConfig(p.payload)
	if err != nil {
		d.cfg.Log.Warn("settings cannot be read", slog.Any("err", err))
		return nil
	}
	fresh, err := d.settings.take(&c)
	if err != nil {
		return fault(StateUnusable, err, "check the disk of the device", "how the device is to be set cannot be noted")
	}
	if fresh {
		d.count(func(st *Status) { st.Settings++ })
		return nil
	}
	if st := d.settings.now(); c.Version == st.Version && !st.pending() {
		return d.orders.report(st.report()) // the server has not heard it
	}
	d.cfg.Log.Info("settings that are not newer change nothing")
	return nil
}

// applySettings puts in force what is kept, and tells the server of a version
// that was not applied before.
func (d *Device) applySettings(ctx context.Context) error {
	st := d.settings.now()
	err := d.apply(ctx, st.Values)
	if !st.pending() {
		return err
	}
	failed := ""
	if err != nil {
		if failed = plain([]byte(err.Error())); failed == "" {
			failed = "it could not be applied"
		}
		if err := d.apply(ctx, st.Before); err != nil {
			d.cfg.Log.Error("the settings of before cannot be applied either", slog.Any("err", err))
		}
	}
	last, err := d.settings.applied(st, failed)
	if err != nil || !last {
		return err
	}
	now := d.settings.now()
	if failed != "" || len(now.Refused) > 0 {
		d.cfg.Log.Warn("settings were refused", slog.Any("names", slices.Sorted(maps.Keys(now.Refused))))
	}
	return d.orders.report(now.report())
}

// apply calls Config.Apply.
func (d *Device) apply(ctx context.Context, values []byte) (err error) {
	list, _, err := wire.ParseSome(d.settings.declared, values)
	if err != nil {
		return err
	}
	byName := make(map[string]any, len(list))
	for _, v := range list {
		byName[v.Name] = v.Is
	}
	defer func() {
		if f := recover(); f != nil {
			d.cfg.Log.Error("the code that applies settings failed", slog.Any("fault", f))
			err = errors.New("the device's code failed")
		}
	}()
	return d.cfg.Apply(ctx, byName)
}

func settingsPath(dir string) string { return filepath.Join(dir, "settings") }
