package observe

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Report is what was seen, without a single value of it.
type Report struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Messages  uint64    `json:"messages"`
	NotLooked uint64    `json:"not_looked_at"` // messages, fields and devices beyond what is held
	Products  []Product `json:"products"`
}

// Product is topics that the same devices send on.
type Product struct {
	Name    string   `json:"product"` // a guess: what the topics have in common
	Devices int      `json:"devices"` // 0: the topics name none
	Streams []Stream `json:"streams"`
}

// Stream is topics that carry the same fields.
type Stream struct {
	Name     string            `json:"stream"`
	Topics   []string          `json:"topics"` // {device} where a device is named
	Messages uint64            `json:"messages"`
	Every    time.Duration     `json:"every_ns"` // the rate that lets everything seen through; 0: not known
	Burst    int               `json:"burst"`
	MaxBytes int               `json:"max_bytes"`
	Fields   []Field           `json:"fields"`
	Odd      map[string]uint64 `json:"not_judgeable,omitempty"` // messages that are no JSON object, by what they are
}

// Field is one member of a stream's messages.
type Field struct {
	Name      string  `json:"field"`
	Type      string  `json:"type"` // as a declaration says it; object and array cannot be declared
	Seen      uint64  `json:"seen"`
	Lost      uint64  `json:"lost"` // values of another type: they would be dropped
	Min       float64 `json:"min"`  // of a range around all numbers, rounded outward
	Max       float64 `json:"max"`
	Decimals  int     `json:"decimals,omitempty"`
	MaxLength int     `json:"max_length,omitempty"`
	Look      Look    `json:"looks_like,omitempty"`
	// Why it cannot be declared as it is; "": it can.
	Undeclarable string `json:"undeclarable,omitempty"`
}

// Counts are the report in four numbers.
type Counts struct {
	Topics, Fields, Undeclarable int
	Looks                        map[Look]int
}

// Counts sums the report up.
func (r *Report) Counts() Counts {
	c := Counts{Looks: map[Look]int{}}
	for _, p := range r.Products {
		for _, s := range p.Streams {
			c.Topics += len(s.Topics)
			c.Fields += len(s.Fields)
			for _, f := range s.Fields {
				if f.Undeclarable != "" {
					c.Undeclarable++
				}
				if f.Look != "" {
					c.Looks[f.Look]++
				}
			}
		}
	}
	return c
}

// Report puts what was learned into products and streams. The recorder goes on
// learning.
func (r *Recorder) Report() *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merge()
	out := &Report{From: r.first, To: r.last, Messages: r.messages, NotLooked: r.tooMany, Products: []Product{}}
	keys := slices.Sorted(maps.Keys(r.topics))
	for _, k := range keys {
		out.NotLooked += r.topics[k].overflow
	}
	names := map[string]bool{}
	for _, group := range r.products(keys) {
		name, shared := r.productName(group)
		p := Product{Name: unique(name, names)}
		devices := map[uint64]bool{}
		for _, k := range group {
			for d := range r.topics[k].devices {
				if d != 0 {
					devices[d] = true
				}
			}
		}
		p.Devices = len(devices)
		streams := map[string]bool{}
		for _, topics := range r.streams(group) {
			p.Streams = append(p.Streams, r.stream(topics, shared, streams))
		}
		out.Products = append(out.Products, p)
	}
	return out
}

// union joins what belongs together.
type union map[string]string

func (u union) root(k string) string {
	for u[k] != k {
		k = u[k]
	}
	return k
}

func (u union) join(a, b string) { u[u.root(b)] = u.root(a) }

// groups are the sets, each sorted, by their first member.
func (u union) groups() [][]string {
	by := map[string][]string{}
	for k := range u {
		by[u.root(k)] = append(by[u.root(k)], k)
	}
	out := make([][]string, 0, len(by))
	for _, g := range by {
		slices.Sort(g)
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	return out
}

// products are topics of the same devices: half of the fewer ones at least.
// Topics that name no device are told apart by their first level.
func (r *Recorder) products(keys []string) [][]string {
	u := union{}
	for _, k := range keys {
		u[k] = k
	}
	for i, a := range keys {
		for _, b := range keys[i+1:] {
			if r.together(a, b) {
				u.join(a, b)
			}
		}
	}
	return u.groups()
}

func (r *Recorder) together(a, b string) bool {
	x, y := r.topics[a], r.topics[b]
	if !slices.Contains(x.levels, variable) || !slices.Contains(y.levels, variable) {
		return !slices.Contains(x.levels, variable) && !slices.Contains(y.levels, variable) && x.levels[0] == y.levels[0]
	}
	few, many := x.devices, y.devices
	if len(few) > len(many) {
		few, many = many, few
	}
	both := 0
	for d := range few {
		if many[d] != nil {
			both++
		}
	}
	return 2*both >= len(few) && both > 0
}

// streams are topics of a product that share a field: a declaration has each
// field in one stream.
func (r *Recorder) streams(group []string) [][]string {
	u, first := union{}, map[string]string{}
	for _, k := range group {
		u[k] = k
		for name := range r.topics[k].fields {
			low := strings.ToLower(name)
			if low == "t" || low == "boot" || low == "seq" {
				continue
			}
			if at, ok := first[low]; ok {
				u.join(at, k)
			} else {
				first[low] = k
			}
		}
	}
	return u.groups()
}

// notInName is what names of products and streams do not have.
var notInName = regexp.MustCompile(`[^a-z0-9_-]+`)

func nameOf(levels []string) string {
	var words []string
	for _, l := range levels {
		if l = strings.Trim(notInName.ReplaceAllString(strings.ToLower(l), "-"), "-_"); l != "" && l != "device" {
			words = append(words, l)
		}
	}
	name := strings.Join(words, "-")
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "p" + name
	}
	return name[:min(len(name), 40)]
}

func unique(name string, taken map[string]bool) string {
	for i := 2; taken[name]; i++ {
		base, _, _ := strings.Cut(name, "--")
		name = fmt.Sprintf("%s--%d", base, i)
	}
	taken[name] = true
	return name
}

// productName is what the topics have in common before the device, or else
// anywhere, and how many levels of it they share.
func (r *Recorder) productName(group []string) (name string, shared int) {
	common := r.topics[group[0]].levels
	for _, k := range group[1:] {
		l := r.topics[k].levels
		n := 0
		for n < len(common) && n < len(l) && common[n] == l[n] {
			n++
		}
		common = common[:n]
	}
	if i := slices.Index(common, variable); i > 0 {
		return nameOf(common[:i]), i
	}
	if name := nameOf(common); len(common) > 0 && !slices.Equal(common, []string{variable}) {
		return name, len(common)
	}
	for _, l := range r.topics[group[0]].levels {
		if l != variable {
			return nameOf([]string{l}), 0
		}
	}
	return "product", 0
}

func (r *Recorder) stream(topics []string, shared int, taken map[string]bool) Stream {
	all := &topicShape{fields: map[string]*shape{}, devices: map[uint64]*pace{}, odd: map[string]uint64{}}
	for _, k := range topics {
		all.add(r.topics[k].clone())
	}
	name := "data"
	if rest := slices.DeleteFunc(slices.Clone(r.topics[topics[0]].levels[shared:]), func(l string) bool { return l == variable }); len(rest) > 0 {
		name = nameOf(rest)
	}
	s := Stream{Name: unique(name, taken), Messages: all.n, Odd: all.odd, Fields: []Field{}}
	for _, k := range topics {
		s.Topics = append(s.Topics, inert(k))
	}
	s.Every, s.Burst = declared(slices.Collect(maps.Values(all.devices)))
	s.MaxBytes = min(MaxPayload, max(64, (all.bytes*5/4+63)/64*64))
	low := map[string]string{}
	for _, n := range all.names() {
		f := all.fields[n].field(n)
		if before, twice := low[strings.ToLower(n)]; twice && f.Undeclarable == "" {
			f.Undeclarable = "it differs from " + before + " only in case"
		}
		low[strings.ToLower(n)] = n
		s.Fields = append(s.Fields, f)
	}
	return s
}

// clone is deep enough to be added up.
func (t *topicShape) clone() *topicShape {
	out := &topicShape{levels: t.levels, n: t.n, bytes: t.bytes, fields: map[string]*shape{}, devices: map[uint64]*pace{}, odd: maps.Clone(t.odd)}
	for n, s := range t.fields {
		c := *s
		c.looks = maps.Clone(s.looks)
		out.fields[n] = &c
	}
	for d, p := range t.devices {
		c := *p
		out.devices[d] = &c
	}
	return out
}

var fieldForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,62}$`)

func (s *shape) field(name string) Field {
	k, lost := s.kind()
	f := Field{Name: name, Type: k.String(), Seen: s.n, Lost: lost, Look: s.look(name)}
	switch k {
	case kindInteger, kindNumber:
		f.Min, f.Max = s.bounds(name)
		f.Decimals = s.decimals
	case kindText:
		f.MaxLength = min(8192, max(8, (s.longest*5/4+7)/8*8))
	case kindObject:
		f.Undeclarable = "it holds an object: a declaration has flat fields; send its members each by itself"
		if s.of[kindNull] == s.n {
			f.Undeclarable = "it was null each time: what it is cannot be told"
		}
	case kindArray:
		f.Undeclarable = "it holds an array: a declaration has flat fields; send one reading a message, or a field each"
	}
	switch low := strings.ToLower(name); {
	case low == "t" || low == "boot" || low == "seq":
		f.Undeclarable = "every message's own: t is the time of the reading in Unix milliseconds, boot and seq number it"
	case name == variable:
		f.Undeclarable = "its names look like those of devices, and are kept nowhere: send each on its own, under one name"
	case !fieldForm.MatchString(name):
		f.Name = inert(name)
		f.Undeclarable = "its name is none: 1 to 63 letters, digits, _, - or ., a letter first"
	}
	return f
}

// inert is a name of a stranger's making, short and without anything that a
// terminal or a page acts on.
func inert(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 4*maxName {
		s = s[:4*maxName] + "..."
	}
	return s
}
