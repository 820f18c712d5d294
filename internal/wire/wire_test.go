package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPublishTopics(t *testing.T) {
	const own = "A1"
	for _, c := range []struct {
		topic string
		want  Topic
	}{
		{"telemetry/climate", Topic{Kind: Telemetry, Stream: []byte("climate")}},
		{"devices/A1/telemetry/climate", Topic{Kind: Telemetry, Form: Absolute, Stream: []byte("climate")}},
		{"child/K-7/telemetry/door", Topic{Kind: ChildTelemetry, Child: []byte("K-7"), Stream: []byte("door")}},
		{"devices/A1/child/K-7/telemetry/door", Topic{Kind: ChildTelemetry, Form: Absolute, Child: []byte("K-7"), Stream: []byte("door")}},
		{"state", Topic{Kind: State}},
		{"posture", Topic{Kind: Posture}},
		{"devices/A1/posture", Topic{Kind: Posture, Form: Absolute}},
		{"$aws/things/A1/defender/metrics/json", Topic{Kind: Posture, Form: Absolute}},
		{"$aws/things/A1/defender/metrics/cbor", Topic{Kind: Posture, Form: Absolute, CBOR: true}},
		{"command/set_target/reply/17", Topic{Kind: CommandReply, Name: []byte("set_target"), ID: []byte("17")}},

		// Another device's, whatever follows.
		{"devices/A2/telemetry/climate", Topic{Kind: Foreign, Form: Absolute}},
		{"devices/a1/telemetry/climate", Topic{Kind: Foreign, Form: Absolute}},
		{"devices/A11/state", Topic{Kind: Foreign, Form: Absolute}},
		{"devices/", Topic{Kind: Foreign, Form: Absolute}},
		{"$aws/things/A2/defender/metrics/json", Topic{Kind: Foreign, Form: Absolute}},

		// No topic of the contract, or one to the device.
		{"", Topic{}},
		{"telemetry", Topic{}},
		{"telemetry/", Topic{}},
		{"telemetry/climate/extra", Topic{}},
		{"telemetry/Climate", Topic{}},
		{"telemetry/1st", Topic{}},
		{"telemetry/" + strings.Repeat("a", MaxStream+1), Topic{}},
		{"/telemetry/climate", Topic{}},
		{"child//telemetry/door", Topic{}},
		{"child/../telemetry/door", Topic{}},
		{"child/K7/state", Topic{}},
		{"command/set_target", Topic{}},
		{"command/set_target/reply/", Topic{}},
		{"state/more", Topic{}},
		{"refused", Topic{}},
		{"config", Topic{}},
		{"devices/A1", Topic{Form: Absolute}},
		{"devices/A1/", Topic{Form: Absolute}},
		{"devices/A1/devices/A2/state", Topic{Form: Absolute}},
		{"$aws/things/A1/shadow/update", Topic{Form: Absolute}},
		{"$SYS/uptime", Topic{}},
	} {
		got := Publish(own, []byte(c.topic))
		if got.Kind != c.want.Kind || got.Form != c.want.Form || got.CBOR != c.want.CBOR ||
			!bytes.Equal(got.Stream, c.want.Stream) || !bytes.Equal(got.Child, c.want.Child) ||
			!bytes.Equal(got.Name, c.want.Name) || !bytes.Equal(got.ID, c.want.ID) {
			t.Errorf("Publish(%q) = %+v, want %+v", c.topic, got, c.want)
		}
	}
}

func TestSubscribeOnlyToOwn(t *testing.T) {
	const own = "A1"
	for _, c := range []struct {
		filter string
		kind   Kind
		form   Form
		rel    string
	}{
		{"refused", Refused, Relative, "refused"},
		{"devices/A1/refused", Refused, Absolute, "refused"},
		{"command/#", Command, Relative, "command/#"},
		{"command/+/x", Command, Relative, "command/+/x"},
		{"devices/A1/command/#", Command, Absolute, "command/#"},
		{"config", Config, Relative, "config"},
		{"update", Update, Relative, "update"},
		{"notice", Notice, Relative, "notice"},

		{"#", Foreign, Relative, ""},
		{"+", Foreign, Relative, ""},
		{"+/refused", Foreign, Relative, ""},
		{"devices/#", Foreign, Absolute, ""},
		{"devices/+/refused", Foreign, Absolute, ""},
		{"devices/A2/refused", Foreign, Absolute, ""},
		{"$aws/things/A2/#", Foreign, Relative, ""},
		{"$share/g/refused", Unknown, Relative, ""},
		{"$SYS/#", Unknown, Relative, ""},
		{"telemetry/#", Unknown, Relative, ""},
		{"refused/#", Unknown, Relative, ""},
		{"devices/A1/#", Unknown, Absolute, ""},
		{"command", Unknown, Relative, ""},
		{"", Unknown, Relative, ""},
	} {
		kind, form, rel := Subscribe(own, []byte(c.filter))
		if kind != c.kind || form != c.form || string(rel) != c.rel {
			t.Errorf("Subscribe(%q) = %d, %d, %q, want %d, %d, %q", c.filter, kind, form, rel, c.kind, c.form, c.rel)
		}
	}
}

func TestTopicFormsAgree(t *testing.T) {
	for _, form := range []Form{Relative, Absolute} {
		got := Publish("A1", AppendTopic(nil, "A1", form, "telemetry/climate"))
		if got.Kind != Telemetry || got.Form != form || string(got.Stream) != "climate" {
			t.Errorf("form %d: %+v", form, got)
		}
	}
}

func TestPublishAllocatesNothing(t *testing.T) {
	topic := []byte("devices/A1/telemetry/climate")
	if n := testing.AllocsPerRun(100, func() { Publish("A1", topic) }); n != 0 {
		t.Errorf("Publish allocates %v times, want 0", n)
	}
}

func TestRefusalRoundTrip(t *testing.T) {
	for _, r := range []Refusal{
		{Reason: "bad-field", Text: "A \"field\"\n\\ is out of range: 90 °C.", Stream: "climate", Dropped: true, Count: 3, PacketID: 65535, Time: 1795000000123},
		{Reason: "wrong-topic", Time: 1},
	} {
		b := AppendRefusal(nil, &r)
		if !json.Valid(b) {
			t.Fatalf("not JSON: %s", b)
		}
		got, err := ParseRefusal(b)
		if err != nil || got != r {
			t.Errorf("got %+v, %v, want %+v", got, err, r)
		}
	}
}

func TestParseRefusalRefuses(t *testing.T) {
	for _, in := range []string{"", "null", "[]", "{}", `{"reason":""}`, `{"reason":7}`, `{"reason":"x","packet_id":65536}`, `{"reason":"x"} {}`, `{"reason":"` + strings.Repeat("x", MaxNotice) + `"}`} {
		if r, err := ParseRefusal([]byte(in)); err == nil {
			t.Errorf("ParseRefusal(%.40q) = %+v, want an error", in, r)
		}
	}
}

// FuzzTopics holds that no topic or filter reaches another device's, whatever
// its bytes.
func FuzzTopics(f *testing.F) {
	for _, s := range []string{"devices/A1/telemetry/climate", "devices/A2/refused", "command/#", "child/K/telemetry/s", "$aws/things/A1/defender/metrics/json"} {
		f.Add("A1", []byte(s))
	}
	f.Fuzz(func(t *testing.T, own string, topic []byte) {
		if !ValidSerial(own) {
			t.Skip()
		}
		p := Publish(own, topic)
		if bytes.HasPrefix(topic, []byte("devices/")) && !bytes.HasPrefix(topic, []byte("devices/"+own+"/")) && string(topic) != "devices/"+own && p.Kind != Foreign {
			t.Errorf("%q of %q is %+v, not foreign", topic, own, p)
		}
		if p.Kind > CommandReply {
			t.Errorf("%q may be published as kind %d", topic, p.Kind)
		}
		if kind, form, rel := Subscribe(own, topic); kind > Foreign {
			if string(AppendTopic(nil, own, form, string(rel))) != string(topic) {
				t.Errorf("filter %q came back as form %d of %q", topic, form, rel)
			}
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"reason":"bad-field","stream":"climate","time":1}`), "text")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		r, err := ParseRefusal(b)
		if err != nil {
			r = Refusal{Reason: "x"}
		}
		if !utf8.ValidString(text) || len(text) > 512 || len(b) > 1024 {
			return
		}
		r.Text = text
		again, err := ParseRefusal(AppendRefusal(nil, &r))
		if err != nil || again != r {
			t.Errorf("got %+v, %v, want %+v", again, err, r)
		}
	})
}
