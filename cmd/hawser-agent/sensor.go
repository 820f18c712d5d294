package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/device"
)

// sensor is where readings come from. It returns when there are no more.
type sensor func(context.Context, *device.Device) error

func (o *options) sensor(stdin *bufio.Reader, log *slog.Logger) sensor {
	if len(o.sensors) == 0 {
		return func(ctx context.Context, d *device.Device) error { return readLines(ctx, stdin, d, log) }
	}
	return func(ctx context.Context, d *device.Device) error { return o.simulate(ctx, d, log) }
}

// maxLine bounds one line on standard input, in bytes.
const maxLine = 64 << 10

// readLines takes readings from lines "stream {json}". A line that is no
// reading is told and skipped: a sensor with one bad value goes on.
func readLines(ctx context.Context, in *bufio.Reader, d *device.Device, log *slog.Logger) error {
	for n := 1; ctx.Err() == nil; n++ {
		line, err := readLine(in)
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return fmt.Errorf("read standard input: %w", err)
		}
		if err == nil {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			err = sendLine(d, line)
		}
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*device.Error](err); ok && e.Reason != device.BadReading {
			return err
		}
		log.Warn("line is no reading", slog.Int("line", n), slog.Any("err", err))
	}
	return nil
}

var errLongLine = fmt.Errorf("longer than %d bytes", maxLine)

// readLine reads up to the next line break. What is longer than maxLine is
// read to its end and given up.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && (len(line) > 0 || long): // a last line without a break
		case err != nil:
			return nil, err
		}
		if long {
			return nil, errLongLine
		}
		return line, nil
	}
}

func sendLine(d *device.Device, line []byte) error {
	stream, rest, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
	if !ok {
		return errors.New("no reading after the stream's name")
	}
	r, err := parseReading(rest, time.Now())
	if err != nil {
		return err
	}
	return d.Send(stream, r)
}

// parseReading reads a flat JSON object into a typed reading.
func parseReading(text string, now time.Time) (*device.Reading, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	type field struct {
		name  string
		value any
	}
	var fields []field
	at := now
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		value, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // the decoder holds that a key is a string
		if _, nested := value.(json.Delim); nested {
			return nil, fmt.Errorf("field %q is neither number nor text nor true or false", name)
		}
		if name == "t" {
			num, _ := value.(json.Number)
			ms, err := num.Int64()
			if err != nil {
				return nil, errors.New(`"t" is not a whole number of Unix milliseconds`)
			}
			at = time.UnixMilli(ms)
			continue
		}
		fields = append(fields, field{name, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something stands after the JSON object")
	}
	r := device.NewReading(at)
	for _, f := range fields {
		switch v := f.value.(type) {
		case bool:
			r.Bool(f.name, v)
		case string:
			r.String(f.name, v)
		case json.Number:
			if n, err := v.Int64(); err == nil {
				r.Int(f.name, n)
				continue
			}
			x, err := v.Float64()
			if err != nil {
				return nil, fmt.Errorf("field %q: %w", f.name, err)
			}
			r.Float(f.name, x)
		default:
			return nil, fmt.Errorf("field %q is neither number nor text nor true or false", f.name)
		}
	}
	return r, nil
}
