package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// People knows the maker's people; *access.Service.
type People interface {
	People(context.Context) ([]access.Person, error)
	// Invite gives a set-up link: it is shown once.
	Invite(ctx context.Context, by core.Actor, roles []access.Role, approver bool) (string, error)
	// InviteAssessor is Invite for somebody who looks at one period.
	InviteAssessor(context.Context, core.Actor, access.Period) (string, error)
	Disable(ctx context.Context, by core.Actor, p access.PersonID, why string) error
	SetRoles(ctx context.Context, by core.Actor, p access.PersonID, roles []access.Role, approver bool) error
	Erase(ctx context.Context, by core.Actor, p access.PersonID, why string) error
	// Refoundings are the times at which both founders were ended, oldest first.
	Refoundings(context.Context) ([]access.Refounding, error)
	// Review says that a person has looked at the oldest that is open.
	Review(context.Context, core.Actor) error
}

// PasswordRules say what new passwords are held against, besides the built-in
// list of easy ones.
type PasswordRules struct {
	Names         []string // of the maker and its hosts
	Products      int      // whose names count, too
	Breached      string   // name of the maker's list of breached ones; "": none
	BreachedBytes int64
}

type peopleView struct {
	People     []personLine
	Roles      []access.Role
	MayInvite  bool
	MayDisable bool
	MayRoles   bool
	MayErase   bool
	MayReview  bool
	Waiting    []personLine // approvers who cannot approve yet: everybody is to see them
	Refounded  []refounded  // newest first
	Admins     int
	Approvers  int
	Link       string // of the invitation that was just made
	Lasts      string
	Waits      string // of a new approver
	Passwords  *PasswordRules
	From       string // of the form for assessors
	Until      string
	MostDays   int
}

type personLine struct {
	access.Person
	Class    string
	Me       bool
	Change   bool // the visitor may change what the person may
	Disable  bool
	Erase    bool
	Assessor bool
	LastDay  time.Time // of an assessor
	Boxes    []roleBox // as they are now
}

type roleBox struct {
	access.Role
	On bool
}

// refounded is one time at which both founders were ended.
type refounded struct {
	access.Refounding
	Open int  // how many people must still review it
	Mine bool // the visitor has reviewed it
}

// stateOrder is the order in which people are listed.
func stateOrder(s access.State) int {
	return slices.Index([]access.State{access.Active, access.Invited, access.Disabled}, s)
}

func (c *Console) peopleOf(ctx context.Context, v Visitor) (peopleView, error) {
	all, err := c.d.People.People(ctx)
	if err != nil {
		return peopleView{}, fmt.Errorf("read people: %w", err)
	}
	now := c.d.Now().UTC()
	view := peopleView{
		Roles: access.Roles(), MayInvite: v.Holds("people.invite"), MayDisable: v.Holds("people.disable"), MayRoles: v.Holds("people.roles"),
		MayErase: v.Holds("people.erase"), MayReview: v.Holds("people.review"), Lasts: span(access.LinkLasts), Waits: span(access.ApproverWaits),
		From: now.AddDate(0, -1, 0).Format(time.DateOnly), Until: now.AddDate(0, 1, 0).Format(time.DateOnly), MostDays: int(access.MaxPeriod / (24 * time.Hour)),
	}
	if c.d.Passwords != nil {
		r := c.d.Passwords()
		view.Passwords = &r
	}
	if view.Refounded, err = c.refoundings(ctx, v); err != nil {
		return view, err
	}
	for _, p := range all {
		l := personLine{Person: p, Me: p.ID.Actor() == v.Actor, Assessor: !p.Period.IsZero()}
		l.Disable = view.MayDisable && !l.Me && p.State != access.Disabled
		l.Change = view.MayRoles && !l.Me && p.State == access.Active && !l.Assessor
		l.Erase = view.MayErase && p.State == access.Disabled && !p.Erased
		if l.Assessor {
			l.LastDay = p.Period.Until.Add(-time.Second)
		}
		for _, r := range access.Roles() {
			l.Boxes = append(l.Boxes, roleBox{r, slices.Contains(p.Roles, r)})
		}
		switch p.State {
		case access.Active:
			l.Class = "good"
			if slices.Contains(p.Roles, access.Administrator) {
				view.Admins++
			}
			if p.Approver {
				view.Approvers++
			}
		case access.Invited:
			l.Class = "hot"
		case access.Disabled:
		}
		if p.State == access.Active && p.Approver && p.ApproverFrom.After(now) {
			view.Waiting = append(view.Waiting, l)
		}
		view.People = append(view.People, l)
	}
	slices.SortStableFunc(view.People, func(a, b personLine) int {
		return cmp.Or(cmp.Compare(stateOrder(a.State), stateOrder(b.State)), cmp.Compare(a.Name, b.Name))
	})
	return view, nil
}

// refoundings are all, newest first, with what is left to do.
func (c *Console) refoundings(ctx context.Context, v Visitor) (out []refounded, err error) {
	all, err := c.d.People.Refoundings(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ends of the founders: %w", err)
	}
	for _, r := range slices.Backward(all) {
		x := refounded{Refounding: r}
		for _, who := range []access.PersonID{r.First, r.Second} {
			if who == "" {
				x.Open++
			}
			x.Mine = x.Mine || who != "" && who.Actor() == v.Actor
		}
		out = append(out, x)
	}
	return out, nil
}

func (c *Console) peoplePage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	view, err := c.peopleOf(r.Context(), v)
	if err != nil {
		return err
	}
	return c.showPeople(w, r, v, view)
}

func (c *Console) showPeople(w http.ResponseWriter, r *http.Request, v Visitor, view peopleView) error {
	return c.show(w, r, v, http.StatusOK, "people", page{
		Title: "People", Here: "/people", Data: view,
		Lead: "Who of the maker's people may come in, and what each may do. Nobody has all of it.",
	})
}

func badForm() error {
	return core.E(core.Invalid, "form", "the form cannot be read", "load the page again and send it once more")
}

// rolesIn are the roles and the trust that a form names.
func rolesIn(r *http.Request) (roles []access.Role, approver bool, err error) {
	if err := r.ParseForm(); err != nil {
		return nil, false, badForm()
	}
	for _, x := range r.PostForm["role"] {
		roles = append(roles, access.Role(x))
	}
	return roles, r.PostFormValue("approver") == "yes", nil
}

func (c *Console) invite(w http.ResponseWriter, r *http.Request, v Visitor) error {
	roles, approver, err := rolesIn(r)
	if err != nil {
		return err
	}
	link, err := c.d.People.Invite(r.Context(), v.Actor, roles, approver)
	if err != nil {
		return err
	}
	return c.showLink(w, r, v, link)
}

func (c *Console) inviteAssessor(w http.ResponseWriter, r *http.Request, v Visitor) error {
	day := func(name string) (time.Time, error) {
		t, err := time.Parse(time.DateOnly, r.PostFormValue(name))
		if err != nil {
			return t, core.E(core.Invalid, name, "the "+name+" is no day", "write it as in 2026-11-01; days are those of UTC")
		}
		return t, nil
	}
	from, err := day("from")
	if err != nil {
		return err
	}
	until, err := day("until")
	if err != nil {
		return err
	}
	link, err := c.d.People.InviteAssessor(r.Context(), v.Actor, access.Period{From: from, Until: until.AddDate(0, 0, 1)})
	if err != nil {
		return err
	}
	return c.showLink(w, r, v, link)
}

// showLink shows a set-up link, this once.
func (c *Console) showLink(w http.ResponseWriter, r *http.Request, v Visitor, link string) error {
	view, err := c.peopleOf(r.Context(), v)
	if err != nil {
		return err
	}
	view.Link = link
	return c.showPeople(w, r, v, view)
}

// onPerson does something to the person whom the address names, and goes back
// to the list.
func (c *Console) onPerson(w http.ResponseWriter, r *http.Request, do func(access.PersonID) error) error {
	id := access.PersonID(r.PathValue("person"))
	if !id.Valid() {
		return core.E(core.Unknown, "no-such-person", "there is no such person", "choose one from the list")
	}
	if err := do(id); err != nil {
		return err
	}
	http.Redirect(w, r, "/people", http.StatusSeeOther)
	return nil
}

func (c *Console) disable(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.onPerson(w, r, func(id access.PersonID) error {
		return c.d.People.Disable(r.Context(), v.Actor, id, r.PostFormValue("why"))
	})
}

func (c *Console) setRoles(w http.ResponseWriter, r *http.Request, v Visitor) error {
	roles, approver, err := rolesIn(r)
	if err != nil {
		return err
	}
	return c.onPerson(w, r, func(id access.PersonID) error { return c.d.People.SetRoles(r.Context(), v.Actor, id, roles, approver) })
}

func (c *Console) erasePerson(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.onPerson(w, r, func(id access.PersonID) error {
		return c.d.People.Erase(r.Context(), v.Actor, id, r.PostFormValue("why"))
	})
}

func (c *Console) review(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if err := c.d.People.Review(r.Context(), v.Actor); err != nil {
		return err
	}
	http.Redirect(w, r, "/people", http.StatusSeeOther)
	return nil
}
