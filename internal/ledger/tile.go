package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// TileKind says what a tile resource holds.
type TileKind uint8

// The two kinds of resource under /tile/.
const (
	HashTile    TileKind = iota // up to 256 hashes of one level
	EntryBundle                 // up to 256 leaves, each behind its 16-bit length
)

// TileRef names one resource of the tlog-tiles layout.
type TileRef struct {
	Kind  TileKind
	Level int    // 0 … 5; always 0 for a bundle
	N     uint64 // index within the level
	Width int    // 1 … 256; 256 is a full tile, which never changes
}

// maxTileLevel is the highest level that the layout knows.
const maxTileLevel = 5

// Path is the resource's path under "/tile/": "0/x001/x234/067.p/12" for
// hashes, "entries/x001/x234/067" for a bundle (https://c2sp.org/tlog-tiles).
func (t TileRef) Path() string {
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	if t.Width < tileWidth {
		n += ".p/" + strconv.Itoa(t.Width)
	}
	if t.Kind == EntryBundle {
		return "entries/" + n
	}
	return strconv.Itoa(t.Level) + "/" + n
}

// ParseTilePath reads a path under "/tile/". It accepts only the one spelling
// that Path writes.
func ParseTilePath(path string) (TileRef, error) {
	bad := errors.New("no such tile")
	if len(path) > 64 {
		return TileRef{}, bad
	}
	t := TileRef{Width: tileWidth}
	first, rest, ok := strings.Cut(path, "/")
	if !ok {
		return TileRef{}, bad
	}
	if first == "entries" {
		t.Kind = EntryBundle
	} else {
		level, err := strconv.ParseUint(first, 10, 8)
		if err != nil || level > maxTileLevel {
			return TileRef{}, bad
		}
		t.Level = int(level)
	}
	if head, w, partial := strings.Cut(rest, ".p/"); partial {
		width, err := strconv.ParseUint(w, 10, 16)
		if err != nil || width < 1 || width >= tileWidth {
			return TileRef{}, bad
		}
		rest, t.Width = head, int(width)
	}
	for part := range strings.SplitSeq(rest, "/") {
		digits := strings.TrimPrefix(part, "x")
		v, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || len(digits) != 3 || t.N > maxSize/1000 {
			return TileRef{}, bad
		}
		t.N = t.N*1000 + v
	}
	if t.Path() != path {
		return TileRef{}, bad
	}
	return t, nil
}

// complete reports whether a tree of the given size has all of the tile.
func (t TileRef) complete(size uint64) bool {
	if t.Level < 0 || t.Level > maxTileLevel || t.Width < 1 || t.Width > tileWidth || t.N > maxSize/tileWidth ||
		(t.Kind == EntryBundle && t.Level != 0) {
		return false
	}
	return t.N*tileWidth+uint64(t.Width) <= size>>(tileHeight*t.Level)
}
