package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/wire"
)

// A segment is one append-only file of the queue: a mark of its format, then
// records of length, CRC-32C, boot, seq, stream and payload.
type segment struct {
	id    uint64
	f     *os.File
	size  int64  // bytes that hold whole records
	count int    // records
	acked []bool // by index; as long as count
	done  int    // how many are acked
	head  int    // how many are acked from the first on without a gap
}

const (
	segmentMark   = "hawser-queue-1\n\x00"
	recordHead    = 8                                   // length and checksum
	recordFixed   = 8 + 8 + 1                           // boot, seq, length of the stream's name
	maxRecordBody = recordFixed + 255 + wire.MaxPayload // what append can write
	segmentSuffix = ".seg"
)

var errTorn = errors.New("torn or damaged record")

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func segmentPath(dir string, id uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", id, segmentSuffix))
}

func segmentID(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil
}

// createSegment makes an empty segment, durable with its name.
func createSegment(dir string, id uint64) (*segment, error) {
	f, err := os.OpenFile(segmentPath(dir, id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt([]byte(segmentMark), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name()) // an empty file; the next start removes it otherwise
		return nil, err
	}
	return &segment{id: id, f: f, size: int64(len(segmentMark))}, nil
}

// openSegment reads through a segment that another start has written. whole is
// false when a part of it was damaged: the records before it are kept, what
// comes after cannot be told apart and is cut off.
func openSegment(dir string, id uint64) (s *segment, whole bool, err error) {
	f, err := os.OpenFile(segmentPath(dir, id), os.O_RDWR, 0)
	if err != nil {
		return nil, false, err
	}
	s = &segment{id: id, f: f}
	mark := make([]byte, len(segmentMark))
	if _, err := f.ReadAt(mark, 0); err != nil || string(mark) != segmentMark {
		return s, false, nil // a crash while it was made, or no segment
	}
	s.size = int64(len(segmentMark))
	for {
		_, n, err := s.read(s.size)
		if err == io.EOF {
			break
		}
		if err != nil {
			if !errors.Is(err, errTorn) {
				_ = f.Close()
				return nil, false, err
			}
			s.acked = make([]bool, s.count)
			return s, false, f.Truncate(s.size)
		}
		s.size += n
		s.count++
	}
	s.acked = make([]bool, s.count)
	return s, true, nil
}

// record is one reading as it lies in a segment.
type record struct {
	boot, seq uint64
	stream    string // a name, or of a child the whole topic; see topicOf
	payload   []byte
}

func appendRecord(dst []byte, r *record) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHead)...)
	dst = binary.BigEndian.AppendUint64(dst, r.boot)
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = append(dst, byte(len(r.stream)))
	dst = append(append(dst, r.stream...), r.payload...)
	body := dst[start+recordHead:]
	binary.BigEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(dst[start+4:], castagnoli(body))
	return dst
}

// read gives the record at off and its length on disk. io.EOF: there is none,
// the segment ends here. errTorn: what is there is no whole record.
func (s *segment) read(off int64) (record, int64, error) {
	var head [recordHead]byte
	switch n, err := s.f.ReadAt(head[:], off); {
	case n == 0 && err == io.EOF:
		return record{}, 0, io.EOF
	case err == io.EOF:
		return record{}, 0, errTorn
	case err != nil:
		return record{}, 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < recordFixed || n > maxRecordBody {
		return record{}, 0, errTorn
	}
	body := make([]byte, n)
	if _, err := s.f.ReadAt(body, off+recordHead); err == io.EOF {
		return record{}, 0, errTorn
	} else if err != nil {
		return record{}, 0, err
	}
	if castagnoli(body) != binary.BigEndian.Uint32(head[4:]) {
		return record{}, 0, errTorn
	}
	name := int(body[16])
	if recordFixed+name > len(body) {
		return record{}, 0, errTorn
	}
	r := record{
		boot: binary.BigEndian.Uint64(body), seq: binary.BigEndian.Uint64(body[8:]),
		stream: string(body[recordFixed : recordFixed+name]), payload: body[recordFixed+name:],
	}
	return r, recordHead + int64(n), nil
}

// append writes one record and syncs it. After an error the segment holds what
// it held before.
func (s *segment) append(r *record) (int64, error) {
	b := appendRecord(nil, r)
	_, err := s.f.WriteAt(b, s.size)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		// Cut off what may have been written; if that fails as well, the next
		// record overwrites it, and a start before that sees a torn record.
		_ = s.f.Truncate(s.size)
		return 0, err
	}
	s.size += int64(len(b))
	s.count++
	s.acked = append(s.acked, false)
	return int64(len(b)), nil
}

func (s *segment) remove() error {
	_ = s.f.Close() // nothing of it is needed any more
	return os.Remove(s.f.Name())
}
