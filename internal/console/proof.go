package console

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// Proof says how everything stands; *assurance.Service.
type Proof interface {
	State(context.Context) (assurance.State, error)
	Claims(context.Context) ([]assurance.ClaimState, error)
	// LastRound is the newest closed round; number 0: none.
	LastRound() assurance.StoredRound
	// Rounds are up to limit closed rounds from a number on.
	Rounds(ctx context.Context, from uint64, limit int) ([]assurance.StoredRound, error)
	// RoundAt is the first round that closed at or after a time; 0: none yet.
	RoundAt(context.Context, time.Time) (uint64, error)
	Waivers(context.Context) ([]assurance.Waiver, error)
	AskWaiver(context.Context, core.Actor, assurance.WaiverRequest) (assurance.Waiver, error)
	ApproveWaiver(context.Context, core.Actor, string) (assurance.Waiver, error)
	EndWaiver(context.Context, core.Actor, string) (assurance.Waiver, error)
}

// mark is a verdict as it is shown: a shape, a colour and a word, of which any
// two may be missed.
type mark struct{ Icon, Class, Word string }

// markOf is how a row or a check is shown.
func markOf(v assurance.Verdict) mark {
	switch v {
	case assurance.Met:
		return mark{"met", "met", "Met"}
	case assurance.Attested:
		return mark{"attested", "attested", "Attested"}
	case assurance.Failing:
		return mark{"failing", "failing", "Failing"}
	case assurance.Tampered:
		return mark{"tampered", "tampered", "Tampered with"}
	case assurance.Errored:
		return mark{"error", "error", "Could not look"}
	case assurance.Stale:
		return mark{"stale", "stale", "Stale"}
	case assurance.Waived:
		return mark{"waived", "waived", "Waived"}
	case assurance.NotApplicable:
		return mark{"na", "na", "Does not apply"}
	case assurance.Unproven:
	}
	return mark{"unproven", "unproven", "Not proved"}
}

// markOfControl is how a control is shown: a met one says how it is known.
func markOfControl(c *assurance.ControlState) mark {
	if c.Verdict != assurance.Met {
		return markOf(c.Verdict)
	}
	if c.How == assurance.OnBench {
		return mark{"bench", "bench", "Proved on the bench"}
	}
	return mark{"met", "met", "Proved live"}
}

// kindWords is how a check looks, in words.
func kindWords(k check.Kind) string {
	switch k {
	case check.Query:
		return "looks at the running system"
	case check.Probe:
		return "looks from outside, as a stranger"
	case check.Bench:
		return "looks at a device on a bench"
	case check.Artefact:
		return "looks at a signed file or test result"
	case check.Attestation:
		return "a named person's statement"
	}
	return string(k)
}

// outcomeMark is how one observation is shown.
func outcomeMark(o check.Outcome) mark {
	switch o {
	case check.Pass:
		return mark{"met", "met", "as it should be"}
	case check.Fail:
		return mark{"failing", "failing", "not as it should be"}
	case check.Error:
		return mark{"error", "error", "could not look"}
	case check.Empty:
	}
	return mark{"unproven", "unproven", "nothing to look at"}
}

// place is where an observation can be found again.
type place struct {
	Round    uint64 // 0: it waits for its round
	Position uint64 // of the round's record in the ledger
	Found    bool   // Position is known
}

// places finds rounds in the ledger, each once for a page.
type places struct {
	p     Proof
	l     Ledger
	known map[uint64]place
}

func newPlaces(p Proof, l Ledger) *places { return &places{p, l, map[uint64]place{}} }

// of finds the round that holds what was taken at a time.
func (x *places) of(ctx context.Context, taken time.Time) (place, error) {
	n, err := x.p.RoundAt(ctx, taken)
	if err != nil || n == 0 {
		return place{}, err
	}
	return x.round(ctx, n)
}

func (x *places) round(ctx context.Context, n uint64) (place, error) {
	if k, ok := x.known[n]; ok {
		return k, nil
	}
	kept, err := x.p.Rounds(ctx, n, 1)
	if err != nil {
		return place{}, fmt.Errorf("find round %d: %w", n, err)
	}
	out := place{Round: n}
	if len(kept) == 1 && kept[0].Number == n {
		found, _, err := x.l.List(ctx, ledger.Filter{Kind: assurance.RecordObserved}, kept[0].From, 16)
		if err != nil {
			return place{}, fmt.Errorf("find round %d in the ledger: %w", n, err)
		}
		for _, e := range found {
			if factOf(&e.Record, "round") == strconv.FormatUint(n, 10) {
				out.Position, out.Found = e.Position, true
				break
			}
		}
	}
	x.known[n] = out
	return out, nil
}

func factOf(r *core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// sight is one observation of the past, without its findings.
type sight struct {
	Round      uint64
	Began      time.Time
	Outcome    check.Outcome
	Population int
	Passing    int
	Failing    int
	Excluded   int
	Error      string
}

// memory holds what the checks saw lately. Closed rounds never change, so that
// each is read once; what it cannot remember the ledger still has.
type memory struct {
	mu          sync.Mutex // guards what follows
	first, last uint64     // the rounds read; 0: none yet
	byCheck     map[string][]sight
}

const (
	maxSights   = 400 // of one check
	maxRecalled = 240 // rounds read back after a start
	// recallTime is how long one page reads back: the pages after it go on.
	recallTime = 50 * time.Millisecond
)

// recall reads the rounds that closed since the last time, and then back into
// the past as far as the time goes.
func (m *memory) recall(ctx context.Context, p Proof) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := time.Now()
	newest := p.LastRound().Number
	if m.byCheck == nil || newest < m.last {
		m.byCheck, m.first, m.last = map[string][]sight{}, newest+1, newest
	}
	for m.last < newest {
		seen, n, err := m.read(ctx, p, m.last+1, 64)
		if err != nil || n == 0 {
			return err
		}
		m.last += n
		for id, list := range seen {
			list = append(m.byCheck[id], list...)
			m.byCheck[id] = list[max(0, len(list)-maxSights):]
		}
	}
	for m.first > 1 && m.last+1-m.first < maxRecalled && time.Since(began) < recallTime {
		step := min(m.first-1, 8)
		seen, _, err := m.read(ctx, p, m.first-step, int(step))
		if err != nil {
			return err
		}
		m.first -= step
		for id, list := range seen {
			if len(m.byCheck[id]) < maxSights {
				m.byCheck[id] = append(list, m.byCheck[id]...)
			}
		}
	}
	return nil
}

// read gives what the checks saw in n rounds, oldest first, and how many
// rounds there were.
func (m *memory) read(ctx context.Context, p Proof, from uint64, n int) (map[string][]sight, uint64, error) {
	kept, err := p.Rounds(ctx, from, n)
	if err != nil {
		return nil, 0, fmt.Errorf("read rounds: %w", err)
	}
	out := map[string][]sight{}
	for i := range kept {
		r, err := check.ParseRound(kept[i].Encoded)
		if err != nil {
			continue // the verdict says that it was tampered with
		}
		for j := range r.Observations {
			o := &r.Observations[j]
			out[o.Check] = append(out[o.Check], sightOf(r.Number, o))
		}
	}
	return out, uint64(len(kept)), nil
}

func sightOf(round uint64, o *check.Observation) sight {
	return sight{round, o.Began, o.Outcome, o.Population, o.Passing, o.Failing, o.Excluded, o.Error}
}

// of are the sights of a check, newest first, beginning with the one that
// waits for its round, if it does.
func (m *memory) of(id string, newest *check.Observation) []sight {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.byCheck[id]
	out := make([]sight, 0, len(list)+1)
	if newest != nil && (len(list) == 0 || newest.Began.After(list[len(list)-1].Began)) {
		out = append(out, sightOf(0, newest))
	}
	for i := len(list) - 1; i >= 0; i-- {
		out = append(out, list[i])
	}
	return out
}

// since is from when on the outcome has been what it is, and whether it is
// known when it began: the past may reach further than the memory.
func since(list []sight) (t time.Time, whole bool) {
	for _, s := range list {
		if s.Outcome != list[0].Outcome {
			return t, true
		}
		t = s.Began
	}
	return t, false
}

// After is the place behind, for a list that ends with this one.
func (p place) After() uint64 { return p.Position + 1 }
