package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"net/http"

	"github.com/hawser-iot/hawser/internal/gateway/ingest"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// ingestDoor is the door for batches of readings. It stands on the gateway, so
// that both doors know one device.
func (s *server) ingestDoor() (http.Handler, error) {
	return ingest.New(ingest.Deps{
		Visit: func(ctx context.Context, leaf *x509.Certificate, first bool) (ingest.Visit, error) {
			v, err := s.gateway.Visit(ctx, leaf, first)
			if err != nil {
				return nil, err // not a nil pointer in an interface
			}
			return v, nil
		},
		Keys: keptAnswers{s.store, s.opt.beforeKeep}, Now: s.opt.Now, Log: s.log,
	})
}

// keptAnswers keeps the answers to batches in the store.
type keptAnswers struct {
	store  *store.Store
	before func() // nil but in tests
}

func (a keptAnswers) Answer(ctx context.Context, key [sha256.Size]byte) (k telemetry.KeptAnswer, found bool, err error) {
	err = a.store.View(ctx, func(tx *store.Tx) error { k, found, err = tx.Answer(ctx, key); return err })
	return k, found, err
}

func (a keptAnswers) Keep(ctx context.Context, k telemetry.KeptAnswer) error {
	if a.before != nil {
		a.before()
	}
	return a.store.Update(ctx, func(tx *store.Tx) error { return tx.PutAnswer(ctx, k) })
}

// trimAnswers is a job: it forgets answers that are past their time.
func (s *server) trimAnswers(ctx context.Context) error {
	before := s.opt.Now().Add(-telemetry.KeepAnswers)
	return s.store.Update(ctx, func(tx *store.Tx) error { return tx.TrimAnswers(ctx, before, telemetry.MaxAnswersTogether) })
}
