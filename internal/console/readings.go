package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// readForm asks for what a read session must say before it begins.
type readForm struct {
	Device   core.DeviceID
	Token    string
	Roles    []string // of the visitor, that any field has as a reader
	Role     string
	Purposes []string
	Purpose  string
	Reason   string
	Spans    []spanChoice
	Span     string
	Fields   []fieldChoice
	Hidden   []string // fields that none of the visitor's roles reads
	Why, Do  string   // set when there is nothing to read, and why
}

type fieldChoice struct {
	Name, About string
	On          bool
}

type spanChoice struct {
	ID, Text string
	Back     time.Duration // 0: all that is kept
}

func spanChoices() []spanChoice {
	const day = 24 * time.Hour
	return []spanChoice{{"hour", "the last hour", time.Hour}, {"day", "the last day", day}, {"week", "the last 7 days", 7 * day}, {"month", "the last 30 days", 30 * day}, {"all", "all that is kept", 0}}
}

// readFormOf is the form for one device and one visitor, or why there is none.
func (c *Console) readFormOf(p *declaration.Policy, d identity.Device, v Visitor) readForm {
	f := readForm{Device: d.ID, Token: c.tokens.of(v), Spans: spanChoices(), Span: "day"}
	switch {
	case d.Subject.IsZero():
		f.Why, f.Do = "There are no readings: the device belongs to nobody.", "Readings are kept from the first enrolment on, and go when the owner is erased."
		return f
	case p == nil:
		f.Why = "There are no readings: its product has no declaration."
		return f
	case !v.Holds("data.read"):
		f.Why, f.Do = "Your roles do not read what devices measured.", "Who looks after people's devices has the role support, where the declaration names it as a reader."
		return f
	}
	for i := range p.Fields {
		field := &p.Fields[i]
		mine := false
		for _, r := range v.Roles {
			if slices.Contains(field.Readers, r) {
				mine = true
				f.Roles = add(f.Roles, r)
			}
		}
		if !mine {
			f.Hidden = append(f.Hidden, field.Name)
			continue
		}
		f.Fields = append(f.Fields, fieldChoice{field.Name, field.About, true})
		for _, x := range field.Purposes {
			f.Purposes = add(f.Purposes, x)
		}
	}
	slices.Sort(f.Purposes)
	if len(f.Roles) == 0 {
		f.Why = "The declaration names none of your roles as a reader of any field."
		f.Do = "Who reads what is decided in the declaration, field by field; see the page of the product."
		return f
	}
	f.Role = f.Roles[0]
	return f
}

func add(list []string, x string) []string {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

type readingsView struct {
	Form     readForm
	Done     telemetry.ReadDone
	Reason   string
	From, To time.Time
	Charts   []chart
	Lists    []valueList
	Withheld []string
	Left     []string  // fields that were not drawn: too many at once
	Vouched  []vouched // of a child: who vouched for how many of them
	Nothing  bool
}

// readings opens a read session and draws what comes. The session is in the
// ledger before the first value is here (CC 4.1).
func (c *Console) readings(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	d, err := c.d.Devices.Device(id)
	if err != nil {
		return err
	}
	p, err := c.d.Declarations.Current(r.Context(), d.Product)
	if err != nil {
		return err
	}
	form := c.readFormOf(p, d, v)
	if form.Why != "" {
		return core.E(core.Denied, "nothing-to-read", form.Why, form.Do)
	}
	if err := form.take(r); err != nil {
		return err
	}
	now := c.d.Now().UTC()
	q := telemetry.ReadRequest{Device: id, Purpose: form.Purpose, Reason: form.Reason, Role: form.Role}
	for _, f := range form.Fields {
		if f.On {
			q.Fields = append(q.Fields, f.Name)
		}
	}
	from := form.from(p, now)
	if form.Span != "all" {
		q.From = from
	}
	ctx, cancel := within(r)
	defer cancel()
	gather := newGather(p, q.Fields, from, now)
	done, err := c.d.Data.Read(ctx, v.Actor, q, gather.take)
	if err != nil {
		return err
	}
	view := readingsView{Form: form, Done: done, Reason: form.Reason, From: from, To: now, Left: gather.left, Nothing: done.Readings == 0}
	view.Charts, view.Lists = gather.draw()
	if d.Child {
		if view.Vouched, err = c.vouchedBy(ctx, gather.senders); err != nil {
			return err
		}
	}
	for _, x := range done.Withheld {
		view.Withheld = append(view.Withheld, x.Field+": "+withheldWords(x.Why))
	}
	return c.show(w, r, v, http.StatusOK, "readings", page{
		Title: "Readings of " + string(id), Here: "/devices",
		Up: []link{{"Devices", "/devices"}, {string(id), "/device/" + url.PathEscape(string(id))}}, Data: view,
	})
}

// vouched is a hub, and how many readings came in on its sessions.
type vouched struct {
	Hub core.DeviceID // "": its certificate is not kept any more
	N   int
}

func (c *Console) vouchedBy(ctx context.Context, senders map[telemetry.Sender]int) ([]vouched, error) {
	by := map[core.DeviceID]int{}
	for s, n := range senders {
		hub, err := c.d.Devices.Holder(ctx, identity.Serial(s))
		if err != nil {
			return nil, fmt.Errorf("read whose a certificate was: %w", err)
		}
		by[hub] += n
	}
	var out []vouched
	for hub, n := range by {
		out = append(out, vouched{hub, n})
	}
	slices.SortFunc(out, func(a, b vouched) int { return strings.Compare(string(a.Hub), string(b.Hub)) })
	return out, nil
}

// take fills the form with what was sent.
func (f *readForm) take(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return core.E(core.Invalid, "form", "the form cannot be read", "load the page again and send it once more")
	}
	f.Purpose, f.Reason = r.PostFormValue("purpose"), strings.TrimSpace(r.PostFormValue("reason"))
	if role := r.PostFormValue("role"); slices.Contains(f.Roles, role) {
		f.Role = role
	} else {
		return core.E(core.Denied, "not-your-role", "you do not have the role that was asked for", "read as one of your own roles")
	}
	if !slices.Contains(f.Purposes, f.Purpose) {
		return core.E(core.Invalid, "no-purpose", "a read needs a purpose that the declaration names", "choose one from the list")
	}
	if span := r.PostFormValue("span"); slices.ContainsFunc(f.Spans, func(s spanChoice) bool { return s.ID == span }) {
		f.Span = span
	} else {
		return core.E(core.Invalid, "span", "this is no span", "choose one from the list")
	}
	any := false
	for i := range f.Fields {
		f.Fields[i].On = slices.Contains(r.PostForm["field"], f.Fields[i].Name)
		any = any || f.Fields[i].On
	}
	if !any {
		return core.E(core.Invalid, "no-field", "no field was chosen", "choose at least one")
	}
	return nil
}

// from is where the charts begin.
func (f *readForm) from(p *declaration.Policy, now time.Time) time.Time {
	i := slices.IndexFunc(f.Spans, func(s spanChoice) bool { return s.ID == f.Span })
	back := f.Spans[i].Back
	if back == 0 {
		for _, x := range f.Fields {
			if _, field := p.Field(x.Name); x.On && field != nil {
				back = max(back, field.Keep)
			}
		}
	}
	return now.Add(-back)
}

func withheldWords(why string) string {
	switch why {
	case "reader":
		return "the declaration does not name this role as its reader"
	case "purpose":
		return "it is not collected for this purpose"
	case "removed":
		return "the declaration in force no longer has it"
	case string(declaration.StepUp):
		return "the owner's second factor is asked for at each read, which is not possible here"
	case string(declaration.TwoPersons):
		return "a second person must approve each read, which is not possible here yet"
	}
	return why
}

// gather takes readings in, without keeping them.
type gather struct {
	from, to time.Time
	series   []*series
	lists    []*valueList
	left     []string
	senders  map[telemetry.Sender]int
}

// maxSeries bounds the charts of one page, so that it stays small.
const maxSeries = 8

func newGather(p *declaration.Policy, fields []string, from, to time.Time) *gather {
	g := &gather{from: from, to: to, senders: map[telemetry.Sender]int{}}
	drawn := 0
	for _, name := range fields {
		_, f := p.Field(name)
		if f == nil {
			continue
		}
		if drawn++; drawn > maxSeries {
			g.left = append(g.left, name)
			continue
		}
		switch f.Type {
		case declaration.Number, declaration.Integer, declaration.Boolean:
			g.series = append(g.series, &series{field: f})
		case declaration.String, declaration.Enum, declaration.Timestamp:
			g.lists = append(g.lists, &valueList{Name: f.Name, About: f.About})
		}
	}
	n := 96
	if len(g.series) > 3 {
		n = 48
	}
	for _, s := range g.series {
		s.buckets = make([]bucket, n)
	}
	return g
}

func (g *gather) take(o *telemetry.OpenReading) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(o.Values, &values); err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	g.senders[o.Sender]++
	for _, s := range g.series {
		if x, ok := values[s.field.Name]; ok {
			s.take(float64(o.Time.Sub(g.from))/float64(g.to.Sub(g.from)), x)
		}
	}
	for _, l := range g.lists {
		if x, ok := values[l.Name]; ok {
			l.take(o.Time, x)
		}
	}
	return nil
}

func (g *gather) draw() ([]chart, []valueList) {
	var charts []chart
	for _, s := range g.series {
		charts = append(charts, s.draw(g.from, g.to))
	}
	var lists []valueList
	for _, l := range g.lists {
		slices.Reverse(l.Values)
		lists = append(lists, *l)
	}
	return charts, lists
}

// valueList is the last values of a field that is no number.
type valueList struct {
	Name, About string
	Values      []timedValue // newest first
	All         int
}

type timedValue struct {
	Time time.Time
	Text string
}

const maxListed = 50

func (l *valueList) take(t time.Time, raw json.RawMessage) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	l.All++
	if len(l.Values) == maxListed {
		l.Values = slices.Delete(l.Values, 0, 1)
	}
	l.Values = append(l.Values, timedValue{t, cut(200, s)})
}
