package gateway

import (
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Authority says what a device may name: its own topics, and nothing of
// anybody else's (CC 3.6). It is asked for every message and every filter.
type Authority interface {
	// Publish takes apart a topic that the device own publishes to.
	Publish(own core.DeviceID, topic []byte) wire.Topic
	// Subscribe says whether the device own may subscribe to a filter; see
	// wire.Subscribe.
	Subscribe(own core.DeviceID, filter []byte) (wire.Kind, wire.Form, []byte)
}

// Rules is the one Authority there is: the contract's.
type Rules struct{}

// Publish is wire.Publish.
func (Rules) Publish(own core.DeviceID, topic []byte) wire.Topic {
	return wire.Publish(string(own), topic)
}

// Subscribe is wire.Subscribe.
func (Rules) Subscribe(own core.DeviceID, filter []byte) (wire.Kind, wire.Form, []byte) {
	return wire.Subscribe(string(own), filter)
}

// MayPublish reports whether a message that a device sends to a topic would be
// taken as one of its own.
func (g *Gateway) MayPublish(own core.DeviceID, topic string) bool {
	k := g.deps.Authority.Publish(own, []byte(topic)).Kind
	return k != wire.Foreign && k != wire.Unknown
}

// MaySubscribe reports whether a device would be granted a filter.
func (g *Gateway) MaySubscribe(own core.DeviceID, filter string) bool {
	return g.filter(own, []byte(filter)) != 0
}

// Sibling makes a gateway that decides as g does: by the same authority, and
// by the rates and sizes that are in force at g when it is made. Everything
// else is d's.
func (g *Gateway) Sibling(d Deps) (*Gateway, error) {
	d.Authority = g.deps.Authority
	s, err := New(d)
	if err != nil {
		return nil, err
	}
	g.products.Range(func(id, v any) bool {
		from, to := v.(*product), s.product(id.(core.ProductID))
		to.rates.Store(from.rates.Load())
		to.children.Store(from.children.Load())
		to.largest.Store(from.largest.Load())
		to.tls12.Store(from.tls12.Load())
		return true
	})
	s.any12.Store(g.any12.Load())
	return s, nil
}
