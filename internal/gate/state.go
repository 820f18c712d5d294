package gate

import (
	"context"
	"fmt"
	"time"
)

// State is what checks, doctor and pages see of a Gate: numbers only.
type State struct {
	At     time.Time
	Means  []MeansState // in the order of AllMeans
	Tables []TableState // in the order of Scopes
	Kept   int          // counters on disk
	Oldest time.Time    // when the oldest counter in use began; zero: there is none
	Held   int          // accounts at which only known devices and passkeys get in for now
	Slowed int          // networks that must wait
	Lost   int          // known devices that count as strangers after too many wrong tries in a row
	Hot    bool         // so much is tried everywhere that networks have a smaller budget
}

// MeansState is what happened with one means since the start.
type MeansState struct {
	Means    Means
	Attempts uint64
	Refused  uint64 // not looked at
	Right    uint64
	Wrong    uint64 // said to be wrong; the rest of the attempts never ended and counts as wrong
}

// TableState is one table of counters.
type TableState struct {
	Scope Scope
	Rows  int
	Max   int
}

// State counts. It walks all counters in memory, a few milliseconds when the
// tables are full.
func (g *Gate) State(ctx context.Context) (State, error) {
	st := g.state()
	err := g.d.View(ctx, func(tx Tx) (err error) { st.Kept, err = tx.GateCounters(ctx); return err })
	if err != nil {
		return st, fmt.Errorf("count the gate's counters: %w", err)
	}
	return st, nil
}

func (g *Gate) state() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	st := State{At: g.clock.wall(now)}
	for _, m := range AllMeans() {
		t := g.tally[m]
		st.Means = append(st.Means, MeansState{Means: m, Attempts: t.attempts, Refused: t.refused, Right: t.right, Wrong: t.wrong})
	}
	var oldest instant
	for _, s := range Scopes() {
		t := g.tables[s]
		st.Tables = append(st.Tables, TableState{Scope: s, Rows: len(t.rows), Max: t.max})
		for _, r := range t.rows {
			if s != All && !r.over(now, g.lim.TellEvery) && (oldest == 0 || r.since < oldest) {
				oldest = r.since
			}
			switch {
			case s == Account && g.held(r, now):
				st.Held++
			case s == Source && r.wait(g.lim.Source, g.lim.Source.Burst, now) > 0,
				s == MadeSource && r.wait(g.lim.MadeSource, g.lim.MadeSource.Burst+int(r.open), now) > 0:
				st.Slowed++
			case s == KnownDevice && int(r.wrong) >= g.lim.KnownTries:
				st.Lost++
			}
		}
	}
	if oldest != 0 {
		st.Oldest = g.clock.wall(oldest)
	}
	all, made := g.tables[All].look(allKey(guessable)), g.tables[All].look(allKey(machineMade))
	st.Hot = all.level(g.lim.All, now) >= float64(g.lim.All.Burst/2) ||
		made.level(g.lim.MadeAll, now) >= float64(g.lim.MadeAll.Burst-1)
	return st
}
