package access

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// NoticeKind is what a person is told.
type NoticeKind string

// The notices.
const (
	NoticeApprover    NoticeKind = "approver-waiting"  // about a new approver; everybody is told
	NoticeKeyAdded    NoticeKind = "passkey-added"     // to your account
	NoticeKeyRemoved  NoticeKind = "passkey-removed"   // from your account
	NoticeKeySuspect  NoticeKind = "passkey-suspected" // a copy of your passkey was used; it is switched off
	NoticeMeans       NoticeKind = "means-changed"     // password, one-time codes or recovery codes of yours
	NoticeGuessing    NoticeKind = "guessing"          // somebody tries to sign in as you
	NoticeCodesScarce NoticeKind = "codes-scarce"      // three recovery codes are left, or fewer
	NoticeRefounded   NoticeKind = "founders-ended"    // both founders were ended from the machine itself; everybody is told
)

// Notice is something that a person is told.
type Notice struct {
	ID    int64
	Kind  NoticeKind
	About PersonID // "" for oneself
	Name  string   // of About; "" for an erased person
	At    time.Time
	Seen  time.Time // zero: not yet
	// Until is when a new approver begins to approve; zero for other kinds.
	Until time.Time
}

const maxNotices = 50

func (s *Service) tell(ctx context.Context, tx Tx, p PersonID, kind NoticeKind) error {
	return tx.InsertNotice(ctx, NoticeRow{Person: p, Kind: kind, At: s.now()})
}

// tellAll tells every active person of the maker's. Assessors are not.
func (s *Service) tellAll(ctx context.Context, tx Tx, kind NoticeKind, about PersonID) error {
	all, err := tx.People(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.State != Active || p.assessor() {
			continue
		}
		if err := tx.InsertNotice(ctx, NoticeRow{Person: p.ID, Kind: kind, About: about, At: s.now()}); err != nil {
			return err
		}
	}
	return nil
}

// Notices are what the person was told, newest first.
func (s *Service) Notices(ctx context.Context, by Session) ([]Notice, error) {
	return view(ctx, s, func(tx Tx) ([]Notice, error) {
		rows, err := tx.Notices(ctx, by.Person, maxNotices)
		if err != nil {
			return nil, err
		}
		out := make([]Notice, 0, len(rows))
		for _, r := range rows {
			n := Notice{ID: r.ID, Kind: r.Kind, About: r.About, At: r.At, Seen: r.Seen}
			if r.About != "" {
				p, err := tx.Person(ctx, r.About)
				if err != nil {
					return nil, err
				}
				shown, err := s.show(ctx, tx, p)
				if err != nil {
					return nil, err
				}
				n.Name = shown.Name
				if r.Kind == NoticeApprover {
					n.Until = p.ApproverFrom
				}
			}
			out = append(out, n)
		}
		return out, nil
	})
}

// SeeNotices marks the person's notices up to one as seen.
func (s *Service) SeeNotices(ctx context.Context, by Session, upTo int64) error {
	return s.d.Update(ctx, func(tx Tx) error { return tx.SeeNotices(ctx, by.Person, upTo, s.now()) })
}

// tellGuessing tells a person that somebody tries to sign in as them. Nobody of
// this id is no error.
func (s *Service) tellGuessing(ctx context.Context, tx Tx, id PersonID) error {
	p, err := tx.Person(ctx, id)
	if core.KindOf(err) == core.Unknown {
		return nil
	}
	if err != nil || p.State != Active {
		return err
	}
	rows, err := tx.Notices(ctx, id, 1)
	if err != nil {
		return err
	}
	// One is enough until it was seen, or an hour later.
	if len(rows) == 1 && rows[0].Kind == NoticeGuessing && rows[0].Seen.IsZero() && s.now().Sub(rows[0].At) < time.Hour {
		return nil
	}
	return s.tell(ctx, tx, id, NoticeGuessing)
}

// Forget is the eraser of a person: it unlinks the subject and deletes all
// means, sessions and notices. What is sealed goes with the subject's key. A
// subject that is nobody's here is no error.
func (s *Service) Forget(ctx context.Context, subject core.Subject) error {
	return s.d.Update(ctx, func(tx Tx) error { return tx.ForgetPerson(ctx, subject) })
}
