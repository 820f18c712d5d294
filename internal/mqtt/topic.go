package mqtt

import (
	"bytes"
	"unicode/utf8"
)

// validText reports whether b is a UTF-8 string as MQTT wants it: well-formed,
// so no surrogates [MQTT-1.5.4-1], and without U+0000 [MQTT-1.5.4-2].
func validText(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// checkTopicName holds section 4.7 for a topic name: at least one character
// [MQTT-4.7.3-1], no U+0000 [MQTT-4.7.3-2], no wildcard [MQTT-3.3.2-2],
// [MQTT-4.7.1-1].
func checkTopicName(b []byte, limit int) *Error {
	if len(b) == 0 {
		return &Error{Code: TopicNameInvalid, Reason: "topic-empty"}
	}
	if len(b) > limit {
		return &Error{Code: TopicNameInvalid, Reason: "topic-too-long"}
	}
	ascii := true
	for _, c := range b {
		switch {
		case c == 0:
			return malformed("not-utf8")
		case c == '+' || c == '#':
			return &Error{Code: TopicNameInvalid, Reason: "topic-wildcard"}
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.Valid(b) {
		return malformed("not-utf8")
	}
	return nil
}

// checkFilter holds section 4.7 for a topic filter, and for 5.0 section 4.8.2
// for a shared one.
func checkFilter(v Version, b []byte, limit int) *Error {
	if !validText(b) {
		return malformed("not-utf8") // [MQTT-3.8.3-1], [MQTT-4.7.3-2]
	}
	if len(b) > limit {
		return &Error{Code: TopicFilterInvalid, Reason: "filter-too-long"}
	}
	if v == V5 {
		if group, shared := bytes.CutPrefix(b, []byte("$share/")); shared {
			name, rest, found := bytes.Cut(group, []byte{'/'})
			// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
			if !found || len(name) == 0 || bytes.ContainsAny(name, "+#") {
				return &Error{Code: TopicFilterInvalid, Reason: "filter-share"}
			}
			b = rest
		}
	}
	if len(b) == 0 {
		return &Error{Code: TopicFilterInvalid, Reason: "filter-empty"} // [MQTT-4.7.3-1]
	}
	for i, c := range b {
		switch c {
		case '#':
			// [MQTT-4.7.1-1]: a level of its own, and the last.
			if i != len(b)-1 || i > 0 && b[i-1] != '/' {
				return &Error{Code: TopicFilterInvalid, Reason: "filter-wildcard"}
			}
		case '+':
			// [MQTT-4.7.1-2]: a level of its own.
			if i > 0 && b[i-1] != '/' || i < len(b)-1 && b[i+1] != '/' {
				return &Error{Code: TopicFilterInvalid, Reason: "filter-wildcard"}
			}
		}
	}
	return nil
}

// ValidTopic reports whether b can be a topic name that messages are
// published to: UTF-8, not empty, at most 65,535 bytes, without wildcards.
func ValidTopic(b []byte) bool { return checkTopicName(b, 0xffff) == nil }

// ValidFilter reports whether b can be a topic filter in version v.
func ValidFilter(v Version, b []byte) bool { return checkFilter(v, b, 0xffff) == nil }

// Match reports whether topic, a valid topic name, lies under filter, a valid
// filter that is not shared (section 4.7). It allocates nothing.
func Match(filter, topic []byte) bool {
	if len(filter) == 0 || len(topic) == 0 {
		return false
	}
	// [MQTT-4.7.2-1]: a leading wildcard does not match a topic that begins
	// with $.
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, frest, fmore := bytes.Cut(filter, []byte{'/'})
		if len(f) == 1 && f[0] == '#' {
			return true
		}
		l, trest, tmore := bytes.Cut(topic, []byte{'/'})
		if !(len(f) == 1 && f[0] == '+') && !bytes.Equal(f, l) {
			return false
		}
		switch {
		case !fmore && !tmore:
			return true
		case fmore && !tmore:
			// Section 4.7.1.2: "sport/#" also matches "sport".
			return len(frest) == 1 && frest[0] == '#'
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}
