package server

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Bounds of one search in a database.
const (
	lookPartitions = 4
	lookRows       = 2048 // of each, from one by chance on
)

// searched is a stretch of rows that was looked at.
type searched struct{ name, why string }

// database searches rows of partitions by chance, when readings lie in a
// database: its files are not ours to read. found says what is wrong with what
// is sealed of a row.
func (c *canary) database(ctx context.Context, found func([]byte) string) ([]searched, error) {
	if c.s.c.Store == "" {
		return nil, nil
	}
	files := c.s.telem.files
	all, err := files.Names(ctx)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var out []searched
	for _, e := range all {
		if len(out) == lookPartitions {
			break
		}
		x, some, err := files.Extent(ctx, e)
		if _, broken := telemetry.AsBroken(err); broken || err == nil && (!some || x.Head.Rows == 0) {
			continue // others say what is wrong with it
		}
		if err != nil {
			return nil, err
		}
		first := int64(1)
		if n := int64(x.Head.Rows) - lookRows; n > 0 {
			first += rand.Int64N(n)
		}
		r := searched{name: fmt.Sprintf("partition %s, rows %d to %d", e, first, first+lookRows-1)}
		err = files.Stretch(ctx, e, first, first+lookRows-1, func(row *telemetry.Row) error {
			if why := found(row.Part.Sealed); why != "" && r.why == "" {
				r.why = fmt.Sprintf("row %d %s", row.ID, why)
			}
			return nil
		})
		if core.KindOf(err) == core.Unknown {
			continue // it has just ended
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
