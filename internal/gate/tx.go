package gate

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Scope names a table of counters.
type Scope string

// The scopes.
const (
	Pair        Scope = "pair"         // account and network, for each means
	KnownDevice Scope = "known"        // account and known device, for each means
	Source      Scope = "source"       // network, of guessable means
	Account     Scope = "account"      // account, of guessable means
	MadeSource  Scope = "made-source"  // network, of machine-made secrets
	MadeAccount Scope = "made-account" // account, of machine-made secrets: counted to tell its owner, never to lock it
	All         Scope = "all"          // everybody
)

// Scopes are all scopes.
func Scopes() []Scope {
	return []Scope{Pair, KnownDevice, Source, Account, MadeSource, MadeAccount, All}
}

// Key names whom a counter is of: the first half of an HMAC-SHA-256 under the
// Gate's key.
type Key [16]byte

// Counter is one counter as it is kept. Its times are the Gate's own, which
// never go back (see Clock).
type Counter struct {
	Scope Scope
	Key   Key
	// Wrong tries that count now; for a pair or known device, in a row.
	Wrong int
	// Refused tries of an account since Since.
	Refused int
	Since   time.Time // of the first that counts
	Last    time.Time // of the last
	Until   time.Time // when all of them are forgiven
	Told    time.Time // when the account's owner was told last; zero: never
	Noted   time.Time // when the ledger was told last; zero: never
	Nets    []byte    // which networks tried, as bits of a sketch; nil: not kept
}

// Clock is the Gate's time beside the machine's at the same moment. After a
// restart the Gate goes on from its own, by as much as the machine's went on.
type Clock struct {
	Gate, Machine time.Time
	Check         Key // tells whether the counters were made under the Gate's key
}

// Tx is what the Gate needs from storage, in one transaction.
type Tx interface {
	// GateClock is zero when none was put.
	GateClock(context.Context) (Clock, error)
	PutGateClock(context.Context, Clock) error
	// EachGateCounter calls fn for every counter that is kept.
	EachGateCounter(ctx context.Context, fn func(Counter) error) error
	// PutGateCounters replaces counters or makes them.
	PutGateCounters(context.Context, []Counter) error
	// DeleteGateCounters deletes counters by scope and key; one that is not
	// there is no error.
	DeleteGateCounters(context.Context, []Counter) error
	// ClearGate deletes all counters.
	ClearGate(context.Context) error
	// GateCounters is how many are kept.
	GateCounters(context.Context) (int, error)

	// Record hands evidence to the ledger.
	Record(context.Context, core.Record) error
}
