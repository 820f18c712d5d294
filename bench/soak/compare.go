package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// compare reads every device through the public read path and holds it
// against the list.
func compare(ctx context.Context, h *rig.Home, list string, devices []*device, r *result) error {
	acked, err := readBook(list)
	if err != nil {
		return err
	}
	for _, d := range devices {
		lines, err := h.Read(ctx, string(d.id), "a soak compares what was acknowledged")
		if err != nil {
			return err
		}
		if err := r.compare(d.id, d.last.seq, acked[d.id], lines); err != nil {
			return fmt.Errorf("%s: %w", d.id, err)
		}
	}
	return nil
}

// compare holds what was read of a device, in the order of reading, against
// the hashes of what was acknowledged, by seq. The device sent no seq above
// highest.
func (r *result) compare(id core.DeviceID, highest uint64, acked map[uint64]string, lines []api.ReadLine) error {
	r.Acked += len(acked)
	r.Stored += len(lines)
	seen := map[uint64]bool{}
	var last struct {
		seq         uint64
		t, received int64
	}
	for _, l := range lines {
		if l.Boot == nil || l.Seq == nil || *l.Boot != boot {
			return fmt.Errorf("a reading without the boot and seq that its device gave it")
		}
		var v struct {
			Number uint64 `json:"number"`
			Text   string `json:"text"`
		}
		if err := json.Unmarshal(l.Values, &v); err != nil {
			return fmt.Errorf("values %s: %w", l.Values, err)
		}
		seq, t, received := *l.Seq, l.Time.UnixMilli(), l.Received.UnixMilli()
		if seen[seq] {
			r.Twice++
			continue
		}
		seen[seq] = true
		// The device's time grows with every reading, and the server's time
		// of receipt does not shrink: what comes earlier by either than a
		// reading before it was put out of order.
		if seq <= last.seq || t <= last.t || received < last.received {
			r.Reordered++
		}
		last.seq, last.t, last.received = seq, t, received
		hash, ok := acked[seq]
		switch {
		case ok && digest(id, seq, t, v.Number, v.Text) != hash:
			r.Changed++
		case ok:
		case seq == 0 || seq > highest || v.Number != seq || v.Text != said(id, seq):
			r.Strange++
		default:
			r.StoredOnly++ // the acknowledgement was lost, the reading was not
		}
	}
	for seq := range acked {
		if !seen[seq] {
			r.Lost++
		}
	}
	return nil
}
