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
}

func peopleRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/people", "people.list", h.people},
		{"POST /v1/people/founder", "people.found", h.founder},
		{"POST /v1/people/{person}/disable", "people.disable", h.disable},
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
