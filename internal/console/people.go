package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// People knows the maker's people; *access.Service.
type People interface {
	People(context.Context) ([]access.Person, error)
	// Invite gives the secret of a set-up link: it is shown once.
	Invite(ctx context.Context, by core.Actor, roles []access.Role, approver bool) (string, error)
	Disable(ctx context.Context, by core.Actor, p access.PersonID, why string) error
}

type peopleView struct {
	People     []personLine
	Roles      []access.Role
	MayInvite  bool
	MayDisable bool
	Waiting    []personLine // approvers who cannot approve yet: everybody is to see them
	Admins     int
	Approvers  int
	Link       string // of the invitation that was just made
	Lasts      string
}

type personLine struct {
	access.Person
	Class string
	Me    bool
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
	view := peopleView{Roles: access.Roles(), MayInvite: v.Holds("people.invite"), MayDisable: v.Holds("people.disable"), Lasts: span(access.LinkLasts)}
	now := c.d.Now()
	for _, p := range all {
		l := personLine{Person: p, Me: p.ID.Actor() == v.Actor}
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

func (c *Console) invite(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if err := r.ParseForm(); err != nil {
		return core.E(core.Invalid, "form", "the form cannot be read", "load the page again and send it once more")
	}
	var roles []access.Role
	for _, x := range r.PostForm["role"] {
		roles = append(roles, access.Role(x))
	}
	link, err := c.d.People.Invite(r.Context(), v.Actor, roles, r.PostFormValue("approver") == "yes")
	if err != nil {
		return err
	}
	view, err := c.peopleOf(r.Context(), v)
	if err != nil {
		return err
	}
	view.Link = c.d.Origin + access.SetupPath + link
	return c.showPeople(w, r, v, view)
}

func (c *Console) disable(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id := access.PersonID(r.PathValue("person"))
	if !id.Valid() {
		return core.E(core.Unknown, "no-such-person", "there is no such person", "choose one from the list")
	}
	if err := c.d.People.Disable(r.Context(), v.Actor, id, r.PostFormValue("why")); err != nil {
		return err
	}
	http.Redirect(w, r, "/people", http.StatusSeeOther)
	return nil
}
