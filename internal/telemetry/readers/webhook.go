package readers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordWebhook records where a service's pages are posted to.
const RecordWebhook core.RecordKind = "service-webhook-set"

const maxWebhook = 500 // bytes of a URL

// CheckWebhook refuses what is no address to post to: https, a host, no user.
// Where the host may lie is looked at when it is dialled.
func CheckWebhook(text string) error {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxWebhook || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return core.E(core.Invalid, "webhook-url", "this is no address to post to", "write https://HOST/PATH, without user or fragment")
	}
	return nil
}

// SetWebhook has a reader's pages posted to an address; "" ends that.
func (s *Service) SetWebhook(ctx context.Context, by core.Actor, name, to string) error {
	if to != "" {
		if err := CheckWebhook(to); err != nil {
			return err
		}
	}
	if _, err := s.good(name); err != nil {
		return err
	}
	now := micro(s.d.Now())
	host := "none"
	if u, err := url.Parse(to); err == nil && to != "" {
		host = u.Host
	}
	err := s.d.Update(ctx, func(tx Tx) error {
		if to == "" {
			if err := tx.DropReaderWebhook(ctx, name); err != nil {
				return err
			}
		} else if err := tx.PutReaderWebhook(ctx, Webhook{Reader: name, URL: to, Set: now}); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordWebhook, Actor: by, Facts: []core.Fact{
			{Name: "service", Value: name}, {Name: "host", Value: host},
		}})
	})
	if err != nil {
		return fmt.Errorf("set the webhook of %s: %w", name, err)
	}
	return nil
}

// Post sends one page to a reader. It returns nil when the reader has it.
type Post func(ctx context.Context, to string, name string, product core.ProductID, p *Page) error

// Back-off of a webhook that does not take its page.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 15 * time.Minute
	pagesATurn = 50 // of one reader and product
)

// postings is how webhooks fare, in memory: a restart tries all at once again.
type postings struct {
	mu   sync.Mutex // guards what follows
	fare map[[2]string]fare
}

type fare struct {
	wait  time.Duration
	next  time.Time
	since time.Time // of the first failure
	why   error
}

// PostPages is the job that posts what is new to each webhook. The queue is the
// stream: a page that was not taken is made again, from where the reader is.
func (s *Service) PostPages(ctx context.Context, post Post) error {
	var all []Webhook
	err := s.d.View(ctx, func(tx Tx) (err error) { all, err = tx.ReaderWebhooks(ctx); return err })
	if err != nil {
		return fmt.Errorf("post to services: %w", err)
	}
	var work sync.WaitGroup
	errs := make([]error, len(all))
	for i, w := range all {
		r, err := s.good(w.Reader)
		if err != nil {
			continue // revoked
		}
		products, err := s.declaring(ctx, w.Reader)
		if err != nil {
			return err
		}
		work.Go(func() {
			for _, p := range products {
				errs[i] = errors.Join(errs[i], s.postTo(ctx, r, w.URL, p, post))
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// postTo posts one reader's pages of one product until there is nothing more.
// That the reader does not take them is no error of ours.
func (s *Service) postTo(ctx context.Context, r *registered, to string, product core.ProductID, post Post) error {
	key := [2]string{r.Name, string(product)}
	s.posts.mu.Lock()
	f := s.posts.fare[key]
	s.posts.mu.Unlock()
	if s.d.Now().Before(f.next) {
		return nil
	}
	cursor := ""
	err := s.d.View(ctx, func(tx Tx) error {
		seen, err := tx.SeenBy(ctx, r.Name)
		for _, x := range seen {
			if x.Product == product {
				cursor = x.Cursor
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	peer := &Peer{Name: r.Name, gone: r.gone, busy: r.busy}
	for range pagesATurn {
		p, err := s.Next(ctx, peer, Ask{Product: product, Cursor: cursor})
		if core.KindOf(err) == core.Denied {
			return nil // it reads nothing there
		}
		if err != nil {
			return err
		}
		if len(p.Lines) == 0 {
			break
		}
		if err := post(ctx, to, r.Name, product, p); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			now := s.d.Now()
			if f.since.IsZero() {
				f.since = now
			}
			f.wait = min(max(2*f.wait, firstRetry), lastRetry)
			f.next, f.why = now.Add(f.wait), err
			s.put(key, f)
			s.d.Log.WarnContext(ctx, "a service does not take its page", slog.String("service", r.Name), slog.Duration("again_in", f.wait), slog.Any("err", err))
			return nil
		}
		cursor = p.Cursor
		if err := s.seen(ctx, r, product, cursor); err != nil {
			return err
		}
		f = fare{}
	}
	s.put(key, f)
	return nil
}

func (s *Service) put(key [2]string, f fare) {
	s.posts.mu.Lock()
	defer s.posts.mu.Unlock()
	if s.posts.fare == nil {
		s.posts.fare = map[[2]string]fare{}
	}
	if f.since.IsZero() {
		delete(s.posts.fare, key)
		return
	}
	s.posts.fare[key] = f
}

// seen notes that a reader has what is before a cursor.
func (s *Service) seen(ctx context.Context, r *registered, product core.ProductID, cursor string) error {
	at, err := openCursor(r.Key, product, cursor)
	if err != nil {
		return err
	}
	return s.d.Update(ctx, func(tx Tx) error {
		return tx.PutSeen(ctx, Seen{Reader: r.Name, Product: product, Cursor: cursor, Made: at.made, At: micro(s.d.Now())})
	})
}

// NotTaken says for how long a reader's webhook takes nothing, and why; zero
// when it does.
func (s *Service) NotTaken(name string) (since time.Time, why error) {
	s.posts.mu.Lock()
	defer s.posts.mu.Unlock()
	for key, f := range s.posts.fare {
		if key[0] == name && (since.IsZero() || f.since.Before(since)) {
			since, why = f.since, f.why
		}
	}
	return since, why
}
