package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// devicePage is how many devices one page of the list has.
const devicesOnPage = 50

type deviceLine struct {
	identity.Device
	Connected bool
	Mark      string // class of its tag
}

type devicesView struct {
	Devices  []deviceLine
	Matching int
	All      int
	Filtered bool
	Query    identity.Query
	Products []*declaration.Policy
	States   []stateChoice
	Next     string // address of the next page; "": this is the last
	First    string // address of the first page; "": this is it
	Sessions int
}

type stateChoice struct {
	State identity.DeviceState
	N     int
}

func deviceStates() []identity.DeviceState {
	return []identity.DeviceState{identity.StateActive, identity.StateAdded, identity.StateLegacy, identity.StateExpired, identity.StateQuarantined, identity.StateRevoked, identity.StateChild, identity.StateAlone}
}

func stateMark(s identity.DeviceState) string {
	switch s {
	case identity.StateActive, identity.StateChild:
		return "good"
	case identity.StateExpired, identity.StateQuarantined, identity.StateAlone, identity.StateLegacy:
		return "hot"
	case identity.StateRevoked:
		return "bad"
	case identity.StateAdded:
	}
	return ""
}

func (c *Console) devicesPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	in := r.URL.Query()
	q := identity.Query{
		Product: core.ProductID(in.Get("product")), State: identity.DeviceState(in.Get("state")), Prefix: cut(64, in.Get("id")),
		After: core.DeviceID(in.Get("after")), Limit: devicesOnPage,
	}
	switch {
	case q.Product != "" && !q.Product.Valid():
		return core.E(core.Invalid, "product-id", "this is no product", "choose one from the list")
	case q.State != "" && !slices.Contains(deviceStates(), q.State):
		return core.E(core.Invalid, "device-state", "this is no state of a device", "choose one from the list")
	case q.After != "" && !q.After.Valid():
		return core.E(core.Invalid, "cursor", "this page of the list does not exist", "begin with its first page")
	}
	found := c.d.Devices.Find(q)
	counts := c.d.Devices.Counts()
	view := devicesView{Matching: found.Matching, All: counts.Devices, Filtered: q.Product != "" || q.State != "" || q.Prefix != "", Query: q, Sessions: c.d.Running.Sessions()}
	for _, d := range found.Devices {
		view.Devices = append(view.Devices, deviceLine{d, c.d.Running.Connected(d.ID), stateMark(d.State)})
	}
	for _, s := range deviceStates() {
		view.States = append(view.States, stateChoice{s, counts.ByState[s]})
	}
	var err error
	if view.Products, err = c.d.Declarations.All(r.Context()); err != nil {
		return fmt.Errorf("read declarations in force: %w", err)
	}
	view.Next, view.First = pages(q, found.Next)
	return c.show(w, r, v, http.StatusOK, "devices", page{Title: "Devices", Here: "/devices", Data: view})
}

// pages are the addresses of the next page and of the first.
func pages(q identity.Query, next core.DeviceID) (string, string) {
	at := func(after core.DeviceID) string {
		u := url.Values{}
		for name, value := range map[string]string{"product": string(q.Product), "state": string(q.State), "id": q.Prefix, "after": string(after)} {
			if value != "" {
				u.Set(name, value)
			}
		}
		if len(u) == 0 {
			return "/devices"
		}
		return "/devices?" + u.Encode()
	}
	var following, first string
	if next != "" {
		following = at(next)
	}
	if q.After != "" {
		first = at("")
	}
	return following, first
}

type deviceView struct {
	deviceLine
	Birth       identity.BirthRow
	Policy      *declaration.Policy // nil: not declared
	Counted     *Counted            // nil: nobody's
	Connections []Connection        // newest first
	Reads       readForm
	Tell        tellView
	Settings    setView
	Legacy      *identity.LegacyDevice // nil: it never had a credential of the maker's
	Door        identity.LegacyTerms   // through which one comes that has
	Children    []identity.Device      // of a hub
	Proposals   []identity.Proposal    // of a hub
}

// IsHub reports whether it speaks for others, or may.
func (d deviceView) IsHub() bool {
	return len(d.Children)+len(d.Proposals) > 0 || d.Policy != nil && d.Policy.Hub != nil && !d.Child
}

func deviceIn(r *http.Request) (core.DeviceID, error) {
	id := core.DeviceID(r.PathValue("device"))
	if !id.Valid() {
		return "", core.E(core.Unknown, "no-such-device", "there is no such device", "choose one from the list")
	}
	return id, nil
}

func (c *Console) devicePage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	d, err := c.d.Devices.Device(id)
	if err != nil {
		return err
	}
	view := deviceView{deviceLine: deviceLine{d, c.d.Running.Connected(id), stateMark(d.State)}}
	if view.Birth, err = c.d.Devices.Birth(r.Context(), id); err != nil {
		return fmt.Errorf("read birth record: %w", err)
	}
	view.Policy, err = c.d.Declarations.Current(r.Context(), d.Product)
	if err != nil && core.KindOf(err) != core.Unknown {
		return fmt.Errorf("read declaration in force: %w", err)
	}
	if !d.Subject.IsZero() {
		n, err := c.d.Running.CountsOf(r.Context(), d.Subject)
		if err != nil {
			return fmt.Errorf("read counts of a device: %w", err)
		}
		view.Counted = &n
		for _, x := range slices.Backward(c.d.Running.Connections()) {
			if x.Subject == d.Subject {
				view.Connections = append(view.Connections, x)
			}
		}
	}
	if old, ok := c.d.Devices.LegacyOf(id); ok {
		view.Legacy, view.Door = &old, c.d.Devices.LegacyTerms(d.Product)
	}
	if view.Children, err = c.d.Devices.Children(id); err != nil {
		return err
	}
	if view.Proposals, err = c.d.Devices.Proposals(r.Context(), id); err != nil {
		return fmt.Errorf("read proposals of a hub: %w", err)
	}
	view.Reads = c.readFormOf(view.Policy, d, v)
	if view.Tell, err = c.tellViewOf(r.Context(), view.Policy, d, v); err != nil {
		return err
	}
	if view.Settings, err = c.setViewOf(r.Context(), view.Policy, d, v); err != nil {
		return err
	}
	return c.show(w, r, v, http.StatusOK, "device", page{
		Title: string(id), Here: "/devices", Up: []link{{"Devices", "/devices"}, {string(d.Product), "/devices?product=" + url.QueryEscape(string(d.Product))}}, Data: view,
	})
}

// Left is how long the certificate is still good.
func (d deviceView) Left(now time.Time) string {
	if !now.Before(d.NotAfter) {
		return "ran out " + ago(now, d.NotAfter)
	}
	return "good for " + span(d.NotAfter.Sub(now))
}
