package wire

import (
	"errors"
	"strings"
	"testing"
)

func declared() []Param {
	return []Param{
		{Name: "at", Type: "timestamp"},
		{Name: "celsius", Type: "number", Min: 5, Max: 30},
		{Name: "label", Type: "string", MinLength: 1, MaxLength: 4},
		{Name: "mode", Type: "enum", Values: []string{"eco", "comfort"}},
		{Name: "now", Type: "boolean"},
		{Name: "steps", Type: "integer", Min: -3, Max: 9},
	}
}

const within = `{"steps": 9, "celsius":21.50, "label":"öäüß", "mode":"eco", "now":true, "at":"2026-11-23T10:00:00Z"}`

func TestParams(t *testing.T) {
	v, err := ParseParams(declared(), []byte(within))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"at":"2026-11-23T10:00:00Z","celsius":21.5,"label":"öäüß","mode":"eco","now":true,"steps":9}`
	got := string(AppendParams(nil, v))
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if again, err := ParseParams(declared(), []byte(got)); err != nil || string(AppendParams(nil, again)) != got {
		t.Errorf("what was written is read as %v, %v", again, err)
	}
	if v, err := ParseParams(nil, []byte(`{}`)); err != nil || len(v) != 0 {
		t.Errorf("a command without values: %v, %v", v, err)
	}
}

// TestParamsRefused: one value that is not as declared refuses all, and the
// reason names it (CC 3.7).
func TestParamsRefused(t *testing.T) {
	for name, c := range map[string][2]string{
		"above":         {`"celsius":21.50`, `"celsius":30.01`},
		"below":         {`"celsius":21.50`, `"celsius":4.99`},
		"huge":          {`"celsius":21.50`, `"celsius":1e999`},
		"text":          {`"celsius":21.50`, `"celsius":"21"`},
		"null":          {`"celsius":21.50`, `"celsius":null`},
		"nested":        {`"celsius":21.50`, `"celsius":{"v":21}`},
		"list":          {`"celsius":21.50`, `"celsius":[21]`},
		"a fraction":    {`"steps": 9`, `"steps": 8.5`},
		"an exponent":   {`"steps": 9`, `"steps": 1e0`},
		"steps above":   {`"steps": 9`, `"steps": 10`},
		"too long":      {`"öäüß"`, `"öäüßx"`},
		"too short":     {`"öäüß"`, `""`},
		"control":       {`"öäüß"`, `"a\u0007"`},
		"another mode":  {`"eco"`, `"turbo"`},
		"yes":           {`true`, `"true"`},
		"no time":       {`2026-11-23T10:00:00Z`, `yesterday`},
		"missing":       {`"now":true, `, ``},
		"undeclared":    {`"now":true`, `"now":true,"door":"open"`},
		"twice":         {`"now":true`, `"now":false,"now":true`},
		"behind it":     {`Z"}`, `Z"} {}`},
		"a list of all": {within, `[]`},
		"nothing":       {within, ``},
		"endless":       {within, `{"label":"` + strings.Repeat("x", MaxNotice) + `"}`},
	} {
		in := strings.Replace(within, c[0], c[1], 1)
		if in == within {
			t.Fatalf("%s changes nothing", name)
		}
		if v, err := ParseParams(declared(), []byte(in)); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestCommandRoundTrip(t *testing.T) {
	c := CommandMessage{Number: 7, Given: 1, Expires: 2, Params: []byte(`{"celsius":21}`)}
	got, err := ParseCommand(AppendCommand(nil, &c))
	if err != nil || got.Number != 7 || got.Given != 1 || got.Expires != 2 || string(got.Params) != string(c.Params) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, in := range []string{"", "{}", `{"number":0,"params":{}}`, `{"number":-1,"params":{}}`, `{"number":9007199254740992,"params":{}}`, `{"number":1}`, `[1]`} {
		if c, err := ParseCommand([]byte(in)); err == nil {
			t.Errorf("ParseCommand(%q) = %+v", in, c)
		}
	}
	name, id, ok := SplitCommand(CommandTopic("set_target", "c1"))
	if !ok || name != "set_target" || id != "c1" {
		t.Errorf("%q, %q, %t", name, id, ok)
	}
	for _, topic := range []string{"command/set_target", "command/set_target/", "command//c1", "command/a/b/c", "config", "command/Set/c1"} {
		if name, id, ok := SplitCommand(topic); ok {
			t.Errorf("%q is command %q, %q", topic, name, id)
		}
	}
	if p := Publish("A1", []byte(ReplyTopic("set_target", "c1"))); p.Kind != CommandReply || string(p.Name) != "set_target" || string(p.ID) != "c1" {
		t.Errorf("%+v", p)
	}
}

func TestReplyRoundTrip(t *testing.T) {
	for _, r := range []Reply{{Outcome: OutcomeDone}, {Outcome: OutcomeRefused, Text: `it is "open"`}, {Outcome: OutcomeFailed, Text: "ü"}} {
		if got, err := ParseReply(AppendReply(nil, &r)); err != nil || got != r {
			t.Errorf("%+v, %v", got, err)
		}
	}
	got, err := ParseReply([]byte(`{"outcome":"done","text":"\u001b[2Jred ` + strings.Repeat("ä", 300) + `"}`))
	if err != nil || strings.ContainsRune(got.Text, 0x1b) || len([]rune(got.Text)) != MaxReplyText {
		t.Errorf("%q, %v", got.Text, err)
	}
	for _, in := range []string{"", "{}", `{"outcome":"maybe"}`, `"done"`} {
		if r, err := ParseReply([]byte(in)); err == nil {
			t.Errorf("ParseReply(%q) = %+v", in, r)
		}
	}
}

// FuzzParams holds that what is taken is within the declared bounds, and reads
// the same when it is written again.
func FuzzParams(f *testing.F) {
	f.Add([]byte(within))
	f.Add([]byte(`{"celsius":1e308,"celsius":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		spec := declared()
		v, err := ParseParams(spec, b)
		if err != nil {
			return
		}
		for i, p := range spec {
			switch x := v[i].Is.(type) {
			case float64:
				if x < p.Min || x > p.Max {
					t.Errorf("%s is %v", p.Name, x)
				}
			case int64:
				if float64(x) < p.Min || float64(x) > p.Max {
					t.Errorf("%s is %v", p.Name, x)
				}
			}
		}
		out := AppendParams(nil, v)
		if again, err := ParseParams(spec, out); err != nil || string(AppendParams(nil, again)) != string(out) {
			t.Errorf("%s is read as %v, %v", out, again, err)
		}
	})
}

// FuzzCommand holds that no bytes from a server make a device fall over.
func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"number":7,"given":1,"expires":2,"params":{"celsius":21}}`), "command/set_target/c1")
	f.Fuzz(func(t *testing.T, b []byte, topic string) {
		if name, id, ok := SplitCommand(topic); ok && CommandTopic(name, id) != topic {
			t.Errorf("%q is %q, %q", topic, name, id)
		}
		if c, err := ParseCommand(b); err == nil {
			if again, err := ParseCommand(AppendCommand(nil, &c)); err != nil || again.Number != c.Number {
				t.Errorf("%+v, %v", again, err)
			}
		}
		if r, err := ParseReply(b); err == nil {
			if again, err := ParseReply(AppendReply(nil, &r)); err != nil || again != r {
				t.Errorf("%+v, %+v, %v", r, again, err)
			}
		}
	})
}
