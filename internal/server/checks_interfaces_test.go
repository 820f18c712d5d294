package server

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestUncontrolledDoorStaysShut: a door that is no declared interface, or one
// without a control, is never opened (CC 4.13).
func TestUncontrolledDoorStaysShut(t *testing.T) {
	whole := ownInterface{"x", "https", "somebody", "TLS", "slow", "JSON"}
	if err := mayOpen([]ownInterface{whole}, "x"); err != nil {
		t.Errorf("a whole interface: %v", err)
	}
	for name, i := range map[string]ownInterface{
		"authentication": {"x", "https", "", "TLS", "slow", "JSON"},
		"encryption":     {"x", "https", "somebody", "", "slow", "JSON"},
		"rate":           {"x", "https", "somebody", "TLS", "", "JSON"},
		"schema":         {"x", "https", "somebody", "TLS", "slow", ""},
	} {
		if err := mayOpen([]ownInterface{whole, i}[1:], "x"); core.ReasonOf(err) != "interface-uncontrolled" || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := door("tcp", "127.0.0.1:0", "backdoor"); core.ReasonOf(err) != "interface-undeclared" {
		t.Errorf("a door that nobody declared: %v", err)
	}
	for _, i := range ownInterfaces() {
		if i.lacks() != "" || i.protocol == "" {
			t.Errorf("%s has no %s", i.key, i.lacks())
		}
	}
}

// TestUndeclaredPortIsShut: a port that nobody declared is seen, and nobody
// reaches it any more when the server is alone in its process; one that is not
// alone only says so. What is declared is left alone (CC 4.13).
func TestUndeclaredPortIsShut(t *testing.T) {
	s := opened(t, newHome(t, core.Live, ""))
	defer func() { _ = s.close() }() // the test is over
	ours, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }() // the test is over
	s.addr.Devices = ours.Addr().String()
	strange, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reachable := func(l net.Listener) bool {
		c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
		if err == nil {
			_ = c.Close() // it answered
		}
		return err == nil
	}
	look := func() check.Observation {
		return check.Take(t.Context(), s.rounds.registry.Find("interfaces.declared"), "test", time.Now, checkTime)
	}
	o := look()
	if o.Outcome != check.Fail || o.Findings[0].Subject != strange.Addr().String() {
		t.Fatalf("%s: %+v", o.Outcome, o.Findings)
	}
	if !reachable(strange) {
		t.Error("a port was shut in a process that is not the server's alone")
	}
	s.opt.Alone = true
	if o = look(); o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Text, "it was shut") {
		t.Errorf("%s: %+v", o.Outcome, o.Findings)
	}
	if reachable(strange) || !reachable(ours) {
		t.Errorf("reachable: the undeclared port %v, the declared one %v", reachable(strange), reachable(ours))
	}
	if o = look(); o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Text, "still held") {
		t.Errorf("while it is held: %s: %+v", o.Outcome, o.Findings)
	}
	if err := strange.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range look().Findings {
		if f.Subject == strange.Addr().String() {
			t.Errorf("it is closed: %+v", f)
		}
	}
}

// TestProductInterfaces: who needs no authentication and what is encrypted.
func TestProductInterfaces(t *testing.T) {
	for _, c := range []struct {
		auth, direction, protocol, on string
		known, encrypted              bool
	}{
		{"device-certificate", "out", "mqtts", "", true, true},
		{"none", "out", "ntp", "", true, true},
		{"none", "in", "ntp", "lan", false, true},
		{"", "out", "https", "", false, true},
		{"pairing-code", "in", "ble", "radio", true, true},
		{"owner-code", "in", "http", "lan", true, false},
		{"button", "in", "serial", "cable", true, true},
		{"button", "in", "serial", "lan", true, false},
		{"none", "in", "telnet", "lan", false, false},
		{"owner-code", "in", "", "lan", true, false},
	} {
		if got := authenticates(c.auth, c.direction, c.protocol); got != c.known {
			t.Errorf("%+v: authenticated %v", c, got)
		}
		if got := encrypts(c.protocol, c.on); got != c.encrypted {
			t.Errorf("%+v: encrypted %v", c, got)
		}
	}
}
