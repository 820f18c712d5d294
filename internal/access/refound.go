package access

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Refounding is that both founders were ended from the machine itself, because
// neither could sign in any more (docs/decisions/010). It stays in sight until
// two people of the console have looked at it.
type Refounding struct {
	Number   int // from 1
	At       time.Time
	By       core.Actor
	First    PersonID // who looked at it first; "": nobody yet
	FirstAt  time.Time
	Second   PersonID
	SecondAt time.Time
}

// Reviewed reports whether two people have looked at it.
func (r Refounding) Reviewed() bool { return r.First != "" && r.Second != "" && r.First != r.Second }

// Refound ends both founders, so that two new ones can join by new links. Only
// somebody on the machine itself can ask for it, and only while no other
// administrator is left who could invite. The new founders approve nothing for
// ApproverWaits; everybody is told; it stays in sight until two people have
// reviewed it. why is kept sealed, for each of the two.
func (s *Service) Refound(ctx context.Context, by core.Actor, why string) (out Refounding, err error) {
	if err := mustSayWhy(why); err != nil {
		return out, err
	}
	if why == "" {
		return out, core.E(core.Invalid, "why", "the reason is missing", "say what happened: whoever reviews it will ask")
	}
	err = s.d.Update(ctx, func(tx Tx) error {
		if !local(by) {
			return core.E(core.Denied, "founder-local", "founders are ended on the machine itself", "run `hawser people refound` there")
		}
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		if err := mustHaveFounders(all); err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(p PersonRow) bool {
			return !p.Founder && p.State == Active && slices.Contains(p.Roles, Administrator)
		}) {
			return core.E(core.Conflict, "another-administrator", "there is another administrator, who can disable the founders and invite anew",
				"ask them; if they cannot sign in either, disable them first: `hawser people disable`")
		}
		before, err := tx.Refoundings(ctx)
		if err != nil {
			return err
		}
		out = Refounding{Number: len(before) + 1, At: s.now().Truncate(time.Microsecond), By: by}
		var ended []string
		for _, p := range all {
			if !p.Founder {
				continue
			}
			ended = append(ended, string(p.ID))
			if p.State != Disabled {
				if err := s.end(ctx, tx, by, p, []byte(why), core.Fact{Name: "cause", Value: "refounded"}); err != nil {
					return err
				}
			}
			if p, err = tx.Person(ctx, p.ID); err != nil {
				return err
			}
			p.Founder = false // of a former foundation: the ledger knows
			if err := tx.UpdatePerson(ctx, p); err != nil {
				return err
			}
		}
		if err := tx.InsertRefounding(ctx, out); err != nil {
			return err
		}
		if err := tx.Record(ctx, core.Record{Time: out.At, Kind: RecordRefounded, Actor: by, Facts: []core.Fact{
			{Name: "number", Value: strconv.Itoa(out.Number)}, {Name: "founders", Value: strings.Join(ended, ",")},
		}}); err != nil {
			return err
		}
		return s.tellAll(ctx, tx, NoticeRefounded, "")
	})
	if err != nil {
		return out, fmt.Errorf("end the founders: %w", err)
	}
	return out, nil
}

// Refoundings are all of them, oldest first.
func (s *Service) Refoundings(ctx context.Context) ([]Refounding, error) {
	return view(ctx, s, func(tx Tx) ([]Refounding, error) { return tx.Refoundings(ctx) })
}

// reviewers may say that the end of the founders was right.
func reviewers() []Role { return []Role{Administrator, Security, Auditor} }

// Review says that a person has looked at the oldest end of the founders that
// is not reviewed yet. Two different people must.
func (s *Service) Review(ctx context.Context, by core.Actor) error {
	err := s.d.Update(ctx, func(tx Tx) error {
		p, err := tx.Person(ctx, PersonID(by.ID))
		if by.Kind != core.ActorStaff || core.KindOf(err) == core.Unknown {
			return notReviewer()
		}
		if err != nil {
			return err
		}
		if !p.mayEnter(s.now()) || p.assessor() || !slices.ContainsFunc(reviewers(), func(r Role) bool { return slices.Contains(p.Roles, r) }) {
			return notReviewer()
		}
		all, err := tx.Refoundings(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(r Refounding) bool { return !r.Reviewed() })
		if i < 0 {
			return core.E(core.Conflict, "nothing-to-review", "there is nothing to review", "look at the page again")
		}
		r, now := all[i], s.now().Truncate(time.Microsecond)
		switch r.First {
		case p.ID:
			return core.E(core.Conflict, "reviewed-by-you", "you have reviewed it already", "a second person must, too")
		case "":
			r.First, r.FirstAt = p.ID, now
		default:
			r.Second, r.SecondAt = p.ID, now
		}
		if err := tx.UpdateRefounding(ctx, r); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(RecordReviewed, by, p, core.Fact{Name: "number", Value: strconv.Itoa(r.Number)}))
	})
	if err != nil {
		return fmt.Errorf("review the end of the founders: %w", err)
	}
	return nil
}

func notReviewer() error {
	return core.E(core.Denied, "not-reviewer", "only an administrator, a security officer or an auditor of this maker reviews it", "ask one")
}
