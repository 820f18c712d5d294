package gate

import (
	"context"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordGuessing is the ledger's record of an account at which nobody without
// a known device may guess any more for now. It has the account's keyed hash.
const RecordGuessing core.RecordKind = "account-guessed-at"

// RecordForgotten is the record of counters that were deleted because they
// were made under another key.
const RecordForgotten core.RecordKind = "gate-counters-forgotten"

// Notice is what an account's owner is told.
type Notice struct {
	Account  string
	Means    Means // of the last try
	Wrong    int   // tries that were wrong or never finished, since Since
	Refused  int   // tries that were not even looked at
	Networks int   // from how many networks: exact for a few, then roughly, at most 1420
	Since    time.Time
	Held     bool // for now only known devices and passkeys get in
}

// held reports whether an account's budget is used up.
func (g *Gate) held(r *row, now instant) bool {
	return r.wait(g.lim.Account, g.lim.Account.Burst, now) > 0
}

// due makes the notice of an account when its owner must hear of it now, and
// notes that he did.
func (g *Gate) due(c place, m Means, account string, now instant) (*Notice, *batch) {
	r := c.t.rows[c.key]
	a := r.account
	if account == "" || int(r.wrong) < g.lim.TellFrom || a.told != 0 && !now.after(g.lim.TellEvery, a.told) {
		return nil, nil
	}
	a.told = now
	g.dirty[c] = struct{}{}
	return &Notice{
		Account: account, Means: m, Wrong: int(r.wrong), Refused: int(a.refused), Networks: a.nets.estimate(),
		Since: g.clock.wall(r.since), Held: c.t.scope == Account && g.held(r, now),
	}, g.join()
}

// tell tells once it is on disk that the owner was told: a restart tells
// nobody twice.
func (g *Gate) tell(ctx context.Context, n *Notice, b *batch) error {
	if n == nil {
		return nil
	}
	if err := g.wait(ctx, b); err != nil {
		return err
	}
	if g.d.Tell != nil {
		g.d.Tell(ctx, *n)
	}
	return nil
}

// note puts an account whose budget was used up into the ledger, in the
// transaction of the count. Strangers cannot make it grow: one record an
// account and hour, and Records of all.
func (g *Gate) note(o *opening, r *row) {
	a := r.account
	if !g.held(r, o.now) || a.noted != 0 && !o.now.after(g.lim.TellEvery, a.noted) {
		return
	}
	a.noted = o.now
	quota, _ := g.row(All, recordsKey(), o.now)
	if quota.wait(g.lim.Records, g.lim.Records.Burst, o.now) > 0 {
		g.missed++
		return
	}
	quota.charge(g.lim.Records, o.now)
	number := func(n int) string { return strconv.Itoa(n) }
	g.batch.records = append(g.batch.records, core.Record{
		Time: g.clock.wall(o.now), Kind: RecordGuessing, Actor: core.Job("gate"),
		Facts: []core.Fact{
			{Name: "account_hash", Value: hex.EncodeToString(o.owner[:])},
			{Name: "means", Value: string(o.Means)},
			{Name: "wrong", Value: number(int(r.wrong))},
			{Name: "refused", Value: number(int(a.refused))},
			{Name: "networks", Value: number(a.nets.estimate())},
			{Name: "since", Value: g.clock.wall(r.since).Format(time.RFC3339)},
			{Name: "not_recorded", Value: number(g.missed)},
		},
	})
	g.missed = 0
}
