package readers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Refusal is somebody who was not let in, or was cut.
type Refusal struct {
	Time   time.Time
	Who    string // the service; empty: nobody knows
	Reason string
	Source string // address
}

// keptRefusals are kept in memory, the newest: strangers must not fill a disk.
const keptRefusals = 200

type refusals struct {
	mu   sync.Mutex // guards what follows
	last []Refusal
	told map[string]int64 // reader and reason, to the minute that was recorded
}

// Refused notes that somebody was not let in. Of a registered service one
// record for each reason and minute goes to the ledger; strangers cannot make
// it grow (design, section 5, Ledger).
func (s *Service) Refused(ctx context.Context, who, reason, source string) {
	now := s.d.Now()
	s.d.Log.WarnContext(ctx, "a service was refused", slog.String("service", who), slog.String("reason", reason), slog.String("source", source))
	f := &s.refused
	f.mu.Lock()
	f.last = append(f.last[max(0, len(f.last)-keptRefusals+1):], Refusal{Time: now.UTC(), Who: who, Reason: reason, Source: source})
	minute, key := now.Unix()/60, who+"\x00"+reason
	fresh := who != "" && f.told[key] != minute
	if fresh {
		if f.told == nil || len(f.told) > 1000 {
			f.told = map[string]int64{}
		}
		f.told[key] = minute
	}
	f.mu.Unlock()
	if !fresh {
		return
	}
	s.mu.RLock()
	known := s.readers[who] != nil
	s.mu.RUnlock()
	if !known {
		return
	}
	err := s.d.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		return tx.Record(ctx, core.Record{Time: micro(now), Kind: RecordRefused, Actor: core.Actor{Kind: core.ActorService, ID: who}, Facts: []core.Fact{
			{Name: "service", Value: who}, {Name: "reason", Value: reason},
		}})
	})
	if err != nil {
		s.d.Log.ErrorContext(ctx, "a refusal was not recorded", slog.Any("err", fmt.Errorf("record a refusal of %s: %w", who, err)))
	}
}

// Refusals are the last ones, oldest first.
func (s *Service) Refusals() []Refusal {
	s.refused.mu.Lock()
	defer s.refused.mu.Unlock()
	return append([]Refusal(nil), s.refused.last...)
}
