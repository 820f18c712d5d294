package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// entry is one acknowledged reading: whose, which, and what it said.
type entry struct {
	device core.DeviceID
	seq    uint64
	hash   string
	at     int64 // Unix microseconds of the acknowledgement
}

// book is the generator's own list of what was acknowledged. Entries are
// written and synced in groups: one sync for all that came during the last.
type book struct {
	file  *os.File
	ended chan struct{}

	mu   sync.Mutex // guards what follows
	more *sync.Cond
	wait []entry
	n    int
	all  []entry // in the order in which they came
	over bool
	err  error
}

func openBook(name string) (*book, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	b := &book{file: f, ended: make(chan struct{})}
	b.more = sync.NewCond(&b.mu)
	go b.write()
	return b, nil
}

// add notes an acknowledgement.
func (b *book) add(e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.at = time.Now().UnixMicro()
	b.wait, b.all = append(b.wait, e), append(b.all, e)
	b.n++
	b.more.Signal()
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// until is what was acknowledged up to a moment.
func (b *book) until(at int64) map[core.DeviceID]map[uint64]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[core.DeviceID]map[uint64]string{}
	for _, e := range b.all {
		if e.at > at {
			break
		}
		if out[e.device] == nil {
			out[e.device] = map[uint64]string{}
		}
		out[e.device][e.seq] = e.hash
	}
	return out
}

func (b *book) write() {
	defer close(b.ended)
	var group []entry
	for {
		b.mu.Lock()
		for len(b.wait) == 0 && !b.over {
			b.more.Wait()
		}
		group, b.wait = b.wait, group[:0]
		b.mu.Unlock()
		if len(group) == 0 {
			return
		}
		var out []byte
		for _, e := range group {
			out = fmt.Appendf(out, "%s %d %s\n", e.device, e.seq, e.hash)
		}
		_, err := b.file.Write(out)
		if err == nil {
			err = b.file.Sync()
		}
		if err != nil {
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
			return
		}
	}
}

// close ends the list, all of it on disk.
func (b *book) close() error {
	b.mu.Lock()
	b.over = true
	b.more.Signal()
	b.mu.Unlock()
	<-b.ended
	if b.err != nil {
		return fmt.Errorf("keep the list of acknowledgements: %w", b.err)
	}
	return b.file.Close()
}

// readBook reads a list back.
func readBook(name string) (map[core.DeviceID]map[uint64]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[core.DeviceID]map[uint64]string{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		var e entry
		if _, err := fmt.Sscanf(s.Text(), "%s %d %s", &e.device, &e.seq, &e.hash); err != nil {
			return nil, fmt.Errorf("list of acknowledgements: %q: %w", s.Text(), err)
		}
		if all[e.device] == nil {
			all[e.device] = map[uint64]string{}
		}
		if _, twice := all[e.device][e.seq]; twice {
			return nil, fmt.Errorf("list of acknowledgements: %s %d stands there twice", e.device, e.seq)
		}
		all[e.device][e.seq] = e.hash
	}
	return all, s.Err()
}

// said is what reading seq of a device says besides its number: text that
// nobody else says, made from both so that it can be made again.
func said(id core.DeviceID, seq uint64) string {
	m := hmac.New(sha256.New, []byte("what a soak's reading says"))
	fmt.Fprintf(m, "%s %d", id, seq)
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// digest stands for the whole content of a reading.
func digest(id core.DeviceID, seq uint64, t int64, number uint64, text string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %d %s", id, seq, t, number, text)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
