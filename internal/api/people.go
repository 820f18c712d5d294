package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// People knows the maker's people; *access.Service.
type People interface {
	People(context.Context) ([]access.Person, error)
	FounderLink(context.Context, core.Actor) (string, error)
	Disable(ctx context.Context, by core.Actor, id access.PersonID, why string) error
	SetRoles(ctx context.Context, by core.Actor, id access.PersonID, roles []access.Role, approver bool) error
	Erase(ctx context.Context, by core.Actor, id access.PersonID, why string) error
	InviteAssessor(context.Context, core.Actor, access.Period) (string, error)
	Refound(ctx context.Context, by core.Actor, why string) (access.Refounding, error)
}

// AssessorRequest asks for the link of an assessor.
type AssessorRequest struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"` // the first moment after the period
}

// Validate leaves the rules to access.
func (*AssessorRequest) Validate() error { return nil }

// RolesRequest says what a person is to have from now on.
type RolesRequest struct {
	Roles    []string `json:"roles"`
	Approver bool     `json:"approver"`
}

// Validate bounds the request.
func (r *RolesRequest) Validate() error {
	if len(r.Roles) > len(access.Roles()) {
		return core.E(core.Invalid, "role", "there are not so many roles", "name each once")
	}
	return nil
}

// PersonRoles is what a person has now.
type PersonRoles struct {
	Person   string   `json:"person"`
	Roles    []string `json:"roles"`
	Approver bool     `json:"approver"`
}

// Refounded says that both founders were ended.
type Refounded struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
}

// Link is a set-up link, shown this once.
type Link struct {
	Link  string    `json:"link"`
	Until time.Time `json:"until"`
}

// Person is one of the maker's people, as the command line shows them: without
// name and address, which only those see who are signed in.
type Person struct {
	Person   string     `json:"person"` // pseudonym
	State    string     `json:"state"`
	Roles    []string   `json:"roles"`
	Founder  bool       `json:"founder"`
	Approver bool       `json:"approver"`
	Invited  time.Time  `json:"invited"`
	Joined   *time.Time `json:"joined,omitempty"`
	Passkeys int        `json:"passkeys"`
	// From and Until are the period of an assessor.
	From   *time.Time `json:"from,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
	Erased bool       `json:"erased,omitempty"`
}

func peopleRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/people", "people.list", h.people},
		{"POST /v1/people/founder", "people.found", h.founder},
		{"POST /v1/people/refound", "people.found", h.refound},
		{"POST /v1/people/assessor", "people.invite", h.inviteAssessor},
		{"POST /v1/people/{person}/disable", "people.disable", h.disable},
		{"POST /v1/people/{person}/roles", "people.roles", h.setRoles},
		{"POST /v1/people/{person}/erase", "people.erase", h.erasePerson},
	}
}

func (h handlers) people(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.People.People(r.Context())
	if err != nil {
		return err
	}
	out := []Person{}
	for _, p := range all {
		x := Person{Person: string(p.ID), State: string(p.State), Roles: []string{}, Founder: p.Founder, Approver: p.Approver, Invited: p.Invited, Passkeys: p.Passkeys}
		for _, role := range p.Roles {
			x.Roles = append(x.Roles, string(role))
		}
		if !p.Joined.IsZero() {
			x.Joined = &p.Joined
		}
		if !p.Period.IsZero() {
			x.From, x.Until = &p.Period.From, &p.Period.Until
		}
		x.Erased = p.Erased
		out = append(out, x)
	}
	return writeJSON(w, out)
}

func (h handlers) founder(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	link, err := h.People.FounderLink(r.Context(), by)
	if err != nil {
		return err
	}
	return writeJSON(w, Link{Link: link, Until: time.Now().UTC().Add(access.LinkLasts).Truncate(time.Second)})
}

func (h handlers) disable(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ReasonRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := h.People.Disable(r.Context(), by, access.PersonID(r.PathValue("person")), req.Reason); err != nil {
		return err
	}
	return writeJSON(w, Disabled{r.PathValue("person")})
}

func (h handlers) setRoles(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req RolesRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	roles := []access.Role{}
	for _, x := range req.Roles {
		roles = append(roles, access.Role(x))
	}
	id := r.PathValue("person")
	if err := h.People.SetRoles(r.Context(), by, access.PersonID(id), roles, req.Approver); err != nil {
		return err
	}
	return writeJSON(w, PersonRoles{Person: id, Roles: req.Roles, Approver: req.Approver})
}

func (h handlers) erasePerson(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ReasonRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	id := r.PathValue("person")
	if err := h.People.Erase(r.Context(), by, access.PersonID(id), req.Reason); err != nil {
		return err
	}
	return writeJSON(w, ErasedPerson{id})
}

func (h handlers) inviteAssessor(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req AssessorRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	link, err := h.People.InviteAssessor(r.Context(), by, access.Period{From: req.From, Until: req.Until})
	if err != nil {
		return err
	}
	return writeJSON(w, Link{Link: link, Until: time.Now().UTC().Add(access.LinkLasts).Truncate(time.Second)})
}

func (h handlers) refound(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ReasonRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	done, err := h.People.Refound(r.Context(), by, req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, Refounded{Number: done.Number, At: done.At})
}
