// Package mqtt turns bytes into MQTT packets and packets into bytes, for
// MQTT 5.0 (OASIS Standard, 7 March 2019) and MQTT 3.1.1 (OASIS Standard,
// 29 October 2014), in both directions. It holds no sockets, sessions or
// clocks.
//
// It is strict: what the standard calls malformed or a protocol error is an
// *Error with the reason code that MQTT 5 gives it, and statements are cited
// where they are obeyed ("[MQTT-3.1.2-3]" is of 5.0; "3.1.1:" marks the other
// one). It is bounded by construction: every length is checked against what
// is there before it is used, every list has a limit, and decoding a PUBLISH
// allocates nothing. Decoded byte slices alias the input, so they live as
// long as the buffer does.
//
// A reader collects bytes until Frame says that a whole packet is there, then
// decodes exactly these bytes:
//
//	n, err := mqtt.Frame(buf, limits.MaxPacket)
//	// n == 0: read more; err != nil: close
//	err = mqtt.Decode(&packet, version, buf[:n], &limits)
//
// Not here, because it takes a session or the payload to decide: whether a
// topic alias is known, whether a payload marked as UTF-8 is UTF-8, and
// whether a packet may come now.
package mqtt
