package observe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// Bounds of what reading a capture holds at a time.
const (
	maxCapturedPacket = 256 << 10 // MQTT packets; a longer one ends its connection
	maxCapturedFlows  = 100_000
	maxPagesInAll     = 64 << 10 // of 1,900 bytes, that wait for what was lost
	maxPagesOfOne     = 64
	idleFlow          = 5 * time.Minute // of the capture's own time
	flushEvery        = 10_000          // packets
	maxAliases        = 256
)

// Captured is what a capture was made of, so that nobody takes what could not
// be read for what was not sent.
type Captured struct {
	Packets   uint64 `json:"packets"`
	Flows     uint64 `json:"connections"`
	MQTT      uint64 `json:"mqtt"`      // connections that were read
	Encrypted uint64 `json:"encrypted"` // with TLS: nothing in them can be read
	Unbegun   uint64 `json:"unbegun"`   // already open when the capture began: their version is not known
	Broken    uint64 `json:"broken"`    // packets of them are missing, or they are not MQTT to their end
}

// ReadCapture reads MQTT out of a file of captured packets, pcap or pcapng, and
// hands out what clients published, each with the time at which it was seen. It
// holds no more than one packet of MQTT of a connection.
func ReadCapture(ctx context.Context, file io.Reader, take func(topic string, payload []byte, at time.Time)) (Captured, error) {
	src, link, err := packets(file)
	if err != nil {
		return Captured{}, err
	}
	f := &flows{take: take}
	pool := reassembly.NewStreamPool(f)
	a := reassembly.NewAssembler(pool)
	a.MaxBufferedPagesTotal, a.MaxBufferedPagesPerConnection = maxPagesInAll, maxPagesOfOne
	for {
		if f.out.Packets%flushEvery == 0 && ctx.Err() != nil {
			return f.out, ctx.Err()
		}
		data, info, err := src.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // a capture that is still written ends anywhere
		}
		if err != nil {
			return f.out, core.E(core.Invalid, "capture", fmt.Sprintf("packet %d cannot be read: %v", f.out.Packets+1, err), "is the file whole?")
		}
		f.out.Packets++
		if f.out.Packets%flushEvery == 0 {
			a.FlushCloseOlderThan(info.Timestamp.Add(-idleFlow))
		}
		p := gopacket.NewPacket(data, link(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		tcp, ok := p.TransportLayer().(*layers.TCP)
		if !ok || p.NetworkLayer() == nil {
			continue
		}
		a.AssembleWithContext(p.NetworkLayer().NetworkFlow(), tcp, seen(info))
	}
	a.FlushAll()
	return f.out, nil
}

// packets opens either kind of file.
func packets(file io.Reader) (gopacket.PacketDataSource, func() layers.LinkType, error) {
	b := bufio.NewReaderSize(file, 1<<20)
	magic, err := b.Peek(4)
	if err == nil && bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		r, err := pcapgo.NewNgReader(b, pcapgo.NgReaderOptions{})
		if err == nil {
			return r, r.LinkType, nil
		}
	} else if err == nil {
		r, err := pcapgo.NewReader(b)
		if err == nil {
			return r, r.LinkType, nil
		}
	}
	return nil, nil, core.E(core.Invalid, "capture", "this is no file of captured packets", "give a pcap or pcapng file, as tcpdump -w and Wireshark write it")
}

// seen is when a packet was captured.
type seen gopacket.CaptureInfo

// GetCaptureInfo is for the assembler.
func (s seen) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo(s) }

// flows makes a flow of each connection.
type flows struct {
	take func(topic string, payload []byte, at time.Time)
	out  Captured
	open int
}

// New is for the assembler.
func (f *flows) New(_, _ gopacket.Flow, tcp *layers.TCP, _ reassembly.AssemblerContext) reassembly.Stream {
	f.out.Flows++
	f.open++
	w := &flow{of: f}
	if f.open > maxCapturedFlows {
		w.done = true
		f.out.Broken++
	} else if !tcp.SYN || tcp.ACK {
		w.done = true
		f.out.Unbegun++
	}
	return w
}

// flow is one connection. Only what its client sends is looked at: what the
// broker hands on is the same again.
type flow struct {
	of      *flows
	done    bool
	begun   bool // a CONNECT came
	version mqtt.Version
	held    []byte // of a packet that is not whole
	packet  mqtt.Packet
	aliases map[uint64]string
}

// Accept is for the assembler.
func (w *flow) Accept(_ *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, _ reassembly.Sequence, _ *bool, _ reassembly.AssemblerContext) bool {
	return !w.done
}

// ReassemblyComplete is for the assembler.
func (w *flow) ReassemblyComplete(reassembly.AssemblerContext) bool {
	w.held, w.aliases = nil, nil
	w.of.open--
	return true
}

// ReassembledSG takes what came next in one direction.
func (w *flow) ReassembledSG(sg reassembly.ScatterGather, ac reassembly.AssemblerContext) {
	dir, _, _, skip := sg.Info()
	if w.done || dir != reassembly.TCPDirClientToServer {
		return
	}
	if skip > 0 {
		w.breaks()
		return
	}
	n, _ := sg.Lengths()
	w.held = append(w.held, sg.Fetch(n)...)
	if !w.begun && len(w.held) > 0 {
		switch {
		case w.held[0] == 0x16: // a TLS handshake (RFC 8446 §5.1)
			w.of.out.Encrypted++
			w.end()
			return
		case w.held[0]>>4 != byte(mqtt.CONNECT):
			w.end() // something else, of no interest here
			return
		}
	}
	w.read(ac.GetCaptureInfo().Timestamp)
}

func (w *flow) end() { w.done, w.held = true, nil }

func (w *flow) breaks() {
	w.of.out.Broken++
	w.end()
}

// read takes whole packets off what is held.
func (w *flow) read(at time.Time) {
	limits := mqtt.Limits{MaxPacket: maxCapturedPacket, MaxUserProps: 64, MaxClientID: 1024}
	rest := w.held
	for {
		n, err := mqtt.Frame(rest, maxCapturedPacket)
		if err != nil {
			w.breaks()
			return
		}
		if n == 0 {
			break
		}
		if err := mqtt.Decode(&w.packet, w.version, rest[:n], &limits); err != nil {
			w.breaks()
			return
		}
		rest = rest[n:]
		switch w.packet.Type {
		case mqtt.CONNECT:
			if w.begun {
				w.breaks()
				return
			}
			w.begun, w.version = true, w.packet.Connect.Version
			w.of.out.MQTT++
		case mqtt.PUBLISH:
			if topic := w.topic(); topic != "" {
				w.of.take(topic, w.packet.Payload, at)
			}
		}
	}
	w.held = append(w.held[:0], rest...)
}

// topic is a PUBLISH's own, or the one that its alias stands for (MQTT 5.0
// section 3.3.2.3.4).
func (w *flow) topic() string {
	alias, has := w.packet.Props.Number(mqtt.PropTopicAlias)
	name := string(w.packet.Topic)
	if w.version != mqtt.V5 || !has {
		return name
	}
	if name == "" {
		return w.aliases[uint64(alias)]
	}
	if w.aliases == nil {
		w.aliases = map[uint64]string{}
	}
	if len(w.aliases) < maxAliases {
		w.aliases[uint64(alias)] = name
	}
	return name
}
