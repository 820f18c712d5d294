package server

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestChildrenAfterRestore: what was erased after a backup was taken stays
// erased when it is restored, of hubs and of children; and with either owner
// only the link between the two goes, not a reading of anybody else.
func TestChildrenAfterRestore(t *testing.T) {
	l := startHubs(t)
	for hub, children := range map[core.DeviceID][]core.DeviceID{"H1": {"K1"}, "H2": {"K2", "K3"}} {
		m := dialMQTT(t, l, l.enrol(t, hub))
		m.publish(t, "telemetry/climate", `{"temp":20}`)
		for _, k := range children {
			l.addChild(t, hub, k)
			m.publish(t, "child/"+string(k)+"/telemetry/door", `{"count":1}`)
		}
		m.publish(t, "child/X/propose", "")
		m.close(t)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	l.call(t, "POST", "/v1/backup", api.BackupRequest{To: backup}, nil)
	for _, id := range []string{"H1", "K3"} { // a hub with a child, and a child with a sibling
		l.call(t, "POST", "/v1/devices/"+id+"/erase", api.ReasonRequest{Reason: because}, nil)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	r := startIn(t, restore(t, l.home, backup), l.home)
	for id, want := range map[core.DeviceID]int{"H1": -1, "K3": -1, "H2": 1, "K1": 1, "K2": 1} {
		lines, err := r.readAll(t, id)
		if want < 0 {
			wantReason(t, string(id)+", erased", err, core.Unknown, "belongs to nobody")
		} else if err != nil || len(lines) != want {
			t.Errorf("%s has %d readings, %v; want %d", id, len(lines), err, want)
		}
	}
	for id, hub := range map[core.DeviceID]core.DeviceID{"K1": "", "K2": "H2", "K3": ""} {
		if d := r.device(t, id); d.Hub != hub || !d.Child {
			t.Errorf("%s is %+v; want the hub %q", id, d, hub)
		}
	}
	var c api.Children
	r.call(t, "GET", "/v1/devices/H1/children", nil, &c)
	if len(c.Children)+len(c.Proposals) != 0 {
		t.Errorf("the erased hub has %+v", c)
	}
	var entries api.Entries
	r.call(t, "GET", "/v1/ledger/entries?from=0&kind=child-unlinked", nil, &entries)
	if len(entries.Entries) != 2 {
		t.Errorf("%d links ended by the restore, want 2", len(entries.Entries))
	}
	r.childrenProved(t, "after the restore")
	r.call(t, "POST", "/v1/devices/H2/children/adopt", api.ChildRequest{Child: "K1", Reason: because}, nil)
	r.childrenProved(t, "after an adoption")
}

// childrenProved takes a look with both checks of children.
func (l *live) childrenProved(t testing.TB, when string) {
	t.Helper()
	for _, id := range []string{"children.linked", "children.vouched"} {
		st := l.look(t, api.RunRequest{Check: id})
		if c := checkOf(&st, id); c.Observation == nil || c.Observation.Outcome != check.Pass {
			t.Errorf("%s %s: %+v", when, id, c.Observation)
		}
	}
}

// TestHubThatLies: a hub that is broken into speaks for another hub's children,
// for unknown, removed, proposed ones, for itself and for its neighbours, and
// for a hundred thousand ids that it makes up. Every answer is the same, also
// in what it costs; nothing is stored, and nothing grows (CC 3.6).
func TestHubThatLies(t *testing.T) {
	l := startHubs(t)
	l.add(t, "OTHER")
	bad, good := l.enrol(t, "H1"), l.enrol(t, "H2")
	l.addChild(t, "H2", "K2")
	l.addChild(t, "H1", "MINE")
	l.addChild(t, "H1", "GONE")
	l.call(t, "POST", "/v1/devices/GONE/remove", api.ReasonRequest{Reason: because}, nil)
	m := dialMQTT(t, l, bad)
	m.publish(t, "child/PROPOSED/propose", "")
	lies := map[string]string{
		"unknown": "NEVER", "another hub's": "K2", "removed": "GONE", "proposed": "PROPOSED", "itself": "H1", "another hub": "H2",
		"a device that never enrolled": "OTHER", "its own in other letters": "mine",
	}
	for what, id := range lies {
		for _, topic := range []string{"child/" + id + "/telemetry/door", "child/" + id + "/telemetry/nothing", "devices/H1/child/" + id + "/telemetry/door"} {
			if code, err := m.try(topic, `{"count":1}`); code != noChild || !strings.Contains(fmt.Sprint(err), "0x87") && err == nil {
				t.Errorf("%s on %s: 0x%02x %v, want 0x%02x", what, topic, code, err, noChild)
			}
		}
	}
	m.publish(t, "child/MINE/telemetry/door", `{"count":7}`)
	for _, id := range []core.DeviceID{"K2", "GONE", "H1", "H2"} {
		if lines, err := l.readAll(t, id); err != nil || len(lines) != 0 {
			t.Errorf("%s has %d readings, %v", id, len(lines), err)
		}
	}
	if got := l.countsOf(t, "MINE"); len(got) != 1 {
		t.Errorf("its own child has %v", got)
	}
	// One row in the ledger for the hub and the minute, and no id in it.
	var entries api.Entries
	l.call(t, "GET", "/v1/ledger/entries?from=0&kind=identity-finding", nil, &entries)
	if n := len(entries.Entries); n < 1 || n > 2 { // a minute may have ended meanwhile
		t.Errorf("%d findings in the ledger, want 1", n)
	}
	for _, e := range entries.Entries {
		if !slices.Contains(e.Facts, [2]string{"finding", "child-not-its-own"}) || len(e.Facts) > 2 {
			t.Errorf("the finding says %v", e.Facts)
		}
	}
	d := l.device(t, "H1")
	if n := d.Counts.Refused["no-child"]; n != uint64(3*len(lies)) {
		t.Errorf("%d messages counted as no-child, want %d", n, 3*len(lies))
	}
	if n := dialMQTT(t, l, good); n != nil {
		n.publish(t, "child/K2/telemetry/door", `{"count":1}`)
	}
}

// TestInventedChildrenCostNothing asks the doors' own look for 10^5 invented
// ids, and for those that are there under another hub: neither memory nor time
// tells them apart. It is measured below the sessions, which a flood ends.
func TestInventedChildrenCostNothing(t *testing.T) {
	l := startHubs(t)
	l.enrol(t, "H1")
	l.enrol(t, "H2")
	for n := range 8 {
		l.addChild(t, "H2", core.DeviceID(fmt.Sprintf("SOMEBODY-%05d", n)))
	}
	l.addChild(t, "H1", "MINE")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(l.home)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c, Options{Now: time.Now})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	var children gateway.Children = &s.kin
	ids := make([][]byte, 100_000)
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "INVENTED-%05d", i)
	}
	theirs := [][]byte{}
	for n := range 4 {
		theirs = append(theirs, fmt.Appendf(nil, "SOMEBODY-%05d", n))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, id := range ids {
		if children.Vouched("H1", id) != nil {
			t.Fatalf("H1 speaks for %s", id)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.Mallocs - before.Mallocs; grown > 1000 { // of everything else that runs
		t.Errorf("%d allocations for %d invented ids, want none", grown, len(ids))
	}
	if children.Vouched("H1", []byte("MINE")) == nil || children.Vouched("H2", theirs[0]) == nil {
		t.Fatal("a hub does not speak for its own")
	}
	// Medians of many rounds, in turn: whatever else runs hits both alike.
	round := func(ids [][]byte) time.Duration {
		begin := time.Now()
		for n := range 20_000 {
			if children.Vouched("H1", ids[n%4]) != nil {
				t.Fatal("H1 speaks for another's")
			}
		}
		return time.Since(begin)
	}
	var invented, others []time.Duration
	for range 41 {
		invented, others = append(invented, round(ids[:4])), append(others, round(theirs))
	}
	slices.Sort(invented)
	slices.Sort(others)
	a, b := invented[20], others[20]
	t.Logf("20,000 looks: %s for invented ids, %s for another hub's", a, b)
	if a > b*3/2 || b > a*3/2 {
		t.Errorf("%s for invented ids and %s for another hub's: time tells them apart", a, b)
	}
	var none *identity.Vouched
	if got := children.Vouched("NOBODY", []byte("MINE")); got != none {
		t.Error("a hub that is none speaks for a child")
	}
}

// TestFloodOfInventedChildren: a session that goes on inventing is ended, and
// what the doors and the store keep of it is a count.
func TestFloodOfInventedChildren(t *testing.T) {
	l := startHubs(t)
	u := l.enrol(t, "H1")
	l.addChild(t, "H1", "MINE")
	sent, ended := 0, false
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := dialMQTT(t, l, u)
	for ; sent < 2000 && !ended; sent++ {
		if code, err := m.try(fmt.Sprintf("child/INVENTED-%d/telemetry/door", sent), `{"count":1}`); code != noChild {
			ended = err != nil
		}
	}
	if !ended {
		t.Errorf("%d messages for invented children, and the session goes on", sent)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("the session ended after %d messages; the heap grew by %d KB", sent, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	var c api.Children
	l.call(t, "GET", "/v1/devices/H1/children", nil, &c)
	if len(c.Children) != 1 || len(c.Proposals) != 0 {
		t.Errorf("the hub has %+v", c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := tryMQTT(ctx, l, u); err == nil {
		t.Error("the hub is let in again at once")
	}
}
