package ledger_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

var update = flag.Bool("update", false, "write golden files anew")

// full is a record with every member and every kind of character.
func full() core.Record {
	return core.Record{
		Time: time.Date(2026, 11, 22, 10, 11, 12, 123456789, time.FixedZone("", 3600)),
		Kind: "read-session-opened", Actor: core.Actor{Kind: core.ActorStaff, ID: "os:jo(1000)"},
		Subject: core.Subject{0xde, 0xad, 15: 1}, Product: "aria-thermostat", Policy: core.Hash{1, 2, 31: 3},
		Facts:  []core.Fact{{Name: "reason", Value: "ticket \"4711\"\\\b\t\n\f\r\x01\x1f\x7f </script> é €   𝄞"}, {Name: "rows", Value: "12"}, {Name: "empty", Value: ""}},
		Sealed: []byte{0, 1, 2, 0xff},
	}
}

func bare() core.Record {
	return core.Record{Time: time.Unix(0, 0), Kind: "k", Actor: core.Job("j")}
}

// TestLeafGolden holds the encoding for ever: the hash of a leaf is public.
func TestLeafGolden(t *testing.T) {
	for name, r := range map[string]core.Record{"full": full(), "bare": bare()} {
		got, err := ledger.AppendLeaf(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "leaf-"+name+".v1.json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		var any map[string]json.RawMessage
		if err := json.Unmarshal(got, &any); err != nil {
			t.Errorf("%s is not JSON: %v", name, err)
		}
		back, err := ledger.ParseLeaf(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ledger.AppendLeaf(nil, &back)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s read back differs: %s, %v", name, again, err)
		}
		if !back.Time.Equal(r.Time.Truncate(time.Microsecond)) || back.Actor != r.Actor || back.Subject != r.Subject ||
			back.Policy != r.Policy || !bytes.Equal(back.Sealed, r.Sealed) || len(back.Facts) != len(r.Facts) {
			t.Errorf("%s read back is %+v", name, back)
		}
	}
}

func TestRecordWithoutLeaf(t *testing.T) {
	for name, change := range map[string]func(*core.Record){
		"no kind":         func(r *core.Record) { r.Kind = "" },
		"kind in capital": func(r *core.Record) { r.Kind = "Device" },
		"long kind":       func(r *core.Record) { r.Kind = core.RecordKind(strings.Repeat("k", 65)) },
		"no time":         func(r *core.Record) { r.Time = time.Time{} },
		"year 10000":      func(r *core.Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no actor":        func(r *core.Record) { r.Actor = core.Actor{} },
		"actor kind":      func(r *core.Record) { r.Actor.Kind = "a:b" },
		"no actor id":     func(r *core.Record) { r.Actor.ID = "" },
		"actor not UTF-8": func(r *core.Record) { r.Actor.ID = "\xff" },
		"product":         func(r *core.Record) { r.Product = "Not A Product" },
		"fact name":       func(r *core.Record) { r.Facts[0].Name = "kept-seconds" },
		"fact twice":      func(r *core.Record) { r.Facts[1].Name = r.Facts[0].Name },
		"fact not UTF-8":  func(r *core.Record) { r.Facts[0].Value = "a\xc3" },
		"long fact":       func(r *core.Record) { r.Facts[0].Value = strings.Repeat("x", ledger.MaxFactBytes+1) },
		"many facts":      func(r *core.Record) { r.Facts = make([]core.Fact, ledger.MaxFacts+1) },
		"long sealed":     func(r *core.Record) { r.Sealed = make([]byte, ledger.MaxSealedBytes+1) },
		"long leaf": func(r *core.Record) {
			r.Facts = nil
			for i := range 12 {
				r.Facts = append(r.Facts, core.Fact{Name: "f" + string(rune('a'+i)), Value: strings.Repeat("\x01", 2000)})
			}
		},
	} {
		r := full()
		change(&r)
		if leaf, err := ledger.AppendLeaf(nil, &r); err == nil {
			t.Errorf("%s: got %s", name, leaf)
		}
	}
}

// TestLeafHasOneSpelling holds that what means the same is not the same leaf.
func TestLeafHasOneSpelling(t *testing.T) {
	r := full()
	leaf, err := ledger.AppendLeaf(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to string }{
		{`"v":1`, `"v": 1`},
		{`"v":1`, `"v":1.0`},
		{`"v":1`, `"v":2`},
		{`"v":1`, `"V":1`},
		{`"v":1`, `"v":1,"w":1`},
		{`"v":1`, `"v":1,"v":1`},
		{`"v":1}`, `"v":1}` + "\n"},
		{`"v":1}`, `"v":1}{}`},
		{`"kind":"read`, `"kind":"\u0072ead`},
		{`\u0001`, `\u0001\/`},
		{`"rows","12"`, `"rows","12","13"`},
		{`"rows","12"`, `"rows"`},
		{`AAEC/w==`, `AAEC/x==`},
		{`AAEC/w==`, `AAEC/w`},
		{`.123456Z`, `.1234560Z`},
		{`.123456Z`, `.123456+00:00`},
		{`"policy":"0102`, `"policy":"010`},
		{`"subject":"`, `"subject":"A`},
		{`"staff:os:jo(1000)"`, `"staff"`},
	} {
		changed := bytes.Replace(leaf, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(changed, leaf) {
			t.Fatalf("%q is not in the leaf", c.from)
		}
		if _, err := ledger.ParseLeaf(changed); err == nil {
			t.Errorf("%q for %q: accepted", c.to, c.from)
		}
	}
	if _, err := ledger.ParseLeaf(make([]byte, ledger.MaxLeafBytes+1)); err == nil {
		t.Error("too long a leaf was accepted")
	}
}

func FuzzParseLeaf(f *testing.F) {
	for _, r := range []core.Record{full(), bare(), sample(1)} {
		leaf, err := ledger.AppendLeaf(nil, &r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(leaf)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ledger.ParseLeaf(b)
		if err != nil {
			return
		}
		if again, err := ledger.AppendLeaf(nil, &r); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q was read as %+v, which is written %q, %v", b, r, again, err)
		}
	})
}
