package telemetry_test

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// sealed files a row of group whose part is sealed as it should be, but holds
// what no judge would have let in.
func (x *estate) sealed(t testing.TB, p *declaration.Policy, s core.Subject, seq uint64, group int, object string) {
	t.Helper()
	at := x.clock().Add(-time.Duration(seq) * time.Minute)
	row := telemetry.Row{Reading: telemetry.Reading{
		Product: "thermostat", Subject: s, Stream: "climate", Policy: p.Hash, T: at.UnixMilli(), Received: at.UnixMilli(),
		HasSeq: true, Boot: 1, Seq: seq, Gateway: [8]byte{9}, Counter: seq,
	}}
	g := p.Groups[group]
	row.Part = telemetry.Part{Epoch: core.EpochAt(g.Keep, declaration.EpochLength(g.Keep), at), Group: uint8(group)}
	must(t, x.ring.EnsureEpoch(t.Context(), row.Part.Epoch))
	key, err := x.ring.Lease(s, row.Part.Epoch)
	must(t, err)
	row.Part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, sender, []byte(object)), telemetry.AppendAAD(nil, &row.Reading, &row.Part))
	must(t, err)
	x.file(t, row)
}

// TestReadCountsUndeclared (CC 1.2): a member that its declaration does not
// name is counted by whoever opens the part, and never shown. That is the
// counter by which it would be noticed if the judge let one through; the judge
// does not, so the rows are sealed wrongly on purpose.
func TestReadCountsUndeclared(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	p1, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	group := func(p *declaration.Policy, field string) int {
		t.Helper()
		_, f := p.Field(field)
		if f == nil {
			t.Fatalf("no field %q", field)
		}
		return f.Group
	}
	shown, hidden := group(p1, "temperature"), group(p1, "note")
	if shown == hidden {
		t.Fatal("temperature and note are one group: this test shows nothing")
	}
	x.send(t, s, hour, 50, v(20, true, "well sealed"))
	x.sealed(t, p1, s, 1, shown, `{"temperature":21}`)
	x.sealed(t, p1, s, 2, shown, `{"temperature":22,"gps":"52.37"}`)
	x.sealed(t, p1, s, 3, shown, `{"gps":"52.37","temperature":23,"Temperature":9,"temperature ":9}`)
	x.sealed(t, p1, s, 4, shown, `{"gps":"52.37"}`)             // nothing else: no reading, and still counted
	x.sealed(t, p1, s, 5, shown, `{"temperature":25,"note":1}`) // declared, in a group that is not opened: not shown, not counted
	x.sealed(t, p1, s, 6, hidden, `{"gps":"52.37"}`)            // in a part that is not opened for support
	x.sealed(t, p1, s, 7, shown, `not an object`)

	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "readings", got, []string{
		`50 {"heating":true,"temperature":20}`, `5 {"temperature":25}`, `3 {"temperature":23}`, `2 {"temperature":22}`, `1 {"temperature":21}`,
	})
	if done.Undeclared != 5 || done.Unreadable != 1 {
		t.Errorf("%d undeclared members counted, %d parts unreadable; want 5 and 1", done.Undeclared, done.Unreadable)
	}

	// A session that opens the other part, too, counts what is in it.
	_, done, err = x.readAll(t, telemetry.ReadRequest{Device: "A1", Role: "owner", Purpose: "service.history"})
	if err != nil || done.Undeclared != 6 {
		t.Errorf("to the owner: %d undeclared members counted, want 6, %v", done.Undeclared, err)
	}
}
