package device

import (
	"slices"
	"testing"
	"time"
)

// TestSendForChild: what a hub sends for its children goes through the same
// queue, also across a restart, to the child's topic and under the hub's
// numbers; a child's id or stream that is none is refused before.
func TestSendForChild(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := b.open(t)
	for _, bad := range [][2]string{{"", "door"}, {"K/1", "door"}, {"../K1", "door"}, {"+", "door"}, {"K1", "Door"}, {"K1", "a/b"}, {"K1", ""}} {
		if err := d.SendFor(bad[0], bad[1], NewReading(time.Now()).Int("n", 1)); reasonOf(err) != BadReading {
			t.Errorf("child %q, stream %q: %v", bad[0], bad[1], err)
		}
	}
	if err := d.SendFor("K1", "door", NewReading(time.Now()).Int("n", 1)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = b.open(t)
	start(t, d)
	if err := d.SendFor("K2", "door", NewReading(time.Now()).Int("n", 2)); err != nil {
		t.Fatal(err)
	}
	if err := d.Send("climate", NewReading(time.Now()).Int("n", 3)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three readings", func() bool { return len(b.mqtt.taken()) == 3 })
	var topics []string
	for _, g := range b.mqtt.taken() {
		topics = append(topics, g.Topic)
	}
	if want := []string{"child/K1/telemetry/door", "child/K2/telemetry/door", "telemetry/climate"}; !slices.Equal(topics, want) {
		t.Errorf("sent to %q, want %q", topics, want)
	}
	if err := d.Propose(t.Context(), "K 3"); reasonOf(err) != BadReading {
		t.Errorf("a proposal of no id: %v", err)
	}
}
