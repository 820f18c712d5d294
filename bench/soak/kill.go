package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
)

//go:embed soak.yaml
var declared []byte

type options struct {
	hawser, dir     string
	rounds, devices int
	window, rate    int
	span            time.Duration
	seed            uint64
	points          int
	strict          bool
	progress        func(format string, a ...any)
}

// result is what a soak found.
type result struct {
	Rounds       int     `json:"rounds"`
	Killed       int     `json:"killed"`
	KilledEarly  int     `json:"killed_before_ready"`
	Loaded       int     `json:"rounds_with_acks"`
	Devices      int     `json:"devices"`
	Acked        int     `json:"acked"`
	Resent       int     `json:"sent_again"`
	Refused      int     `json:"refused"`
	Stored       int     `json:"stored"`
	StoredOnly   int     `json:"stored_without_ack"`
	Lost         int     `json:"lost"`
	Changed      int     `json:"changed"`
	Strange      int     `json:"never_sent"`
	Twice        int     `json:"twice"`
	Reordered    int     `json:"reordered"`
	Ledger       bool    `json:"ledger_verified"`
	LongestStart float64 `json:"longest_start_seconds"`
	Seconds      float64 `json:"seconds"`
	Seed         uint64  `json:"seed"`

	Points  int `json:"power_failures,omitempty"`
	Unsaved int `json:"with_unsynced_changes,omitempty"` // of the points, those at which something was not synced
	Calls   int `json:"system_calls,omitempty"`
}

// fault says what is wrong, nil if nothing is. A run that killed nothing that
// worked proves nothing, and is a fault too.
func (r *result) fault() error {
	switch {
	case r.Lost+r.Changed+r.Strange+r.Twice+r.Reordered > 0:
		return fmt.Errorf("of %d acknowledged readings %d are lost; stored: %d changed, %d never sent, %d twice, %d out of order",
			r.Acked, r.Lost, r.Changed, r.Strange, r.Twice, r.Reordered)
	case !r.Ledger:
		return errors.New("the ledger does not verify")
	case r.Refused > 0:
		return fmt.Errorf("%d good readings were refused", r.Refused)
	case r.Points > 0 && (r.Unsaved*2 < r.Points || r.Acked == 0):
		return fmt.Errorf("at %d of %d points there was nothing unsynced, %d readings acknowledged: this proves nothing", r.Points-r.Unsaved, r.Points, r.Acked)
	case r.Points > 0:
		return nil
	case r.Killed != r.Rounds || r.Loaded*2 < r.Rounds || r.Acked == 0:
		return fmt.Errorf("%d kills of %d, %d of them under load, %d readings acknowledged: this proves nothing", r.Killed, r.Rounds, r.Loaded, r.Acked)
	}
	return nil
}

// soak is the whole run in o.dir.
func soak(ctx context.Context, o *options) (*result, error) {
	began := time.Now()
	r := &result{Rounds: o.rounds, Devices: o.devices, Seed: o.seed}
	h, err := rig.Make(ctx, o.hawser, filepath.Join(o.dir, "home"), "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Stop() }() // the second time, or after another error
	if err := h.Start(ctx); err != nil {
		return nil, err
	}
	if err := h.Publish(ctx, "soak.yaml", declared); err != nil {
		return nil, err
	}
	ids := make([]core.DeviceID, o.devices)
	for i := range ids {
		ids[i] = core.DeviceID(fmt.Sprintf("soak-%02d", i))
	}
	units, err := h.Enrol(ctx, "soak", ids)
	if err != nil {
		return nil, err
	}
	list := filepath.Join(o.dir, "acked")
	b, err := openBook(list)
	if err != nil {
		return nil, err
	}
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	drain := make(chan struct{})
	devices := make([]*device, len(units))
	var wg sync.WaitGroup
	for i, u := range units {
		conf, err := h.TLS(u)
		if err != nil {
			return nil, err
		}
		devices[i] = &device{id: u.ID, number: i, tls: conf, door: h.Devices, book: b, window: o.window, every: time.Second / time.Duration(o.rate), drain: drain}
		wg.Go(func() { devices[i].run(load) })
	}
	if err := kills(ctx, o, h, b, r); err != nil {
		return nil, err
	}
	// Nothing new; what is on its way gets its acknowledgement.
	close(drain)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		stopLoad()
		<-done
		return nil, errors.New("30 s after the last start some readings still have no acknowledgement")
	case <-ctx.Done():
		<-done
		return nil, ctx.Err()
	}
	for _, d := range devices {
		r.Resent += d.resent
		r.Refused += d.refused
	}
	if err := b.close(); err != nil {
		return nil, err
	}
	if err := compare(ctx, h, list, devices, r); err != nil {
		return nil, err
	}
	_, err = h.Run(ctx, "ledger", "verify")
	r.Ledger = err == nil
	if err != nil {
		o.progress("%v", err)
	}
	if err := h.Stop(); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Round(10 * time.Millisecond).Seconds()
	return r, nil
}

// kills kills and starts the server o.rounds times; it leaves it running. One
// kill of ten comes at any moment of the start itself.
func kills(ctx context.Context, o *options, h *rig.Home, b *book, r *result) error {
	dice := rand.New(rand.NewPCG(o.seed, 0))
	start := 500 * time.Millisecond
	for round := range o.rounds {
		before := b.count()
		life := 20*time.Millisecond + time.Duration(dice.Int64N(int64(o.span)))
		early := round%10 == 9
		if early {
			// What the last round did not end stands in the journal: the
			// start that is killed is one that has to clear up.
			life = time.Duration(dice.Int64N(int64(start)))
			r.KilledEarly++
			if err := h.Kill(); err != nil {
				return err
			}
			if err := h.Launch(); err != nil {
				return err
			}
		}
		select {
		case <-time.After(life):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := h.Kill(); err != nil {
			return err
		}
		r.Killed++
		if b.count() > before {
			r.Loaded++
		}
		began := time.Now()
		if err := h.Start(ctx); err != nil {
			return fmt.Errorf("start after kill %d: %w", r.Killed, err)
		}
		start = time.Since(began)
		r.LongestStart = max(r.LongestStart, start.Round(time.Millisecond).Seconds())
		if n := round + 1; n%10 == 0 || n == o.rounds {
			o.progress("%d of %d kills, %d readings acknowledged", n, o.rounds, b.count())
		}
	}
	return nil
}
