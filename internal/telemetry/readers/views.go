package readers

import (
	"context"
	"fmt"
	"sync"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// views keeps what each reader sees of each product until another declaration
// is in force.
type views struct {
	mu   sync.Mutex // guards what follows
	made map[[2]string]madeView
}

type madeView struct {
	current core.Hash
	view    *telemetry.ServiceView
	err     error
}

// view is what a reader may see of a product now.
func (s *Service) view(ctx context.Context, name string, product core.ProductID) (*telemetry.ServiceView, error) {
	all, err := s.d.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the declarations in force: %w", err)
	}
	var current core.Hash
	for _, p := range all {
		if p.Product == product {
			current = p.Hash
		}
	}
	key := [2]string{name, string(product)}
	s.views.mu.Lock()
	m, ok := s.views.made[key]
	s.views.mu.Unlock()
	if ok && m.current == current {
		return m.view, m.err
	}
	if current.IsZero() {
		return nil, core.E(core.Denied, "not-a-reader", fmt.Sprintf("no declaration of %q gives this service anything to read", product),
			"name it among `readers` and `services` in the declaration, and publish that")
	}
	versions, err := s.d.Versions(ctx, product)
	if err != nil {
		return nil, fmt.Errorf("read the declarations of %s: %w", product, err)
	}
	m = madeView{current: current}
	if m.view, m.err = telemetry.NewServiceView(versions, name); m.view != nil {
		m.current = m.view.Current
	}
	s.views.mu.Lock()
	if s.views.made == nil {
		s.views.made = map[[2]string]madeView{}
	}
	s.views.made[key] = m
	s.views.mu.Unlock()
	return m.view, m.err
}
