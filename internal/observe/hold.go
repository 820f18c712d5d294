package observe

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Enforced is what would become of the messages if declarations were enforced.
type Enforced struct {
	Accepted  uint64            `json:"accepted"`
	Refused   map[string]uint64 `json:"refused"`    // messages, by reason; no-stream where no declared stream has a field of theirs
	Dropped   []DroppedField    `json:"dropped"`    // fields that nobody declared, most often first
	BadValues uint64            `json:"bad_values"` // values of declared fields that their type or range does not allow
}

// DroppedField is a field that no declaration has, so that nobody reads it.
type DroppedField struct {
	Product core.ProductID `json:"product"`
	Stream  string         `json:"stream"`
	Name    string         `json:"field"`
	Values  uint64         `json:"values"`
	Look    Look           `json:"looks_like,omitempty"`
}

// Holder judges messages as the server would, with the same compiled plan, and
// keeps counts only.
type Holder struct {
	streams []*held
	judged  telemetry.Judged
	out     Enforced
	dropped map[DroppedField]uint64
	buckets map[bucketOf]*bucket
	seed    *Recorder // hashes names of devices
}

type held struct {
	product core.ProductID
	plan    *telemetry.StreamPlan
	fields  map[string]bool
}

type bucketOf struct {
	stream *held
	device uint64
}

type bucket struct {
	level float64
	last  time.Time
}

const (
	maxBuckets = 200_000
	maxDropped = 10_000
)

// NoStream is why a message is refused that no declared stream has a field of.
const NoStream = "no-stream"

// NewHolder compiles the declarations.
func NewHolder(policies []*declaration.Policy) (*Holder, error) {
	h := &Holder{out: Enforced{Refused: map[string]uint64{}}, dropped: map[DroppedField]uint64{}, buckets: map[bucketOf]*bucket{}, seed: New()}
	for _, p := range policies {
		plan, err := telemetry.NewPlan(p, time.Unix(0, 0))
		if err != nil {
			return nil, err
		}
		for _, s := range p.Streams {
			x := &held{product: p.Product, plan: plan.Stream([]byte(s.Name)), fields: map[string]bool{"t": true, "boot": true, "seq": true}}
			for _, i := range s.Fields {
				x.fields[p.Fields[i].Name] = true
			}
			h.streams = append(h.streams, x)
		}
	}
	return h, nil
}

// Take judges one message. Topics of the fleet are not those of the
// declaration, so a message is of the stream that declares most of its fields;
// of several, of the one whose name and product the topic spells.
func (h *Holder) Take(topic string, payload []byte, at time.Time) {
	members, odd := object(payload)
	switch odd {
	case "":
	case oddArray, oddValue:
		h.out.Refused[string(telemetry.ReasonNotObject)]++
		return
	default:
		why := telemetry.ReasonNotJSON
		if isCBOR(payload) {
			why = telemetry.ReasonNotCBOR
		}
		h.out.Refused[string(why)]++
		return
	}
	var best *held
	most, spelled := 0, nameOf(patternOf(topic).levels)
	for _, x := range h.streams {
		n := 0
		for name := range members {
			if x.fields[name] && name != "t" && name != "boot" && name != "seq" {
				n++
			}
		}
		if n == 0 {
			continue
		}
		n *= 4
		if strings.Contains(spelled, string(x.product)) {
			n += 2
		}
		if strings.Contains(spelled, x.plan.Name()) {
			n++
		}
		if n > most {
			best, most = x, n
		}
	}
	if best == nil {
		h.out.Refused[NoStream]++
		return
	}
	if !h.pace(best, topic, at) {
		h.out.Refused[string(telemetry.ReasonRate)]++
		return
	}
	if why := best.plan.Judge(&h.judged, payload, at); why != "" {
		h.out.Refused[string(why)]++
		return
	}
	h.out.Accepted++
	h.out.BadValues += uint64(h.judged.Bad)
	for name := range members {
		if best.fields[name] {
			continue
		}
		d := DroppedField{Product: best.product, Stream: best.plan.Name(), Name: inert(unnamed(name)), Look: looksOfName(name)}
		if h.dropped[d] == 0 && len(h.dropped) >= maxDropped {
			continue
		}
		h.dropped[d]++
	}
}

// pace asks a device's bucket, as the server's door does.
func (h *Holder) pace(x *held, topic string, at time.Time) bool {
	device := patternOf(topic).device
	if device == "" {
		device = topic // none that looks like one
	}
	k := bucketOf{x, h.seed.hash(device)}
	b := h.buckets[k]
	if b == nil {
		if len(h.buckets) >= maxBuckets {
			return true
		}
		b = &bucket{last: at}
		h.buckets[k] = b
	}
	if at.After(b.last) {
		b.level = max(0, b.level-float64(at.Sub(b.last))/float64(x.plan.Every()))
		b.last = at
	}
	if b.level+1 > float64(x.plan.Burst()) {
		return false
	}
	b.level++
	return true
}

// Enforced is what came of it so far.
func (h *Holder) Enforced() Enforced {
	out := h.out
	out.Refused = maps.Clone(h.out.Refused)
	out.Dropped = []DroppedField{}
	for d, n := range h.dropped {
		d.Values = n
		out.Dropped = append(out.Dropped, d)
	}
	slices.SortFunc(out.Dropped, func(a, b DroppedField) int {
		return cmp.Or(cmp.Compare(b.Values, a.Values), cmp.Compare(a.Product, b.Product), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Name, b.Name))
	})
	return out
}
