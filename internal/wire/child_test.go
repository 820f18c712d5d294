package wire

import (
	"bytes"
	"regexp"
	"testing"
)

// FuzzChildTopic holds what a hub may say of a child to the contract: the id
// and the stream that come out are the very bytes that went in, both have the
// form of ids and names, and no id makes the topic another one's. What is
// looked up later is only ever such an id (CC 3.6).
func FuzzChildTopic(f *testing.F) {
	for _, s := range [][2]string{
		{"K-7", "door"},
		{"00158d0001a2b3c4", "climate"}, // a Zigbee unit's EUI-64
		{"00:15:8d:00:01:a2:b3:c4", "climate"},
		{"a.b_c", "s"},
		{"..", "door"},
		{"", "door"},
		{"A1", "door"}, // the hub's own id
		{"K/child/L", "door"},
		{"K/telemetry/door", "door"},
		{"+", "door"},
		{"K#", "door"},
		{"K-7", "+"},
		{"K\x00", "door"},
		{"Ä1", "door"},
	} {
		f.Add("A1", s[0], s[1])
	}
	// Written down once more, so that a rule that becomes looser is seen.
	id, name := regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`), regexp.MustCompile(`\A[a-z][a-z0-9_-]{0,62}\z`)
	f.Fuzz(func(t *testing.T, own, child, stream string) {
		if !ValidSerial(own) {
			return // no certificate names such a device
		}
		rel := []byte("child/" + child + "/telemetry/" + stream)
		got := Publish(own, rel)
		want := id.MatchString(child) && name.MatchString(stream)
		if is := got.Kind == ChildTelemetry; is != want {
			t.Fatalf("child %q, stream %q: a child's topic %v, want %v", child, stream, is, want)
		}
		if !want {
			if len(got.Child) != 0 {
				t.Fatalf("child %q, stream %q: kind %d names child %q", child, stream, got.Kind, got.Child)
			}
			return
		}
		if string(got.Child) != child || string(got.Stream) != stream {
			t.Fatalf("child %q, stream %q: taken apart as %q, %q", child, stream, got.Child, got.Stream)
		}
		abs := Publish(own, AppendTopic(nil, own, Absolute, string(rel)))
		if abs.Kind != ChildTelemetry || !bytes.Equal(abs.Child, got.Child) || !bytes.Equal(abs.Stream, got.Stream) {
			t.Fatalf("child %q, stream %q: the absolute form is %+v", child, stream, abs)
		}
		propose := []byte("child/" + child + "/propose")
		if p := Publish(own, propose); p.Kind != ChildProposal || string(p.Child) != child || p.Stream != nil {
			t.Fatalf("child %q is proposed: %+v", child, p)
		}
		if p := Publish(own+"x", AppendTopic(nil, own, Absolute, string(propose))); p.Kind != Foreign || p.Child != nil {
			t.Fatalf("another hub proposes %q: %+v", child, p)
		}
		other := Publish(own+"x", AppendTopic(nil, own, Absolute, string(rel)))
		if other.Kind != Foreign || other.Child != nil {
			t.Fatalf("another hub's child %q: %+v", child, other)
		}
	})
}
