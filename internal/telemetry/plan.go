package telemetry

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// Plan is one product's declaration made ready for judging messages: every
// name, bound and keep-time looked up beforehand. It is immutable but for the
// list of what undeclared names were seen.
type Plan struct {
	product  core.ProductID
	policy   core.Hash
	declared int64 // Unix milliseconds of the product's first declaration
	streams  map[string]*StreamPlan
	keeps    []keepTime
}

// keepTime is a keep-time of the product with the length of its epochs.
type keepTime struct{ keep, length time.Duration }

// StreamPlan is how messages of one stream are judged.
type StreamPlan struct {
	plan     *Plan
	stream   declaration.Stream
	fields   []fieldPlan // the declared ones in declaration order, then t, boot, seq
	table    []uint16    // by hash of the name: index in fields, plus one; open addressing
	groups   []groupPlan
	findings findings
}

// groupPlan is the fields of one group in one stream.
type groupPlan struct {
	group  uint8
	time   keepTime
	fields []uint16 // in declaration order
}

// valueKind is what a value must be.
type valueKind uint8

const (
	kindNumber valueKind = iota
	kindInteger
	kindBoolean
	kindString
	kindEnum
	kindTimestamp
	kindT    // the reading's own time
	kindBoot // how often the device had started
	kindSeq  // the reading's number since then
)

// whole is an integer by sign and magnitude.
type whole struct {
	neg bool
	mag uint64
}

// fieldPlan is how one value is judged.
type fieldPlan struct {
	name      string
	quoted    []byte // `"name":`, as it is written
	kind      valueKind
	unit      string
	ranged    bool
	min, max  float64
	low, high whole // min and max of an integer, exactly
	rounded   bool
	grid      grid
	shortest  int // runes
	longest   int
	values    []string // of an enum
	quotedVal [][]byte // the same, as they are written
}

// The names that every stream has besides its fields (design, section 6). A
// bad value of one counts as a bad field: with `on_bad: field` the message is
// filed by its time of receipt, or without a number.
const (
	nameT    = "t"    // integer Unix milliseconds, or RFC 3339 text
	nameBoot = "boot" // whole number, below 2^63
	nameSeq  = "seq"  // whole number, below 2^63
)

// NewPlan makes ready the declaration p of a product that was first declared
// at firstDeclared: no reading can be older. It fails on a policy that breaks
// the rules of declarations, which none that was published does.
func NewPlan(p *declaration.Policy, firstDeclared time.Time) (*Plan, error) {
	plan := &Plan{
		product: p.Product, policy: p.Hash, declared: firstDeclared.UnixMilli(),
		streams: make(map[string]*StreamPlan, len(p.Streams)),
	}
	if !p.Product.Valid() || len(p.Groups) > MaxParts {
		return nil, fmt.Errorf("plan of product %q with %d groups: want a product id and at most %d groups", p.Product, len(p.Groups), MaxParts)
	}
	for _, g := range p.Groups {
		t := keepTime{g.Keep, declaration.EpochLength(g.Keep)}
		if !slices.Contains(plan.keeps, t) {
			plan.keeps = append(plan.keeps, t)
		}
	}
	for _, s := range p.Streams {
		sp, err := newStreamPlan(plan, p, s)
		if err != nil {
			return nil, fmt.Errorf("plan of product %s, stream %s: %w", p.Product, s.Name, err)
		}
		plan.streams[s.Name] = sp
	}
	return plan, nil
}

// Product is whose plan it is.
func (p *Plan) Product() core.ProductID { return p.product }

// Policy is the hash of the declaration that the plan was made of.
func (p *Plan) Policy() core.Hash { return p.policy }

// Fields is how many fields the plan judges.
func (p *Plan) Fields() (n int) {
	for _, sp := range p.streams {
		n += len(sp.fields) - 3 // t, boot and seq are not declared
	}
	return n
}

// Stream is the plan of the stream of that name, nil if the product declares
// none. It allocates nothing.
func (p *Plan) Stream(name []byte) *StreamPlan { return p.streams[string(name)] }

// Name is the stream's name.
func (sp *StreamPlan) Name() string { return sp.stream.Name }

// Every is the declared time between two messages of a device, in the long run.
func (sp *StreamPlan) Every() time.Duration { return sp.stream.Every }

// Burst is how many messages of a device may come at once.
func (sp *StreamPlan) Burst() int { return sp.stream.Burst }

// MaxBytes is how long a payload may be.
func (sp *StreamPlan) MaxBytes() int { return sp.stream.MaxBytes }

func newStreamPlan(plan *Plan, p *declaration.Policy, s declaration.Stream) (*StreamPlan, error) {
	if s.Name == "" || len(s.Name) > 255 {
		return nil, fmt.Errorf("a stream's name has 1 to 255 bytes")
	}
	sp := &StreamPlan{plan: plan, stream: s}
	for _, i := range s.Fields {
		f := p.Fields[i]
		fp, err := newFieldPlan(&f)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		sp.group(uint8(f.Group), p.Groups[f.Group].Keep, uint16(len(sp.fields)))
		sp.fields = append(sp.fields, fp)
	}
	sp.fields = append(sp.fields, fieldPlan{name: nameT, kind: kindT}, fieldPlan{name: nameBoot, kind: kindBoot}, fieldPlan{name: nameSeq, kind: kindSeq})
	slices.SortFunc(sp.groups, func(a, b groupPlan) int { return int(a.group) - int(b.group) })
	return sp, sp.index()
}

// group files field i under its group.
func (sp *StreamPlan) group(group uint8, keep time.Duration, i uint16) {
	for k := range sp.groups {
		if sp.groups[k].group == group {
			sp.groups[k].fields = append(sp.groups[k].fields, i)
			return
		}
	}
	sp.groups = append(sp.groups, groupPlan{
		group: group, time: keepTime{keep, declaration.EpochLength(keep)}, fields: []uint16{i},
	})
}

func newFieldPlan(f *declaration.Field) (fieldPlan, error) {
	fp := fieldPlan{
		name: f.Name, unit: f.Unit, ranged: f.HasRange, min: f.Min, max: f.Max,
		shortest: f.MinLength, longest: f.MaxLength, values: f.Values,
	}
	fp.quoted = append(appendQuoted(nil, []byte(f.Name)), ':')
	switch f.Type {
	case declaration.Number:
		fp.kind = kindNumber
	case declaration.Integer:
		fp.kind = kindInteger
		fp.low, fp.high = wholeOf(math.Ceil(f.Min)), wholeOf(math.Floor(f.Max))
	case declaration.Boolean:
		fp.kind = kindBoolean
	case declaration.String:
		fp.kind = kindString
	case declaration.Enum:
		fp.kind = kindEnum
		for _, v := range f.Values {
			fp.quotedVal = append(fp.quotedVal, appendQuoted(nil, []byte(v)))
		}
	case declaration.Timestamp:
		fp.kind = kindTimestamp
	default:
		return fp, fmt.Errorf("type %d is not known to this version", f.Type)
	}
	if f.Precision != 0 {
		var ok bool
		if fp.grid, ok = newGrid(f.Precision); !ok || fp.kind == kindInteger && fp.grid.exp < 0 {
			return fp, fmt.Errorf("precision %v is not one that readings can be rounded to", f.Precision)
		}
		fp.rounded = true
	}
	return fp, nil
}

// wholeOf is the integer f, which is whole; beyond what fits, the last that does.
func wholeOf(f float64) whole {
	m := math.Abs(f)
	if m >= 1<<64 {
		return whole{f < 0, math.MaxUint64}
	}
	return whole{f < 0 && m != 0, uint64(m)}
}

func (a whole) less(b whole) bool {
	switch {
	case a.neg != b.neg:
		return a.neg
	case a.neg:
		return a.mag > b.mag
	default:
		return a.mag < b.mag
	}
}

// index builds the table of names.
func (sp *StreamPlan) index() error {
	size := 8
	for size < 3*len(sp.fields) {
		size *= 2
	}
	sp.table = make([]uint16, size)
	for i := range sp.fields {
		name := sp.fields[i].name
		if sp.find([]byte(name)) >= 0 {
			return fmt.Errorf("the name %q stands twice, or is one of t, boot and seq", name)
		}
		h := hashName([]byte(name)) & uint32(size-1)
		for sp.table[h] != 0 {
			h = (h + 1) & uint32(size-1)
		}
		sp.table[h] = uint16(i) + 1
	}
	return nil
}

// find is the index in fields of the field of that exact name, or -1.
func (sp *StreamPlan) find(name []byte) int {
	mask := uint32(len(sp.table) - 1)
	for h := hashName(name) & mask; ; h = (h + 1) & mask {
		i := int(sp.table[h]) - 1
		if i < 0 || sp.fields[i].name == string(name) {
			return i
		}
	}
}

// hashName mixes the length and both ends of a name. Names that it mixes alike
// only make find compare more often; how often is bounded by the declaration.
func hashName(b []byte) uint32 {
	var x uint64
	switch n := len(b); {
	case n >= 8:
		x = binary.LittleEndian.Uint64(b) ^ binary.LittleEndian.Uint64(b[n-8:])*0x9E3779B97F4A7C15
	case n >= 4:
		x = uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<32
	case n > 0:
		x = uint64(b[0]) | uint64(b[n/2])<<8 | uint64(b[n-1])<<16
	}
	x = (x + uint64(len(b))) * 0xD6E8FEB86659FD93
	return uint32(x >> 32)
}
