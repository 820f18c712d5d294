package telemetry

import (
	"encoding/binary"
	"unicode/utf8"
)

// The scanner of CBOR payloads (RFC 8949). It takes what is well formed
// (appendix C) and has clean UTF-8 in its text. It believes no length: nothing
// is made by one, and each is held against what is left of the payload. It
// goes no deeper than maxDepth, each tag counted as a level.

// The major types (RFC 8949 §3.1).
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// What stands in the five bits beside the major type (§3, §3.2, §3.3).
const (
	infoByte  = 24 // the argument is the next byte; 25, 26, 27: two, four, eight
	infoOpen  = 31 // of unknown length, up to a stop code
	stopCode  = majorSimple<<5 | infoOpen
	cborFalse = majorSimple<<5 | 20
	cborTrue  = majorSimple<<5 | 21
	cborHalf  = majorSimple<<5 | 25
	cborFloat = majorSimple<<5 | 26
	cborWide  = majorSimple<<5 | 27
)

// selfDescribed is the tag that says no more than "this is CBOR" (§3.4.6).
const selfDescribed = "\xd9\xd9\xf7"

// isCBOR tells CBOR from JSON by how a payload begins. An array or a map of
// CBOR begins with a byte that no text in UTF-8 begins with.
func isCBOR(b []byte) bool {
	return len(b) > 0 && b[0]>>6 == 2 || len(b) >= len(selfDescribed) && string(b[:len(selfDescribed)]) == selfDescribed
}

// cborHead reads the head of the item at b[i]: its first byte, its argument and
// where the head ends; -1 when it is not well formed.
func cborHead(b []byte, i int) (first byte, arg uint64, end int) {
	if i >= len(b) {
		return 0, 0, -1
	}
	first = b[i]
	info := first & 31
	i++
	if info < infoByte {
		return first, uint64(info), i
	}
	rest := b[i:]
	switch {
	case info == infoByte && len(rest) >= 1:
		if arg = uint64(rest[0]); first>>5 == majorSimple && arg < 32 {
			return first, 0, -1 // §3.3: two bytes for what fits one
		}
		return first, arg, i + 1
	case info == infoByte+1 && len(rest) >= 2:
		return first, uint64(binary.BigEndian.Uint16(rest)), i + 2
	case info == infoByte+2 && len(rest) >= 4:
		return first, uint64(binary.BigEndian.Uint32(rest)), i + 4
	case info == infoByte+3 && len(rest) >= 8:
		return first, binary.BigEndian.Uint64(rest), i + 8
	case info == infoOpen:
		if major := first >> 5; major >= majorBytes && major <= majorMap {
			return first, 0, i
		}
	}
	return first, 0, -1 // cut off, reserved, or a stop code where none may be
}

// scanCBORText reads the byte or text string whose head, with that first byte
// and argument, ends at i; end is after it, or -1 when it is not well formed or
// its text no UTF-8.
func scanCBORText(b []byte, first byte, arg uint64, i int) (s text, end int) {
	s, end = cutCBORText(b, first, arg, i)
	if end >= 0 && !s.chunked && first>>5 == majorText && !utf8.Valid(s.raw) {
		return s, -1 // RFC 8949 §3.1
	}
	return s, end
}

// cutCBORText is scanCBORText for what need not be looked into: whether it is
// UTF-8 is seen of chunks only.
func cutCBORText(b []byte, first byte, arg uint64, i int) (s text, end int) {
	if first&31 != infoOpen {
		if arg > uint64(len(b)-i) {
			return s, -1
		}
		s.raw = b[i : i+int(arg)]
		return s, i + int(arg)
	}
	from := i
	for i < len(b) {
		if b[i] == stopCode {
			return text{raw: b[from:i], chunked: true}, i + 1
		}
		// §3.2.3: chunks are of the same type and of known length, and each
		// is whole text.
		c, n, head := cborHead(b, i)
		if head < 0 || c>>5 != first>>5 || c&31 == infoOpen {
			return s, -1
		}
		if _, i = scanCBORText(b, c, n, head); i < 0 {
			return s, -1
		}
	}
	return s, -1
}

// joinChunks appends what the chunks say that scanCBORText has found well
// formed.
func joinChunks(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		_, n, head := cborHead(raw, i)
		i = head + int(n)
		dst = append(dst, raw[head:i]...)
	}
	return dst
}

// skipCBOR is the end of the item that begins at b[i], whatever it is; depth is
// how many maps, arrays and tags are open around it.
func skipCBOR(b []byte, i, depth int) (int, Reason) {
	first, arg, i := cborHead(b, i)
	if i < 0 {
		return 0, ReasonNotCBOR
	}
	major := first >> 5
	if major >= majorArray && major <= majorTag && depth >= maxDepth {
		return 0, ReasonTooDeep
	}
	switch major {
	case majorBytes, majorText:
		if _, i = scanCBORText(b, first, arg, i); i < 0 {
			return 0, ReasonNotCBOR
		}
	case majorArray, majorMap:
		return skipCBORNested(b, i, first, arg, depth+1)
	case majorTag:
		return skipCBOR(b, i, depth+1)
	}
	return i, ""
}

// skipCBORNested is the end of the array or map whose head ends at i.
func skipCBORNested(b []byte, i int, first byte, arg uint64, depth int) (int, Reason) {
	items := newItems(first, arg)
	for {
		more, end := items.next(b, i)
		if end < 0 {
			return 0, ReasonNotCBOR
		}
		if !more {
			return end, ""
		}
		var why Reason
		if i, why = skipCBOR(b, i, depth); why != "" {
			return 0, why
		}
		if first>>5 == majorMap {
			if i, why = skipCBOR(b, i, depth); why != "" {
				return 0, why
			}
		}
	}
}

// items counts the items of an array, or the pairs of a map.
type items struct {
	left uint64
	open bool
}

func newItems(first byte, arg uint64) items { return items{arg, first&31 == infoOpen} }

// next reports whether one more begins at b[i]; if not, end is where they end.
// It is -1 when the payload ends before them.
func (n *items) next(b []byte, i int) (more bool, end int) {
	switch {
	case !n.open && n.left == 0:
		return false, i
	case i >= len(b):
		return false, -1
	case n.open:
		if b[i] == stopCode {
			return false, i + 1
		}
		return true, i
	}
	n.left--
	return true, i
}
