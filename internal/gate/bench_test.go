package gate_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/hawser-iot/hawser/internal/gate"
)

// BenchmarkAttempts opens and ends attempts, each by an account and a network
// of its own, with 1, 100 or 1,000 under way at a time, on a database that
// syncs every commit.
func BenchmarkAttempts(b *testing.B) {
	for _, at := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("at once %d", at), func(b *testing.B) {
			lim := gate.Standard()
			lim.All.Burst, lim.Source.Burst = 1<<30, 1<<30
			f := newFixtureWith(b, lim)
			var n atomic.Int64
			before := f.commits
			b.ResetTimer()
			together(at, func(int) {
				for {
					i := n.Add(1)
					if i > int64(b.N) {
						return
					}
					a := password(fmt.Sprint("p", i), net(int(i)))
					t, err := f.gate.Open(context.Background(), a)
					if err == nil {
						err = errors.Join(t.Use(a.Means, a.Account), t.Right(context.Background()))
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
			b.ReportMetric(float64(f.commits-before)/float64(b.N), "commits/attempt")
		})
	}
}

// BenchmarkRefused is a flood at one account: nothing of it reaches the disk.
func BenchmarkRefused(b *testing.B) {
	f := newFixture(b)
	for i := range 100 {
		f.try(password("ann", net(i)), false)
	}
	before := f.commits
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.gate.Open(context.Background(), password("ann", net(i))); err == nil {
			b.Fatal("let in")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refusals/s")
	if n := f.commits - before; n != 0 {
		b.Errorf("%d commits", n)
	}
}
