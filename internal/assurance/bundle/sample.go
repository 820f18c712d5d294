package bundle

import (
	"context"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// maxSamplings bounds the samples in one bundle.
const maxSamplings = 100

// sample is one of sampling.json: what an assessor drew, and that the ledger
// held the population before it held the nonce.
type sample struct {
	sampling.Sampling
	Began inclusion `json:"record_begun"`
	Drew  inclusion `json:"record_drawn"`
}

// samples puts the drawn samples together that the checkpoint covers.
func (c *collector) samples(ctx context.Context, prove func(ledger.Entry) (inclusion, error)) error {
	if len(c.o.Samplings) == 0 {
		return nil
	}
	records := map[string]ledger.Entry{}
	for _, kind := range []core.RecordKind{sampling.RecordBegun, sampling.RecordDrawn} {
		all, err := c.all(ctx, kind)
		if err != nil {
			return err
		}
		for _, e := range all {
			records[string(kind)+"/"+factOf(&e.Record, "sample")] = e
		}
	}
	var out []sample
	for _, s := range c.o.Samplings {
		began, ok := records[string(sampling.RecordBegun)+"/"+s.ID]
		drew, done := records[string(sampling.RecordDrawn)+"/"+s.ID]
		if !ok || !done {
			continue // of an earlier ledger, or not signed yet
		}
		x := sample{Sampling: s}
		var err error
		if x.Began, err = prove(began); err != nil {
			return err
		}
		if x.Drew, err = prove(drew); err != nil {
			return err
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		return nil
	}
	b, err := encode(&out)
	c.f[nameSampling] = b
	return err
}

// openSamplings reads sampling.json, draws every sample again, and holds it
// against its two records.
func openSamplings(f files, head *verify.Checkpoint) ([]sample, error) {
	b, ok := f[nameSampling]
	if !ok {
		return nil, nil
	}
	list, err := decode[[]sample](b)
	if err != nil {
		return nil, err
	}
	if len(*list) == 0 || len(*list) > maxSamplings {
		return nil, fmt.Errorf("it holds %d samples", len(*list))
	}
	for i := range *list {
		s := &(*list)[i]
		if err := s.holds(head); err != nil {
			return nil, fmt.Errorf("sample %d: %s", i+1, inert(err.Error()))
		}
		for _, o := range (*list)[:i] {
			if o.ID == s.ID || slices.Equal(o.Nonce, s.Nonce) {
				return nil, fmt.Errorf("sample %d is sample %s again, or has its nonce", i+1, inert(o.ID))
			}
		}
	}
	return *list, nil
}

func (s *sample) holds(head *verify.Checkpoint) error {
	if !s.IsDrawn() {
		return fmt.Errorf("nobody drew it")
	}
	if err := s.Check(); err != nil {
		return err
	}
	if s.Began.Index >= s.Drew.Index {
		return fmt.Errorf("the ledger holds the nonce before the population")
	}
	for _, x := range []struct {
		what string
		at   *inclusion
		want core.Record
	}{{"population", &s.Began, s.BegunRecord()}, {"nonce", &s.Drew, s.DrawnRecord()}} {
		leaf, err := ledger.AppendLeaf(nil, &x.want)
		switch {
		case err != nil:
			return fmt.Errorf("the record of its %s: %w", x.what, err)
		case string(leaf) != x.at.Leaf:
			return fmt.Errorf("the ledger holds another %s", x.what)
		}
		if err := x.at.included(head); err != nil {
			return fmt.Errorf("the record of its %s is not in the ledger: %w", x.what, err)
		}
	}
	return nil
}
