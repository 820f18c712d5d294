package identity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

const (
	csvHead  = "# hawser factory list 1\n# product: aria-thermostat\n# line: line-4\n# list: w47-1\n# hardware: C\n# batch: 2026-W47\nserial,sha256\n"
	jsonHead = `{"factory_list":1,"product":"aria-thermostat","line":"line-4","list":"w47-1","hardware":"C","batch":"2026-W47"}` + "\n"
)

func hexKey(n int) string { return fmt.Sprintf("%064x", n+1) }

func TestParseFactoryList(t *testing.T) {
	want := identity.FactoryList{Product: "aria-thermostat", Line: "line-4", Name: "w47-1", Hardware: "C", Batch: "2026-W47"}
	csv, lines := csvHead, jsonHead
	for i := range 3 {
		id := fmt.Sprintf("A%d", i)
		key, _ := core.ParseHash(hexKey(i))
		want.Units = append(want.Units, identity.ListedUnit{Device: core.DeviceID(id), Key: key})
		csv += id + ", " + strings.ToUpper(hexKey(i)) + "\r\n"
		lines += fmt.Sprintf(`{"serial":%q,"sha256":%q}`+"\n\n", id, hexKey(i))
	}
	for form, in := range map[string]string{"CSV": csv, "JSON lines": lines, "without a last line end": strings.TrimSuffix(csv, "\r\n")} {
		got, err := identity.ParseFactoryList([]byte(in))
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if fmt.Sprint(*got) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %+v", form, *got, want)
		}
	}
}

func TestFactoryListRefusals(t *testing.T) {
	row := "A1," + hexKey(1) + "\n"
	long := func(n int) string {
		var b strings.Builder
		b.WriteString(csvHead)
		for i := range n {
			fmt.Fprintf(&b, "U%d,%s\n", i, hexKey(i))
		}
		return b.String()
	}
	for name, c := range map[string]struct{ in, reason, says string }{
		"empty":                  {"", "list-head", "line 1"},
		"no list":                {"hello\n", "list-form", "line 1"},
		"a shell script":         {"#!/bin/sh\n", "list-form", ""},
		"another format":         {strings.Replace(csvHead, "list 1", "list 2", 1) + row, "list-form", ""},
		"another format, JSON":   {strings.Replace(jsonHead, ":1,", ":2,", 1), "list-form", ""},
		"no product":             {strings.Replace(csvHead, "# product: aria-thermostat\n", "", 1) + row, "list-head", "product"},
		"no line":                {strings.Replace(csvHead, "# line: line-4\n", "", 1) + row, "list-head", "line"},
		"no name":                {strings.Replace(csvHead, "# list: w47-1\n", "", 1) + row, "list-head", "list"},
		"two products":           {strings.Replace(csvHead, "# batch: 2026-W47", "# product: other", 1) + row, "list-head", "twice"},
		"a person's name":        {strings.Replace(csvHead, "2026-W47", "Ada Lovelace", 1) + row, "list-head", "batch"},
		"an unknown head":        {strings.Replace(csvHead, "batch", "operator", 1) + row, "list-head", "operator"},
		"a bad product":          {strings.Replace(csvHead, "aria-thermostat", "Aria", 1) + row, "list-head", "product"},
		"a head among the units": {csvHead + row + "# line: line-5\n", "list-head", "line 9"},
		"no titles":              {strings.Replace(csvHead, "serial,sha256\n", "", 1) + row, "list-titles", ""},
		"no units":               {csvHead, "list-empty", ""},
		"no units, JSON":         {jsonHead, "list-empty", ""},
		"half a unit":            {csvHead + "A1\n", "list-unit", "line 8"},
		"no serial number":       {csvHead + "../etc," + hexKey(1) + "\n", "list-serial", "line 8"},
		"a serial number of 65":  {csvHead + strings.Repeat("A", 65) + "," + hexKey(1) + "\n", "list-serial", ""},
		"a short key":            {csvHead + "A1,abcd\n", "list-key", "line 8"},
		"a key of zeros":         {csvHead + "A1," + strings.Repeat("0", 64) + "\n", "list-key", ""},
		"a third column":         {csvHead + "A1," + hexKey(1) + ",x\n", "list-key", ""},
		"one serial twice":       {csvHead + row + "A1," + hexKey(2) + "\n", "list-serial-twice", "line 8"},
		"one key twice":          {csvHead + row + "A2," + hexKey(1) + "\n", "list-key-twice", "line 8"},
		"an endless line":        {csvHead + strings.Repeat("A", 1000) + "\n", "list-line", "line 8"},
		"an unknown key, JSON":   {jsonHead + `{"serial":"A1","sha256":"` + hexKey(1) + `","x":1}` + "\n", "list-unit", "line 2"},
		"two values, JSON":       {jsonHead + `{"serial":"A1","sha256":"` + hexKey(1) + `"} {}` + "\n", "list-unit", "line 2"},
		"one unit too many":      {long(identity.MaxListUnits + 1), "list-long", "50000"},
		"an endless file":        {long(100) + strings.Repeat("\n", identity.MaxListBytes), "list-size", "8 MB"},
	} {
		got, err := identity.ParseFactoryList([]byte(c.in))
		if core.ReasonOf(err) != c.reason || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s), want %s with %q; %v", name, err, core.ReasonOf(err), c.reason, c.says, got)
		}
	}
	if _, err := identity.ParseFactoryList([]byte(long(identity.MaxListUnits))); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
}

// FuzzFactoryList: what a factory sends is bounded and never half believed, and
// both forms say the same.
func FuzzFactoryList(f *testing.F) {
	f.Add([]byte(csvHead + "A1," + hexKey(1) + "\nB2," + hexKey(2) + "\n"))
	f.Add([]byte(jsonHead + `{"serial":"A1","sha256":"` + hexKey(1) + `"}` + "\n"))
	f.Add([]byte(csvHead))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := identity.ParseFactoryList(in)
		if err != nil {
			if core.ReasonOf(err) == "" || len(err.Error()) > 1000 {
				t.Fatalf("no reason, or a long one: %v", err)
			}
			return
		}
		var b bytes.Buffer
		head := map[string]any{"factory_list": 1, "product": l.Product, "line": l.Line, "list": l.Name}
		for name, v := range map[string]string{"hardware": l.Hardware, "batch": l.Batch} {
			if v != "" {
				head[name] = v
			}
		}
		e := json.NewEncoder(&b)
		if err := e.Encode(head); err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Units {
			if !u.Device.Valid() || u.Key.IsZero() {
				t.Fatalf("took %+v", u)
			}
			if err := e.Encode(map[string]string{"serial": string(u.Device), "sha256": u.Key.String()}); err != nil {
				t.Fatal(err)
			}
		}
		if len(l.Units) == 0 || len(l.Units) > identity.MaxListUnits {
			t.Fatalf("%d units", len(l.Units))
		}
		again, err := identity.ParseFactoryList(b.Bytes())
		if err != nil || fmt.Sprint(*again) != fmt.Sprint(*l) {
			t.Fatalf("written as JSON it is %+v, %v; was %+v", again, err, *l)
		}
	})
}
