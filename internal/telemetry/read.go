package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
)

// The records of a read session: one before the first value flows, one with
// the counts after the last.
const (
	RecordReadOpened core.RecordKind = "read-session-opened"
	RecordReadClosed core.RecordKind = "read-session-closed"
)

// sealContextRead is what the sealed part of a read session's record is.
const sealContextRead = "read-session"

// Owned is whose a device is now.
type Owned struct {
	Subject core.Subject // zero: nobody's; it never had an owner, or was erased
	Product core.ProductID
	Since   time.Time // the ownership began
}

// ReadTx is what a read session needs of the control database.
type ReadTx interface {
	Record(context.Context, core.Record) error
}

// ReadKeys are the keys that a read session uses; *seal.Keyring has them.
type ReadKeys interface {
	Lease(core.Subject, core.Epoch) (*seal.Key, error)
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
}

// ReadDeps is what a ReadService needs; all of it is required.
type ReadDeps struct {
	Update     func(context.Context, func(ReadTx) error) error
	Partitions Partitions // a *Shelf: what waits in the late lane counts
	Keys       ReadKeys
	// Owner is whose a device is; core.Unknown for a device that does not exist.
	Owner func(context.Context, core.DeviceID) (Owned, error)
	// Policies are all versions of a product's declaration, oldest first.
	Policies func(context.Context, core.ProductID) ([]*declaration.Policy, error)
	// Settle returns when all that was acknowledged before is filed: Projector.Settle.
	Settle func(context.Context) error
	Now    func() time.Time
	Log    *slog.Logger
}

// ReadService reads readings back for those who may.
type ReadService struct{ d ReadDeps }

// NewReadService checks its dependencies.
func NewReadService(d ReadDeps) (*ReadService, error) {
	if d.Update == nil || d.Partitions == nil || d.Keys == nil || d.Owner == nil || d.Policies == nil || d.Settle == nil || d.Now == nil || d.Log == nil {
		return nil, errors.New("read service: a dependency is missing")
	}
	return &ReadService{d: d}, nil
}

// ReadRequest asks for the readings of a device under its present owner.
type ReadRequest struct {
	Device  core.DeviceID
	Fields  []string  // none: all that the role may read
	From    time.Time // first instant wanted; zero: the oldest that is kept
	To      time.Time // first instant no longer wanted; zero: now
	Purpose string    // a declared purpose, required (CC 4.5); fields without it are withheld
	Reason  string    // 5 to 300 characters; why, for the ledger
	Role    string    // what the reader is to the device: "support"
}

// Withheld is a field that the session does not show, and why in a word:
// "reader" (the role is not among its readers), "purpose" (it is not collected
// for that), "removed" (the declaration in force no longer has it), "step-up"
// or "two-persons" (its declaration asks for a protection that this way of
// reading does not have).
type Withheld struct{ Field, Why string }

// OpenReading is one reading with the values that the reader may see.
type OpenReading struct {
	Time       time.Time
	Received   time.Time
	Stream     string
	HasSeq     bool
	Boot, Seq  uint64
	WrongClock bool
	Sender     Sender    // the certificate on whose session it came in, and no more (design, section 5, Sealing)
	Policy     core.Hash // the declaration it was collected by
	Values     []byte    // a JSON object, members by name; valid until yield returns
}

// ReadDone is how a session ended.
type ReadDone struct {
	Session    string // names the session in the ledger
	Readings   int
	Unreadable int        // parts that did not open: changed on disk; see `hawser ledger verify`
	Undeclared int        // members of opened parts that their declaration does not name: never shown, never to be there
	Withheld   []Withheld // by field
	Behind     bool       // readings that were acknowledged may not be in it yet
	Damaged    []string   // epochs whose file is damaged and put aside
}

// settleTime is how long a session waits for readings that are on their way.
const settleTime = 2 * time.Second

// Read opens a session and yields the readings in the order of their time.
//
// Who reads what, with what reason, is in the ledger before the first value
// flows, and how much it was after the last (CC 4.1; design, journey 2).
// Only the groups are decrypted that hold a field which the declaration lets
// the role read, both the one a reading was collected by and the one in force:
// widening never reaches back, narrowing does at once (CC 2.10).
//
// It fails with core.Unknown for a device that does not exist, or that is
// nobody's because its owner was erased, and stops with "erased" when that
// happens meanwhile. An error of yield ends the session and is returned.
func (s *ReadService) Read(ctx context.Context, by core.Actor, q ReadRequest, yield func(*OpenReading) error) (done ReadDone, err error) {
	if err := q.check(); err != nil {
		return ReadDone{}, err
	}
	owned, err := s.d.Owner(ctx, q.Device)
	if err != nil {
		return ReadDone{}, err
	}
	if owned.Subject.IsZero() {
		return ReadDone{}, core.E(core.Unknown, "unowned", "the device belongs to nobody: there are no readings of it",
			"its owner was erased, or it never had one; see `hawser device show`")
	}
	policies, err := s.d.Policies(ctx, owned.Product)
	if err != nil {
		return ReadDone{}, fmt.Errorf("read %s: %w", owned.Product, err)
	}
	v, err := newView(policies, &q)
	if err != nil {
		return ReadDone{}, err
	}
	settle, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := s.d.Settle(settle); err != nil {
		if ctx.Err() != nil {
			return ReadDone{}, ctx.Err()
		}
		s.d.Log.WarnContext(ctx, "read session may miss the newest readings", slog.Any("err", err))
		done.Behind = true
	}
	done.Session, done.Withheld = rand.Text(), v.withheld
	if err := s.open(ctx, by, &q, owned, v, done.Session); err != nil {
		return ReadDone{}, err
	}
	r := &reader{s: s, v: v, subject: owned.Subject, done: &done, yield: yield}
	r.from, r.to = q.From, q.To
	if r.to.IsZero() {
		r.to = s.d.Now().Add(clockSlack)
	}
	err = r.run(ctx)
	if cerr := s.close(context.WithoutCancel(ctx), by, owned, &done, err); cerr != nil {
		return done, errors.Join(err, cerr)
	}
	return done, err
}

// clockSlack is how far ahead of us a device's clock may be: see the design,
// section 5, Time.
const clockSlack = 5 * time.Minute

const (
	minReason     = 5
	maxReasonText = 300
	maxAsked      = 256
	maxWord       = 64
)

// checkReason requires a reason that says something.
func checkReason(reason string) error {
	if n := utf8.RuneCountInString(strings.TrimSpace(reason)); n < minReason || n > maxReasonText || !utf8.ValidString(reason) {
		return core.E(core.Invalid, "no-reason", "a reason is required", "give 5 to 300 characters; it stands in the ledger")
	}
	return nil
}

func (q *ReadRequest) check() error {
	if err := checkReason(q.Reason); err != nil {
		return err
	}
	if !q.Device.Valid() {
		return core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "")
	}
	if q.Role == "" || len(q.Role) > maxWord || len(q.Purpose) > maxWord || len(q.Fields) > maxAsked {
		return core.E(core.Invalid, "bad-read", "the read names no role, or too much", fmt.Sprintf("ask for at most %d fields", maxAsked))
	}
	if !q.To.IsZero() && q.To.Before(q.From) {
		return core.E(core.Invalid, "span", "the span ends before it begins", "name an earlier beginning or a later end")
	}
	return nil
}

// open writes who is about to read what. Nothing is decrypted unless it is
// committed. The device and the reason can be personal: they are sealed under
// the subject's key and go with it.
func (s *ReadService) open(ctx context.Context, by core.Actor, q *ReadRequest, owned Owned, v *view, session string) error {
	part, err := json.Marshal(struct {
		Device core.DeviceID `json:"device"`
		Reason string        `json:"reason"`
	}{q.Device, q.Reason})
	if err != nil {
		return fmt.Errorf("record read session: %w", err)
	}
	sealed, err := s.d.Keys.SealValue(owned.Subject, sealContextRead, part)
	if err != nil {
		return fmt.Errorf("record read session: %w", err)
	}
	r := core.Record{
		Time: s.d.Now().UTC(), Kind: RecordReadOpened, Actor: by, Subject: owned.Subject, Product: owned.Product,
		Policy: v.current, Sealed: sealed,
		Facts: []core.Fact{
			{Name: "session", Value: session},
			{Name: "role", Value: q.Role},
			{Name: "fields", Value: list(v.shown)},
		},
	}
	add := func(name, value string) {
		if value != "" {
			r.Facts = append(r.Facts, core.Fact{Name: name, Value: value})
		}
	}
	add("purpose", q.Purpose)
	add("from", factTime(q.From))
	add("to", factTime(q.To))
	return s.d.Update(ctx, func(tx ReadTx) error { return tx.Record(ctx, r) })
}

func (s *ReadService) close(ctx context.Context, by core.Actor, owned Owned, done *ReadDone, failed error) error {
	ended := "complete"
	if failed != nil {
		ended = "broken-off"
	}
	r := core.Record{
		Time: s.d.Now().UTC(), Kind: RecordReadClosed, Actor: by, Subject: owned.Subject, Product: owned.Product,
		Facts: []core.Fact{
			{Name: "session", Value: done.Session},
			{Name: "readings", Value: strconv.Itoa(done.Readings)},
			{Name: "ended", Value: ended},
		},
	}
	if done.Unreadable > 0 {
		r.Facts = append(r.Facts, core.Fact{Name: "unreadable", Value: strconv.Itoa(done.Unreadable)})
	}
	return s.d.Update(ctx, func(tx ReadTx) error { return tx.Record(ctx, r) })
}

func factTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// maxList bounds a list of names in a fact.
const maxList = 4096

// list is names as one value of a record.
func list(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if b.Len()+len(n) > maxList {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(n)
	}
	return b.String()
}

// view is what a session may see, worked out before it begins.
type view struct {
	current  core.Hash // the declaration in force
	policies map[core.Hash]map[lane][]string
	declared map[core.Hash]map[string]bool // every field of each declaration
	keeps    []keepTime                    // of the groups that are opened
	shown    []string                      // fields, sorted
	withheld []Withheld                    // by field
}

// lane is one stream's part in one group.
type lane struct {
	stream string
	group  uint8
}

// purposes are those that p has fields for.
func purposes(p *declaration.Policy) []string {
	var out []string
	for i := range p.Fields {
		out = append(out, p.Fields[i].Purposes...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func newView(policies []*declaration.Policy, q *ReadRequest) (*view, error) {
	v := &view{policies: map[core.Hash]map[lane][]string{}, declared: map[core.Hash]map[string]bool{}}
	if len(policies) == 0 {
		return v, core.E(core.Unknown, "no-declaration", "the product has no declaration", "")
	}
	now := policies[len(policies)-1]
	v.current = now.Hash
	if q.Purpose == "" {
		return v, core.E(core.Invalid, "no-purpose", "the read names no purpose", "name one that the product collects for: "+strings.Join(purposes(now), ", "))
	}
	if !slices.ContainsFunc(policies, func(p *declaration.Policy) bool { return slices.Contains(purposes(p), q.Purpose) }) {
		// It would stand in the ledger in clear, and whatever it says for ever.
		return v, core.E(core.Invalid, "unknown-purpose", "the declaration collects nothing for that purpose",
			"name one that it does: "+strings.Join(purposes(now), ", ")+"; the reason is the place for words of your own")
	}
	known, shown, withheld := map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, p := range policies {
		lanes := map[lane][]string{}
		v.declared[p.Hash] = map[string]bool{}
		for i := range p.Fields {
			f := &p.Fields[i]
			known[f.Name], v.declared[p.Hash][f.Name] = true, true
			if len(q.Fields) > 0 && !slices.Contains(q.Fields, f.Name) {
				continue
			}
			why := refusal(f, q)
			if _, inForce := now.Field(f.Name); why == "" && inForce == nil {
				why = "removed"
			} else if why == "" && inForce != f {
				why = refusal(inForce, q)
			}
			if why != "" {
				withheld[f.Name] = why
				continue
			}
			shown[f.Name] = true
			at := lane{f.Stream, uint8(f.Group)}
			lanes[at] = append(lanes[at], f.Name)
			k := keepTime{f.Keep, declaration.EpochLength(f.Keep)}
			if !slices.Contains(v.keeps, k) {
				v.keeps = append(v.keeps, k)
			}
		}
		v.policies[p.Hash] = lanes
	}
	for _, name := range q.Fields {
		if !known[name] {
			return v, core.E(core.Invalid, "unknown-field", fmt.Sprintf("the product declares no field %q", name), "see `hawser declaration show` for its fields")
		}
	}
	for name := range shown {
		v.shown = append(v.shown, name)
	}
	slices.Sort(v.shown)
	for name, why := range withheld {
		v.withheld = append(v.withheld, Withheld{name, why})
	}
	slices.SortFunc(v.withheld, func(a, b Withheld) int { return strings.Compare(a.Field, b.Field) })
	return v, nil
}

// refusal is why a field is withheld from this reader, or nothing.
func refusal(f *declaration.Field, q *ReadRequest) string {
	switch {
	case !slices.Contains(f.Readers, q.Role):
		return "reader"
	case !slices.Contains(f.Purposes, q.Purpose):
		return "purpose"
	case slices.Contains(f.Protection, declaration.StepUp):
		return string(declaration.StepUp)
	case slices.Contains(f.Protection, declaration.TwoPersons):
		return string(declaration.TwoPersons)
	}
	return ""
}

// want is a Query's choice of rows.
func (v *view) want(policy core.Hash, stream string, group uint8) bool {
	return len(v.policies[policy][lane{stream, group}]) > 0
}
