package declaration

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Setting is one bounded value that may be set on a device and stays until it
// is set anew. CC 3.7.
type Setting struct {
	Param
	Default Scalar        // what a device has until somebody sets it; within the bounds
	Class   Class         // how personal a set value is
	Keep    time.Duration // how long a value may be kept after another took its place
	By      []string      // sorted roles and services that may set it
	Risky   bool          // asks for a second factor or person (rows 3.7, 3.8)
}

// Scalar is one value; the type beside it says which of the three holds it.
type Scalar struct {
	Number float64 // Number and Integer
	Text   string  // String, Enum and Timestamp
	Yes    bool    // Boolean
}

// MaxSettings is how many settings a product may have: all of them travel in
// one message.
const MaxSettings = 64

func settingShape() *shape {
	keys := append(
		valueKeys(),
		Key{Name: "default", Required: true, rule: ruleSetting, Unit: "that of the value", Example: "default: 20", Meaning: "What a device has until somebody sets it; within the bounds.", shape: &shape{form: scalarForm, rule: ruleSetting, want: "a number, a text, true or false"}},
		Key{Name: "class", Required: true, rule: ruleClass, Example: "class: personal", Meaning: "How personal a set value is: public, personal, sensitive, child, health.", shape: wordOf(ruleClass, classWords())},
		Key{Name: "keep", Required: true, rule: ruleKeep, Unit: "span, 1h to 10y, whole seconds", Example: "keep: 30d", Meaning: "How long a value may be kept after another took its place.", shape: spanOf(ruleKeep)},
		Key{Name: "by", Required: true, rule: ruleCommandBy, Example: "by: [owner]", Meaning: "Who may set it: roles and services.", shape: listOf(ruleCommandBy, 1, 16, patternOf(ruleCommandBy, byPattern(), "a role or service that may set it"))},
		Key{Name: "risky", Required: true, Example: "risky: false", Meaning: "Whether a wrong value can do harm: then setting it asks for a second factor or person.", shape: boolean()},
	)
	return &shape{form: objectForm, keys: keys, when: valueConditions()}
}

type settingSource struct {
	source
	Setting
}

func (d *Declaration) settings() {
	each(d.root, "settings", func(s source) {
		x := Setting{
			Param: value(s), Class: Class(word(s.n, "class", classWords())), Keep: spanOr(s.n, "keep", 0),
			By: sorted(texts(s.n, "by")), Risky: yes(s.n, "risky"),
		}
		if v := s.n.get("default"); v != nil {
			switch v.kind {
			case numberKind:
				x.Default.Number = v.num
			case boolKind:
				x.Default.Yes = v.yes
			default:
				x.Default.Text = v.text
			}
		}
		d.setting = append(d.setting, settingSource{s, x})
		d.p.Settings = append(d.p.Settings, x)
	})
	slices.SortFunc(d.p.Settings, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
}

// settings holds bounds, keep-times and who may set. CC 3.7: a setting is
// bounded. CC 1.9: no credential is shared, so none is a setting.
func (j *judge) settings() {
	for i := range j.d.setting {
		s := &j.d.setting[i]
		j.value(s.source, s.Param)
		f := fieldSource{s.source, Field{Name: s.Name, Class: s.Class, Keep: s.Keep}}
		j.keep(&f)
		j.class(&f)
		j.by(s.source)
		if secretName(s.Name) {
			j.add(s.at, ruleSettingSecret, quote(s.Name)+" reads like a credential", "remove it: a device proves who it is by its own certificate; if it is none, rename it")
		}
		v := s.n.get("default")
		if v == nil || s.n.get("type") == nil {
			continue
		}
		if why := s.outside(v); why != "" {
			j.add(v.at, ruleSetting, "the default of "+s.Name+" "+why, "write a default within the bounds")
		}
	}
}

// outside says why a value as written is not within the bounds; "" if it is.
// Bounds that are missing or have faults of their own are not judged here.
func (s *settingSource) outside(v *node) string {
	want := textKind
	switch s.Type {
	case Number, Integer:
		want = numberKind
	case Boolean:
		want = boolKind
	}
	if v.kind != want {
		return fmt.Sprintf("is %s, and its type is %s", v.kind, s.Type)
	}
	switch s.Type {
	case Integer, Number:
		if s.Type == Integer && v.num != math.Trunc(v.num) {
			return "has a fraction, and its type is integer"
		}
		if s.HasRange && (v.num < s.Min || v.num > s.Max) {
			return fmt.Sprintf("is %s, outside %s to %s", number(v.num), number(s.Min), number(s.Max))
		}
	case Enum:
		if s.n.get("values") != nil && !slices.Contains(s.Values, v.text) {
			return quote(v.text) + " is none of its values"
		}
	case String:
		if n := utf8.RuneCountInString(v.text); s.n.get("max_length") != nil && (n < s.MinLength || n > s.MaxLength) {
			return fmt.Sprintf("has %d characters, outside %d to %d", n, s.MinLength, s.MaxLength)
		}
	case Timestamp:
		if _, err := time.Parse(time.RFC3339, v.text); err != nil {
			return quote(v.text) + " is no RFC 3339 time"
		}
	}
	return ""
}

// secretName reports whether a name says that it holds a credential.
func secretName(name string) bool {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	if slices.ContainsFunc(words, func(w string) bool { return slices.Contains([]string{"psk", "token", "pin", "passwd"}, w) }) {
		return true
	}
	flat := strings.Join(words, "")
	return slices.ContainsFunc([]string{"password", "passphrase", "secret", "credential", "privatekey", "apikey", "sharedkey"}, func(w string) bool { return strings.Contains(flat, w) })
}

func (c *canon) setting(s *Setting) *object {
	o := c.value(&s.Param)
	switch s.Type {
	case Number, Integer:
		o.number("default", s.Default.Number)
	case Boolean:
		o.yes("default", s.Default.Yes)
	default:
		o.text("default", s.Default.Text)
	}
	return o.text("class", s.Class.String()).span("keep", s.Keep).texts("by", s.By).yes("risky", s.Risky)
}

func (d *differ) settings(old, next *Policy) {
	pairs(
		old.Settings, next.Settings, func(s *Setting) string { return s.Name },
		func(s *Setting) { d.add(Narrowing, "setting", "settings."+s.Name, "the setting is gone") },
		func(s *Setting) {
			d.add(Widening, "setting", "settings."+s.Name, "a new setting for %s", strings.Join(s.By, ", "))
		},
		func(a, b *Setting) {
			at := "settings." + b.Name
			d.value("setting", at, &a.Param, &b.Param)
			d.sets(Widening, Narrowing, "setting", at, "by", a.By, b.By)
			more(d, "keep-time", at, "keep", int64(a.Keep), int64(b.Keep), spanText)
			// Another class changes what the values are: a person decides.
			d.changed(Widening, "class", at, "class", a.Class.String(), b.Class.String())
			if a.Default != b.Default {
				d.add(Neutral, "setting", at, "the default is another one")
			}
			if a.Risky != b.Risky {
				dir := Narrowing
				if a.Risky {
					dir = Widening // it no longer asks for a second factor
				}
				d.add(dir, "setting", at, "risky from %t to %t", a.Risky, b.Risky)
			}
		},
	)
}
