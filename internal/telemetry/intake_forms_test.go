package telemetry

import (
	"strings"
	"testing"
)

// Through the intake, a reading in another form is sealed as the same plaintext,
// and the names that nobody declared are found and shown as those of JSON are.
func TestIntakeTakesEveryForm(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	for i, payload := range []string{
		`{"mode":"off","seq":1,"gps52":1}`,
		"\xa3\x64mode\x63off\x63seq\x01\x6awifi_\xc3\xa4\x0a52\x01",
		`[{"bn":"urn:dev:mac:0024befffe804ff1:","n":"mode","vs":"off"},{"n":"seq","v":1},{"n":"owner_of_7","vs":"x"}]`,
		"\x83\xa3\x21\x6aurn:dev:a:\x00\x64mode\x03\x63off\xa2\x00\x63seq\x02\x01\xa2\x00\x78\x28" + strings.Repeat("z", 40) + "\x02\x01",
		"\xa3\x64mode\x63off\x63seq\x01\x18\x2a\x01",
	} {
		d.want(t, d.in.Message(src, []byte("climate"), []byte(payload), done, uint64(i)), Pending, "")
		done.wait(t)
		if r, parts := d.reading(t); strings.Join(parts, " ") != `1{"mode":"off"}` || !r.HasSeq || r.Seq != 1 || r.Dropped != 1 {
			t.Errorf("%q: stored %v, %+v", payload, parts, r)
		}
	}
	f := d.in.Undeclared()
	if want := "gps## key-that-is-no-text owner_of_# wifi_???## " + strings.Repeat("z", maxUndeclaredName); len(f) != 1 || strings.Join(f[0].Names, " ") != want {
		t.Errorf("findings %+v, want %s", f, want)
	}
	// What is refused is not stored.
	for payload, why := range map[string]Reason{
		"\xa2\x64mode\x63off":                                   ReasonNotCBOR,
		`[{"n":"mode","vs":"off","x_":1}]`:                      ReasonNotSenML,
		`[{"n":"mode","vs":"off"},{"n":"starts","t":-1,"v":1}]`: ReasonSeveralTimes,
		`[{"n":"a:mode","vs":"off"},{"n":"b:starts","v":1}]`:    ReasonSeveralNames,
	} {
		d.want(t, d.in.Message(src, []byte("climate"), []byte(payload), done, 0), Refuse, why)
		if err := d.in.Refuse(src, []byte("climate"), why, done, 0); err != nil {
			t.Fatal(err)
		}
		done.wait(t)
		if f := d.refusal(t); f.Reason != why || why.Text() == "" || d.in.Counters().Refused[why] != 1 {
			t.Errorf("%q: recorded %+v", payload, f)
		}
	}
}
