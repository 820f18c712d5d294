package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/device"
)

// simulated is a made-up sensor of one stream.
type simulated struct {
	stream string
	fields []simField
}

// simField is one made-up field: a number that wanders between two ends, one
// of several texts, or true and false.
type simField struct {
	name           string
	low, high, per float64 // per: the finest step; 0: none
	texts          []string
	flag           bool
}

const thermostat = "climate room_temperature=19.5..22.5/0.1 heating_on=bool"

// parseSimulated reads "stream field=low..high[/step] field=bool field=a|b".
func parseSimulated(spec string) (simulated, error) {
	if spec == "thermostat" {
		spec = thermostat
	}
	words := strings.Fields(spec)
	if len(words) < 2 {
		return simulated{}, fmt.Errorf("%q is not a stream and its fields", spec)
	}
	s := simulated{stream: words[0]}
	for _, w := range words[1:] {
		name, what, ok := strings.Cut(w, "=")
		if !ok || name == "" || what == "" {
			return s, fmt.Errorf("%q is not field=low..high, field=bool or field=a|b", w)
		}
		f := simField{name: name}
		if low, high, ok := strings.Cut(what, ".."); ok {
			high, per, stepped := strings.Cut(high, "/")
			var errs [3]error
			f.low, errs[0] = strconv.ParseFloat(low, 64)
			f.high, errs[1] = strconv.ParseFloat(high, 64)
			if stepped {
				f.per, errs[2] = strconv.ParseFloat(per, 64)
			}
			if errors.Join(errs[:]...) != nil || !(f.low <= f.high) || f.per < 0 || math.IsInf(f.high-f.low, 0) {
				return s, fmt.Errorf("%q is not field=low..high or field=low..high/step", w)
			}
		} else if what == "bool" {
			f.flag = true
		} else {
			f.texts = strings.Split(what, "|")
		}
		s.fields = append(s.fields, f)
	}
	return s, nil
}

// reading makes the next reading up. phase goes from 0 to 1 and around, so
// that numbers wander as a room's temperature does.
func (s simulated) reading(at time.Time, phase float64, r *rand.Rand) *device.Reading {
	out := device.NewReading(at)
	for _, f := range s.fields {
		switch {
		case f.flag:
			out.Bool(f.name, math.Sin(2*math.Pi*phase) < 0)
		case f.texts != nil:
			out.String(f.name, f.texts[r.IntN(len(f.texts))])
		default:
			x := f.low + (f.high-f.low)*(0.5+0.45*math.Sin(2*math.Pi*phase)+0.05*(2*r.Float64()-1))
			if f.per > 0 {
				x = math.Round(x/f.per) * f.per
				// 0.1·214 is 21.400000000000002: write what was meant.
				if y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64); err == nil {
					x = y
				}
			}
			out.Float(f.name, min(max(x, f.low), f.high))
		}
	}
	return out
}

// simulate sends made-up readings of every stream, and misbehaves beside if
// told to.
func (o *options) simulate(ctx context.Context, d *device.Device, log *slog.Logger) error {
	if !owned(ctx, d) {
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, len(o.sensors)+1)
	for i, s := range o.sensors {
		wg.Go(func() { errs[i] = o.play(ctx, s, d) })
	}
	if o.Misbehave {
		wg.Go(func() { errs[len(o.sensors)] = o.misbehave(ctx, o.sensors[0], d, log) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// owned waits until the server has taken the device: what it measures before its
// first enrolment has no owner, and is not kept. It reports false when ctx ends
// first.
func owned(ctx context.Context, d *device.Device) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.Status().NotAfter.IsZero() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func (o *options) play(ctx context.Context, s simulated, d *device.Device) error {
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	begin := r.Float64()
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for n := 0; o.Count == 0 || n < o.Count; n++ {
		if err := d.Send(s.stream, s.reading(time.Now(), begin+float64(n)/60, r)); err != nil {
			return err
		}
		if n+1 == o.Count {
			break // nothing comes after it: no reason to wait
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}
