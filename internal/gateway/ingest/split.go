package ingest

import (
	"bytes"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxReadings is how many readings one batch may hold.
const maxReadings = 1000

// form is how readings lie in a body.
type form uint8

const (
	formOne   form = iota + 1 // the body is one message
	formArray                 // one JSON object, or an array of them
	formLines                 // one JSON object a line
)

// split finds the readings of a body and appends them to dst. They lie in the
// body: nothing is copied. Whether each is well-formed is not looked at here,
// only where it ends; one that is not is refused by itself later.
func split(dst [][]byte, f form, body []byte) ([][]byte, error) {
	var err error
	switch f {
	case formOne:
		dst = append(dst, body)
	case formLines:
		dst, err = splitLines(dst, body)
	default:
		dst, err = splitArray(dst, body)
	}
	if err == nil && len(dst) == 0 {
		err = core.E(core.Invalid, "batch-empty", "the batch holds no reading", "send at least one")
	}
	return dst, err
}

func splitLines(dst [][]byte, body []byte) ([][]byte, error) {
	for len(body) > 0 {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if line = bytes.Trim(line, " \t\r"); len(line) == 0 {
			continue
		}
		if len(dst) == maxReadings {
			return nil, tooMany()
		}
		dst = append(dst, line)
	}
	return dst, nil
}

// splitArray finds the values of an array, in one pass. A body that is no array
// is one reading.
func splitArray(dst [][]byte, body []byte) ([][]byte, error) {
	i := space(body, 0)
	if i == len(body) {
		return dst, nil
	}
	if body[i] != '[' {
		return append(dst, body), nil
	}
	if i = space(body, i+1); i < len(body) && body[i] == ']' {
		return dst, after(body, i+1)
	}
	for {
		if len(dst) == maxReadings {
			return nil, tooMany()
		}
		end, ok := value(body, i)
		if !ok {
			return nil, broken()
		}
		dst = append(dst, body[i:end])
		if i = space(body, end); i == len(body) {
			return nil, broken()
		}
		switch body[i] {
		case ',':
			i = space(body, i+1)
		case ']':
			return dst, after(body, i+1)
		default:
			return nil, broken()
		}
	}
}

// value is where the value that begins at i ends.
func value(b []byte, i int) (int, bool) {
	depth, from := 0, i
	for i < len(b) {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i, i > from
			}
			if depth--; depth == 0 {
				return i + 1, true
			}
		case '"':
			end, ok := text(b, i+1)
			if !ok {
				return 0, false
			}
			if i = end; depth == 0 {
				return i, true
			}
			continue
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i, i > from
			}
		}
		i++
	}
	return 0, false
}

// text is where a string ends whose first byte is at i.
func text(b []byte, i int) (int, bool) {
	for {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0, false
		}
		end := i + n
		slashes := 0
		for end-slashes > i && b[end-slashes-1] == '\\' {
			slashes++
		}
		i = end + 1
		if slashes%2 == 0 {
			return i, true
		}
	}
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

func after(b []byte, i int) error {
	if space(b, i) != len(b) {
		return broken()
	}
	return nil
}

func broken() error {
	return core.E(core.Invalid, "batch-json", "the array of readings does not end, or more follows it", "send one JSON array of objects; nothing of this one was stored")
}

func tooMany() error {
	return core.E(core.TooLarge, "batch-readings", "the batch holds more than 1,000 readings", "send smaller batches; nothing of this one was stored")
}
