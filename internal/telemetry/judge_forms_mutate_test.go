package telemetry

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// canary is longer than any text that may be declared here, so that no part of
// it that is stored could be excused.
const canary = "canary-5d1f0c7e-a4"

// object is a payload of JSON that has no fault of writing, with numbers that
// a float64 holds, and with a canary where nobody declared anything.
func (m *mutator) object() string {
	for {
		p := m.payload()
		members, ok := sentMembers(p)
		if !ok || !json.Valid(p) || !clean(p) || depth(p) > maxDepth {
			continue
		}
		var out []string
		for _, s := range members {
			if s.name == nameT {
				s.raw = json.RawMessage(m.one("1795341599000", "1795341599250", `"2026-11-22T09:59:59Z"`, "1795350000000"))
			}
			name, _ := json.Marshal(s.name)
			out = append(out, string(name)+":"+m.plainer(string(s.raw)))
		}
		if m.chance(60) {
			out = append(out, `"`+m.one("gps", "owner_name", "wifi")+`":`+m.one(`"`+canary+`"`, `["`+canary+`"]`, `{"`+canary+`":1}`))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
}

// plainer is a value with its number, if it is one, as a float64 has it.
func (m *mutator) plainer(raw string) string {
	if raw[0] != '-' && !isDigit(raw[0]) || !strings.ContainsAny(raw, ".eE") {
		if len(raw) > 30 && isDigit(raw[len(raw)-1]) {
			return "0"
		}
		return raw
	}
	f, err := strconv.ParseFloat(raw, 64)
	switch {
	case err != nil || math.IsInf(f, 0):
		return "0"
	case f == math.Trunc(f) && math.Abs(f) < 1e21:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}

// rewrite writes some numbers of a CBOR payload another way: longer heads,
// strings in chunks, maps without a length. What it says stays the same.
func (m *mutator) rewrite(tb testing.TB, object string) []byte {
	members := membersOf(tb, object)
	var out bytes.Buffer
	open := m.chance(30)
	if open {
		out.WriteByte(majorMap<<5 | infoOpen)
	} else {
		out.Write([]byte{majorMap<<5 | 25, 0, byte(len(members))})
	}
	for _, s := range members {
		out.Write(m.string(s.name))
		switch v := cborValue(tb, s.raw).(type) {
		case string:
			out.Write(m.string(v))
		case *big.Int:
			out.Write(m.integer(tb, v))
		case float64:
			out.Write(m.float(tb, v))
		default:
			out.Write(cborItem(tb, v))
		}
	}
	if open {
		out.WriteByte(stopCode)
	}
	return out.Bytes()
}

func (m *mutator) string(s string) []byte {
	if !m.chance(15) {
		return append([]byte{majorText<<5 | 26, 0, 0, byte(len(s) >> 8), byte(len(s))}, s...)
	}
	out := []byte{majorText<<5 | infoOpen}
	for _, r := range s {
		piece := string(r)
		out = append(append(out, majorText<<5|byte(len(piece))), piece...)
	}
	return append(out, stopCode)
}

func (m *mutator) integer(tb testing.TB, n *big.Int) []byte {
	switch {
	case m.chance(15) && n.Sign() >= 0 && n.BitLen() <= 64: // a bignum with a zero in front
		b := append([]byte{0}, n.Bytes()...)
		return append([]byte{0xc2, majorBytes<<5 | byte(len(b))}, b...)
	case m.chance(15) && n.IsInt64():
		if v := n.Int64(); v%10 == 0 { // a decimal fraction
			return append([]byte{0xc4, 0x82, 0x01}, cborItem(tb, v/10)...)
		}
	case m.chance(15) && n.IsInt64() && int64(float64(n.Int64())) == n.Int64() && n.BitLen() < 60:
		return cborItem(tb, float64(n.Int64()))
	}
	return cborItem(tb, n)
}

func (m *mutator) float(tb testing.TB, f float64) []byte {
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mant, exp, _ := strings.Cut(text, "e")
	whole, frac, _ := strings.Cut(mant, ".")
	n, err := strconv.ParseInt(whole+frac, 10, 64)
	e, _ := strconv.Atoi(exp)
	if err != nil || !m.chance(30) {
		if m.chance(30) {
			return cborWideItem(f)
		}
		return cborItem(tb, f)
	}
	return append(append([]byte{0xc4, 0x82}, cborItem(tb, e-len(frac))...), cborItem(tb, n)...)
}

func cborWideItem(f float64) []byte {
	out := []byte{cborWide}
	for i := 56; i >= 0; i -= 8 {
		out = append(out, byte(math.Float64bits(f)>>i))
	}
	return out
}

// pack is the object as a pack of SenML in JSON, with something odd in some.
func (m *mutator) pack(tb testing.TB, object string) []byte {
	pack := senmlOf(tb, object)
	for m.chance(40) {
		pieces := bytes.Split(pack, []byte(`"n":`))
		i := m.r.IntN(len(pieces))
		if i == 0 {
			continue
		}
		odd := m.one(`"bn":"urn:dev:b:",`, `"bn":"",`, `"bt":1795341600,`, `"t":-5,`, `"t":0,`, `"t":0.25,`, `"u":"Cel",`, `"u":"K",`, `"bu":"Cel",`,
			`"bv":5,`, `"bv":0.5,`, `"s":1,`, `"bs":1,`, `"ut":9,`, `"bver":10,`, `"bver":11,`, `"x_":1,`, `"gps":"`+canary+`",`)
		pieces[i-1] = append(bytes.Clone(pieces[i-1]), odd...)
		pack = bytes.Join(pieces, []byte(`"n":`))
	}
	return pack
}

// scar changes some bytes of most payloads.
func (m *mutator) scar(b []byte) []byte {
	for range m.r.IntN(3) {
		if len(b) == 0 {
			return b
		}
		i := m.r.IntN(len(b))
		switch m.r.IntN(5) {
		case 0, 1:
			b[i] ^= 1 << m.r.IntN(8)
		case 2:
			b[i] = byte(m.r.IntN(256))
		case 3:
			b = append(b[:i], append([]byte{m.one("\x00", "\x1f", "\x5f", "\x7f", "\x9f", "\xbf", "\xff", "\xc1", "\xc4", "\xf9", "\xfb", "\x1b", "\x7b", "\xa1", "\x81", "\xf6")[0]}, b[i:]...)...)
		case 4:
			b = append(b[:i], b[i+1:]...)
		}
	}
	return b
}

// What one object says, every form of it says.
func TestFormsAgree(t *testing.T) {
	t.Parallel()
	total := 15_000
	if testing.Short() || raceEnabled {
		total = 4_000
	}
	_, fields := newOracle(testPolicy(), 0)
	m := &mutator{r: rand.New(rand.NewPCG(7, 2026)), fields: fields}
	sp := testPlan(t).Stream([]byte("climate"))
	sp.stream.MaxBytes = 1 << 16
	accepted := 0
	for range total {
		object := m.object()
		var want, got Judged
		wanted := sp.Judge(&want, []byte(object), testNow)
		if wanted == "" {
			accepted++
		}
		check := func(form string, payload []byte) {
			if why := sp.Judge(&got, payload, testNow); why != wanted && (why == "" || wanted == "") || why == "" && summary(&got) != summary(&want) {
				t.Errorf("%s of %s\n%x\nwant %q %s\n got %q %s", form, object, payload, wanted, summary(&want), why, summary(&got))
			}
		}
		check("CBOR", cborOf(t, object))
		check("CBOR, written otherwise", m.rewrite(t, object))
		if pack := senmlOf(t, object); depth(pack) <= maxDepth { // a record is a level more
			check("SenML in JSON", pack)
			check("SenML in CBOR", senmlCBOROf(t, pack))
		}
		if t.Failed() {
			return
		}
	}
	if accepted < total/2 {
		t.Errorf("%d of %d accepted: they prove too little", accepted, total)
	}
}

// CC 1.2, 4.3: of payloads of the other forms, mutated from valid ones, no
// undeclared field is stored, nor anything that another decoder does not see.
func TestMutatedForms(t *testing.T) {
	t.Parallel()
	total := 200_000
	if testing.Short() || raceEnabled {
		total = 20_000
	}
	workers := runtime.GOMAXPROCS(0)
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	var mu sync.Mutex
	verdicts := map[Reason]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			o, fields := newOracle(testPolicy(), 0)
			m := &mutator{r: rand.New(rand.NewPCG(uint64(w), 8949)), fields: fields}
			sp, mine := testPlan(t).Stream([]byte("climate")), testPlan(t).Stream([]byte("climate"))
			mine.stream.MaxBytes = 1 << 20
			var j Judged
			seen := map[Reason]int{}
			for i := 0; i < total/workers; {
				object := m.object()
				pack := m.pack(t, object)
				for k, whole := range [][]byte{cborOf(t, object), m.rewrite(t, object), pack, senmlCBOROf(t, pack)} {
					for range 4 {
						i++
						payload := m.scar(bytes.Clone(whole))
						why := sp.Judge(&j, payload, testNow)
						seen[why]++
						for _, p := range j.Parts() {
							if bytes.Contains(p.Plain, []byte(canary)) {
								t.Errorf("form %d: THE CANARY IS STORED: %s\n%x", k, p.Plain, payload)
							}
						}
						x, ours := o.translate(payload, testNow)
						if !ours {
							continue
						}
						if wrong := x.agrees(mine, why, &j, testNow); wrong != "" {
							t.Errorf("form %d, judged %q: %s\n%x\n%q", k, why, wrong, payload, payload)
						}
						if t.Failed() {
							return
						}
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for why, n := range seen {
				verdicts[why] += n
			}
		})
	}
	wg.Wait()
	t.Logf("%d payloads: %v", total, verdicts)
	if verdicts[""] < total*20/100 {
		t.Errorf("%d of %d accepted, want 20 %% at least: the mutations prove too little", verdicts[""], total)
	}
	for _, why := range []Reason{ReasonNotCBOR, ReasonNotSenML, ReasonSeveralTimes, ReasonSeveralNames, ReasonDuplicateKey, ReasonNothingLeft} {
		if verdicts[why] == 0 {
			t.Errorf("none was refused as %q: the mutations prove too little", why)
		}
	}
}

func FuzzJudgeCBOR(f *testing.F) {
	fuzzForms(f, func(b []byte) bool { return isCBOR(b) && b[0]>>5 != majorArray })
}

func FuzzJudgeSenML(f *testing.F) {
	fuzzForms(f, func(b []byte) bool { return b[0] == '[' || b[0]>>5 == majorArray })
}

func fuzzForms(f *testing.F, seed func([]byte) bool) {
	policy := testPolicy()
	o, fields := newOracle(policy, 0)
	m := &mutator{r: rand.New(rand.NewPCG(1, 2)), fields: fields}
	for range 40 {
		object := m.object()
		pack := m.pack(f, object)
		for _, b := range [][]byte{cborOf(f, object), m.rewrite(f, object), pack, senmlCBOROf(f, pack)} {
			if seed(b) {
				f.Add(b)
			}
		}
	}
	for _, c := range senmlExamples {
		if b := []byte(c.payload); seed(b) {
			f.Add(b)
		}
	}
	plan, err := NewPlan(policy, testDeclared)
	if err != nil {
		f.Fatal(err)
	}
	sp, own := plan.Stream([]byte("climate")), testPlan(f).Stream([]byte("climate"))
	own.stream.MaxBytes = 1 << 20
	f.Fuzz(func(t *testing.T, payload []byte) {
		var j Judged
		why := sp.Judge(&j, payload, testNow)
		x, ours := o.translate(payload, testNow)
		if why == ReasonTooLarge || !ours {
			return
		}
		if wrong := x.agrees(own, why, &j, testNow); wrong != "" {
			t.Errorf("judged %q: %s\n%x\n%q", why, wrong, payload, payload)
		}
	})
}
