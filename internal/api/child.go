package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// ChildRequest is a child that a hub is to have: registered, or adopted.
type ChildRequest struct {
	Child    core.DeviceID  `json:"child"`
	Product  core.ProductID `json:"product,omitempty"`  // none: of one that is registered and adopted
	Station  string         `json:"station,omitempty"`  // as of a device
	Hardware string         `json:"hardware,omitempty"` // revision, a word
	Batch    string         `json:"batch,omitempty"`    // a word
	Reason   string         `json:"reason"`
}

// Validate checks the form of both ids, of the words and the reason.
func (r *ChildRequest) Validate() error {
	d := AddDeviceRequest{Device: r.Child, Product: r.Product, Station: r.Station, Hardware: r.Hardware, Batch: r.Batch}
	if d.Product == "" {
		d.Product = "adopted" // whether one is needed, the register knows
	}
	if err := d.Validate(); err != nil {
		return err
	}
	return checkReason(r.Reason)
}

// MoveRequest names the hub that a child goes to.
type MoveRequest struct {
	Hub    core.DeviceID `json:"hub"`
	Reason string        `json:"reason"`
}

// Validate checks the hub's id and the reason.
func (r *MoveRequest) Validate() error {
	if !r.Hub.Valid() {
		return core.E(core.Invalid, "device-id", "the hub is not in the form of a device id", "use the serial number that `hawser device list` shows")
	}
	return checkReason(r.Reason)
}

// Children are those of a hub, and those that it proposes.
type Children struct {
	Hub       core.DeviceID `json:"hub"`
	Children  []Device      `json:"children"`
	Proposals []Proposal    `json:"proposals"`
}

// Proposal is a child that a hub would have: an id that it made up, for all
// that anybody knows.
type Proposal struct {
	Child core.DeviceID `json:"child"`
	First time.Time     `json:"first"`
	Last  time.Time     `json:"last"`
	Taken string        `json:"taken,omitempty"` // what has this id already, in a sentence
}

func childRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/devices/{device}/children", "device.list", h.children},
		{"POST /v1/devices/{device}/children", "child.add", h.addChild},
		{"POST /v1/devices/{device}/children/adopt", "child.add", h.adoptChild},
		{"POST /v1/devices/{device}/move", "child.move", h.moveChild},
		{"POST /v1/devices/{device}/remove", "child.move", h.removeChild},
	}
}

func (h handlers) children(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	hub, err := deviceIn(r)
	if err != nil {
		return err
	}
	found, err := h.Devices.Children(hub)
	if err != nil {
		return err
	}
	proposed, err := h.Devices.Proposals(r.Context(), hub)
	if err != nil {
		return err
	}
	out := Children{Hub: hub, Children: []Device{}, Proposals: []Proposal{}}
	for _, d := range found {
		out.Children = append(out.Children, h.show(d))
	}
	for _, p := range proposed {
		out.Proposals = append(out.Proposals, Proposal{Child: p.Child, First: p.First, Last: p.Last, Taken: p.Taken})
	}
	slices.SortFunc(out.Proposals, func(a, b Proposal) int { return strings.Compare(string(a.Child), string(b.Child)) })
	return writeJSON(w, out)
}

func (h handlers) addChild(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	hub, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req ChildRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	d, err := h.Devices.AddChild(r.Context(), by, hub, identity.Registration{
		Device: req.Child, Product: req.Product, Station: req.Station, Hardware: req.Hardware, Batch: req.Batch,
	}, req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, h.show(d))
}

func (h handlers) adoptChild(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	hub, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req ChildRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	d, err := h.Devices.Adopt(r.Context(), by, hub, req.Child, req.Product, req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, h.show(d))
}

func (h handlers) moveChild(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	child, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req MoveRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	d, err := h.Devices.Move(r.Context(), by, child, req.Hub, req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, h.show(d))
}

func (h handlers) removeChild(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	child, reason, err := reasoned(r)
	if err != nil {
		return err
	}
	d, err := h.Devices.Remove(r.Context(), by, child, reason)
	if err != nil {
		return err
	}
	return writeJSON(w, h.show(d))
}
