package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of at most 1/32 relative width, so a
// percentile is off by 3 % at worst. It is not for concurrent use.
type histogram struct {
	counts [64 * 32]uint64
	total  uint64
	max    time.Duration
}

func bucket(d time.Duration) int {
	us := uint64(max(d, 0) / 100) // steps of 100 ns
	if us < 32 {
		return int(us)
	}
	e := bits.Len64(us) - 6
	return (e+1)*32 + int(us>>e) - 32
}

func middle(i int) time.Duration {
	if i < 32 {
		return time.Duration(i) * 100
	}
	e := i/32 - 1
	return time.Duration((uint64(i%32)+32)<<e+(1<<e)/2) * 100
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// quantile is the duration that the share q of all counted ones stays below.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen > rank {
			return middle(i)
		}
	}
	return h.max
}
