package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ConfigMessage is the message on the topic config: how the device is to be
// set, whole. What is not in it is not to be changed.
type ConfigMessage struct {
	// Version grows with every change to a device's settings, over all its
	// owners. A device does nothing that has not a higher version than the last
	// one that it took: so nothing old is set again, whoever sends it.
	Version uint64 `json:"version"`
	// Given is when this version was made, Unix milliseconds by the server's
	// clock.
	Given int64 `json:"given"`
	// Settings is a JSON object of the declared settings, each with its value.
	Settings json.RawMessage `json:"settings"`
}

// AppendConfig writes c as JSON.
func AppendConfig(dst []byte, c *ConfigMessage) []byte {
	dst = strconv.AppendUint(append(dst, `{"version":`...), c.Version, 10)
	dst = strconv.AppendInt(append(dst, `,"given":`...), c.Given, 10)
	dst = append(append(dst, `,"settings":`...), c.Settings...)
	return append(dst, '}')
}

// ParseConfig reads a message of at most MaxNotice bytes.
func ParseConfig(b []byte) (ConfigMessage, error) {
	var c ConfigMessage
	if len(b) > MaxNotice {
		return c, fmt.Errorf("settings of %d bytes are over the limit of %d", len(b), MaxNotice)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return ConfigMessage{}, fmt.Errorf("read settings: %w", err)
	}
	if c.Version == 0 || c.Version > MaxNumber || len(c.Settings) == 0 {
		return ConfigMessage{}, errors.New("the settings have no version or no values")
	}
	return c, nil
}

// ParseSome holds a JSON object of values against what was declared, as
// ParseParams does, but takes each value by itself: those within their bounds
// come back in the order of the declaration, and refused says for each other
// one why. What is declared and not in the object is left out. It fails when b
// is no flat JSON object of at most MaxNotice bytes.
func ParseSome(declared []Param, b []byte) (values []Value, refused map[string]string, err error) {
	if len(b) > MaxNotice {
		return nil, nil, fmt.Errorf("%w: they are longer than %d bytes", ErrParams, MaxNotice)
	}
	got, err := members(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	refused = map[string]string{}
	for i := range declared {
		p := &declared[i]
		raw, ok := got[p.Name]
		if !ok {
			continue
		}
		delete(got, p.Name)
		v, err := p.parse(raw)
		if err != nil {
			refused[p.Name] = err.Error()
			continue
		}
		values = append(values, Value{p.Name, v})
	}
	for name := range got {
		refused[name] = "is not known"
	}
	return values, refused, nil
}

// Report is the message on the topic state: what the device says of itself.
type Report struct {
	Settings *SettingsReport `json:"settings"`
}

// SettingsReport is how a device is set.
type SettingsReport struct {
	// Version is the last one that the device took; 0: none yet.
	Version uint64 `json:"version"`
	// Values is a JSON object of the settings that the device knows, each with
	// the value in force on it.
	Values json.RawMessage `json:"values"`
	// Refused are settings of this version that the device did not take, each
	// with why, in a sentence that names nobody.
	Refused map[string]string `json:"refused,omitempty"`
}

// AppendReport writes r as JSON.
func AppendReport(dst []byte, r *SettingsReport) []byte {
	dst = strconv.AppendUint(append(dst, `{"settings":{"version":`...), r.Version, 10)
	dst = append(append(dst, `,"values":`...), r.Values...)
	if len(r.Refused) > 0 {
		dst = append(dst, `,"refused":{`...)
		names := make([]string, 0, len(r.Refused))
		for name := range r.Refused {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendString(append(AppendString(dst, name), ':'), r.Refused[name])
		}
		dst = append(dst, '}')
	}
	return append(dst, "}}"...)
}

// ErrReport is why a report is not taken.
var ErrReport = errors.New("the report cannot be read")

// ParseReport reads a Report of at most MaxNotice bytes. Texts that are too
// long are cut, and what a terminal or a page acts on is taken out of them. The
// values are not held against bounds: a device says how it is, not how it
// should be.
func ParseReport(b []byte) (SettingsReport, error) {
	if len(b) > MaxNotice {
		return SettingsReport{}, fmt.Errorf("%w: it has %d bytes, over the limit of %d", ErrReport, len(b), MaxNotice)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return SettingsReport{}, fmt.Errorf("%w: %w", ErrReport, err)
	}
	s := r.Settings
	switch {
	case s == nil:
		return SettingsReport{}, fmt.Errorf("%w: it says nothing of settings", ErrReport)
	case s.Version > MaxNumber:
		return SettingsReport{}, fmt.Errorf("%w: no version is that high", ErrReport)
	case len(s.Refused) > maxParams:
		return SettingsReport{}, fmt.Errorf("%w: it refuses more than a declaration can have", ErrReport)
	}
	got, err := members(s.Values)
	if err != nil {
		return SettingsReport{}, fmt.Errorf("%w: the values: %w", ErrReport, err)
	}
	for name := range got {
		if !ValidName([]byte(name)) {
			return SettingsReport{}, fmt.Errorf("%w: %.63q is no name of a setting", ErrReport, name)
		}
	}
	for name, why := range s.Refused {
		if !ValidName([]byte(name)) {
			return SettingsReport{}, fmt.Errorf("%w: %.63q is no name of a setting", ErrReport, name)
		}
		s.Refused[name] = sentence(why)
	}
	return *s, nil
}

// sentence is what a device said, fit for people to see.
func sentence(text string) string {
	text = strings.Map(func(c rune) rune {
		if unprintable(c) {
			return -1
		}
		return c
	}, text)
	if utf8.RuneCountInString(text) > MaxReplyText {
		text = string([]rune(text)[:MaxReplyText])
	}
	return text
}
