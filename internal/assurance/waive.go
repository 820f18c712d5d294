package assurance

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	minReason, maxReasonBytes = 10, 1000
	maxWaiverSubjects         = 100
)

// WaiverRequest asks that a row be accepted for a while.
type WaiverRequest struct {
	Row      RowID
	Subjects []string // empty: all that is exposed now
	Reason   string
	Instead  ControlID
	Days     int // how long from now; 0: UsualWaiver
}

// AskWaiver asks for a waiver. It counts for nothing until somebody else
// approves it.
func (s *Service) AskWaiver(ctx context.Context, by core.Actor, q WaiverRequest) (Waiver, error) {
	if onMachine(by) {
		return Waiver{}, core.E(core.Denied, "waiver-local", "on the machine itself nobody knows which person asks, so a second one could be the same", "sign in and ask on the page Waivers")
	}
	st, err := s.State(ctx)
	if err != nil {
		return Waiver{}, err
	}
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	w := Waiver{Row: q.Row, Subjects: slices.Sorted(slices.Values(q.Subjects)), Reason: strings.TrimSpace(q.Reason), Instead: q.Instead, Asked: now, AskedBy: by, Ends: now.Add(time.Duration(q.Days) * 24 * time.Hour)}
	if q.Days == 0 {
		w.Ends = now.Add(UsualWaiver)
	}
	if err := askable(&w, &st, now); err != nil {
		return Waiver{}, err
	}
	id := make([]byte, 10)
	_, _ = rand.Read(id) // never fails
	w.ID = "w" + strings.ToLower(base32.StdEncoding.EncodeToString(id))
	return w, s.putWaiver(ctx, w, RecordWaiverAsked, by, now)
}

func askable(w *Waiver, st *State, now time.Time) error {
	if why := neverWaived(w.Row); why != "" {
		return core.E(core.Denied, "waiver-never", "row "+string(w.Row)+" cannot be waived: "+why, "mend it")
	}
	r := st.Row(w.Row)
	if r.Verdict != Failing && r.Verdict != Unproven {
		return core.E(core.Conflict, "waiver-nothing", "row "+string(w.Row)+" is "+string(r.Verdict)+": only what is failing or unproven can be waived", "see `hawser check list`")
	}
	open, why := exposed(r)
	if why != "" {
		return core.E(core.Conflict, "waiver-scope", "row "+string(w.Row)+" cannot be waived: "+why, "mend it")
	}
	if len(open) == 0 {
		return core.E(core.Conflict, "waiver-nothing", "no check looks at row "+string(w.Row)+" yet: there is nothing that could be named, and accepted", "it stays unproven; a waiver would say no more")
	}
	if len(w.Subjects) == 0 {
		w.Subjects = slices.Sorted(slices.Values(open))
	}
	if len(w.Subjects) == 0 || len(w.Subjects) > maxWaiverSubjects {
		return core.E(core.Invalid, "waiver-subjects", fmt.Sprintf("a waiver of %d subjects", len(w.Subjects)), fmt.Sprintf("name 1 to %d of what is failing or unproven, each exactly", maxWaiverSubjects))
	}
	for _, x := range w.Subjects {
		if !slices.Contains(open, x) {
			return core.E(core.Invalid, "waiver-subjects", fmt.Sprintf("%q is not failing or unproven in row %s", x, w.Row), "exposed are: "+strings.Join(open, ", "))
		}
	}
	if n := utf8.RuneCountInString(w.Reason); n < minReason || len(w.Reason) > maxReasonBytes || !utf8.ValidString(w.Reason) {
		return core.E(core.Invalid, "waiver-reason", "the reason is too short or too long", fmt.Sprintf("say in %d characters or more, and at most %d bytes, why it is acceptable; name nobody", minReason, maxReasonBytes))
	}
	if c := st.Control(w.Instead); c == nil || c.Verdict != Met || c.Control.ID == r.Row.Control {
		return core.E(core.Conflict, "waiver-instead", fmt.Sprintf("%q does not make up for it: it must be another control, and met", w.Instead), "name a control that is met and lessens the same risk")
	}
	if !w.Ends.After(now) || w.Ends.Sub(now) > MaxWaiver {
		return core.E(core.Invalid, "waiver-end", "the end is "+stamp(w.Ends), "choose a day within the next 90")
	}
	return nil
}

// ApproveWaiver makes a waiver count. The approver is another person than who
// asked.
func (s *Service) ApproveWaiver(ctx context.Context, by core.Actor, id string) (Waiver, error) {
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	w, err := s.waiver(ctx, id)
	if err != nil {
		return Waiver{}, err
	}
	recorded, err := s.d.Ledger.Waivers(ctx)
	if err != nil {
		return Waiver{}, fmt.Errorf("read what the ledger holds of waivers: %w", err)
	}
	altered := w.askedAs(recorded)
	switch {
	case onMachine(by):
		return Waiver{}, core.E(core.Denied, "waiver-local", "on the machine itself nobody knows whether it is a second person", "an approver signs in and approves it on the page Waivers")
	case altered != "":
		return Waiver{}, core.E(core.Conflict, "waiver-altered", "this waiver is not what the ledger holds: "+altered, "take it back, find out who writes to control.db, and ask for a new one")
	case w.AskedBy == by:
		return Waiver{}, core.E(core.Denied, "waiver-self", "who asked for a waiver cannot approve it", "ask a second person")
	case !w.Approved.IsZero() || !w.Ended.IsZero():
		return Waiver{}, core.E(core.Conflict, "waiver-decided", "this waiver was decided already", "ask for a new one")
	case !w.Ends.After(now):
		return Waiver{}, core.E(core.Conflict, "waiver-over", "this waiver would already have ended", "ask for a new one")
	}
	w.Approved, w.By = now, by
	return w, s.putWaiver(ctx, w, RecordWaiverApproved, by, now)
}

// EndWaiver takes a waiver back. One person is enough to be stricter.
func (s *Service) EndWaiver(ctx context.Context, by core.Actor, id string) (Waiver, error) {
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	w, err := s.waiver(ctx, id)
	if err != nil || !w.Ended.IsZero() {
		return w, err
	}
	w.Ended = now
	return w, s.putWaiver(ctx, w, RecordWaiverEnded, by, now)
}

// Waivers are all that were ever asked for, newest first, each with why it
// counts for nothing now.
func (s *Service) Waivers(ctx context.Context) ([]Waiver, error) {
	in, err := s.Input(ctx)
	if err != nil {
		return nil, err
	}
	st := Judge(in)
	out := slices.Clone(in.Waivers)
	for i := range out {
		w := &out[i]
		if w.Void = w.void(in.At, in.Recorded); w.Void != "" {
			continue
		}
		if r := st.Row(w.Row); r.Waiver != nil && r.Waiver.ID == w.ID {
			w.Void = r.Waiver.Void
		} else if r.Verdict != Waived {
			w.Void = "the row is " + string(r.Verdict) + " without it"
		}
	}
	slices.SortFunc(out, func(a, b Waiver) int { return b.Asked.Compare(a.Asked) })
	return out, nil
}

func (s *Service) waiver(ctx context.Context, id string) (Waiver, error) {
	var all []Waiver
	if err := s.d.View(ctx, func(tx Tx) (err error) { all, err = tx.Waivers(ctx); return err }); err != nil {
		return Waiver{}, fmt.Errorf("read waivers: %w", err)
	}
	i := slices.IndexFunc(all, func(w Waiver) bool { return w.ID == id })
	if i < 0 {
		return Waiver{}, core.E(core.Unknown, "no-such-waiver", "there is no such waiver", "`hawser waiver list` shows them")
	}
	return all[i], nil
}

// putWaiver keeps a waiver and says so in the ledger. Rounds say how many such
// records there were, so that none can be left out later.
func (s *Service) putWaiver(ctx context.Context, w Waiver, kind core.RecordKind, by core.Actor, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutWaiver(ctx, w); err != nil {
			return err
		}
		return tx.Record(ctx, w.RecordOf(kind, by, now))
	})
	if err != nil {
		return fmt.Errorf("keep waiver %s: %w", w.ID, err)
	}
	s.waivers++
	return nil
}
