package readers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Bounds of a page.
const (
	DefaultPage = 500       // lines
	MaxPage     = 1000      // lines
	pageBytes   = 512 << 10 // of lines; one more may follow
	pageLooks   = 20_000    // rows of others that are passed over at most
	MaxWait     = time.Minute
	lookEvery   = time.Second // what the late lane files wakes nobody
)

// Ask is what a reader wants of a stream.
type Ask struct {
	Product core.ProductID
	Cursor  string   // the last one that it was given; "": from the oldest that is kept; "now": what comes from now on
	Fields  []string // only these; none: all that it may read
	Limit   int      // lines; 0: DefaultPage
	Wait    time.Duration
}

// Page is the next piece of a stream.
type Page struct {
	Lines  [][]byte // JSON objects: readings, gaps, orders
	Cursor string   // to ask on with
}

// Line is one line of a stream, as a reader gets it.
type Line struct {
	Type    string          `json:"type"` // reading, gap, order or cursor
	Subject string          `json:"subject,omitempty"`
	Reading string          `json:"reading,omitempty"` // parts of one reading have the same
	Stream  string          `json:"stream,omitempty"`
	T       string          `json:"t,omitempty"` // RFC 3339, UTC
	Flags   []string        `json:"flags,omitempty"`
	Values  json.RawMessage `json:"values,omitempty"`
	Policy  string          `json:"policy,omitempty"`
	Epoch   string          `json:"epoch,omitempty"`
	Until   string          `json:"until,omitempty"` // when it must be gone

	Why    string `json:"why,omitempty"` // of a gap: expired, damaged or unknown
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	AtMost uint64 `json:"at_most,omitempty"` // parts of readings; of them some may have been others'

	Order string `json:"order,omitempty"`
	Do    string `json:"do,omitempty"`
	By    string `json:"by,omitempty"` // when it must be answered

	Cursor string `json:"cursor,omitempty"`
}

// Next gives the next page of a reader's stream. With nothing to give it waits
// for as long as the reader wants, and then gives an empty page. Who asks with
// a cursor has everything before it.
func (s *Service) Next(ctx context.Context, peer *Peer, ask Ask) (*Page, error) {
	r, err := s.good(peer.Name)
	if err != nil {
		return nil, core.E(core.Denied, "revoked", "this service is not registered any more", "")
	}
	if !ask.Product.Valid() || len(ask.Fields) > 256 || ask.Limit < 0 || ask.Limit > MaxPage || ask.Wait < 0 || ask.Wait > MaxWait {
		return nil, core.E(core.Invalid, "bad-ask", "the product is no product id, or too much is asked for",
			fmt.Sprintf("ask for at most %d lines, 256 fields and a wait of 60 seconds", MaxPage))
	}
	if ask.Limit == 0 {
		ask.Limit = DefaultPage
	}
	at, err := s.begin(ctx, r, &ask)
	if err != nil {
		return nil, err
	}
	follower, err := telemetry.NewFollower(s.d.Files, s.d.Keys)
	if err != nil {
		return nil, err
	}
	end := time.NewTimer(ask.Wait)
	defer end.Stop()
	for {
		moved, woken := s.d.Moved(), s.woken()
		b := &builder{s: s, r: &r.Reader, peer: peer, ask: &ask, at: at, follower: follower}
		p, err := b.page(ctx)
		if err != nil || len(p.Lines) > 0 {
			return p, err
		}
		at = b.at
		if b.more {
			continue
		}
		look := time.NewTimer(lookEvery)
		select {
		case <-moved:
		case <-woken:
		case <-look.C:
		case <-end.C:
			look.Stop()
			return p, nil
		case <-peer.gone:
			look.Stop()
			return nil, core.E(core.Denied, "revoked", "this service was revoked", "")
		case <-ctx.Done():
			look.Stop()
			return nil, ctx.Err()
		}
		look.Stop()
	}
}

// woken is closed when the next event is added to some stream.
func (s *Service) woken() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wake
}

// begin finds the place to go on from, and notes that the reader has what is
// before it.
func (s *Service) begin(ctx context.Context, r *registered, ask *Ask) (position, error) {
	at := position{rows: map[core.Epoch]uint64{}}
	switch ask.Cursor {
	case "":
		return at, nil
	case "now":
		at.made = micro(s.d.Now())
		err := s.d.View(ctx, func(tx Tx) (err error) {
			if at.event, err = tx.LastReaderEvent(ctx, r.Name); err != nil {
				return err
			}
			open, err := tx.OpenReaderEvents(ctx) // what waits for an answer is not passed over
			if err != nil {
				return err
			}
			for _, e := range open {
				if e.Reader == r.Name {
					at.event = min(at.event, e.Number-1)
				}
			}
			live, err := tx.Epochs(ctx, telemetry.EpochLive)
			for _, i := range live {
				at.rows[i.Epoch] = i.Head.Rows
			}
			return err
		})
		return at, err
	}
	at, err := openCursor(r.Key, ask.Product, ask.Cursor)
	if err != nil {
		return at, err
	}
	return at, s.d.Update(ctx, func(tx Tx) error {
		return tx.PutSeen(ctx, Seen{Reader: r.Name, Product: ask.Product, Cursor: ask.Cursor, Made: at.made, At: micro(s.d.Now())})
	})
}

// builder makes one page.
type builder struct {
	s        *Service
	r        *Reader
	peer     *Peer
	ask      *Ask
	at       position // afterwards the end of the page
	follower *telemetry.Follower
	more     bool // there was more than fits
	made     time.Time

	view     *telemetry.ServiceView
	rows     []found
	events   []Event
	gaps     []Line
	bytes    int
	damaged  int // parts that did not open
	epochs   map[core.Epoch]bool
	subjects []core.Subject
}

// found is a part of a reading before the reader's names are put in.
type found struct {
	subject core.Subject
	line    Line
	mark    [16]byte // gateway and counter
}

func (b *builder) page(ctx context.Context) (*Page, error) {
	var err error
	b.at = b.at.clone()
	b.view, err = b.s.view(ctx, b.r.Name, b.ask.Product)
	if core.KindOf(err) == core.Denied {
		// Who has readings from before is still told what must go.
		var had bool
		if had, err = b.had(ctx, err); !had {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	for _, f := range b.ask.Fields {
		if !slices.Contains(b.view.Fields, f) {
			return nil, core.E(core.Denied, "field-not-declared", fmt.Sprintf("the declaration does not give this service the field %q", f),
				"it may read "+strings.Join(b.view.Fields, ", "))
		}
	}
	now := b.s.d.Now().UTC()
	b.made = micro(now)
	if err := b.collect(ctx, now); err != nil {
		return nil, err
	}
	b.at.made = b.made
	p := &Page{}
	if len(b.rows)+len(b.gaps)+len(b.events) > 0 {
		if p.Lines, err = b.admit(ctx, now); err != nil {
			return nil, err
		}
	}
	p.Cursor, err = b.at.seal(b.r.Key, b.ask.Product)
	return p, err
}

// collect fills the page from gaps and epoch files, the oldest epoch first, and
// moves the place on.
func (b *builder) collect(ctx context.Context, now time.Time) error {
	var all []telemetry.EpochInfo
	err := b.s.d.View(ctx, func(tx Tx) (err error) {
		if all, err = tx.Epochs(ctx, telemetry.EpochLive, telemetry.EpochDamaged, telemetry.EpochEnding, telemetry.EpochEnded); err != nil {
			return err
		}
		b.events, err = tx.ReaderEvents(ctx, b.r.Name, b.ask.Product, b.at.event, b.ask.Limit)
		return err
	})
	if err != nil {
		return fmt.Errorf("stream of %s: %w", b.ask.Product, err)
	}
	for i := range b.events {
		b.at.event = b.events[i].Number
		b.bytes += len(b.events[i].Body) + 300
	}
	b.more = len(b.events) >= b.ask.Limit
	slices.SortFunc(all, func(x, y telemetry.EpochInfo) int { return compareEpochs(x.Epoch, y.Epoch) })
	known := map[core.Epoch]bool{}
	looks := 0
	for i := range all {
		e, head := all[i].Epoch, all[i].Head.Rows
		known[e] = true
		switch {
		case all[i].State == telemetry.EpochEnded:
			// What ended before this cursor was made was told, or had, by then.
			if had := b.at.rows[e]; head > had && b.view.Keeps(e.Keep) && !b.at.made.IsZero() && all[i].Changed.After(b.at.made) {
				b.gap(e, "expired", head-had)
			}
			if all[i].Changed.After(b.made) {
				b.made = all[i].Changed
			}
			delete(b.at.rows, e)
			continue
		case !b.view.Keeps(e.Keep):
			continue
		case all[i].State == telemetry.EpochDamaged:
			if had := b.at.rows[e]; head > had {
				b.gap(e, "damaged", head-had)
				b.at.rows[e] = head
			}
			continue
		case all[i].State == telemetry.EpochEnding || !now.Before(e.Due()):
			continue // it ends in a moment; then it is told
		}
		had := b.at.rows[e]
		if head <= had || b.more {
			b.more = b.more || head > had
			continue
		}
		upTo := min(head, had+uint64(pageLooks-looks))
		last, unreadable, err := b.follower.Follow(ctx, b.view, e, had, upTo, b.take)
		if core.KindOf(err) == core.Unknown {
			continue // it ended just now
		}
		if _, broken := telemetry.AsBroken(err); broken {
			continue // the projector will note it
		}
		if err != nil {
			return err
		}
		b.damaged += unreadable
		looks += int(last - had)
		b.at.rows[e] = last
		b.more = last < head || looks >= pageLooks
	}
	for e := range b.at.rows {
		if !known[e] { // forgotten, long after its end
			delete(b.at.rows, e)
			b.gap(e, "expired", 0)
		}
	}
	return nil
}

func (b *builder) gap(e core.Epoch, why string, most uint64) {
	b.gaps = append(b.gaps, Line{
		Type: "gap", Why: why, Epoch: e.String(), AtMost: most,
		From: time.Unix(e.Start, 0).UTC().Format(time.RFC3339), To: e.End().Format(time.RFC3339),
	})
}

// take keeps one part for the page; true when it is full.
func (b *builder) take(f *telemetry.Followed) bool {
	rd := &f.Row.Reading
	values := f.Values
	if len(b.ask.Fields) > 0 {
		if values = only(values, b.ask.Fields); values == nil {
			return false
		}
	}
	x := found{subject: rd.Subject, line: Line{
		Type: "reading", Stream: rd.Stream, T: time.UnixMilli(rd.T).UTC().Format("2006-01-02T15:04:05.000Z"), Values: slices.Clone(values),
		Policy: rd.Policy.String(), Epoch: f.Row.Part.Epoch.String(), Until: f.Row.Part.Epoch.Due().Format(time.RFC3339),
	}}
	if rd.Flags&telemetry.FlagWrongClock != 0 {
		x.line.Flags = []string{"wrong-clock"}
	}
	if rd.Flags&telemetry.FlagVouched != 0 {
		// Not which hub: two names side by side would go on saying who lived
		// together after one of them was erased.
		x.line.Flags = append(x.line.Flags, "vouched-for-by-hub")
	}
	copy(x.mark[:8], rd.Gateway[:])
	binary.BigEndian.PutUint64(x.mark[8:], rd.Counter)
	b.rows = append(b.rows, x)
	b.bytes += len(values) + 400
	if b.epochs == nil {
		b.epochs = map[core.Epoch]bool{}
	}
	b.epochs[f.Row.Part.Epoch] = true
	return len(b.rows)+len(b.events) >= b.ask.Limit || b.bytes >= pageBytes
}

// only keeps the named members of an object; nil when none is left.
func only(object []byte, names []string) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	for n := range all {
		if !slices.Contains(names, n) {
			delete(all, n)
		}
	}
	if len(all) == 0 {
		return nil
	}
	out, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return out
}

// admit notes, before the first byte flows, whose readings go out in which
// session, and writes the lines. What is of a subject whose erasure was asked
// for meanwhile falls out.
func (b *builder) admit(ctx context.Context, now time.Time) ([][]byte, error) {
	seen := map[core.Subject]bool{}
	for i := range b.rows {
		if x := b.rows[i].subject; !seen[x] {
			seen[x] = true
			b.subjects = append(b.subjects, x)
		}
	}
	var names map[core.Subject]core.Subject
	err := b.s.d.Update(ctx, func(tx Tx) (err error) {
		if names, err = tx.ReaderAliases(ctx, b.r.Name, b.subjects); err != nil {
			return err
		}
		for _, x := range b.subjects {
			if _, ok := names[x]; ok {
				continue
			}
			a := Alias{Subject: x, Product: b.ask.Product, Since: micro(now)}
			_, _ = rand.Read(a.Alias[:]) // crypto/rand.Read never fails
			kept, err := tx.AddReaderAlias(ctx, b.r.Name, a)
			if err != nil {
				return err
			}
			if kept {
				names[x] = a.Alias
			}
		}
		epochs := make([]core.Epoch, 0, len(b.epochs))
		for e := range b.epochs {
			epochs = append(epochs, e)
		}
		slices.SortFunc(epochs, compareEpochs)
		if err := tx.AddReaderEpochs(ctx, b.r.Name, b.ask.Product, epochs); err != nil {
			return err
		}
		if len(b.rows)+len(b.gaps) == 0 {
			return nil // orders alone are no reading
		}
		return b.s.count(ctx, tx, b, now)
	})
	if err != nil {
		return nil, fmt.Errorf("stream of %s: %w", b.ask.Product, err)
	}
	if b.damaged > 0 {
		b.s.d.Log.ErrorContext(ctx, "stored readings do not open; see `hawser ledger verify`")
	}
	var lines [][]byte
	for i := range b.events {
		if b.events[i].Kind == Made {
			continue
		}
		l := lineOf(&b.events[i])
		if lines, err = appendLine(lines, &l); err != nil {
			return nil, err
		}
	}
	for i := range b.gaps {
		if lines, err = appendLine(lines, &b.gaps[i]); err != nil {
			return nil, err
		}
	}
	for i := range b.rows {
		x := &b.rows[i]
		alias, ok := names[x.subject]
		if !ok {
			continue
		}
		x.line.Subject = alias.String()
		x.line.Reading = readingID(alias, x.mark)
		if lines, err = appendLine(lines, &x.line); err != nil {
			return nil, err
		}
	}
	for i := range b.events {
		if b.events[i].Kind == Made {
			lines = append(lines, b.events[i].Body)
		}
	}
	return lines, nil
}

// had reports whether a reader that may read nothing of a product any more has
// readings of it, or an order; denied is what it is told otherwise. It then has
// a view of nothing.
func (b *builder) had(ctx context.Context, denied error) (bool, error) {
	n := 0
	err := b.s.d.View(ctx, func(tx Tx) (err error) {
		if n, err = tx.CountAliases(ctx, b.r.Name, b.ask.Product); err != nil || n > 0 {
			return err
		}
		some, err := tx.ReaderEvents(ctx, b.r.Name, b.ask.Product, 0, 1)
		n = len(some)
		return err
	})
	if err != nil || n == 0 {
		return false, errors.Join(err, denied)
	}
	b.view = &telemetry.ServiceView{Product: b.ask.Product}
	return true, nil
}

func appendLine(lines [][]byte, l *Line) ([][]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("write a line of a stream: %w", err)
	}
	return append(lines, b), nil
}

var readingText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// readingID names a reading to one reader: its parts share it, two readers'
// names of it do not.
func readingID(alias core.Subject, mark [16]byte) string {
	h := sha256.Sum256(append(append([]byte("hawser/reader/reading\x00"), alias[:]...), mark[:]...))
	return readingText.EncodeToString(h[:10])
}
