package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// headFile remembers, beside the store, the last sequence that was committed.
// When JetStream finds a damaged block it cuts it off and, if it is the
// newest, gives the numbers behind the cut out again. A reader that is past
// them would then skip what it has never seen. So a store that comes up short
// of this file is known to be damaged, and gets a new incarnation.
//
// It is written after every commit and synced with every new block: killed at
// any moment it is exact; after a power cut it may lag, never lead.
type headFile struct {
	f           *os.File
	incarnation [16]byte
}

const headBytes = 16 + 8 + 4 // incarnation, sequence, CRC-32C of both

// openHead opens dir's head file or makes it. seq is 0 unless it is of the
// given incarnation.
func openHead(dir, incarnation string) (h *headFile, seq uint64, err error) {
	h = new(headFile)
	if n, err := hex.Decode(h.incarnation[:], []byte(incarnation)); err != nil || n != len(h.incarnation) {
		return nil, 0, fmt.Errorf("incarnation %q of the journal is not 16 bytes in hexadecimal", incarnation)
	}
	if h.f, err = os.OpenFile(filepath.Join(dir, "head"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, 0, fmt.Errorf("open the journal's head: %w", err)
	}
	var b [headBytes]byte
	switch _, err := h.f.ReadAt(b[:], 0); {
	case errors.Is(err, io.EOF): // new
	case err != nil:
		return nil, 0, errors.Join(fmt.Errorf("read the journal's head: %w", err), h.f.Close())
	case crc32.Checksum(b[:24], castagnoli) == binary.BigEndian.Uint32(b[24:]) && [16]byte(b[:16]) == h.incarnation:
		seq = binary.BigEndian.Uint64(b[16:])
	}
	return h, seq, nil
}

// set writes the head.
func (h *headFile) set(seq uint64) error {
	var b [headBytes]byte
	copy(b[:], h.incarnation[:])
	binary.BigEndian.PutUint64(b[16:], seq)
	binary.BigEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	if _, err := h.f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write the journal's head: %w", err)
	}
	return nil
}

// sync puts the head on disk.
func (h *headFile) sync() error { return h.f.Sync() }

// close syncs and closes the head.
func (h *headFile) close() error {
	err := errors.Join(h.f.Sync(), h.f.Close())
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
