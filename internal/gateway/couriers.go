package gateway

import "sync"

// couriers are the goroutines that bring devices what waits for them. A session
// is in their queue at most once.
type couriers struct {
	mu     sync.Mutex
	ready  sync.Cond
	queue  []*conn
	closed bool
	wg     sync.WaitGroup
}

func (k *couriers) start(n int) {
	k.ready.L = &k.mu
	for range n {
		k.wg.Go(k.run)
	}
}

func (k *couriers) push(c *conn) {
	k.mu.Lock()
	if !k.closed {
		k.queue = append(k.queue, c)
	}
	k.mu.Unlock()
	k.ready.Signal()
}

func (k *couriers) run() {
	for {
		k.mu.Lock()
		for len(k.queue) == 0 && !k.closed {
			k.ready.Wait()
		}
		if len(k.queue) == 0 {
			k.mu.Unlock()
			return
		}
		c := k.queue[0]
		k.queue[0] = nil
		k.queue = k.queue[1:]
		k.mu.Unlock()
		c.courier()
	}
}

// stop ends the couriers after what was queued.
func (k *couriers) stop() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.ready.Broadcast()
	k.wg.Wait()
}
