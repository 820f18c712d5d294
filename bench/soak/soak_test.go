package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
)

// TestKillSmoke is a small true soak: the shipped program, killed three times
// under load.
func TestKillSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and kills the server")
	}
	hawser := house.Program(t, "hawser")
	r, err := soak(t.Context(), &options{
		hawser: hawser, dir: t.TempDir(), rounds: 3, devices: 4, window: 16, rate: 400,
		span: time.Second, seed: uint64(time.Now().UnixNano()), progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *r)
	if err := r.fault(); err != nil {
		t.Error(err)
	}
	if r.Stored < r.Acked {
		t.Errorf("%d stored, %d acknowledged", r.Stored, r.Acked)
	}
}

// TestCompare: a comparison that finds nothing wrong must be one that would
// have found it.
func TestCompare(t *testing.T) {
	const id core.DeviceID = "d"
	at := func(seq uint64) time.Time { return time.UnixMilli(1_800_000_000_000 + int64(seq)*10).UTC() }
	line := func(seq, number uint64) api.ReadLine {
		b := uint64(boot)
		v := fmt.Appendf(nil, `{"number":%d,"text":%q}`, number, said(id, number))
		return api.ReadLine{Time: at(seq), Received: at(seq), Boot: &b, Seq: &seq, Values: json.RawMessage(v)}
	}
	acked := map[uint64]string{}
	for seq := uint64(1); seq <= 5; seq++ {
		acked[seq] = digest(id, seq, at(seq).UnixMilli(), seq, said(id, seq))
	}
	lines := func(seqs ...uint64) (l []api.ReadLine) {
		for _, s := range seqs {
			l = append(l, line(s, s))
		}
		return l
	}
	other := lines(1, 2, 3, 4, 5)
	other[2] = line(3, 4)
	later := lines(1, 2, 3, 4, 5)
	later[3].Received = at(1)
	moved := lines(1, 2, 3, 4, 5)
	moved[4].Time = moved[4].Time.Add(time.Millisecond)
	for _, c := range []struct {
		name  string
		lines []api.ReadLine
		want  result
	}{
		{"all there", lines(1, 2, 3, 4, 5), result{}},
		{"stored, its acknowledgement lost", lines(1, 2, 3, 4, 5, 6), result{StoredOnly: 1}},
		{"one lost", lines(1, 2, 4, 5), result{Lost: 1}},
		{"all lost", nil, result{Lost: 5}},
		{"one twice", lines(1, 2, 2, 3, 4, 5), result{Twice: 1}},
		{"two changed places", lines(1, 3, 2, 4, 5), result{Reordered: 1}},
		{"received before its forerunner", later, result{Reordered: 1}},
		{"another's content", other, result{Changed: 1}},
		{"another time", moved, result{Changed: 1}},
		{"nobody sent it", lines(1, 2, 3, 4, 5, 9), result{Strange: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got result
			if err := got.compare(id, 6, acked, c.lines); err != nil {
				t.Fatal(err)
			}
			c.want.Acked, c.want.Stored = len(acked), len(c.lines)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			bad := got.Lost+got.Changed+got.Strange+got.Twice+got.Reordered > 0
			got.Ledger, got.Rounds, got.Killed, got.Loaded = true, 1, 1, 1
			if err := got.fault(); (err != nil) != bad {
				t.Errorf("verdict: %v", err)
			}
		})
	}
}

func TestNothingKilledIsAFault(t *testing.T) {
	for _, r := range []result{
		{Rounds: 10, Killed: 9, Loaded: 9, Acked: 100, Ledger: true},
		{Rounds: 10, Killed: 10, Loaded: 2, Acked: 100, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Acked: 1, Refused: 1, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Acked: 1},
	} {
		if r.fault() == nil {
			t.Errorf("%+v passed", r)
		}
	}
}
