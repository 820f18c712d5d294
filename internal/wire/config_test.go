package wire

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestConfigBothWays(t *testing.T) {
	want := ConfigMessage{Version: 7, Given: 1_700_000_000_000, Settings: []byte(`{"level":3}`)}
	b := AppendConfig(nil, &want)
	got, err := ParseConfig(b)
	if err != nil || got.Version != 7 || got.Given != want.Given || string(got.Settings) != `{"level":3}` {
		t.Errorf("%s is read as %+v, %v", b, got, err)
	}
	for name, text := range map[string]string{
		"no version": `{"settings":{}}`, "no values": `{"version":1}`, "too high": `{"version":9007199254740992,"settings":{}}`,
		"below": `{"version":-1,"settings":{}}`, "too long": `{"version":1,"settings":{"a":"` + strings.Repeat("x", MaxNotice) + `"}}`, "nothing": ``,
	} {
		if _, err := ParseConfig([]byte(text)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// TestSomeSettings: each value is taken or refused by itself, with its reason.
func TestSomeSettings(t *testing.T) {
	v, refused, err := ParseSome(declared(), []byte(`{"steps":10,"celsius":21.50,"mode":"turbo","label":"a","other":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(AppendParams(nil, v)); got != `{"celsius":21.5,"label":"a"}` {
		t.Errorf("taken: %s", got)
	}
	want := map[string]string{"steps": "is not a whole number within -3 to 9", "mode": "is none of eco, comfort", "other": "is not known"}
	if !maps.Equal(refused, want) {
		t.Errorf("refused: %v", refused)
	}
	for _, text := range []string{`[]`, `{"a":1,"a":2}`, `{"a":{}}`, `{} {}`, ``, strings.Repeat(" ", MaxNotice) + `{}`} {
		if _, _, err := ParseSome(declared(), []byte(text)); !errors.Is(err, ErrParams) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestReportBothWays(t *testing.T) {
	want := SettingsReport{Version: 9, Values: []byte(`{"level":3}`), Refused: map[string]string{"mode": "is none of eco", "led": "is not known"}}
	b := AppendReport(nil, &want)
	if string(b) != `{"settings":{"version":9,"values":{"level":3},"refused":{"led":"is not known","mode":"is none of eco"}}}` {
		t.Errorf("written as %s", b)
	}
	got, err := ParseReport(b)
	if err != nil || got.Version != 9 || string(got.Values) != `{"level":3}` || !maps.Equal(got.Refused, want.Refused) {
		t.Errorf("read as %+v, %v", got, err)
	}
	long, err := ParseReport([]byte(`{"settings":{"version":1,"values":{},"refused":{"a":"\u001b[2J` + strings.Repeat("ä", 300) + `"}}}`))
	if err != nil || long.Refused["a"] != "[2J"+strings.Repeat("ä", MaxReplyText-3) {
		t.Errorf("a long text: %q, %v", long.Refused["a"], err)
	}
	for name, text := range map[string]string{
		"nothing": `{}`, "no object": `7`, "no values": `{"settings":{"version":1}}`, "nested": `{"settings":{"version":1,"values":{"a":{}}}}`,
		"a name": `{"settings":{"version":1,"values":{"A b":1}}}`, "a refused name": `{"settings":{"version":1,"values":{},"refused":{"<b>":"x"}}}`,
		"too high": `{"settings":{"version":9007199254740992,"values":{}}}`, "too long": `{"settings":{"version":1,"values":{}}}` + strings.Repeat(" ", MaxNotice),
	} {
		if _, err := ParseReport([]byte(text)); !errors.Is(err, ErrReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReport: what is read can be written, and is read the same again.
func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"settings":{"version":9,"values":{"level":3},"refused":{"mode":"no"}}}`))
	f.Add([]byte(`{"settings":{"version":0,"values":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		again, err := ParseReport(AppendReport(nil, &r))
		if len(AppendReport(nil, &r)) > MaxNotice {
			return // escapes made it longer
		}
		if err != nil || again.Version != r.Version || !maps.Equal(again.Refused, r.Refused) {
			t.Errorf("%+v comes back as %+v, %v", r, again, err)
		}
	})
}

// FuzzConfig: what a device is sent, it reads or refuses, each value by itself.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"version":1,"given":2,"settings":{"celsius":21,"mode":"eco"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		v, refused, err := ParseSome(declared(), c.Settings)
		if err != nil {
			return
		}
		if _, no, err := ParseSome(declared(), AppendParams(nil, v)); err != nil || len(no) > 0 {
			t.Errorf("what was taken is refused: %v, %v", no, err)
		}
		for _, x := range v {
			if refused[x.Name] != "" {
				t.Errorf("%s is taken and refused", x.Name)
			}
		}
	})
}
