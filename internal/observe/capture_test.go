package observe

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// segment is a piece of what one side of a connection sends.
type segment struct {
	port    uint16 // of the client
	back    bool   // the broker's
	syn     bool
	at      uint32 // in the stream
	payload []byte
}

// capture writes segments as a pcap file, a millisecond apart.
func capture(t testing.TB, all []segment) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IPv4(192, 0, 2, 1), DstIP: net.IPv4(192, 0, 2, 2)}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: 1883, Seq: 1000 + s.at, SYN: s.syn, ACK: !s.syn || s.back, Window: 65535}
		if !s.syn {
			tcp.Seq++
		}
		if s.back {
			ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
			tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
		}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		out := gopacket.NewSerializeBuffer()
		eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
		if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(s.payload)); err != nil {
			t.Fatal(err)
		}
		info := gopacket.CaptureInfo{Timestamp: dawn.Add(time.Duration(i) * time.Millisecond), CaptureLength: len(out.Bytes()), Length: len(out.Bytes())}
		if err := w.WritePacket(info, out.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func connect(t testing.TB, v mqtt.Version) []byte {
	t.Helper()
	b, err := mqtt.Append(nil, v, &mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: v, CleanStart: true, ClientID: []byte("c"), KeepAlive: 60}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publish(t testing.TB, v mqtt.Version, topic, payload string, alias uint32) []byte {
	t.Helper()
	p := &mqtt.Packet{Type: mqtt.PUBLISH, Topic: []byte(topic), Payload: []byte(payload)}
	if alias > 0 {
		p.Props.SetNumber(mqtt.PropTopicAlias, alias)
	}
	b, err := mqtt.Append(nil, v, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cut splits bytes into segments of a size, after a handshake.
func cut(port uint16, b []byte, size int) []segment {
	out := []segment{{port: port, syn: true}, {port: port, syn: true, back: true}}
	for at := 0; at < len(b); at += size {
		out = append(out, segment{port: port, at: uint32(at), payload: b[at:min(len(b), at+size)]})
	}
	return out
}

// TestCapture: what clients published is read out of captured packets, also
// when they are split, out of order and sent twice; and what cannot be read is
// counted.
func TestCapture(t *testing.T) {
	old := slices.Concat(connect(t, mqtt.V311), publish(t, mqtt.V311, "lamps/unit-01/state", `{"level":1}`, 0), publish(t, mqtt.V311, "lamps/unit-01/state", `{"level":2}`, 0))
	five := slices.Concat(connect(t, mqtt.V5), publish(t, mqtt.V5, "gate/unit-02/state", `{"open":true}`, 7), publish(t, mqtt.V5, "", `{"open":false}`, 7))
	disorder := cut(2001, five, 9)
	disorder[3], disorder[4] = disorder[4], disorder[3]
	disorder = slices.Insert(disorder, 6, disorder[5]) // sent twice
	lost := cut(2002, slices.Concat(connect(t, mqtt.V311), publish(t, mqtt.V311, "lost/unit-03/state", `{"a":1}`, 0)), 8)
	lost = slices.Delete(lost, 3, 4)
	var all []segment
	all = append(all, cut(2000, old, 5)...)
	all = append(all, disorder...)
	all = append(all, lost...)
	all = append(all, cut(2003, []byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}, 100)...)
	all = append(all, segment{port: 2004, at: 50, payload: publish(t, mqtt.V311, "late/unit-04/state", `{"a":1}`, 0)})
	all = append(all, segment{port: 2000, back: true, payload: publish(t, mqtt.V311, "echo/unit-01/state", `{"a":1}`, 0)})
	all = append(all, cut(2005, []byte("GET / HTTP/1.1\r\n\r\n"), 100)...)
	var got []string
	stats, err := ReadCapture(t.Context(), bytes.NewReader(capture(t, all)), func(topic string, payload []byte, at time.Time) {
		if at.Before(dawn) || at.After(dawn.Add(time.Second)) {
			t.Errorf("%s came at %s", topic, at)
		}
		got = append(got, topic+" "+string(payload))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`lamps/unit-01/state {"level":1}`, `lamps/unit-01/state {"level":2}`, `gate/unit-02/state {"open":true}`, `gate/unit-02/state {"open":false}`}
	if !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
	if stats.Packets != uint64(len(all)) || stats.Flows != 6 || stats.MQTT != 2 || stats.Encrypted != 1 || stats.Unbegun != 1 || stats.Broken != 1 {
		t.Errorf("%+v", stats)
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("this is no capture"), "a header alone": capture(t, nil)[:20]} {
		if _, err := ReadCapture(t.Context(), bytes.NewReader(b), nil); core.KindOf(err) != core.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := ReadCapture(ended, bytes.NewReader(capture(t, all)), nil); err == nil {
		t.Error("it goes on after it was stopped")
	}
}

func FuzzCapture(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		f.Add(capture(f, cut(2000, slices.Concat(connect(f, v), publish(f, v, "a/unit-01", `{"b":1}`, 0)), 11)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		stats, err := ReadCapture(t.Context(), bytes.NewReader(b), func(string, []byte, time.Time) { n++ })
		if n > 0 && stats.MQTT == 0 && err == nil {
			t.Errorf("%d messages of no connection", n)
		}
		_ = fmt.Sprint(stats)
	})
}
