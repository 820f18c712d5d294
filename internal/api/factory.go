package api

import (
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// listPattern is the one route whose request may be long: a factory's list.
const listPattern = "POST /v1/factory/lists"

// maxListRequestBytes is a list as a JSON string, and its signature.
const maxListRequestBytes = identity.MaxListBytes + identity.MaxListBytes/8

// Factory is what is known of factories.
type Factory struct {
	Lines []FactoryLine `json:"lines"`
	Lists []FactoryList `json:"lists"`
	CAs   []FactoryCA   `json:"authorities"`
}

// FactoryLine is a production line that lists the units it made.
type FactoryLine struct {
	Line     string         `json:"line"`
	Product  core.ProductID `json:"product"`
	Key      string         `json:"key"` // SHA-256 of its Ed25519 public key
	By       string         `json:"by"`
	Added    time.Time      `json:"added"`
	Until    time.Time      `json:"until"`
	MaxUnits int            `json:"max_units"`
	Ended    *time.Time     `json:"ended,omitempty"`
}

// FactoryList is a list that was taken.
type FactoryList struct {
	Digest string    `json:"digest"` // SHA-256 of the file
	Line   string    `json:"line"`
	List   string    `json:"list"`
	Units  int       `json:"units"`
	By     string    `json:"by"`
	Taken  time.Time `json:"taken"`
	Whole  bool      `json:"whole"` // false: a crash left it in the middle; give it again
	Before bool      `json:"before,omitempty"`
	Fresh  int       `json:"fresh,omitempty"` // units that this request registered
}

// FactoryCA is an authority whose birth certificates are taken.
type FactoryCA struct {
	Name        string         `json:"name"`
	Certificate string         `json:"certificate"` // SHA-256 of it
	Product     core.ProductID `json:"product"`
	SerialFrom  string         `json:"serial_from"` // cn or serialNumber
	By          string         `json:"by"`
	Added       time.Time      `json:"added"`
	Until       time.Time      `json:"until"`
	Units       int            `json:"units"` // that it brought
	MaxUnits    int            `json:"max_units"`
	Ended       *time.Time     `json:"ended,omitempty"`
}

// AddFactoryLineRequest registers a production line.
type AddFactoryLineRequest struct {
	Line     string         `json:"line"`
	Product  core.ProductID `json:"product"`
	Key      string         `json:"key"`   // Ed25519, as ssh-keygen writes it to a .pub file
	Until    string         `json:"until"` // day, 2006-01-02
	MaxUnits int            `json:"max_units"`
}

// Validate bounds the request; the rest is for the rules.
func (r *AddFactoryLineRequest) Validate() error {
	_, err := untilDay(r.Until)
	return err
}

// AddFactoryCARequest registers a factory's authority.
type AddFactoryCARequest struct {
	Name        string         `json:"name"`
	Product     core.ProductID `json:"product"`
	Certificate string         `json:"certificate"` // PEM
	SerialFrom  string         `json:"serial_from"` // cn or serialNumber
	Until       string         `json:"until"`       // day, 2006-01-02
	MaxUnits    int            `json:"max_units"`
}

// Validate bounds the request; the rest is for the rules.
func (r *AddFactoryCARequest) Validate() error {
	_, err := untilDay(r.Until)
	return err
}

func untilDay(s string) (time.Time, error) {
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return day, core.E(core.Invalid, "factory-until", "the last day is missing or no day", "give it as in 2027-06-30")
	}
	return day.AddDate(0, 0, 1), nil // the last day is one of them
}

// TakeFactoryListRequest brings a line's signed list.
type TakeFactoryListRequest struct {
	List      string `json:"list"`
	Signature string `json:"signature"` // what ssh-keygen -Y sign writes
}

// Validate has nothing to add: the rules bound both.
func (r *TakeFactoryListRequest) Validate() error { return nil }

// EndFactoryRequest ends a line or an authority.
type EndFactoryRequest struct {
	Cause string `json:"cause"`
}

// Validate bounds the request; the rest is for the rules.
func (r *EndFactoryRequest) Validate() error {
	if len(r.Cause) > 63 {
		return core.E(core.Invalid, "cause", "the cause is too long", "give a word of `--help`")
	}
	return nil
}

func factoryRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/factory", "device.list", h.factory},
		{"POST /v1/factory/lines", "factory.trust", h.addFactoryLine},
		{"POST /v1/factory/lines/{line}/end", "device.revoke", h.endFactoryLine},
		{listPattern, "device.add", h.takeFactoryList},
		{"POST /v1/factory/authorities", "factory.trust", h.addFactoryCA},
		{"POST /v1/factory/authorities/{authority}/end", "device.revoke", h.endFactoryCA},
	}
}

func (h handlers) factory(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	f, err := h.Devices.Factory(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, FactoryOf(&f))
}

// FactoryOf is a factory's state as it is shown.
func FactoryOf(f *identity.Factory) Factory {
	out := Factory{Lines: []FactoryLine{}, Lists: []FactoryList{}, CAs: []FactoryCA{}}
	for i := range f.Lines {
		l := &f.Lines[i]
		out.Lines = append(out.Lines, FactoryLine{
			Line: l.Name, Product: l.Product, Key: l.KeyHash().String(), By: l.Operator, Added: l.Added, Until: l.Until, MaxUnits: l.MaxUnits, Ended: whenSet(l.Ended),
		})
	}
	for i := range f.Lists {
		l := &f.Lists[i]
		out.Lists = append(out.Lists, FactoryList{Digest: l.Digest.String(), Line: l.Line, List: l.Name, Units: l.Units, By: l.Operator, Taken: l.Taken, Whole: l.Done})
	}
	for i := range f.CAs {
		c := &f.CAs[i]
		out.CAs = append(out.CAs, FactoryCA{
			Name: c.Name, Certificate: c.ID.String(), Product: c.Product, SerialFrom: string(c.SerialFrom), By: c.Operator, Added: c.Added, Until: c.Until,
			Units: f.Units[c.ID], MaxUnits: c.MaxUnits, Ended: whenSet(c.Ended),
		})
	}
	return out
}

func whenSet(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (h handlers) addFactoryLine(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req AddFactoryLineRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	until, err := untilDay(req.Until)
	if err != nil {
		return err
	}
	key, err := identity.ParseLineKey([]byte(req.Key))
	if err != nil {
		return err
	}
	if err := h.Devices.AddLine(r.Context(), by, identity.Line{Name: req.Line, Product: req.Product, Public: key, Until: until, MaxUnits: req.MaxUnits}); err != nil {
		return err
	}
	return h.factory(w, r, by)
}

func (h handlers) endFactoryLine(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req EndFactoryRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := h.Devices.EndLine(r.Context(), by, r.PathValue("line"), identity.Cause(req.Cause)); err != nil {
		return err
	}
	return h.factory(w, r, by)
}

func (h handlers) takeFactoryList(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req TakeFactoryListRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	t, err := h.Devices.TakeList(r.Context(), by, []byte(req.List), []byte(req.Signature))
	if err != nil {
		return err
	}
	return writeJSON(w, FactoryList{
		Digest: t.Digest.String(), Line: t.List.Line, List: t.List.Name, Units: len(t.List.Units), By: t.By, Taken: t.When, Whole: true, Before: t.Before, Fresh: t.Fresh,
	})
}

func (h handlers) addFactoryCA(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req AddFactoryCARequest
	if err := decode(r, &req); err != nil {
		return err
	}
	until, err := untilDay(req.Until)
	if err != nil {
		return err
	}
	cert, err := identity.ParseFactoryCA([]byte(req.Certificate))
	if err != nil {
		return err
	}
	err = h.Devices.AddFactoryCA(r.Context(), by, cert, identity.FactoryCA{
		Name: req.Name, Product: req.Product, SerialFrom: identity.SerialFrom(req.SerialFrom), Until: until, MaxUnits: req.MaxUnits,
	})
	if err != nil {
		return err
	}
	return h.factory(w, r, by)
}

func (h handlers) endFactoryCA(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req EndFactoryRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := h.Devices.EndFactoryCA(r.Context(), by, r.PathValue("authority"), identity.Cause(req.Cause)); err != nil {
		return err
	}
	return h.factory(w, r, by)
}
