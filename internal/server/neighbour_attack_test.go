package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestNeighboursAreUnreachable: with one device's certificate, wildcards and
// 10,000 other ids give nothing to read and nothing to write, however the
// topic is written (CC 3.6).
func TestNeighboursAreUnreachable(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	victims := map[core.DeviceID]*mqttClient{}
	for _, id := range []core.DeviceID{"victim-0", "victim-5000", "victim-9999"} {
		victims[id] = dialMQTT(t, l, l.enrol(t, id))
	}
	thief := l.enrol(t, "thief")
	c := dialMQTT(t, l, thief)
	heard := make(chan string, 1000)
	c.c.AddOnPublishReceived(func(p paho.PublishReceived) (bool, error) {
		heard <- p.Packet.Topic + " " + string(p.Packet.Payload)
		return true, nil
	})
	subscribe := func(filters []string) (granted []string) {
		t.Helper()
		var subs []paho.SubscribeOptions
		for _, f := range filters {
			subs = append(subs, paho.SubscribeOptions{Topic: f, QoS: 1})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ack, err := c.c.Subscribe(ctx, &paho.Subscribe{Subscriptions: subs})
		if ack == nil {
			t.Fatalf("subscribe %s…: %v", filters[0], err)
		}
		for i, code := range ack.Reasons {
			if code < 0x80 {
				granted = append(granted, filters[i])
			}
		}
		return granted
	}
	wild := []string{
		"#", "+/#", "devices/#", "devices/+/telemetry/#", "devices/+/refused", "telemetry/#", "+/telemetry/climate",
		"$SYS/#", "$aws/#", "$aws/things/+/defender/#", "devices/thief/../victim-0/#", "devices//victim-0/#",
	}
	if got := subscribe(wild); len(got) != 0 {
		t.Errorf("wildcards granted: %v", got)
	}
	const others, page = 10_000, 8
	readable := 0
	forms := []string{"devices/victim-%d/refused", "devices/victim-%d/command/#", "$aws/things/victim-%d/#", "devices/victim-%d/telemetry/climate"}
	for i := 0; i < others; i += page {
		var filters []string
		for j := i; j < min(i+page, others); j++ {
			filters = append(filters, fmt.Sprintf(forms[j%len(forms)], j))
		}
		readable += len(subscribe(filters))
	}
	if readable != 0 {
		t.Errorf("%d of %d other ids readable, want 0", readable, others)
	}
	// The must: its own are granted, in both spellings.
	if got := subscribe([]string{"refused", "devices/thief/refused", "command/#"}); len(got) != 3 {
		t.Errorf("of its own only %v granted", got)
	}
	for id, v := range victims {
		v.publish(t, "telemetry/climate", `{"temp":20}`)
		if code, err := v.try("telemetry/climate", `{"temp":2000}`); code != 0x99 {
			t.Errorf("%s: 0x%02x, %v", id, code, err) // a refusal, of which the thief must not hear
		}
	}
	// Writing: every form of another's topic is refused, and stored nowhere.
	for i, topic := range []string{"devices/victim-0/telemetry/climate", "$aws/things/victim-0/defender/metrics/json", "devices/victim-0/state"} {
		if code, _ := c.try(topic, `{"temp":66}`); code != 0x87 {
			t.Errorf("form %d, %s: 0x%02x, want 0x87", i, topic, code)
		}
	}
	for id := range victims {
		lines, err := l.readAll(t, id)
		if err != nil || len(lines) != 1 || string(lines[0].Values) != `{"temp":20}` {
			t.Errorf("%s: %v %v", id, lines, err)
		}
	}
	// What it hears is why its own messages were refused, and nothing else.
	own := 0
	for quiet := time.After(300 * time.Millisecond); ; {
		select {
		case m := <-heard:
			if !strings.HasPrefix(strings.TrimPrefix(m, "devices/thief/"), "refused ") || !strings.Contains(m, `"reason":"wrong-topic"`) {
				t.Errorf("the thief heard %s", m)
			}
			own++
			continue
		case <-quiet:
		}
		break
	}
	if own == 0 {
		t.Error("the device does not hear why it was refused: then its silence about others proves nothing")
	}
}

// TestLayerKnockOut: one layer after the other is taken away, and the next one
// holds and is seen to hold (CC 1.8): a stolen certificate passes identity and
// still cannot name another, exceed a rate, or send odd data unnoticed; a copy
// of the disk opens nothing.
func TestLayerKnockOut(t *testing.T) {
	const slow = "  climate: {every: 1h, burst: 3, max_bytes: 512, on_bad: field}\n"
	l := start(t, newHome(t, core.Test, ""))
	fast := "  climate: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}\n"
	if !strings.Contains(testDeclaration, fast) {
		t.Fatal("the declaration's stream is written differently")
	}
	l.publish(t, strings.Replace(testDeclaration, fast, slow, 1))
	victim := dialMQTT(t, l, l.enrol(t, "victim"))
	victim.publish(t, "telemetry/climate", `{"temp":20,"note":"at-home"}`)
	stolen := l.enrol(t, "stolen") // layer 1, identity, is gone: the thief has key and certificate

	c := dialMQTT(t, l, stolen)
	// Layer 2, authority.
	if code, _ := c.try("devices/victim/telemetry/climate", `{"temp":66}`); code != 0x87 {
		t.Errorf("a neighbour's topic: 0x%02x", code)
	}
	// Layer 3, the declaration: odd data is dropped or refused, and counted.
	c.publish(t, "telemetry/climate", `{"temp":21,"exfiltrated":"AAAA"}`)
	if code, _ := c.try("telemetry/climate", `{"exfiltrated":"AAAA"}`); code != 0x99 {
		t.Errorf("only odd data: 0x%02x", code)
	}
	// Layer 4, the rate.
	refused := 0
	for range 20 {
		if code, err := c.try("telemetry/climate", `{"temp":22}`); code == 0x97 {
			refused++
		} else if err != nil && code == 0 {
			break // cut off for the flood: that is the layer, too
		}
	}
	if refused == 0 {
		t.Error("20 messages of a stream that takes 3 an hour: none refused")
	}
	lines, err := l.readAll(t, "stolen")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) > 3 {
		t.Errorf("%d readings stored of a burst of 3", len(lines))
	}
	for _, x := range lines {
		if strings.Contains(string(x.Values), "exfil") {
			t.Errorf("stored: %s", x.Values)
		}
	}
	counts := l.device(t, "stolen").Counts
	if counts.DroppedFields == 0 || counts.Refused["rate"] == 0 || counts.Refused["wrong-topic"] == 0 || counts.Refused["nothing-left"] == 0 {
		t.Errorf("went unnoticed: %+v", counts)
	}
	if f := l.finding(t, "collection"); f == "" {
		t.Error("doctor is silent about undeclared fields")
	}
	if lines, err := l.readAll(t, "victim"); err != nil || len(lines) != 1 {
		t.Errorf("the victim: %d readings, %v", len(lines), err)
	}
	// Layer 5, encryption: the disk of DATA alone.
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if files, hits := found(t, "at-home", l.home+"/data"); files < 5 || hits != 0 {
		t.Errorf("%d of %d files open without a key", hits, files)
	}
}
