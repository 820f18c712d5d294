package mqtt

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func wideLimits() *Limits {
	return &Limits{MaxPacket: 1 << 22, MaxTopic: 0xffff, MaxClientID: 0xffff, MaxFilters: 1 << 20, MaxUserProps: 1 << 20}
}

// TestAppendThenDecode: whatever Append writes, Decode reads back the same.
func TestAppendThenDecode(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		seen := map[Type]int{}
		var got Packet // reused, as a connection does
		for seed := range uint64(6000) {
			want := randomPacket(rand.New(rand.NewPCG(seed, uint64(v))), v)
			seen[want.Type]++
			b, err := Append([]byte("before"), v, want)
			if err != nil {
				t.Fatalf("seed %d: append %s: %v", seed, describe(want), err)
			}
			b, ok := bytes.CutPrefix(b, []byte("before"))
			if !ok {
				t.Fatalf("seed %d: what stood before is gone", seed)
			}
			if n, err := Frame(append(b, 0xff), 1<<22); n != len(b) || err != nil {
				t.Fatalf("seed %d: frame of %s is %d, %v, want %d", seed, want.Type, n, err, len(b))
			}
			if err := Decode(&got, v, b, wideLimits()); err != nil {
				t.Fatalf("seed %d: decode %s: %v", seed, describe(want), err)
			}
			if g, w := describe(&got), describe(want); g != w {
				t.Fatalf("seed %d:\n got %s\nwant %s", seed, g, w)
			}
		}
		for ty := CONNECT; ty <= DISCONNECT; ty++ {
			if seen[ty] < 100 {
				t.Errorf("MQTT %s: only %d packets of type %s were tried", v, seen[ty], ty)
			}
		}
	}
}

// TestTruncatedAlwaysRefused: no packet with its end cut off decodes, and none
// makes the decoder read past the end.
func TestTruncatedAlwaysRefused(t *testing.T) {
	var p Packet
	for _, v := range []Version{V311, V5} {
		for seed := range uint64(400) {
			whole, err := Append(nil, v, randomPacket(rand.New(rand.NewPCG(seed, 99)), v))
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(whole) {
				cut := bytes.Clone(whole[:n]) // its own memory, so that a read past the end is seen
				if err := Decode(&p, v, cut, wideLimits()); err == nil {
					t.Fatalf("seed %d: %d of %d bytes decode as %s", seed, n, len(whole), describe(&p))
				}
				if got, err := Frame(cut, 1<<22); got != 0 || err != nil {
					t.Fatalf("seed %d: frame of %d of %d bytes is %d, %v", seed, n, len(whole), got, err)
				}
			}
		}
	}
}

// TestReuseLeavesNothing: a packet decoded into a used Packet is the same as
// into a new one.
func TestReuseLeavesNothing(t *testing.T) {
	var used Packet
	for seed := range uint64(3000) {
		v := V5
		if seed%3 == 0 {
			v = V311
		}
		b, err := Append(nil, v, randomPacket(rand.New(rand.NewPCG(seed, 5)), v))
		if err != nil {
			t.Fatal(err)
		}
		var fresh Packet
		if err := Decode(&fresh, v, b, wideLimits()); err != nil {
			t.Fatal(err)
		}
		if err := Decode(&used, v, b, wideLimits()); err != nil {
			t.Fatal(err)
		}
		if g, w := describe(&used), describe(&fresh); g != w {
			t.Fatalf("seed %d:\n used %s\nfresh %s", seed, g, w)
		}
	}
}

// TestQuickFormsAgree: the cheap writers write what Append writes.
func TestQuickFormsAgree(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for _, c := range []struct {
			name string
			got  []byte
			want *Packet
		}{
			{"puback", AppendPuback(nil, v, 77, Success), packet(PUBACK, func(p *Packet) { p.ID = 77 })},
			{"pubrec", AppendPubrec(nil, v, 77, Success), packet(PUBREC, func(p *Packet) { p.ID = 77 })},
			{"pubrel", AppendPubrel(nil, v, 77, Success), packet(PUBREL, func(p *Packet) { p.ID = 77 })},
			{"pubcomp", AppendPubcomp(nil, v, 77, Success), packet(PUBCOMP, func(p *Packet) { p.ID = 77 })},
			{"pingreq", AppendPingreq(nil), packet(PINGREQ, func(*Packet) {})},
			{"pingresp", AppendPingresp(nil), packet(PINGRESP, func(*Packet) {})},
			{"disconnect", AppendDisconnect(nil, v, Success), packet(DISCONNECT, func(*Packet) {})},
		} {
			want, err := Append(nil, v, c.want)
			if err != nil || !bytes.Equal(c.got, want) {
				t.Errorf("MQTT %s %s: got %x, want %x, %v", v, c.name, c.got, want, err)
			}
		}
		for _, qos := range []QoS{0, 1, 2} {
			got, err := AppendPublish(nil, v, []byte("a/b"), []byte("xyz"), qos, 9)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Append(nil, v, packet(PUBLISH, func(p *Packet) {
				p.Topic, p.Payload, p.QoS, p.ID = []byte("a/b"), []byte("xyz"), qos, 9
			}))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("MQTT %s publish at QoS %d: got %x, want %x, %v", v, qos, got, want, err)
			}
		}
	}
	refused, err := Append(nil, V5, packet(PUBACK, func(p *Packet) { p.ID, p.Code = 5, PayloadFormatInvalid }))
	if got := AppendPuback(nil, V5, 5, PayloadFormatInvalid); err != nil || !bytes.Equal(got, refused) {
		t.Errorf("refusing puback: got %x, want %x, %v", got, refused, err)
	}
	bye, err := Append(nil, V5, packet(DISCONNECT, func(p *Packet) { p.Code = QuotaExceeded }))
	if got := AppendDisconnect(nil, V5, QuotaExceeded); err != nil || !bytes.Equal(got, bye) {
		t.Errorf("disconnect: got %x, want %x, %v", got, bye, err)
	}
	if got := AppendPuback(nil, V311, 5, PayloadFormatInvalid); !bytes.Equal(got, []byte{0x40, 2, 0, 5}) {
		t.Errorf("3.1.1 puback with a code: %x", got)
	}
}

func TestAppendConnack(t *testing.T) {
	var props Properties
	props.SetNumber(PropReceiveMaximum, 32)
	for _, c := range []struct {
		v     Version
		code  ReasonCode
		s     SessionState
		props *Properties
		want  []byte
	}{
		{V5, Success, NewSession, nil, []byte{0x20, 3, 0, 0, 0}},
		{V5, Success, KeptSession, &props, []byte{0x20, 6, 1, 0, 3, 0x21, 0, 32}},
		{V5, NotAuthorized, KeptSession, nil, []byte{0x20, 3, 0, 0x87, 0}},
		{V311, Success, KeptSession, nil, []byte{0x20, 2, 1, 0}},
		{V311, NotAuthorized, KeptSession, nil, []byte{0x20, 2, 0, 5}},
		{V311, UnsupportedProtocolVersion, NewSession, nil, []byte{0x20, 2, 0, 1}},
		{V311, ClientIDNotValid, NewSession, nil, []byte{0x20, 2, 0, 2}},
		{V311, ServerBusy, NewSession, nil, []byte{0x20, 2, 0, 3}},
		{V311, BadUserNameOrPassword, NewSession, nil, []byte{0x20, 2, 0, 4}},
	} {
		got, err := AppendConnack(nil, c.v, c.code, c.s, c.props)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("AppendConnack(%s, %#x, %d) = %x, %v, want %x", c.v, c.code, c.s, got, err, c.want)
		}
	}
	if _, err := AppendConnack(nil, V311, Success, NewSession, &props); err == nil {
		t.Error("a 3.1.1 CONNACK took properties")
	}
}

// FuzzDecode: no input panics; what decodes can be written again and then
// means the same; a 3.1.1 or 5.0 refusal always has a code and a reason.
func FuzzDecode(f *testing.F) {
	for _, v := range []Version{V311, V5} {
		for seed := range uint64(60) {
			b, err := Append(nil, v, randomPacket(rand.New(rand.NewPCG(seed, 1)), v))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(v), b)
		}
	}
	for _, c := range malformedCases() {
		f.Add(uint8(c.v), c.in)
	}
	var p, q Packet
	f.Fuzz(func(t *testing.T, version uint8, b []byte) {
		v := V5
		if version%2 == 0 {
			v = V311
		}
		if n, err := Frame(b, 1<<22); err == nil && n > 0 {
			b = b[:n]
		}
		l := wideLimits()
		l.From = Sender(version / 2 % 3)
		if err := Decode(&p, v, b, l); err != nil {
			e, ok := err.(*Error)
			if !ok || e.Code < 0x80 || e.Reason == "" {
				t.Fatalf("error without code or reason: %#v", err)
			}
			return
		}
		again, err := Append(nil, v, &p)
		if err != nil {
			t.Fatalf("decoded %s\nbut append says %v", describe(&p), err)
		}
		if err := Decode(&q, v, again, l); err != nil {
			t.Fatalf("decoded %s\nbut what append wrote does not decode: %v", describe(&p), err)
		}
		if a, b := describe(&p), describe(&q); a != b {
			t.Fatalf("first  %s\nsecond %s", a, b)
		}
		once, err := Append(nil, v, &q)
		if err != nil || !bytes.Equal(once, again) {
			t.Fatalf("append is not stable: %x then %x, %v", again, once, err)
		}
	})
}

// FuzzStream cuts bytes into packets as a connection does, with the limits a
// door sets: it must end, and never give a packet over the limit.
func FuzzStream(f *testing.F) {
	b, err := Append(nil, V5, randomPacket(rand.New(rand.NewPCG(1, 1)), V5))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b, 0xc0, 0, 0xe0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		l := Limits{MaxPacket: 256, From: Client}
		for len(b) > 0 {
			n, err := Frame(b, l.MaxPacket)
			if err != nil || n == 0 {
				return
			}
			if n > l.MaxPacket || n > len(b) {
				t.Fatalf("frame of %d bytes out of %d, limit %d", n, len(b), l.MaxPacket)
			}
			if err := Decode(&p, V5, b[:n], &l); err != nil {
				return
			}
			b = b[n:]
		}
	})
}
