package mqtt

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of section 4.7.1.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		// Section 4.7.2.
		{"#", "$SYS/monitor", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/monitor", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/#", "a/$b", true},
		// Section 4.7.3: case, slashes.
		{"ACCOUNTS", "Accounts", false},
		{"Accounts payable", "Accounts payable", true},
		{"/a", "a", false},
		{"a/", "a", false},
		{"a", "a/", false},
		{"a//b", "a/b", false},
		{"a/+/b", "a//b", true},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"+/#", "a", true},
		{"a/+/#", "a", false},
		{"", "a", false},
		{"#", "", false},
		{"command/#", "command/set/1", true},
		{"refused", "refused", true},
		{"refused", "refuse", false},
	} {
		if got := Match([]byte(c.filter), []byte(c.topic)); got != c.want {
			t.Errorf("Match(%q, %q) = %t, want %t", c.filter, c.topic, got, c.want)
		}
	}
	f, topic := []byte("devices/+/telemetry/#"), []byte("devices/A1/telemetry/climate")
	if n := testing.AllocsPerRun(100, func() { Match(f, topic) }); n != 0 {
		t.Errorf("Match allocates %v times, want 0", n)
	}
}

func TestValidTopicAndFilter(t *testing.T) {
	for s, want := range map[string]bool{"a": true, "/": true, "a/b c": true, "": false, "a/+": false, "#": false, "a\x00": false, "\xff": false, strings.Repeat("a", 65535): true, strings.Repeat("a", 65536): false} {
		if got := ValidTopic([]byte(s)); got != want {
			t.Errorf("ValidTopic(%.20q) = %t, want %t", s, got, want)
		}
	}
	for s, want := range map[string]bool{"#": true, "+": true, "+/+/#": true, "a/#": true, "/#": true, "": false, "a#": false, "#a": false, "a/#/b": false, "+a": false, "a/b+": false, "$share/g/#": true, "$share/g/a#": false} {
		if got := ValidFilter(V5, []byte(s)); got != want {
			t.Errorf("ValidFilter(%q) = %t, want %t", s, got, want)
		}
	}
}

// matchSlowly is section 4.7 written plainly.
func matchSlowly(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(l), level != "+" && level != l[i]:
			return false
		}
	}
	return len(f) == len(l)
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("sport/#", "sport")
	f.Add("$SYS/#", "$SYS/x")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if !ValidFilter(V311, []byte(filter)) || !ValidTopic([]byte(topic)) {
			t.Skip()
		}
		if got, want := Match([]byte(filter), []byte(topic)), matchSlowly(filter, topic); got != want {
			t.Errorf("Match(%q, %q) = %t, want %t", filter, topic, got, want)
		}
	})
}
