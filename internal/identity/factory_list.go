package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of a factory list.
const (
	MaxListBytes     = 8 << 20
	MaxListUnits     = 50_000
	maxListLineBytes = 512
)

// listMagic is the first line of a list as CSV.
const listMagic = "# hawser factory list 1"

// FactoryList is what a production line says of the units that it made: their
// serial numbers, and the SHA-256 of each one's public key (of its
// SubjectPublicKeyInfo in DER).
type FactoryList struct {
	Product  core.ProductID
	Line     string
	Name     string // what the line calls the list; a word
	Hardware string // revision of all of them; may be empty
	Batch    string // of all of them; may be empty
	Units    []ListedUnit
}

// ListedUnit is one unit of a list.
type ListedUnit struct {
	Device core.DeviceID
	Key    core.Hash
}

func badList(reason string, line int, format string, args ...any) *core.Error {
	return core.E(core.Invalid, reason, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...), "`hawser factory list import --help` shows the form of a list; correct it at the line and sign it anew")
}

// ParseFactoryList reads a list in either of its two forms: CSV with a head of
// comments, or JSON, one object per line. It says which line is wrong, and why.
func ParseFactoryList(b []byte) (*FactoryList, error) {
	if len(b) > MaxListBytes {
		return nil, core.E(core.TooLarge, "list-size", "the list is larger than 8 MB", "split it into lists of up to 50,000 units, each with a name of its own")
	}
	p := listParser{units: map[core.DeviceID]int{}, keys: map[core.Hash]int{}}
	if err := p.all(b); err != nil {
		return nil, err
	}
	return &p.list, p.complete()
}

// listParser reads a list line by line.
type listParser struct {
	list   FactoryList
	n      int  // lines read
	json   bool // the second form
	titled bool // CSV: the line of titles was read
	units  map[core.DeviceID]int
	keys   map[core.Hash]int
}

func (p *listParser) all(b []byte) error {
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		p.n++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > maxListLineBytes {
			return badList("list-line", p.n, "has more than %d bytes", maxListLineBytes)
		}
		if p.n == 1 {
			p.json = bytes.HasPrefix(line, []byte("{"))
		}
		if len(line) == 0 && p.n > 1 {
			continue
		}
		if err := p.line(string(line)); err != nil {
			return err
		}
	}
	return nil
}

func (p *listParser) line(s string) error {
	switch {
	case p.json && p.n == 1:
		return p.jsonHead(s)
	case p.json:
		return p.jsonUnit(s)
	case p.n == 1 && s != listMagic:
		return badList("list-form", p.n, "is neither %q nor the first object of a list in JSON", listMagic)
	case p.n == 1:
		return nil
	case strings.HasPrefix(s, "#"):
		return p.csvHead(s)
	case !p.titled:
		if strings.ReplaceAll(s, " ", "") != "serial,sha256" {
			return badList("list-titles", p.n, "is not the line of titles `serial,sha256`")
		}
		p.titled = true
		return nil
	}
	serial, key, ok := strings.Cut(s, ",")
	if !ok {
		return badList("list-unit", p.n, "is no pair of serial number and SHA-256")
	}
	return p.unit(strings.TrimSpace(serial), strings.TrimSpace(key))
}

func (p *listParser) csvHead(s string) error {
	if p.titled {
		return badList("list-head", p.n, "belongs to the head, before the titles")
	}
	key, value, ok := strings.Cut(strings.TrimPrefix(s, "#"), ":")
	if !ok {
		return badList("list-head", p.n, "is not of the form `# name: value`")
	}
	return p.head(strings.TrimSpace(key), strings.TrimSpace(value))
}

func (p *listParser) head(key, value string) error {
	into := map[string]*string{"product": (*string)(&p.list.Product), "line": &p.list.Line, "list": &p.list.Name, "hardware": &p.list.Hardware, "batch": &p.list.Batch}[key]
	switch {
	case into == nil:
		return badList("list-head", p.n, "%.40q is not one of product, line, list, hardware, batch", key)
	case *into != "":
		return badList("list-head", p.n, "says %s twice", key)
	case value == "" || !ValidBirthWord(value):
		return badList("list-head", p.n, "%s is no word of 64 characters", key)
	}
	*into = value
	return nil
}

func (p *listParser) jsonHead(s string) error {
	var h struct {
		Format   int    `json:"factory_list"`
		Product  string `json:"product"`
		Line     string `json:"line"`
		List     string `json:"list"`
		Hardware string `json:"hardware,omitempty"`
		Batch    string `json:"batch,omitempty"`
	}
	if err := strict(s, &h); err != nil || h.Format != 1 {
		return badList("list-form", p.n, `is not the first object of a list: {"factory_list":1,"product":…,"line":…,"list":…}`)
	}
	for _, x := range [][2]string{{"product", h.Product}, {"line", h.Line}, {"list", h.List}, {"hardware", h.Hardware}, {"batch", h.Batch}} {
		if x[1] == "" {
			continue
		}
		if err := p.head(x[0], x[1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *listParser) jsonUnit(s string) error {
	var u struct {
		Serial string `json:"serial"`
		SHA256 string `json:"sha256"`
	}
	if err := strict(s, &u); err != nil {
		return badList("list-unit", p.n, `is not {"serial":…,"sha256":…}`)
	}
	return p.unit(u.Serial, u.SHA256)
}

// strict reads one JSON value with known keys and nothing behind it.
func strict(s string, v any) error {
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if strings.TrimSpace(s[d.InputOffset():]) != "" {
		return fmt.Errorf("more than one value")
	}
	return nil
}

func (p *listParser) unit(serial, sum string) error {
	id := core.DeviceID(serial)
	if !id.Valid() {
		return badList("list-serial", p.n, "%.80q is no serial number", serial)
	}
	key, err := core.ParseHash(strings.ToLower(sum))
	if err != nil || key.IsZero() {
		return badList("list-key", p.n, "%.80q is no SHA-256 in 64 hexadecimal digits", sum)
	}
	if first, twice := p.units[id]; twice {
		return badList("list-serial-twice", p.n, "names the serial number of line %d again", first)
	}
	if first, twice := p.keys[key]; twice {
		return badList("list-key-twice", p.n, "has the key of line %d: two units must never share one", first)
	}
	if len(p.list.Units) == MaxListUnits {
		return badList("list-long", p.n, "is one unit too many: a list has up to %d", MaxListUnits)
	}
	p.units[id], p.keys[key] = p.n, p.n
	p.list.Units = append(p.list.Units, ListedUnit{id, key})
	return nil
}

func (p *listParser) complete() error {
	for what, value := range map[string]string{"product": string(p.list.Product), "line": p.list.Line, "list": p.list.Name} {
		if value == "" {
			return badList("list-head", max(p.n, 1), "the list does not say its %s", what)
		}
	}
	if !p.list.Product.Valid() {
		return badList("list-head", 1, "%.80q is no product", p.list.Product)
	}
	if len(p.list.Units) == 0 {
		return badList("list-empty", p.n, "the list has no unit")
	}
	return nil
}
