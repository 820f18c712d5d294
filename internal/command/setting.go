package command

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// The kinds of records of settings.
const (
	// RecordSettings is of a new version of how a device is to be set. Its
	// facts: version, names, role, cause, values, asked: a salted hash, because a value
	// is kept no longer than its declaration lets it. The reason is sealed.
	RecordSettings core.RecordKind = "settings-changed"
	// RecordReported is of a device's word on a version. Its facts: version,
	// refused: the names of what it did not take.
	RecordReported core.RecordKind = "settings-reported"
)

// Cause is why a device is to be set otherwise.
type Cause string

// The causes.
const (
	BySet         Cause = "set"         // somebody set it
	ByBack        Cause = "back"        // somebody set it back
	ByOwner       Cause = "owner"       // the device has another owner: everything is as declared
	ByDeclaration Cause = "declaration" // another declaration is in force
	ByDevice      Cause = "device"      // the device took a higher version than this server remembers
)

// Settings is how a device is to be set under one owner: a row for each device
// that was ever set. What it says is sealed under the subject's key. When that
// is gone the row stays for the version, which must not be used again.
type Settings struct {
	Device  core.DeviceID `json:"-"`
	Subject core.Subject  `json:"-"` // zero: nobody's any more
	Version uint64        `json:"-"`
	Policy  core.Hash     `json:"-"` // the declaration by which this version was made
	Shape   core.Hash     `json:"-"` // of the declared settings that it was last held against

	Product    core.ProductID `json:"product"`
	Changed    time.Time      `json:"changed"`
	By         core.Actor     `json:"by"`
	Role       string         `json:"role,omitempty"` // that of who set it; empty: a cause of ours
	Cause      Cause          `json:"cause"`
	Names      []string       `json:"names,omitempty"` // what this version changed, sorted
	Asked      string         `json:"asked,omitempty"` // the Command to which a second person agreed
	Taken      time.Time      `json:"taken,omitzero"`  // the device acknowledged the message
	Reported   uint64         `json:"reported,omitempty"`
	ReportedAt time.Time      `json:"reported_at,omitzero"`

	Sealed []byte `json:"-"` // setContent
	Report []byte `json:"-"` // the device's last report, sealed; nil: none
}

// Change is what one setting was before a version. It is kept until its time is
// over, so that the version can be taken back.
type Change struct {
	Device  core.DeviceID
	Subject core.Subject
	Version uint64
	Before  uint64 // the version before; 0: none under this owner
	Of      int    // how many settings the version changed
	Name    string
	Until   time.Time // the declared keep-time after the value was replaced
	Sealed  []byte    // a JSON value; empty when the default was in force
}

// setContent is what is sealed of settings.
type setContent struct {
	Set    json.RawMessage `json:"set"`    // a JSON object of what somebody set
	Values json.RawMessage `json:"values"` // a JSON object of all, as the device is to have them
	Salt   []byte          `json:"salt"`
}

// digest commits to values without giving them away.
func (c *setContent) digest() string {
	h := sha256.New()
	for _, b := range [][]byte{[]byte("hawser/settings/1"), c.Salt, c.Set, c.Values} {
		sum := sha256.Sum256(b)
		_, _ = h.Write(sum[:]) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// What the sealed parts are, so that they cannot change places.
const (
	sealSettings      = "settings"
	sealSettingBefore = "setting-before"
	sealSettingReason = "setting-reason"
	sealReport        = "settings-report"
)

func settingParams(pol *declaration.Policy) []wire.Param {
	out := make([]wire.Param, len(pol.Settings))
	for i := range pol.Settings {
		out[i] = paramOf(&pol.Settings[i].Param)
	}
	return out
}

func paramOf(p *declaration.Param) wire.Param {
	return wire.Param{Name: p.Name, Type: p.Type.String(), Values: p.Values, Min: p.Min, Max: p.Max, MinLength: p.MinLength, MaxLength: p.MaxLength}
}

func settingOf(pol *declaration.Policy, name string) *declaration.Setting {
	i := slices.IndexFunc(pol.Settings, func(x declaration.Setting) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return &pol.Settings[i]
}

// defaultOf is a declared default.
func defaultOf(x *declaration.Setting) any {
	switch x.Type {
	case declaration.Integer:
		return int64(x.Default.Number)
	case declaration.Number:
		return x.Default.Number
	case declaration.Boolean:
		return x.Default.Yes
	case declaration.String, declaration.Enum, declaration.Timestamp:
	}
	return x.Default.Text
}

// shapeOf names the settings of a declaration, so that another one that leaves
// them alone changes nothing.
func shapeOf(pol *declaration.Policy) (core.Hash, error) {
	b, err := json.Marshal(pol.Settings)
	return core.Hash(sha256.Sum256(b)), err
}

// resolved holds what somebody set against a declaration: what is in force, and
// what of it still is somebody's wish. A value that is allowed no more gives
// way to the default.
func resolved(pol *declaration.Policy, set []byte) (kept, values []wire.Value, err error) {
	if len(set) > 0 {
		if kept, _, err = wire.ParseSome(settingParams(pol), set); err != nil {
			return nil, nil, err
		}
	}
	for i := range pol.Settings {
		x := &pol.Settings[i]
		v := wire.Value{Name: x.Name, Is: defaultOf(x)}
		if at := slices.IndexFunc(kept, func(k wire.Value) bool { return k.Name == x.Name }); at >= 0 {
			v = kept[at]
		}
		values = append(values, v)
	}
	return kept, values, nil
}

// newContent is what is sealed of a new version.
func newContent(kept, values []wire.Value) setContent {
	c := setContent{Set: wire.AppendParams(nil, kept), Values: wire.AppendParams(nil, values), Salt: make([]byte, 16)}
	_, _ = rand.Read(c.Salt) // never fails
	return c
}

func (s *Service) setContent(r *Settings) (c setContent, err error) {
	b, err := s.d.Keys.OpenValue(r.Subject, sealSettings, r.Sealed)
	if err != nil {
		return c, fmt.Errorf("open the settings of a device: %w", err)
	}
	return c, json.Unmarshal(b, &c)
}

func (r *Settings) changed(values string, reason []byte) core.Record {
	return core.Record{Time: r.Changed, Kind: RecordSettings, Actor: r.By, Subject: r.Subject, Product: r.Product, Policy: r.Policy, Sealed: reason, Facts: []core.Fact{
		{Name: "version", Value: strconv.FormatUint(r.Version, 10)},
		{Name: "names", Value: strings.Join(r.Names, ",")},
		{Name: "role", Value: r.Role},
		{Name: "cause", Value: string(r.Cause)},
		{Name: "values", Value: values},
		{Name: "asked", Value: r.Asked},
	}}
}

// Settled holds a row against a declaration and against the digest that the
// ledger has of it: for whoever looks whether the rules were kept. It gives the
// reason why it is not as it should be.
func (s *Service) Settled(r *Settings, pol *declaration.Policy, digest string) (why string, err error) {
	c, err := s.setContent(r)
	if err != nil {
		return "", err
	}
	if c.digest() != digest {
		return "its values are not what the ledger has", nil
	}
	if !asDeclared(pol, c.Values) { // which value it is, is the owner's
		return "the declaration does not allow its values", nil
	}
	if r.Cause != BySet && r.Cause != ByBack {
		return "", nil
	}
	for _, name := range r.Names {
		if x := settingOf(pol, name); x == nil || !slices.Contains(x.By, r.Role) {
			return "the declaration does not let " + r.Role + " set " + name, nil
		}
	}
	return "", nil
}

// asDeclared reports whether all settings of a declaration are there, each
// within its bounds, and no other.
func asDeclared(pol *declaration.Policy, values []byte) bool {
	_, err := wire.ParseParams(settingParams(pol), values)
	return err == nil
}

// SettingsTx is what settings need from storage.
type SettingsTx interface {
	// PutSettings keeps how a device is to be set, new or changed. It refuses a
	// subject that is being erased with core.Conflict.
	PutSettings(ctx context.Context, r Settings) error
	// Settings is that of a device; core.Unknown when it was never set.
	Settings(ctx context.Context, id core.DeviceID) (Settings, error)
	// AllSettings are up to limit with versions above one, in their order.
	AllSettings(ctx context.Context, after uint64, limit int) ([]Settings, error)
	// PutChanges keeps what was before a version.
	PutChanges(ctx context.Context, list []Change) error
	// Changes are all that are kept of a device under a subject, newest first.
	Changes(ctx context.Context, id core.DeviceID, subject core.Subject) ([]Change, error)
	// DropChanges deletes up to limit whose time is over, and says how many.
	DropChanges(ctx context.Context, now time.Time, limit int) (int, error)
}
