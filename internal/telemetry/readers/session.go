package readers

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The records of a stream: one before its first value of an hour flows, one
// with the counts afterwards (CC 4.1; design, journey 2). A stream never ends,
// so its sessions are hours.
const (
	RecordStreamOpened core.RecordKind = "stream-opened"
	RecordStreamClosed core.RecordKind = "stream-closed"
)

const sessionTime = time.Hour

// count adds a page to the session of its hour, and begins it when it is the
// first.
func (s *Service) count(ctx context.Context, tx Tx, b *builder, now time.Time) error {
	x, open, err := tx.ReaderSession(ctx, b.r.Name, b.ask.Product)
	if err != nil {
		return err
	}
	if open && !x.Opened.Truncate(sessionTime).Equal(now.Truncate(sessionTime)) {
		if err := s.closeSession(ctx, tx, &x, now); err != nil {
			return err
		}
		open = false
	}
	if !open {
		by := "webhook"
		if b.peer.Leaf != nil {
			by = fmt.Sprintf("%x", b.peer.Number[:])
		}
		x = Session{Reader: b.r.Name, Product: b.ask.Product, Name: rand.Text(), Opened: micro(now)}
		err := tx.Record(ctx, core.Record{
			Time: x.Opened, Kind: RecordStreamOpened, Actor: core.Actor{Kind: core.ActorService, ID: b.r.Name}, Product: b.ask.Product, Policy: b.view.Current,
			Facts: []core.Fact{
				{Name: "session", Value: x.Name},
				{Name: "service", Value: b.r.Name},
				{Name: "certificate", Value: by},
				{Name: "fields", Value: joined(b.view.Fields)},
				{Name: "purposes", Value: joined(b.view.Purposes)},
			},
		})
		if err != nil {
			return err
		}
	}
	x.Readings += uint64(len(b.rows))
	x.Gaps += uint64(len(b.gaps))
	return tx.PutReaderSession(ctx, x)
}

func (s *Service) closeSession(ctx context.Context, tx Tx, x *Session, now time.Time) error {
	subjects, err := tx.CountAliases(ctx, x.Reader, x.Product)
	if err != nil {
		return err
	}
	return tx.Record(ctx, core.Record{
		Time: micro(now), Kind: RecordStreamClosed, Actor: core.Actor{Kind: core.ActorService, ID: x.Reader}, Product: x.Product,
		Facts: []core.Fact{
			{Name: "session", Value: x.Name},
			{Name: "service", Value: x.Reader},
			{Name: "readings", Value: strconv.FormatUint(x.Readings, 10)},
			{Name: "gaps", Value: strconv.FormatUint(x.Gaps, 10)},
			{Name: "subjects_known", Value: strconv.Itoa(subjects)},
		},
	})
}

// CloseSessions is the job that ends the sessions whose hour is over. What a
// stop or a crash left open ends here, too.
func (s *Service) CloseSessions(ctx context.Context) error {
	now := s.d.Now().UTC()
	err := s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.ReaderSessions(ctx)
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].Opened.Truncate(sessionTime).Equal(now.Truncate(sessionTime)) {
				continue
			}
			if err := s.closeSession(ctx, tx, &all[i], now); err != nil {
				return err
			}
			if err := tx.DropReaderSession(ctx, all[i].Reader, all[i].Product); err != nil {
				return err
			}
		}
		return tx.DropReaderCertificates(ctx, now.Add(-90*24*time.Hour))
	})
	if err != nil {
		return fmt.Errorf("close the sessions of streams: %w", err)
	}
	return nil
}
