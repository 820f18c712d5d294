package observe

import (
	"regexp"
	"slices"
	"strings"
)

// variable stands in a pattern for a level that names a device.
const variable = "{device}"

// maxLevels bounds a topic: what is deeper is not looked at.
const maxLevels = 16

// pattern is a topic with what names a device taken out.
type pattern struct {
	levels []string
	device string // what stood at the variable; "": nothing looks like a device
}

func (p pattern) String() string { return strings.Join(p.levels, "/") }

// patternOf takes the first level that names one device out of a topic. Others
// like it become variables, too, and belong to the device.
func patternOf(topic string) pattern {
	p := pattern{levels: strings.Split(topic, "/")}
	for i, l := range p.levels {
		if !namesOne(l) {
			continue
		}
		if p.device != "" {
			p.device += "/"
		}
		p.device += l
		p.levels[i] = variable
	}
	return p
}

// counted are names with a number of two digits or more behind: lamp-0017.
var counted = regexp.MustCompile(`^[A-Za-z]{1,24}[-_.:]?[0-9]{2,}$`)

// namesOne reports whether a level looks like the name of one device: an
// address, a serial, a UUID, a counted name.
func namesOne(level string) bool {
	if len(level) < 2 || len(level) > 128 {
		return false
	}
	digits, hex, letters := 0, 0, 0
	for _, c := range []byte(level) {
		switch {
		case c >= '0' && c <= '9':
			digits, hex = digits+1, hex+1
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hex, letters = hex+1, letters+1
		case c >= 'g' && c <= 'z' || c >= 'G' && c <= 'Z':
			letters++
		case c == '-' || c == ':' || c == '_' || c == '.':
		default:
			return false
		}
	}
	switch {
	case digits == 0:
		return false
	case letters == 0:
		return digits >= 3
	case hex == digits+letters && hex >= 6: // an address, a UUID
		return true
	case counted.MatchString(level):
		return true
	}
	return len(level) >= 8 && digits >= 4 // a serial
}

// unnamed is a field's name, unless that looks like the name of one thing, as
// where a hub sends {"a4c138e2b7f0": 21.5}: that is kept of nobody. A name with
// a number behind, like pm25 or sensor_01, is a field's.
func unnamed(field string) string {
	letters := strings.ContainsFunc(field, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
	if namesOne(field) && (!letters || len(field) >= 8 && !counted.MatchString(field)) {
		return variable
	}
	return field
}

// siblings is from how many names at one level on, with the same fields behind
// each, they are taken for devices.
const siblings = 4

// merge finds levels whose names differ while everything else, and what is
// sent there, is the same: they name devices, though they do not look like it.
func (r *Recorder) merge() {
	for level := range maxLevels {
		groups := map[string][]string{}
		for key, t := range r.topics {
			if level >= len(t.levels) || t.levels[level] == variable {
				continue
			}
			others := slices.Clone(t.levels)
			others[level] = "\x00"
			groups[strings.Join(others, "/")+"\n"+strings.Join(t.names(), "\x01")] = append(groups[strings.Join(others, "/")+"\n"+strings.Join(t.names(), "\x01")], key)
		}
		for _, keys := range groups {
			if len(keys) < siblings {
				continue
			}
			slices.Sort(keys)
			into := r.topics[keys[0]]
			name := into.levels[level]
			into.levels[level] = variable
			into.rename(r, name)
			for _, k := range keys[1:] {
				t := r.topics[k]
				t.rename(r, t.levels[level])
				into.add(t)
				delete(r.topics, k)
			}
			delete(r.topics, keys[0])
			r.topics[strings.Join(into.levels, "/")] = into
		}
	}
}
