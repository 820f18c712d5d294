package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// The oracle reads payloads with encoding/json and exact fractions. It shares
// no code with the judge. Where the two are meant to differ:
//   - encoding/json repairs bad UTF-8 and half surrogate pairs; the judge
//     refuses them (RFC 7493 §2.1);
//   - encoding/json nests 10,000 deep; the judge 8;
//   - bounds of numbers without a precision hold for the nearest float64.
type oracle struct {
	fields map[string]*declaration.Field // of the stream
	order  []string
	limits map[string]limits
}

type sentMember struct {
	name string
	raw  json.RawMessage
}

// sentMembers lists an object's members in order, doubles included; ok is false
// when b is not one JSON object.
func sentMembers(b []byte) (out []sentMember, ok bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, false
		}
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return nil, false
		}
		out = append(out, sentMember{t.(string), raw})
	}
	return out, true
}

// clean reports whether valid JSON is also I-JSON in its text.
func clean(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if i++; b[i] != 'u' {
			continue
		}
		u, _ := strconv.ParseUint(string(b[i+1:i+5]), 16, 16)
		i += 4
		if u < 0xd800 || u > 0xdfff {
			continue
		}
		if u > 0xdbff || len(b) < i+7 || b[i+1] != '\\' || b[i+2] != 'u' {
			return false
		}
		if u, _ = strconv.ParseUint(string(b[i+3:i+7]), 16, 16); u < 0xdc00 || u > 0xdfff {
			return false
		}
		i += 6
	}
	return true
}

// depth is how deep valid JSON is nested.
func depth(b []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// exact is a JSON number as a fraction; ok is false where that would be absurd.
func exact(raw []byte) (*big.Rat, bool) {
	s := strings.ToLower(string(raw))
	if m, e, found := strings.Cut(s, "e"); found {
		if strings.Trim(m, "-0.") == "" {
			return new(big.Rat), true // zero, whatever its exponent
		}
		if n, err := strconv.Atoi(e); err != nil || n > 500 || n < -500 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// limits are a field's bounds and precision as fractions.
type limits struct{ low, high, precision, half *big.Rat }

func limitsOf(f *declaration.Field) limits {
	l := limits{low: rat(f.Min), high: rat(f.Max), precision: rat(f.Precision)}
	if f.Type == declaration.Integer {
		l.low.SetFloat64(f.Min)
		l.high.SetFloat64(f.Max)
	}
	l.half = new(big.Rat).Quo(l.precision, big.NewRat(2, 1))
	return l
}

func rat(f float64) *big.Rat {
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64)) // as the declaration wrote it
	return r
}

// opinion is what the oracle thinks of a value.
type opinion uint8

const (
	bad opinion = iota
	good
	either // at the edge where float64 decides
)

// judge is what should become of a value of field f, and what must be stored.
func (o *oracle) judge(f *declaration.Field, raw []byte) opinion {
	switch f.Type {
	case declaration.Boolean:
		if s := string(raw); s == "true" || s == "false" {
			return good
		}
		return bad
	case declaration.Number, declaration.Integer:
		if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || len(raw) > maxNumber {
			return bad
		}
		v, ok := exact(raw)
		if !ok {
			return either // checkStored looks at what is stored
		}
		if f.Type == declaration.Integer && !v.IsInt() {
			return bad
		}
		if l := o.limits[f.Name]; v.Cmp(l.low) < 0 || v.Cmp(l.high) > 0 {
			if x, _ := v.Float64(); f.Type == declaration.Number && (x == f.Min || x == f.Max) {
				return either
			}
			return bad
		}
		return good
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return bad
	}
	ok := false
	switch f.Type {
	case declaration.String:
		n := len([]rune(s))
		ok = n >= f.MinLength && n <= f.MaxLength
	case declaration.Enum:
		ok = slices.Contains(f.Values, s)
	case declaration.Timestamp:
		t, err := time.Parse(time.RFC3339Nano, s)
		ok = err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 && !strings.Contains(s, ",")
	}
	if ok {
		return good
	}
	return bad
}

// same reports why what is stored is not what was sent, as far as it may be.
func (o *oracle) same(f *declaration.Field, sent, stored []byte) string {
	switch f.Type {
	case declaration.Boolean:
		if !bytes.Equal(sent, stored) {
			return "another boolean"
		}
		return ""
	case declaration.Number, declaration.Integer:
		v, ok := exact(sent)
		got, okGot := exact(stored)
		if !ok || !okGot {
			return "a number beyond reason"
		}
		l := o.limits[f.Name]
		if got.Cmp(l.low) < 0 || got.Cmp(l.high) > 0 {
			return "out of range"
		}
		if stored[0] == '-' && got.Sign() == 0 {
			return "minus zero"
		}
		if f.Type == declaration.Integer && !got.IsInt() {
			return "no integer"
		}
		off := new(big.Rat).Sub(v, got)
		off.Abs(off)
		switch {
		case f.Precision != 0:
			if q := new(big.Rat).Quo(got, l.precision); !q.IsInt() {
				return "no multiple of the precision"
			}
			// At the upper end, rounding may have been turned inside.
			if off.Cmp(l.half) > 0 && (off.Cmp(l.precision) > 0 || new(big.Rat).Add(v, l.half).Cmp(l.high) < 0) {
				return "off by more than half the precision"
			}
		case f.Type == declaration.Integer:
			if off.Sign() != 0 {
				return "another integer"
			}
		default:
			a, _ := strconv.ParseFloat(string(sent), 64)
			b, _ := strconv.ParseFloat(string(stored), 64)
			if a != b {
				return "another float64"
			}
		}
		return ""
	}
	var a, b string
	if json.Unmarshal(sent, &a) != nil || json.Unmarshal(stored, &b) != nil {
		return "no string"
	}
	if f.Type == declaration.Timestamp {
		ta, errA := time.Parse(time.RFC3339Nano, a)
		tb, errB := time.Parse(time.RFC3339Nano, b)
		if errA != nil || errB != nil || !ta.Equal(tb) || !strings.HasSuffix(b, "Z") {
			return "another time"
		}
		return ""
	}
	if a != b {
		return "another text"
	}
	return ""
}

// check says what is wrong with the judge's verdict on payload; "" if nothing.
func (o *oracle) check(payload []byte, why Reason, j *Judged) string {
	valid := json.Valid(payload)
	if !valid || !clean(payload) {
		if why == "" {
			return "accepted what is not clean JSON"
		}
		return "" // one fault may be found before the other
	}
	sent, object := sentMembers(payload)
	if !object {
		if why != ReasonNotObject {
			return "no object, but judged otherwise"
		}
		return ""
	}
	if d := depth(payload); (d > maxDepth) != (why == ReasonTooDeep) && why != ReasonDuplicateKey {
		return fmt.Sprintf("nested %d deep", d)
	}
	if why == ReasonTooDeep {
		return ""
	}
	byName := map[string]json.RawMessage{}
	double, anyGood, anyEither := false, false, false
	for _, m := range sent {
		f := o.fields[m.name]
		if f == nil && m.name != nameT && m.name != nameBoot && m.name != nameSeq {
			continue
		}
		if _, again := byName[m.name]; again {
			double = true
		}
		byName[m.name] = m.raw
		if f != nil {
			switch o.judge(f, m.raw) {
			case good:
				anyGood = true
			case either:
				anyEither = true
			}
		}
	}
	switch {
	case double != (why == ReasonDuplicateKey):
		return "doubled names"
	case double:
		return ""
	case why == ReasonNothingLeft && anyGood:
		return "something good was left"
	case why == ReasonNothingLeft:
		return ""
	case why != "":
		return "no reason for this"
	case !anyGood && !anyEither:
		return "accepted without a good field"
	}
	return o.stored(byName, j)
}

// stored checks what an accepted message left.
func (o *oracle) stored(sent map[string]json.RawMessage, j *Judged) string {
	kept := map[string]bool{}
	for _, p := range j.Parts() {
		got, ok := sentMembers(p.Plain)
		if !ok || !json.Valid(p.Plain) || len(got) == 0 {
			return fmt.Sprintf("a part that is no object: %s", p.Plain)
		}
		last := -1
		for _, m := range got {
			f := o.fields[m.name]
			if f == nil || f.Group != int(p.Group) || kept[m.name] || sent[m.name] == nil {
				return fmt.Sprintf("UNDECLARED, doubled, invented or in the wrong group: %q", m.name)
			}
			kept[m.name] = true
			if at := slices.Index(o.order, m.name); at <= last {
				return "not in the order of the declaration"
			} else {
				last = at
			}
			if why := o.same(f, sent[m.name], m.raw); why != "" {
				return fmt.Sprintf("%s: sent %s, stored %s: %s", m.name, sent[m.name], m.raw, why)
			}
			if o.judge(f, m.raw) == bad {
				return fmt.Sprintf("%s: stored %s, which is bad", m.name, m.raw)
			}
			if o.judge(f, sent[m.name]) == bad {
				return fmt.Sprintf("%s: %s is bad and was stored as %s", m.name, sent[m.name], m.raw)
			}
		}
		var compact bytes.Buffer
		if json.Compact(&compact, p.Plain) != nil || !bytes.Equal(compact.Bytes(), p.Plain) {
			return fmt.Sprintf("not compact: %s", p.Plain)
		}
	}
	for name, raw := range sent {
		if f := o.fields[name]; f != nil && !kept[name] && o.judge(f, raw) == good {
			return fmt.Sprintf("%s: %s is good and was dropped", name, raw)
		}
	}
	return ""
}

func newOracle(p *declaration.Policy, stream int) (*oracle, []declaration.Field) {
	o := &oracle{fields: map[string]*declaration.Field{}, limits: map[string]limits{}}
	var fields []declaration.Field
	for _, i := range p.Streams[stream].Fields {
		o.fields[p.Fields[i].Name] = &p.Fields[i]
		o.limits[p.Fields[i].Name] = limitsOf(&p.Fields[i])
		o.order = append(o.order, p.Fields[i].Name)
		fields = append(fields, p.Fields[i])
	}
	return o, fields
}

// CC 1.2, 4.3: of a million payloads mutated from valid ones, no undeclared
// field is stored, and every stored one is what was sent and what was declared.
func TestMillionMutatedPayloads(t *testing.T) {
	t.Parallel() // beside those that wait for a disk
	total := 1_000_000
	if testing.Short() || raceEnabled {
		total = 20_000
	}
	policy := testPolicy()
	plan := testPlan(t)
	workers := runtime.GOMAXPROCS(0)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // the oracle allocates a lot
	var mu sync.Mutex
	accepted, verdicts := 0, map[Reason]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			o, fields := newOracle(policy, 0)
			m := &mutator{r: rand.New(rand.NewPCG(uint64(w), 2026)), fields: fields}
			sp := plan.Stream([]byte("climate"))
			var j Judged
			mine := map[Reason]int{}
			for range total / workers {
				payload := m.payload()
				if len(payload) > sp.MaxBytes() {
					continue
				}
				why := sp.Judge(&j, payload, testNow)
				mine[why]++
				if wrong := o.check(payload, why, &j); wrong != "" {
					t.Errorf("judged %q: %s\n%q", why, wrong, payload)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			accepted += mine[""]
			for why, n := range mine {
				verdicts[why] += n
			}
		})
	}
	wg.Wait()
	t.Logf("%d payloads: %v", total, verdicts)
	if accepted < total*30/100 {
		t.Errorf("%d of %d accepted, want 30 %% at least: the mutations prove too little", accepted, total)
	}
	for _, why := range []Reason{ReasonNothingLeft, ReasonNotJSON, ReasonTooDeep, ReasonDuplicateKey} {
		if verdicts[why] == 0 {
			t.Errorf("none was refused as %q: the mutations prove too little", why)
		}
	}
}

func FuzzJudge(f *testing.F) {
	policy := testPolicy()
	o, fields := newOracle(policy, 0)
	m := &mutator{r: rand.New(rand.NewPCG(1, 2)), fields: fields}
	for range 50 {
		f.Add(m.payload())
	}
	f.Add([]byte(benchPayload))
	plan, err := NewPlan(policy, testDeclared)
	if err != nil {
		f.Fatal(err)
	}
	sp := plan.Stream([]byte("climate"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var j Judged
		why := sp.Judge(&j, payload, testNow)
		if why == ReasonTooLarge {
			return
		}
		if wrong := o.check(payload, why, &j); wrong != "" {
			t.Errorf("judged %q: %s\n%q", why, wrong, payload)
		}
	})
}
