package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Refusal is the message on the topic `refused`: why the server did not take
// something, or took it without one of its fields. It never repeats what was
// refused. A device of MQTT 3.1.1 learns it only here; one of MQTT 5 also by
// the reason code of the PUBACK.
type Refusal struct {
	// Reason is the stable word: "bad-field", "unknown-stream".
	Reason string `json:"reason"`

	// Text says in a sentence what is wrong and what to do; may be empty.
	Text string `json:"text,omitempty"`

	// Stream is the stream it was sent to; empty when the topic is none.
	Stream string `json:"stream,omitempty"`

	// Child is the child that it was for; empty when it was the device's own,
	// or for a child that the device does not have.
	Child string `json:"child,omitempty"`

	// Dropped is true when the message was taken without the fields at fault,
	// false when nothing of it was.
	Dropped bool `json:"dropped,omitempty"`

	// Count is how many messages since the last notice of the same reason and
	// stream this one stands for; 0 means 1.
	Count uint32 `json:"count,omitempty"`

	// PacketID is that of the refused PUBLISH; 0 at QoS 0.
	PacketID uint16 `json:"packet_id,omitempty"`

	// Time is the server's, Unix milliseconds.
	Time int64 `json:"time"`
}

// AppendRefusal writes r as JSON. Reason and Stream are names without need of
// escapes; Text is escaped.
func AppendRefusal(dst []byte, r *Refusal) []byte {
	dst = AppendString(append(dst, `{"reason":`...), r.Reason)
	if r.Text != "" {
		dst = AppendString(append(dst, `,"text":`...), r.Text)
	}
	if r.Stream != "" {
		dst = AppendString(append(dst, `,"stream":`...), r.Stream)
	}
	if r.Child != "" {
		dst = AppendString(append(dst, `,"child":`...), r.Child)
	}
	if r.Dropped {
		dst = append(dst, `,"dropped":true`...)
	}
	if r.Count != 0 {
		dst = strconv.AppendUint(append(dst, `,"count":`...), uint64(r.Count), 10)
	}
	if r.PacketID != 0 {
		dst = strconv.AppendUint(append(dst, `,"packet_id":`...), uint64(r.PacketID), 10)
	}
	dst = strconv.AppendInt(append(dst, `,"time":`...), r.Time, 10)
	return append(dst, '}')
}

// ParseRefusal reads a Refusal of at most MaxNotice bytes. Names it does not
// know are left alone, so that a newer server may say more.
func ParseRefusal(b []byte) (Refusal, error) {
	var r Refusal
	if len(b) > MaxNotice {
		return r, fmt.Errorf("refusal of %d bytes is over the limit of %d", len(b), MaxNotice)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Refusal{}, fmt.Errorf("read refusal: %w", err)
	}
	if r.Reason == "" {
		return Refusal{}, fmt.Errorf("refusal names no reason")
	}
	return r, nil
}

// AppendString writes s, which must be UTF-8, as a JSON string (RFC 8259 §7).
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
