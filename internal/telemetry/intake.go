package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// Completion hears whether a record has reached the disk: the journal's.
type Completion = interface {
	// Done is called exactly once for each record that was taken, from the
	// journal's goroutine; it must not block.
	Done(token uint64, err error)
}

// Keys is what the intake needs of the keyring.
type Keys interface {
	// Lease gives the key of a subject in an epoch; errors say "erased" or
	// "no-epoch-key".
	Lease(core.Subject, core.Epoch) (*seal.Key, error)
	// EnsureEpoch makes the key of an epoch that may still begin.
	EnsureEpoch(context.Context, core.Epoch) error
}

// Journal is what the intake needs of the journal.
type Journal interface {
	// Submit copies rec and returns at once; see journal.Journal.
	Submit(rec []byte, c Completion, token uint64) error
}

// IntakeDeps is what an Intake stands on. All but Log are required.
type IntakeDeps struct {
	Keys    Keys
	Journal Journal
	Now     func() time.Time
	// Gateway is this process's instance id; with a counter it names every
	// reading for ever. Zero: a random one is made.
	Gateway [8]byte
	Log     *slog.Logger
}

// Intake takes messages: it judges, seals and submits them. Its methods may be
// called from any goroutine, with one Source each.
type Intake struct {
	d       IntakeDeps
	sealing sync.RWMutex // held for reading from the first seal of a message until the journal has it
	counter atomic.Uint64
	counts  counters
	work    sync.Pool // of *work
	slots   sync.Map  // core.ProductID → *planSlot
}

// planSlot is where the present plan of one product stands; sources hold it,
// so that a published declaration reaches them with the next message.
type planSlot struct{ plan atomic.Pointer[Plan] }

// work is what one message needs while it is judged and sealed.
type work struct {
	judged  Judged
	reading Reading
	keys    []*seal.Key // of the parts of reading
	from    []int       // which part of judged each of them is
	plain   []byte      // what is sealed of one part
	aad     []byte
	sealed  []byte
	record  []byte
	next    uint64 // see Source.NumberNext
}

// NewIntake makes an Intake.
func NewIntake(d IntakeDeps) (*Intake, error) {
	if d.Keys == nil || d.Journal == nil || d.Now == nil {
		return nil, errors.New("intake: Keys, Journal and Now are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Gateway == [8]byte{} {
		_, _ = rand.Read(d.Gateway[:]) // crypto/rand.Read never fails (Go 1.24)
	}
	in := &Intake{d: d}
	in.work.New = func() any { return new(work) }
	return in, nil
}

// SetPlan puts a product's plan in force, for messages from now on.
func (in *Intake) SetPlan(p *Plan) { in.slot(p.product).plan.Store(p) }

// Plan is the plan of a product that is in force, or nil.
func (in *Intake) Plan(product core.ProductID) *Plan { return in.slot(product).plan.Load() }

func (in *Intake) slot(product core.ProductID) *planSlot {
	if s, ok := in.slots.Load(product); ok {
		return s.(*planSlot)
	}
	s, _ := in.slots.LoadOrStore(product, new(planSlot))
	return s.(*planSlot)
}

// plans calls f with each plan in force.
func (in *Intake) plans(f func(*Plan)) {
	in.slots.Range(func(_, s any) bool {
		if p := s.(*planSlot).plan.Load(); p != nil {
			f(p)
		}
		return true
	})
}

// Counters is what the intake has done since it was made.
func (in *Intake) Counters() Counters { return in.counts.read() }

// prepareAhead is how long before an epoch begins Prepare makes its key. It
// must be more than the clockAhead of devices and the period of the job.
const prepareAhead = 15 * time.Minute

// Prepare makes the keys of the epochs that are and that soon will be, so that
// no message waits for the keyring's disk. It is a job: run it each minute.
func (in *Intake) Prepare(ctx context.Context) error {
	now := in.d.Now()
	var errs []error
	in.plans(func(p *Plan) {
		for _, k := range p.keeps {
			for t := now; !t.After(now.Add(prepareAhead)); t = core.EpochAt(k.keep, k.length, t).End() {
				if err := in.d.Keys.EnsureEpoch(ctx, core.EpochAt(k.keep, k.length, t)); err != nil {
					errs = append(errs, fmt.Errorf("prepare the keys of product %s: %w", p.product, err))
					return
				}
			}
		}
	})
	return errors.Join(errs...)
}

// Action is what to do with a message.
type Action uint8

// The actions.
const (
	Pending Action = iota + 1 // the completion will come once: acknowledge when it brings no error
	Drop                      // not to be stored, by rule: call Intake.Refuse, and acknowledge
	Refuse                    // refuse for Reason, and call Intake.Refuse
	Trouble                   // our own trouble: no acknowledgement at all
)

// Verdict is what became of a message. Reason is empty for Pending.
type Verdict struct {
	Action Action
	Reason Reason
}

// ensureTimeout bounds how long one message waits for a new epoch's key.
const ensureTimeout = 5 * time.Second

// Message judges one payload that src sent on the given stream. With Pending
// the record was submitted, and c.Done(token, …) will be called once; it may
// be called before Message returns. With any other action nothing was recorded
// yet, which Refuse does, and c is not called. Nothing of stream or payload is
// kept.
func (in *Intake) Message(src *Source, stream, payload []byte, c Completion, token uint64) Verdict {
	next := src.next
	src.judged, src.next = "", 0
	now := in.d.Now()
	if src.subject.IsZero() {
		return in.drop(src, ReasonUnowned)
	}
	plan := src.slot.plan.Load()
	if plan == nil {
		return in.refuse(src, ReasonNoPlan)
	}
	sp := plan.Stream(stream)
	if sp == nil {
		return in.refuse(src, ReasonUnknownStream)
	}
	w := in.work.Get().(*work)
	w.next = next
	v := in.judge(src, sp, w, payload, now, c, token)
	w.judged.Wipe()
	w.plain = wiped(w.plain)
	clear(w.keys)
	in.work.Put(w)
	switch v.Action {
	case Refuse:
		return in.refuse(src, v.Reason)
	case Drop:
		if v.Reason == ReasonUnowned {
			src.subject = core.Subject{} // an erased subject's key is never made again
		}
		return in.drop(src, v.Reason)
	case Trouble:
		in.counts.trouble.Add(1)
	}
	return v
}

// refuse is Message's verdict of refusal.
func (in *Intake) refuse(src *Source, r Reason) Verdict {
	count(&in.counts.refused, r)
	src.judged = r
	return Verdict{Refuse, r}
}

// drop is Message's verdict of not storing what need not be refused.
func (in *Intake) drop(src *Source, r Reason) Verdict {
	count(&in.counts.dropped, r)
	src.judged = r
	return Verdict{Drop, r}
}

// judge decides about one message of a known stream, and submits what is left.
func (in *Intake) judge(src *Source, sp *StreamPlan, w *work, payload []byte, now time.Time, c Completion, token uint64) Verdict {
	j := &w.judged
	why := sp.Judge(j, payload, now)
	if j.Undeclared > 0 {
		sp.findings.note(src.subject, j.stray, now)
	}
	if why != "" {
		return Verdict{Refuse, why}
	}
	switch {
	case j.HasSeq:
	case w.next != 0:
		j.HasSeq, j.Boot, j.Seq = true, w.next, 0
	case src.numbering:
		j.HasSeq, j.Boot, j.Seq = true, src.boot, token
	}
	if j.HasSeq {
		j.Boot = src.ofLink(j.Boot)
	}
	if !j.WrongClock && j.T < src.ownedSince {
		return Verdict{Drop, ReasonBeforeOwner}
	}
	old, err := in.lease(src, sp, w, now)
	if err == nil && len(w.reading.Parts) > 0 {
		err = in.submit(src, w, c, token)
	}
	switch {
	case err == errUnowned:
		return Verdict{Drop, ReasonUnowned}
	case err == errNotTaken:
		return Verdict{Trouble, ReasonTrouble}
	case err != nil:
		in.d.Log.Error("reading not sealed", slog.Any("err", err))
		return Verdict{Trouble, ReasonTrouble}
	case len(w.reading.Parts) == 0:
		return Verdict{Drop, ReasonTooOld}
	}
	k := &in.counts
	k.accepted.Add(1)
	k.parts.Add(uint64(len(w.reading.Parts)))
	if j.Undeclared > 0 {
		k.undeclaredFields.Add(uint64(j.Undeclared))
	}
	if j.Bad > 0 {
		k.badFields.Add(uint64(j.Bad))
	}
	if old > 0 {
		k.oldFields.Add(uint64(old))
	}
	if j.WrongClock {
		k.wrongClock.Add(1)
	}
	return Verdict{Action: Pending}
}

var (
	// errUnowned says that the subject has no key.
	errUnowned = errors.New("the subject has no key")
	// errNotTaken says that the journal takes nothing; it says why by itself.
	errNotTaken = errors.New("the journal does not take it")
)

// Quiesce returns when every message that was being sealed is with the journal.
// After a subject was retired, what the journal has then is the last of it.
func (in *Intake) Quiesce() {
	in.sealing.Lock()
	defer in.sealing.Unlock() // whoever came after the lock found the keys as they are now
}

// lease makes w.reading of w.judged, with the keys of every part that is not
// past its keep-time; old is how many fields are. It may wait for the keyring's
// disk.
func (in *Intake) lease(src *Source, sp *StreamPlan, w *work, now time.Time) (old int, err error) {
	j, r := &w.judged, &w.reading
	*r = Reading{
		Product: sp.plan.product, Subject: src.subject, Stream: sp.stream.Name,
		Policy: sp.plan.policy, T: j.T, Received: now.UnixMilli(), HasSeq: j.HasSeq, Boot: j.Boot, Seq: j.Seq,
		Gateway: in.d.Gateway, Counter: in.counter.Add(1), Parts: r.Parts[:0],
	}
	if j.WrongClock {
		r.Flags |= FlagWrongClock
	}
	if src.series != [16]byte{} {
		r.Flags |= FlagVouched
	}
	w.keys, w.from = w.keys[:0], w.from[:0]
	t := time.UnixMilli(j.T)
	var key *seal.Key
	var epoch core.Epoch
	for i := range j.parts {
		jp := &j.parts[i]
		e := core.EpochAt(jp.Keep, jp.Length, t)
		// The epoch dies when its oldest possible reading is due; what comes
		// for it after that is too old, though it be younger than that one.
		if !now.Before(e.Due()) {
			old += jp.Fields
			continue
		}
		if key == nil || e != epoch {
			if key, err = in.key(src.subject, e); err != nil {
				if !errors.Is(err, errEnded) {
					return old, err
				}
				old += jp.Fields
				continue
			}
			epoch = e
		}
		r.Parts = append(r.Parts, Part{Epoch: e, Group: jp.Group})
		w.keys, w.from = append(w.keys, key), append(w.from, i)
	}
	r.Dropped = saturate(j.Undeclared + j.Bad + old)
	return old, nil
}

// submit seals the parts of w.reading and hands it to the journal. It waits for
// nothing, so that Quiesce need not wait long.
func (in *Intake) submit(src *Source, w *work, c Completion, token uint64) (err error) {
	r := &w.reading
	need := 0
	for i := range r.Parts {
		need += len(src.sender) + len(w.judged.parts[w.from[i]].Plain) + seal.Overhead
	}
	if cap(w.sealed) < need {
		w.sealed = make([]byte, 0, 2*need)
	}
	w.sealed = w.sealed[:0]
	in.sealing.RLock()
	defer in.sealing.RUnlock()
	for i := range r.Parts {
		p := &r.Parts[i]
		w.aad = AppendAAD(w.aad[:0], r, p)
		w.plain = AppendPlain(w.plain[:0], src.sender, w.judged.parts[w.from[i]].Plain)
		from := len(w.sealed)
		if w.sealed, err = w.keys[i].Seal(w.sealed, w.plain, w.aad); err != nil {
			return keyError(err)
		}
		p.Sealed = w.sealed[from:len(w.sealed):len(w.sealed)]
	}
	w.record = AppendReading(w.record[:0], r)
	if in.d.Journal.Submit(w.record, c, token) != nil {
		return errNotTaken
	}
	return nil
}

// errEnded says that an epoch is past its keep-time.
var errEnded = errors.New("the epoch has ended")

// key gives the key for readings of a subject in an epoch, and makes the
// epoch's if nobody has yet.
func (in *Intake) key(s core.Subject, e core.Epoch) (*seal.Key, error) {
	key, err := in.d.Keys.Lease(s, e)
	if err == nil {
		return key, nil
	}
	if core.ReasonOf(err) != "no-epoch-key" {
		return nil, keyError(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ensureTimeout)
	defer cancel()
	if err := in.d.Keys.EnsureEpoch(ctx, e); err != nil {
		return nil, keyError(err)
	}
	if key, err = in.d.Keys.Lease(s, e); err != nil {
		return nil, keyError(err)
	}
	return key, nil
}

// keyError sorts the keyring's refusals into those that are a rule at work and
// those that are our trouble. Epochs that are due were sorted out before: one
// that is destroyed although it is not due went while the server's clock stood
// later. What comes for it is not too old, and no rule lets us lose it.
func keyError(err error) error {
	switch core.ReasonOf(err) {
	case "erased":
		return errUnowned
	case "epoch-due":
		return fmt.Errorf("%w: %w", errEnded, err)
	case "epoch-destroyed":
		return fmt.Errorf("before its time, by this server's clock, which may have stood later: %w", err)
	}
	return err
}
