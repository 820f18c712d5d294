package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// BenchmarkUpdate is one small change with its record, on each engine.
func BenchmarkUpdate(b *testing.B) {
	for name, o := range map[string]Options{"sqlite": {}, "postgres": {Postgres: PGOptions{DSN: pgtest.Database(b)}}} {
		b.Run(name, func(b *testing.B) {
			o.Dir = b.TempDir()
			s, err := Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			for b.Loop() {
				err := s.Update(b.Context(), func(tx *Tx) error {
					if err := tx.PutClockSeen(b.Context(), time.Unix(1, 0)); err != nil {
						return err
					}
					return tx.Record(b.Context(), core.Record{Time: time.Unix(1, 0).UTC(), Kind: "clock-confirmed", Actor: core.Job("bench")})
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCopyControl copies 200,000 entries of the ledger there and back.
func BenchmarkCopyControl(b *testing.B) {
	a, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	const rows = 200_000
	err = a.Update(b.Context(), func(tx *Tx) error {
		return tx.many(b.Context(), `INSERT INTO ledger_entry (pos, topic, subject, leaf) VALUES (?, 1, ?, ?)`, rows, func(i int) []any {
			return []any{i, []byte(fmt.Sprintf("subject %08d", i%1000)), make([]byte, 250)}
		})
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := a.Beside(b.Context(), Options{Postgres: PGOptions{DSN: pgtest.Database(b)}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := CopyControl(b.Context(), a, p, nil); err != nil {
			b.Fatal(err)
		}
		back, err := Open(b.Context(), Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := CopyControl(b.Context(), p, back, nil); err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
		if err := back.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
