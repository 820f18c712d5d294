package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what a Recorder holds. What goes beyond is counted, and said.
const (
	MaxPayload = 64 << 10
	maxTopics  = 4_000
	maxFields  = 500    // of one topic
	maxDevices = 20_000 // of one topic
	maxName    = 63     // of a field
)

// topicShape is what one kind of topic carries.
type topicShape struct {
	levels   []string
	n        uint64
	bytes    int // of the largest message
	fields   map[string]*shape
	devices  map[uint64]*pace
	odd      map[string]uint64 // messages that are no JSON object, by what they are
	overflow uint64            // fields and devices beyond what is held
}

// names are the fields, sorted.
func (t *topicShape) names() []string {
	out := make([]string, 0, len(t.fields))
	for n := range t.fields {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (t *topicShape) add(o *topicShape) {
	t.n += o.n
	t.bytes = max(t.bytes, o.bytes)
	t.overflow += o.overflow
	for name, s := range o.fields {
		if mine := t.fields[name]; mine != nil {
			mine.add(s)
		} else {
			t.fields[name] = s
		}
	}
	for d, p := range o.devices {
		if mine := t.devices[d]; mine != nil {
			mine.add(p)
		} else {
			t.devices[d] = p
		}
	}
	for what, n := range o.odd {
		t.odd[what] += n
	}
}

// rename gives the devices of a topic one name more.
func (t *topicShape) rename(r *Recorder, name string) {
	all := map[uint64]*pace{}
	h := r.hash(name)
	for d, p := range t.devices {
		all[d^h*0x9e3779b97f4a7c15] = p
	}
	t.devices = all
}

// Recorder learns shapes from messages. It is safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex // guards what follows
	seed     maphash.Seed
	topics   map[string]*topicShape
	messages uint64
	tooMany  uint64 // messages on topics beyond maxTopics
	first    time.Time
	last     time.Time
}

// New makes an empty one.
func New() *Recorder {
	return &Recorder{seed: maphash.MakeSeed(), topics: map[string]*topicShape{}}
}

// hash is how a device is told from others, and it leads to none of them: the
// key is random and is nowhere else.
func (r *Recorder) hash(name string) uint64 { return maphash.String(r.seed, name) }

// Take learns from one message. The zero time is that of a message from
// whenever, as brokers keep them: how fast they come is not learned from it.
func (r *Recorder) Take(topic string, payload []byte, at time.Time) {
	if strings.HasPrefix(topic, "$") { // the broker's own
		return
	}
	p := patternOf(topic)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages++
	if !at.IsZero() {
		if r.first.IsZero() {
			r.first = at
		}
		r.last = at
	}
	key := p.String()
	t := r.topics[key]
	if t == nil {
		if len(r.topics) >= maxTopics || len(p.levels) > maxLevels || len(key) > 1024 {
			r.tooMany++
			return
		}
		t = &topicShape{levels: p.levels, fields: map[string]*shape{}, devices: map[uint64]*pace{}, odd: map[string]uint64{}}
		r.topics[key] = t
	}
	t.n++
	t.bytes = max(t.bytes, len(payload))
	d := uint64(0)
	if p.device != "" {
		d = r.hash(p.device)
	}
	device := t.devices[d]
	switch {
	case device != nil:
	case len(t.devices) >= maxDevices:
		t.overflow++
	default:
		device = &pace{}
		t.devices[d] = device
	}
	if device != nil && !at.IsZero() {
		device.take(at)
	}
	members, odd := object(payload)
	if odd != "" {
		t.odd[odd]++
		return
	}
	for name, v := range members {
		name = unnamed(name)
		s := t.fields[name]
		if s == nil {
			if len(t.fields) >= maxFields {
				t.overflow++
				continue
			}
			s = &shape{}
			t.fields[name] = s
		}
		s.take(v)
	}
}

// Messages is how many were taken, on how many kinds of topics.
func (r *Recorder) Messages() (messages uint64, topics int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages, len(r.topics)
}

// What payloads are that hold JSON, but no object.
const (
	oddArray = "a JSON array"
	oddValue = "a single JSON value"
)

// object is the fields of a payload by name, or says what it is instead.
func object(payload []byte) (map[string]any, string) {
	switch {
	case len(payload) == 0:
		return nil, "empty"
	case len(payload) > MaxPayload:
		return nil, "larger than 64 KB"
	case isCBOR(payload):
		return binary(payload)
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if bytes.ContainsFunc(payload, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == '\ufffd' }) {
			return nil, "binary"
		}
		return nil, "text that is no JSON"
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, "text that is no JSON"
	}
	switch v := v.(type) {
	case map[string]any:
		return v, ""
	case []any:
		if members := pack(v); members != nil {
			return members, ""
		}
		return nil, oddArray
	}
	return nil, oddValue
}
