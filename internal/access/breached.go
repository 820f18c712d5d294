package access

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// BreachedFile is a list of breached passwords as it is published for download:
// one line for each, the SHA-1 in hexadecimal, sorted, with or without a colon
// and a count. It is searched where it lies; nothing is asked of anybody else.
type BreachedFile struct {
	f    *os.File
	size int64
}

// maxBreachedLine is longer than any line of such a list.
const maxBreachedLine = 128

// hexDigits is the length of a SHA-1.
const hexDigits = 40

// OpenBreached opens a list. It fails for a file that does not begin and end
// like one, or whose first and last lines are out of order.
func OpenBreached(path string) (*BreachedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open list of breached passwords: %w", err)
	}
	b, err := checkBreached(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func checkBreached(f *os.File) (*BreachedFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open list of breached passwords: %w", err)
	}
	b := &BreachedFile{f, st.Size()}
	_, first, err := b.lineAt(0)
	if err != nil {
		return nil, err
	}
	// Two lines at least begin in what is read here, if the file has them.
	at, last, err := b.lineFrom(max(0, b.size-maxBreachedLine))
	for line := last; err == nil && line != nil; {
		last = line
		at, line, err = b.lineAt(at)
	}
	if err != nil {
		return nil, err
	}
	if first == nil || last == nil || bytes.Compare(first[:hexDigits], last[:hexDigits]) > 0 {
		return nil, badBreached(0)
	}
	return b, nil
}

func badBreached(at int64) error {
	return core.E(core.Invalid, "breached-list", fmt.Sprintf("the list of breached passwords is not one at byte %d", at), "give the file of SHA-1 hashes ordered by hash")
}

// lineAt reads the line that begins at an offset; nil at the end of the file.
func (b *BreachedFile) lineAt(at int64) (int64, []byte, error) {
	if at >= b.size {
		return at, nil, nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(b.f, at, maxBreachedLine), maxBreachedLine)
	line, err := r.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return at, nil, fmt.Errorf("read list of breached passwords: %w", err)
	}
	text := strings.ToUpper(strings.TrimRight(string(line), "\r\n"))
	if len(text) < hexDigits || len(text) > hexDigits && text[hexDigits] != ':' {
		return at, nil, badBreached(at)
	}
	if _, err := hex.DecodeString(text[:hexDigits]); err != nil {
		return at, nil, badBreached(at)
	}
	return at + int64(len(line)), []byte(text), nil
}

// lineFrom reads the first line that begins at an offset or after it, and says
// where the one behind it begins.
func (b *BreachedFile) lineFrom(at int64) (int64, []byte, error) {
	if at == 0 {
		return b.lineAt(0)
	}
	buf := make([]byte, maxBreachedLine)
	n, err := b.f.ReadAt(buf, at-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return at, nil, fmt.Errorf("read list of breached passwords: %w", err)
	}
	i := bytes.IndexByte(buf[:n], '\n')
	if i < 0 {
		if at-1+int64(n) >= b.size {
			return b.size, nil, nil
		}
		return at, nil, badBreached(at)
	}
	return b.lineAt(at + int64(i))
}

// Contains looks for a hash by halving the file.
func (b *BreachedFile) Contains(sum [20]byte) (bool, error) {
	want := []byte(strings.ToUpper(hex.EncodeToString(sum[:])))
	low, high := int64(0), b.size
	for low < high {
		mid := low + (high-low)/2
		next, line, err := b.lineFrom(mid)
		if err != nil {
			return false, err
		}
		if line == nil { // no line begins behind the middle
			high = mid
			continue
		}
		switch bytes.Compare(line[:hexDigits], want) {
		case 0:
			return true, nil
		case -1:
			low = next
		default:
			high = mid
		}
	}
	return false, nil
}

// Size is the file's, in bytes.
func (b *BreachedFile) Size() int64 { return b.size }

// Close closes the file.
func (b *BreachedFile) Close() error { return b.f.Close() }
