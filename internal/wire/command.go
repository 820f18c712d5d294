package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Param is one declared value of a command, and within what it must be. Server
// and device hold the same values against it, so that neither alone can be
// talked out of a bound (CC 3.7).
type Param struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`             // number, integer, boolean, string, enum or timestamp
	Values    []string `json:"values,omitempty"` // of an enum
	Min       float64  `json:"min,omitempty"`    // of number and integer, both included
	Max       float64  `json:"max,omitempty"`
	MinLength int      `json:"min_length,omitempty"` // of a string, in characters
	MaxLength int      `json:"max_length,omitempty"`
}

// Value is one value of a command: a float64, int64, bool or string.
type Value struct {
	Name string
	Is   any
}

// ErrParams is what is wrong with the values of a command.
var ErrParams = errors.New("the values are not what the command takes")

// ParseParams holds a JSON object of values against what was declared: each
// declared one is there once, within its bounds, and no other is. The values
// come back in the order of the declaration.
func ParseParams(declared []Param, b []byte) ([]Value, error) {
	if len(b) > MaxNotice {
		return nil, fmt.Errorf("%w: they are longer than %d bytes", ErrParams, MaxNotice)
	}
	got, err := members(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	out := make([]Value, len(declared))
	for i := range declared {
		p := &declared[i]
		raw, ok := got[p.Name]
		if !ok {
			return nil, fmt.Errorf("%w: %s is missing", ErrParams, p.Name)
		}
		delete(got, p.Name)
		v, err := p.parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %s %w", ErrParams, p.Name, err)
		}
		out[i] = Value{p.Name, v}
	}
	for name := range got {
		return nil, fmt.Errorf("%w: %.63q is not declared", ErrParams, name)
	}
	return out, nil
}

// maxParams is more than a declaration can have.
const maxParams = 64

// members reads a flat object. A name that stands twice is refused: parsers
// disagree about which one counts (RFC 8259 §4).
func members(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("they are no JSON object")
	}
	out := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("they are no JSON object")
		}
		value, err := d.Token()
		if err != nil {
			return nil, errors.New("they are no JSON object")
		}
		if _, nested := value.(json.Delim); nested {
			return nil, fmt.Errorf("%.63q is no single value", name)
		}
		if _, twice := out[name.(string)]; twice || len(out) == maxParams {
			return nil, fmt.Errorf("%.63q stands twice, or there are too many", name)
		}
		out[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("they are no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return out, nil
}

// parse is one value, if it is within what was declared.
func (p *Param) parse(raw any) (any, error) {
	switch p.Type {
	case "number":
		n, ok := raw.(json.Number)
		if !ok {
			break
		}
		v, err := n.Float64()
		if err != nil || math.IsInf(v, 0) || v < p.Min || v > p.Max {
			return nil, fmt.Errorf("is not within %s to %s", number(p.Min), number(p.Max))
		}
		return v, nil
	case "integer":
		n, ok := raw.(json.Number)
		if !ok {
			break
		}
		v, err := strconv.ParseInt(string(n), 10, 64)
		if err != nil || v > MaxNumber || v < -MaxNumber || float64(v) < p.Min || float64(v) > p.Max {
			return nil, fmt.Errorf("is not a whole number within %s to %s", number(p.Min), number(p.Max))
		}
		return v, nil
	case "boolean":
		if v, ok := raw.(bool); ok {
			return v, nil
		}
	case "string":
		if v, ok := raw.(string); ok {
			if n := utf8.RuneCountInString(v); n < p.MinLength || n > p.MaxLength || strings.ContainsFunc(v, unprintable) {
				return nil, fmt.Errorf("is not a text of %d to %d printable characters", p.MinLength, p.MaxLength)
			}
			return v, nil
		}
	case "enum":
		if v, ok := raw.(string); ok && slices.Contains(p.Values, v) {
			return v, nil
		}
		return nil, fmt.Errorf("is none of %s", strings.Join(p.Values, ", "))
	case "timestamp":
		if v, ok := raw.(string); ok {
			if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
				return v, nil
			}
		}
	}
	return nil, fmt.Errorf("is no %s", p.Type)
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// AppendParams writes values as a JSON object, in their order.
func AppendParams(dst []byte, values []Value) []byte {
	dst = append(dst, '{')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, v.Name), ':')
		switch x := v.Is.(type) {
		case float64:
			dst = strconv.AppendFloat(dst, x, 'g', -1, 64)
		case int64:
			dst = strconv.AppendInt(dst, x, 10)
		case bool:
			dst = strconv.AppendBool(dst, x)
		case string:
			dst = AppendString(dst, x)
		}
	}
	return append(dst, '}')
}

// CommandMessage is the message on the topic command/NAME/ID: what a device is told
// to do, once.
type CommandMessage struct {
	// Number grows with every command to a device. A device does nothing that
	// has not a higher number than the last one that it took: so nothing is
	// done twice, whoever sends it again.
	Number uint64 `json:"number"`
	// Given and Expires are Unix milliseconds, by the server's clock.
	Given   int64 `json:"given"`
	Expires int64 `json:"expires"`
	// Params is a JSON object of the declared values.
	Params json.RawMessage `json:"params"`
}

// AppendCommand writes c as JSON.
func AppendCommand(dst []byte, c *CommandMessage) []byte {
	dst = strconv.AppendUint(append(dst, `{"number":`...), c.Number, 10)
	dst = strconv.AppendInt(append(dst, `,"given":`...), c.Given, 10)
	dst = strconv.AppendInt(append(dst, `,"expires":`...), c.Expires, 10)
	dst = append(append(dst, `,"params":`...), c.Params...)
	return append(dst, '}')
}

// ParseCommand reads a message of at most MaxNotice bytes.
func ParseCommand(b []byte) (CommandMessage, error) {
	var c CommandMessage
	if len(b) > MaxNotice {
		return c, fmt.Errorf("command of %d bytes is over the limit of %d", len(b), MaxNotice)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return CommandMessage{}, fmt.Errorf("read command: %w", err)
	}
	if c.Number == 0 || c.Number > MaxNumber || len(c.Params) == 0 {
		return CommandMessage{}, errors.New("the command has no number or no values")
	}
	return c, nil
}

// CommandTopic is the topic of one command, relative.
func CommandTopic(name, id string) string { return "command/" + name + "/" + id }

// ReplyTopic is where its outcome is published, relative.
func ReplyTopic(name, id string) string { return "command/" + name + "/reply/" + id }

// SplitCommand takes the relative topic of a command apart.
func SplitCommand(topic string) (name, id string, ok bool) {
	rest, ok := strings.CutPrefix(topic, "command/")
	name, id, found := strings.Cut(rest, "/")
	return name, id, ok && found && ValidName([]byte(name)) && validID([]byte(id))
}

// Outcome is what became of a command on the device.
type Outcome string

// The outcomes that a device can report.
const (
	OutcomeDone    Outcome = "done"
	OutcomeRefused Outcome = "refused" // it would not: unknown, out of bounds, old, not now
	OutcomeFailed  Outcome = "failed"  // it tried
)

// Reply is the message on the topic command/NAME/reply/ID.
type Reply struct {
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text,omitempty"` // why, in a sentence; nothing personal
}

// MaxReplyText is the most characters of Reply.Text.
const MaxReplyText = 200

// AppendReply writes r as JSON.
func AppendReply(dst []byte, r *Reply) []byte {
	dst = AppendString(append(dst, `{"outcome":`...), string(r.Outcome))
	if r.Text != "" {
		dst = AppendString(append(dst, `,"text":`...), r.Text)
	}
	return append(dst, '}')
}

// ParseReply reads a Reply of at most MaxNotice bytes. Text that is too long is
// cut, and what a terminal or a page acts on is taken out of it.
func ParseReply(b []byte) (Reply, error) {
	var r Reply
	if len(b) > MaxNotice {
		return r, fmt.Errorf("reply of %d bytes is over the limit of %d", len(b), MaxNotice)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Reply{}, fmt.Errorf("read reply: %w", err)
	}
	if r.Outcome != OutcomeDone && r.Outcome != OutcomeRefused && r.Outcome != OutcomeFailed {
		return Reply{}, errors.New("the outcome is none of done, refused, failed")
	}
	r.Text = sentence(r.Text)
	return r, nil
}
