package gateway

import (
	"sync/atomic"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// product is what the gateway knows of one product.
type product struct {
	id       core.ProductID
	arrivals pacer
	rates    atomic.Pointer[rates]
	children atomic.Pointer[[]core.ProductID] // of which its devices may have children; nil: they are no hubs
	largest  atomic.Int64                     // payload bytes of its largest stream
	tls12    atomic.Int64                     // until when TLS 1.2 is declared, Unix seconds; 0: it is not
}

func (g *Gateway) product(id core.ProductID) *product {
	if p, ok := g.products.Load(id); ok {
		return p.(*product)
	}
	p, _ := g.products.LoadOrStore(id, &product{id: id})
	return p.(*product)
}

// maxPacket is the Maximum Packet Size that the product's devices are told:
// the largest declared payload with room for the rest of a packet. What is
// larger but not over wire.MaxPacket is still read, and refused politely.
func (p *product) maxPacket() int {
	const around = 2 << 10
	return int(min(max(p.largest.Load()+around, 4<<10), wire.MaxPacket))
}

// SetPolicy puts a declaration in force: at start for every product, and when
// one is published. Live sessions go over to it with their next message.
func (g *Gateway) SetPolicy(p *declaration.Policy) {
	pr := g.product(p.Product)
	largest := 0
	for i := range p.Streams {
		largest = max(largest, p.Streams[i].MaxBytes)
	}
	pr.largest.Store(int64(largest))
	if p.Hub != nil {
		pr.children.Store(&p.Hub.Children)
	} else {
		pr.children.Store(nil)
	}
	until := int64(0)
	if p.Network.TLS == "1.2" {
		until = p.SupportUntil.Unix()
	}
	pr.tls12.Store(until)
	pr.rates.Store(newRates(p))
	g.any12.Store(0)
	g.products.Range(func(_, v any) bool {
		g.any12.Store(max(g.any12.Load(), v.(*product).tls12.Load()))
		return true
	})
	g.later(func() { g.recheckLegacy(p.Product) })
}

// OffersTLS12 reports whether a product in support declares TLS 1.2 (design,
// section 6).
func (g *Gateway) OffersTLS12() bool { return g.now().Unix() < g.any12.Load() }

// DeclaresTLS12 reports whether this product does, and is in support.
func (g *Gateway) DeclaresTLS12(id core.ProductID) bool {
	return g.now().Unix() < g.product(id).tls12.Load()
}
