package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A batch is laid out as
//
//	version  1 byte, batchVersion
//	records  4 bytes, big endian, how many
//	crc      4 bytes, CRC-32C (Castagnoli) of everything after it
//	then for each record: length 4 bytes, big endian; the record
//
// A batch without records is a probe: written to see whether the disk takes
// writes again.
const (
	batchVersion   = 1
	batchHeader    = 9
	recordHeader   = 4
	maxBatchBytes  = 900 << 10 // JetStream's default largest message is 1 MiB
	maxRecordBytes = maxBatchBytes - batchHeader - recordHeader
)

// castagnoli is only read; making it costs 1 KB, so every batch uses one.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// startBatch makes dst the beginning of an empty batch.
func startBatch(dst []byte) []byte {
	return append(dst[:0], batchVersion, 0, 0, 0, 0, 0, 0, 0, 0)
}

// appendRecord adds one record to a begun batch.
func appendRecord(b, rec []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec)))
	return append(b, rec...)
}

// finishBatch writes the count and the checksum.
func finishBatch(b []byte, records int) {
	binary.BigEndian.PutUint32(b[1:], uint32(records))
	binary.BigEndian.PutUint32(b[5:], crc32.Checksum(b[batchHeader:], castagnoli))
}

// splitBatch gives the records of a batch as slices of it, appended to dst.
// Anything that is not exactly what finishBatch made is an error.
func splitBatch(dst [][]byte, b []byte) ([][]byte, error) {
	if len(b) < batchHeader || len(b) > maxBatchBytes {
		return dst, fmt.Errorf("batch of %d bytes: want %d to %d", len(b), batchHeader, maxBatchBytes)
	}
	if b[0] != batchVersion {
		return dst, fmt.Errorf("batch of version %d is not known to this version", b[0])
	}
	n, sum := binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])
	b = b[batchHeader:]
	if crc32.Checksum(b, castagnoli) != sum {
		return dst, fmt.Errorf("batch fails its checksum")
	}
	for ; n > 0; n-- {
		if len(b) < recordHeader {
			return dst, fmt.Errorf("batch ends %d records early", n)
		}
		size := binary.BigEndian.Uint32(b)
		b = b[recordHeader:]
		if uint64(size) > uint64(len(b)) {
			return dst, fmt.Errorf("record of %d bytes in a batch with %d left", size, len(b))
		}
		dst = append(dst, b[:size:size])
		b = b[size:]
	}
	if len(b) != 0 {
		return dst, fmt.Errorf("%d bytes after the last record of a batch", len(b))
	}
	return dst, nil
}
