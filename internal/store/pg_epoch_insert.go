package store

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// pgInserter inserts rows of one append, which have their numbers, and works
// out their leaves on the way.
type pgInserter struct {
	rows   []telemetry.Row
	nums   []numbers
	order  []int // rows to insert
	base   int64 // of times in the partition, Unix milliseconds
	leaves []core.Hash
	buf    []byte // for leaves
	head   []byte

	// While it is an io.Reader for COPY.
	out, rest []byte
	begun     bool
	ended     bool
}

// insert sends the rows by COPY, which costs the server less than arrays do for
// a hundred rows as well as for thirty thousand (docs/decisions/014).
func (in *pgInserter) insert(ctx context.Context, tx pgx.Tx, p *pgPart) error {
	_, err := tx.Conn().PgConn().CopyFrom(ctx, in, p.sql(`COPY {e}.rows (id, subject, lane, boot, seq, t, head, sealed) FROM STDIN (FORMAT binary)`))
	return err
}

func (in *pgInserter) leaf(r *telemetry.Row) {
	var leaf core.Hash
	leaf, in.buf = telemetry.LeafHash(r, in.buf)
	in.leaves = append(in.leaves, leaf)
}

// pgCopyHeader begins COPY's binary format: signature, flags, no extension
// (PostgreSQL documentation, COPY, "Binary Format").
const pgCopyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Read gives the rows in COPY's binary format. The server files what it has
// got while the next rows are written and hashed here.
func (in *pgInserter) Read(dst []byte) (int, error) {
	if len(in.rest) == 0 {
		if in.ended {
			return 0, io.EOF
		}
		in.out = in.out[:0]
		if !in.begun {
			in.begun, in.out = true, append(in.out, pgCopyHeader...)
		}
		for len(in.order) > 0 && len(in.out) < len(dst) {
			in.write(in.order[0])
			in.order = in.order[1:]
		}
		if len(in.order) == 0 {
			in.ended, in.out = true, append(in.out, 0xff, 0xff) // no more rows
		}
		in.rest = in.out
	}
	n := copy(dst, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// write appends row i to in.out: eight fields, each with its length.
func (in *pgInserter) write(i int) {
	r, n := &in.rows[i], &in.nums[i]
	in.leaf(r)
	in.head = appendRowHead(in.head[:0], n, &r.Reading)
	b := binary.BigEndian.AppendUint16(in.out, 8)
	long := func(v int64) { b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v)) }
	short := func(v int64) { b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v)) }
	bytes := func(v []byte) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...) }
	long(r.ID)
	short(n.subject)
	short(n.lane)
	long(n.boot)
	long(n.seq)
	long(r.Reading.T - in.base)
	bytes(in.head)
	bytes(r.Part.Sealed)
	in.out = b
}
