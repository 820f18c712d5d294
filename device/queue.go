package device

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// queue holds readings on disk from the moment that Send returns until the
// server has decided on them. It is bounded: when it is full, its oldest
// segment goes, and what was lost is counted.
//
// An acknowledgement is written without a sync: it survives the end of the
// process, and after a power cut some readings may be sent again, which the
// server knows by (boot, seq).
type queue struct {
	dir      string
	max      int64         // bytes of all segments
	perFile  int64         // bytes at which a new segment begins
	ready    chan struct{} // has a token when there may be something to send
	ackFile  *os.File
	lossFile *os.File

	// The lock is held over disk writes on purpose: it is what puts appends,
	// acknowledgements and drops in one order.
	mu       sync.Mutex
	segments []*segment // oldest first; the last is written to
	cursor   place      // the next to send
	pending  int        // records not acked
	bytes    int64
	loss     loss
	closed   bool
	broken   bool // a sync failed: the present segment must not be written on
}

// place is where a record lies.
type place struct {
	segment uint64
	index   int
	off     int64
}

// loss counts what the queue had to give up, over all starts.
type loss struct {
	Dropped uint64 // readings, dropped because the queue was full
	Damaged uint64 // segments with a part that could not be read
}

const (
	defaultQueueBytes = 8 << 20
	minQueueBytes     = 64 << 10
)

func openQueue(dir string, maxBytes int64) (*queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	q := &queue{dir: dir, max: maxBytes, perFile: min(maxBytes/8, 1<<20), ready: make(chan struct{}, 1)}
	var err error
	if q.lossFile, err = os.OpenFile(filepath.Join(dir, "loss"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if q.ackFile, err = os.OpenFile(filepath.Join(dir, "acked"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, errors.Join(err, q.lossFile.Close())
	}
	if err := q.load(); err != nil {
		return nil, errors.Join(err, q.closeFiles())
	}
	q.wake()
	return q, nil
}

func (q *queue) load() error {
	if v, ok := readNumbers(q.lossFile, 2); ok {
		q.loss = loss{v[0], v[1]}
	}
	names, err := os.ReadDir(q.dir)
	if err != nil {
		return err
	}
	torn := false
	for _, n := range names { // sorted by name, so by id
		id, ok := segmentID(n.Name())
		if !ok {
			continue
		}
		// A torn end is the reading that was being written at the last crash; its
		// Send never returned. Only the last segment can have one.
		if torn {
			q.loss.Damaged++
		}
		s, whole, err := openSegment(q.dir, id)
		if err != nil {
			return err
		}
		torn = !whole
		q.segments = append(q.segments, s)
		q.pending += s.count
		q.bytes += s.size
	}
	if v, ok := readNumbers(q.ackFile, 2); ok {
		if s := q.find(v[0]); s != nil {
			for i := range min(int(v[1]), s.count) {
				q.mark(s, i)
			}
		}
		for len(q.segments) > 0 && q.segments[0].id < v[0] {
			// Acked whole; a crash came between the note and the removal.
			if err := q.forget(0); err != nil {
				return err
			}
		}
	}
	// Every start begins a segment of its own, so that a torn end is never
	// written on.
	if err := errors.Join(q.rotate(), q.clean()); err != nil {
		return err
	}
	q.rewindLocked()
	return nil
}

func (q *queue) find(id uint64) *segment {
	for _, s := range q.segments {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (q *queue) active() *segment { return q.segments[len(q.segments)-1] }

// mark notes that record i of s needs sending no more.
func (q *queue) mark(s *segment, i int) {
	if i < len(s.acked) && !s.acked[i] {
		s.acked[i] = true
		s.done++
		q.pending--
		for s.head < len(s.acked) && s.acked[s.head] {
			s.head++
		}
	}
}

// forget removes segment i with all that is in it.
func (q *queue) forget(i int) error {
	s := q.segments[i]
	q.segments = slices.Delete(q.segments, i, i+1)
	q.pending -= s.count - s.done
	q.bytes -= s.size
	return s.remove()
}

// clean removes segments that hold nothing to send, but for the last.
func (q *queue) clean() error {
	for i := 0; i < len(q.segments)-1; {
		s := q.segments[i]
		if s.done < s.count {
			i++
			continue
		}
		if err := q.forget(i); err != nil {
			return err
		}
	}
	return nil
}

// rotate begins a new segment.
func (q *queue) rotate() error {
	id := uint64(1)
	if n := len(q.segments); n > 0 {
		id = q.segments[n-1].id + 1
	}
	// Never the number of a segment that the note of acks may speak of.
	if v, ok := readNumbers(q.ackFile, 2); ok && v[0] >= id {
		id = v[0] + 1
	}
	s, err := createSegment(q.dir, id)
	if err != nil {
		return err
	}
	q.segments = append(q.segments, s)
	q.bytes += s.size
	q.broken = false
	return nil
}

// put adds a reading and returns once it is safe. When the queue is full, the
// oldest segment is dropped and its unsent readings are counted.
func (q *queue) put(r *record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return fault(Closed, nil, "", "the device is closed")
	}
	need := int64(recordHead + recordFixed + len(r.stream) + len(r.payload))
	if s := q.active(); q.broken || s.size+need > q.perFile && s.count > 0 {
		if err := q.rotate(); err != nil {
			return err
		}
		if err := q.clean(); err != nil {
			return err
		}
	}
	for q.bytes+need > q.max && len(q.segments) > 1 {
		if err := q.drop(); err != nil {
			return err
		}
	}
	n, err := q.active().append(r)
	if err != nil {
		// After a failed sync nobody knows what is on disk: leave that file.
		q.broken = true
		return err
	}
	q.bytes += n
	q.pending++
	q.wake()
	return nil
}

// drop gives up the oldest segment.
func (q *queue) drop() error {
	s := q.segments[0]
	q.loss.Dropped += uint64(s.count - s.done)
	if err := writeNumbers(q.lossFile, q.loss.Dropped, q.loss.Damaged); err != nil {
		return err
	}
	if err := q.lossFile.Sync(); err != nil {
		return err
	}
	if err := q.forget(0); err != nil {
		return err
	}
	if q.cursor.segment <= s.id {
		q.rewindLocked()
	}
	return nil
}

// rewind makes next begin with the oldest reading that is not acked.
func (q *queue) rewind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rewindLocked()
}

func (q *queue) rewindLocked() {
	q.cursor = place{segment: q.segments[0].id, off: int64(len(segmentMark))}
	q.wake()
}

// next gives the oldest reading that was not given since the last rewind and
// is not acked; ok is false when there is none now.
func (q *queue) next() (r record, at place, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		i := slices.IndexFunc(q.segments, func(s *segment) bool { return s.id >= q.cursor.segment })
		if i < 0 {
			return record{}, place{}, false, nil
		}
		s := q.segments[i]
		if s.id > q.cursor.segment {
			q.cursor = place{segment: s.id, off: int64(len(segmentMark))}
		}
		if q.cursor.index >= s.count {
			if i == len(q.segments)-1 {
				return record{}, place{}, false, nil
			}
			q.cursor = place{segment: q.segments[i+1].id, off: int64(len(segmentMark))}
			continue
		}
		r, n, err := s.read(q.cursor.off)
		if errors.Is(err, errTorn) || err == io.EOF {
			// It was whole when it was written or read through: the disk lost it.
			if err := q.damaged(s); err != nil {
				return record{}, place{}, false, err
			}
			continue
		}
		if err != nil {
			return record{}, place{}, false, err
		}
		at := q.cursor
		q.cursor.index++
		q.cursor.off += n
		if !s.acked[at.index] {
			return r, at, true, nil
		}
	}
	return record{}, place{}, false, nil
}

// damaged gives up what follows in s.
func (q *queue) damaged(s *segment) error {
	q.loss.Damaged++
	for i := q.cursor.index; i < s.count; i++ {
		q.mark(s, i)
	}
	q.cursor.index = s.count
	if s == q.active() {
		if err := q.rotate(); err != nil {
			return err
		}
	}
	return writeNumbers(q.lossFile, q.loss.Dropped, q.loss.Damaged)
}

// ack takes a reading out for good.
func (q *queue) ack(at place) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.find(at.segment)
	if s == nil || q.closed {
		return nil // dropped meanwhile
	}
	q.mark(s, at.index)
	if s.done == s.count && s != q.active() {
		if err := q.clean(); err != nil {
			return err
		}
	}
	first := q.segments[0]
	return writeNumbers(q.ackFile, first.id, uint64(first.head))
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// levels is how full the queue is and what it lost.
func (q *queue) levels() (pending int, bytes int64, l loss) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pending, q.bytes, q.loss
}

func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	return errors.Join(q.ackFile.Sync(), q.lossFile.Sync(), q.closeFiles())
}

func (q *queue) closeFiles() error {
	var errs []error
	for _, s := range q.segments {
		errs = append(errs, s.f.Close())
	}
	return errors.Join(append(errs, q.ackFile.Close(), q.lossFile.Close())...)
}

// writeNumbers replaces a small file of numbers and their checksum in place.
func writeNumbers(f *os.File, v ...uint64) error {
	var b []byte
	for _, n := range v {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	_, err := f.WriteAt(b, 0)
	return err
}

// readNumbers reads what writeNumbers wrote; ok is false when it is torn or
// was never written.
func readNumbers(f *os.File, n int) (v []uint64, ok bool) {
	b := make([]byte, 8*n+4)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, false
	}
	if castagnoli(b[:8*n]) != binary.BigEndian.Uint32(b[8*n:]) {
		return nil, false
	}
	for i := range n {
		v = append(v, binary.BigEndian.Uint64(b[8*i:]))
	}
	return v, true
}
