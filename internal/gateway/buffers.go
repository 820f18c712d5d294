package gateway

import "sync"

// buffers are pooled in four sizes, the largest of which holds any packet.
type buffers struct{ pools [4]sync.Pool }

const smallestPooled = 1 << 10

// sizes: 1, 4, 16, 64 KB and the header of the largest packet.
func bufferSize(class int) int {
	n := smallestPooled << (2 * class)
	if class == 3 {
		n += 8
	}
	return n
}

// get gives a buffer of at least n bytes; n beyond the largest gives the
// largest.
func (p *buffers) get(n int) *[]byte {
	class := 0
	for class < len(p.pools)-1 && bufferSize(class) < n {
		class++
	}
	if b, ok := p.pools[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, bufferSize(class))
	return &b
}

func (p *buffers) put(b *[]byte) {
	if b == nil {
		return
	}
	for class := range p.pools {
		if len(*b) == bufferSize(class) {
			p.pools[class].Put(b)
			return
		}
	}
}
