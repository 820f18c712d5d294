package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/device"
)

// prank is one thing that a server must not let pass, or must make harmless.
type prank struct {
	what string
	play func(ctx context.Context) (code uint8, err error)
}

// misbehave plays every prank in turn, on the streams and fields of s. It uses
// the same library and the same identity as the honest readings beside it.
func (o *options) misbehave(ctx context.Context, s simulated, d *device.Device, log *slog.Logger) error {
	pranks := o.pranks(s, d)
	// Most pranks need a session; the first one takes a moment.
	for !d.Status().Connected {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	for n := 0; o.Count == 0 || n < o.Count; n++ {
		p := pranks[n%len(pranks)]
		code, err := p.play(ctx)
		attrs := []any{slog.String("what", p.what)}
		if code != 0 {
			attrs = append(attrs, slog.String("answer", fmt.Sprintf("0x%02x", code)))
		}
		if err != nil {
			attrs = append(attrs, slog.Any("err", err))
		}
		log.Info("misbehaved", attrs...)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
	return nil
}

// flood is how many messages come at once.
const flood = 200

func (o *options) pranks(s simulated, d *device.Device) []prank {
	topic := "telemetry/" + s.stream
	raw := func(ctx context.Context, topic, payload string) (uint8, error) {
		// An answer may never come: a server that cuts the session has said enough.
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return d.PublishRaw(ctx, topic, []byte(payload))
	}
	good := s.fields[0].example()
	return []prank{
		{"undeclared fields beside a declared one", func(context.Context) (uint8, error) {
			r := device.NewReading(time.Now()).String("wifi_ssid", "home-network").Float("latitude", 52.3702157).Float("longitude", 4.8951679)
			s.fields[0].add(r)
			return 0, d.Send(s.stream, r)
		}},
		{"only undeclared fields", func(context.Context) (uint8, error) {
			return 0, d.Send(s.stream, device.NewReading(time.Now()).String("contacts", "anna, ben"))
		}},
		{"an out-of-range value", func(context.Context) (uint8, error) {
			r := device.NewReading(time.Now())
			for _, f := range s.fields {
				f.spoil(r)
			}
			return 0, d.Send(s.stream, r)
		}},
		{"a stream that is not declared", func(context.Context) (uint8, error) {
			return 0, d.Send("microphone", device.NewReading(time.Now()).String("audio", "UklGRiQAAABXQVZF"))
		}},
		{"a wild clock", func(ctx context.Context) (uint8, error) {
			if code, err := raw(ctx, topic, fmt.Sprintf(`{"t":%d,%s}`, time.Now().AddDate(40, 0, 0).UnixMilli(), good)); err != nil || code != 0 {
				return code, err
			}
			return raw(ctx, topic, fmt.Sprintf(`{"t":315532800000,%s}`, good)) // 1980
		}},
		{"a name twice", func(ctx context.Context) (uint8, error) {
			return raw(ctx, topic, fmt.Sprintf(`{%s,%s}`, good, good))
		}},
		{"no JSON", func(ctx context.Context) (uint8, error) { return raw(ctx, topic, `{"room_temperature": NaN`) }},
		{fmt.Sprintf("a flood of %d messages", flood), func(context.Context) (uint8, error) {
			for range flood {
				r := device.NewReading(time.Now())
				s.fields[0].add(r)
				if err := d.Send(s.stream, r); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}},
		{"another device's topic", func(ctx context.Context) (uint8, error) {
			return raw(ctx, "devices/"+o.Neighbour+"/"+topic, fmt.Sprintf(`{%s}`, good))
		}},
	}
}

// add puts a good value of the field into r.
func (f simField) add(r *device.Reading) {
	switch {
	case f.flag:
		r.Bool(f.name, true)
	case f.texts != nil:
		r.String(f.name, f.texts[0])
	default:
		r.Float(f.name, f.low)
	}
}

// spoil puts a value into r that no declaration of the field allows: a number
// of another order, or another type.
func (f simField) spoil(r *device.Reading) {
	if f.flag || f.texts != nil {
		r.Float(f.name, -1)
		return
	}
	r.Float(f.name, 1e9+f.high)
}

// example is a good value of the field as it stands in a message.
func (f simField) example() string {
	switch {
	case f.flag:
		return fmt.Sprintf("%q:true", f.name)
	case f.texts != nil:
		return fmt.Sprintf("%q:%q", f.name, f.texts[0])
	default:
		return fmt.Sprintf("%q:%g", f.name, f.low)
	}
}
