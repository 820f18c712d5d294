package declaration

import (
	"bytes"
	"strings"
	"testing"
)

const settingsText = `settings:
  zone: {type: string, max_length: 20, default: "", class: public, keep: 1d, by: [support], risky: false}
  alarm: {type: boolean, default: true, class: personal, keep: 7d, by: [owner, household], risky: true}
  chime: {type: integer, unit: "1", range: [0, 3], default: 1, class: personal, keep: 7d, by: [service:app, owner], risky: false}
  mode: {type: enum, values: [loud, quiet], default: loud, class: personal, keep: 7d, by: [owner], risky: false}
interfaces:
`

func withSettings(t *testing.T, edit ...string) *Policy {
	t.Helper()
	text := strings.Replace(string(read(t, "testdata/sound.yaml")), "interfaces:\n", settingsText, 1)
	for i := 0; i+1 < len(edit); i += 2 {
		if !strings.Contains(text, edit[i]) {
			t.Fatalf("nothing to edit: %s", edit[i])
		}
		text = strings.Replace(text, edit[i], edit[i+1], 1)
	}
	d, err := Parse("settings.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSettings holds what a policy says of settings, and that its canonical
// form says the same. CC 3.7.
func TestSettings(t *testing.T) {
	p := withSettings(t)
	var names []string
	for _, s := range p.Settings {
		names = append(names, s.Name)
	}
	if got, want := strings.Join(names, " "), "alarm chime mode zone"; got != want {
		t.Fatalf("got settings %s, want %s", got, want)
	}
	alarm, chime, mode := p.Settings[0], p.Settings[1], p.Settings[2]
	if !alarm.Risky || !alarm.Default.Yes || alarm.Type != Boolean {
		t.Errorf("got %+v", alarm)
	}
	if chime.Default.Number != 1 || chime.Max != 3 || chime.Keep != 7*day || strings.Join(chime.By, " ") != "owner service:app" || chime.Class != Personal {
		t.Errorf("got %+v", chime)
	}
	if mode.Default.Text != "loud" {
		t.Errorf("got %+v", mode)
	}
	again, err := ParsePolicy(p.Canonical)
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash != p.Hash || !bytes.Equal(again.Canonical, p.Canonical) || len(again.Settings) != 4 || again.Settings[1].Default != chime.Default {
		t.Errorf("the canonical form read again is another declaration:\n%s\n%s", again.Canonical, p.Canonical)
	}
}

// TestDiffSettings makes one change of a setting at a time, there and back.
func TestDiffSettings(t *testing.T) {
	old := withSettings(t)
	for _, c := range []struct{ name, from, to, there, back, what, where, text string }{
		{"wider range", "range: [0, 3]", "range: [0, 9]", "widens", "narrows", "setting", "settings.chime", "3 to 9"},
		{"by more", "by: [service:app, owner]", "by: [service:app, owner, support]", "widens", "narrows", "setting", "settings.chime", "support is new"},
		{"less risky", "risky: true", "risky: false", "widens", "narrows", "setting", "settings.alarm", "true to false"},
		{"kept longer", "class: public, keep: 1d", "class: public, keep: 2d", "widens", "narrows", "keep-time", "settings.zone", "1d to 2d"},
		{"another class", "class: public, keep: 1d", "class: personal, keep: 1d", "widens", "widens", "class", "settings.zone", "public to personal"},
		{"another default", "default: loud", "default: quiet", "neutral", "neutral", "setting", "settings.mode", "default"},
		{"another type", `type: boolean, default: true, class: personal, keep: 7d, by: [owner, household]`, `type: timestamp, default: "2026-01-01T00:00:00Z", class: personal, keep: 7d, by: [owner, household]`, "widens", "widens", "setting", "settings.alarm", "boolean to timestamp"},
	} {
		next := withSettings(t, c.from, c.to)
		for _, way := range []struct {
			a, b *Policy
			want string
		}{{old, next, c.there}, {next, old, c.back}} {
			found := false
			for _, x := range Diff(way.a, way.b) {
				found = found || x.Direction.String() == way.want && x.What == c.what && x.Where == c.where && (way.b == old || strings.Contains(x.Text, c.text))
			}
			if !found {
				t.Errorf("%s: got %v, want one that %s", c.name, Diff(way.a, way.b), way.want)
			}
		}
	}
}
