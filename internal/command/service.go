package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Owned is whose a device is now.
type Owned struct {
	Subject core.Subject // zero: nobody's
	Product core.ProductID
	Child   bool // it has no session of its own: a hub speaks for it
}

// Keys seal and open values under a subject's key; *seal.Keyring.
type Keys interface {
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
	OpenValue(s core.Subject, context string, sealed []byte) ([]byte, error)
}

// Deps is what a Service stands on. All of it but Alone is required.
type Deps struct {
	Update func(context.Context, func(Tx) error) error
	View   func(context.Context, func(Tx) error) error
	Keys   Keys
	// Owner is whose a device is; core.Unknown for one that does not exist.
	Owner func(context.Context, core.DeviceID) (Owned, error)
	// Policy is the declaration of a product that is in force.
	Policy func(context.Context, core.ProductID) (*declaration.Policy, error)
	// Wake tells the gateway that something waits for a device. It must not
	// block.
	Wake func(core.DeviceID)
	// Alone reports that one person is enough for what asks for two: in a trial
	// that must be noticed. nil: never.
	Alone func() bool
	Now   func() time.Time
}

// Service gives commands, and keeps what became of them. It is safe for
// concurrent use.
type Service struct {
	d Deps

	change sync.Mutex // one command changes at a time

	mu     sync.RWMutex // guards what follows
	open   map[core.DeviceID][]waiting
	opened int
	held   map[core.DeviceID]held // of devices that were ever set
	last   uint64                 // the last number that was given out
}

// waiting is an open command, as memory has it: what devices do every few
// seconds must not ask the disk.
type waiting struct {
	id, name string
	number   uint64
	subject  core.Subject
	expires  time.Time
	taken    bool
	asked    bool // it waits for a second person first, or is never sent
}

// New reads what is open.
func New(ctx context.Context, d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Keys == nil || d.Owner == nil || d.Policy == nil || d.Wake == nil || d.Now == nil {
		return nil, errors.New("command: a dependency is missing")
	}
	s := &Service{d: d, open: map[core.DeviceID][]waiting{}, held: map[core.DeviceID]held{}}
	var all []Command
	if err := d.View(ctx, func(tx Tx) (err error) { all, err = tx.OpenCommands(ctx); return err }); err != nil {
		return nil, fmt.Errorf("read what waits for devices: %w", err)
	}
	for i := range all {
		s.remember(&all[i])
	}
	return s, s.loadSettings(ctx)
}

func (s *Service) now() time.Time { return s.d.Now().UTC().Truncate(time.Microsecond) }

// remember puts an open command in its place in memory.
func (s *Service) remember(c *Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(s.open[c.Device], func(w waiting) bool { return w.id == c.ID })
	s.opened -= len(s.open[c.Device]) - len(list)
	if c.End == Open {
		list = append(list, waiting{c.ID, c.Name, c.Number, c.Subject, c.Expires, !c.Taken.IsZero(), c.Asked() || c.Kind != Order})
		slices.SortFunc(list, func(a, b waiting) int { return cmp.Compare(a.number, b.number) })
		s.opened++
	}
	s.last = max(s.last, c.Number)
	if len(list) == 0 {
		delete(s.open, c.Device)
		return
	}
	s.open[c.Device] = list
}

// of are the open commands of a device.
func (s *Service) of(id core.DeviceID) []waiting {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.open[id])
}

// Request is what somebody wants a device to do.
type Request struct {
	Device core.DeviceID
	Name   string
	Params []byte        // a JSON object of the declared values; empty: none
	Role   string        // what who gives it is to the device: "support"
	Reason string        // 5 to 300 characters, for the ledger
	Life   time.Duration // how long it may wait for the device; 0: UsualLife
}

// Give queues a command for a device under its present owner. The declaration
// in force says whether there is such a command, who may give it, and within
// what bounds; the device holds the same against it again.
func (s *Service) Give(ctx context.Context, by core.Actor, q Request) (Command, error) {
	if err := checkReason(q.Reason); err != nil {
		return Command{}, err
	}
	if q.Life == 0 {
		q.Life = UsualLife
	}
	if q.Life < time.Second || q.Life > MaxLife {
		return Command{}, core.E(core.Invalid, "command-life", "the command would wait too short or too long for its device", "give 1s to 30d")
	}
	owned, pol, err := s.target(ctx, by, q.Device, q.Role)
	if err != nil {
		return Command{}, err
	}
	params, risky, err := allowed(pol, &q)
	if err != nil {
		return Command{}, err
	}
	if risky && onMachine(by) {
		return Command{}, core.E(core.Denied, "second-local", q.Name+" is declared risky: it asks for two persons, and on the machine itself nobody knows which one acts", "ask for it in the console, on the page of the device; another person agrees there")
	}
	s.change.Lock()
	defer s.change.Unlock()
	return s.queue(ctx, Command{Device: q.Device, Subject: owned.Subject, Product: owned.Product, Policy: pol.Hash, Name: q.Name, Role: q.Role, By: by, Risky: risky}, q.Life, content{params, strings.TrimSpace(q.Reason)})
}

// queue has a new command wait. The caller holds s.change.
func (s *Service) queue(ctx context.Context, c Command, life time.Duration, said content) (Command, error) {
	s.mu.RLock()
	many, all := len(s.open[c.Device]), s.opened
	s.mu.RUnlock()
	if many >= maxWaiting || all >= maxOpen {
		return Command{}, core.E(core.TooMany, "commands", fmt.Sprintf("%d commands wait for this device, %d for all", many, all), "cancel some, or wait until they are taken or over")
	}
	id := make([]byte, 10)
	_, _ = rand.Read(id) // never fails
	now := s.now()
	c.ID, c.Number = "c"+strings.ToLower(base32.StdEncoding.EncodeToString(id)), s.number(now, 0)
	c.Given, c.Expires = now, now.Add(life)
	plain, err := json.Marshal(said)
	if err != nil {
		return Command{}, err
	}
	if c.Sealed, err = s.d.Keys.SealValue(c.Subject, sealContent, plain); err != nil {
		return Command{}, fmt.Errorf("seal a command: %w", err)
	}
	if err := s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutCommand(ctx, c); err != nil {
			return err
		}
		return tx.Record(ctx, c.given())
	}); err != nil {
		return Command{}, fmt.Errorf("give a command: %w", err)
	}
	s.remember(&c)
	if !c.Asked() {
		s.d.Wake(c.Device)
	}
	return c, nil
}

// allowed holds a request against a declaration, and gives its values in one
// form.
func allowed(pol *declaration.Policy, q *Request) (params []byte, risky bool, err error) {
	c := commandOf(pol, q.Name)
	if c == nil {
		names := make([]string, 0, len(pol.Commands))
		for i := range pol.Commands {
			names = append(names, pol.Commands[i].Name)
		}
		return nil, false, core.E(core.Invalid, "command-undeclared", fmt.Sprintf("%s declares no command %.63q", pol.Product, q.Name), "it declares: "+cmp.Or(strings.Join(names, ", "), "none"))
	}
	if !slices.Contains(c.By, q.Role) {
		return nil, false, core.E(core.Denied, "command-by", fmt.Sprintf("%s may not give %s", cmp.Or(q.Role, "nobody in particular"), c.Name), "the declaration lets: "+strings.Join(c.By, ", "))
	}
	if len(q.Params) == 0 {
		q.Params = []byte("{}")
	}
	values, err := wire.ParseParams(paramsOf(c), q.Params)
	if err != nil {
		return nil, false, &core.Error{Kind: core.Invalid, Reason: "command-params", Message: err.Error(), Hint: "the declaration of " + string(pol.Product) + " says what " + c.Name + " takes, and within what bounds", Err: err}
	}
	return wire.AppendParams(nil, values), c.Risky, nil
}

func paramsOf(c *declaration.Command) []wire.Param {
	out := make([]wire.Param, len(c.Params))
	for i := range c.Params {
		out[i] = paramOf(&c.Params[i])
	}
	return out
}

// List are the commands of a device under its present owner, newest first.
// What they say is not in it.
func (s *Service) List(ctx context.Context, id core.DeviceID) (out []Command, err error) {
	owned, err := s.d.Owner(ctx, id)
	if err != nil || owned.Subject.IsZero() {
		return nil, err
	}
	if err = s.d.View(ctx, func(tx Tx) error { out, err = tx.Commands(ctx, owned.Subject, 100); return err }); err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return out, nil
}

// Find is one command of a device under its present owner.
func (s *Service) Find(ctx context.Context, id core.DeviceID, command string) (c Command, err error) {
	owned, err := s.d.Owner(ctx, id)
	if err != nil {
		return c, err
	}
	if err := s.d.View(ctx, func(tx Tx) error { c, err = tx.Command(ctx, command); return err }); err != nil {
		return c, err
	}
	if c.Device != id || c.Subject != owned.Subject || c.Subject.IsZero() {
		return Command{}, core.E(core.Unknown, "no-such-command", "there is no such command of this device", "`hawser command list "+string(id)+"` shows them")
	}
	return c, nil
}

// Said is what the device said of a command, for who gave it.
func (s *Service) Said(c *Command) (string, error) {
	if len(c.Answer) == 0 {
		return "", nil
	}
	b, err := s.d.Keys.OpenValue(c.Subject, sealAnswer, c.Answer)
	return string(b), err
}

// Cancel ends a command that its device has not taken yet.
func (s *Service) Cancel(ctx context.Context, by core.Actor, id core.DeviceID, command string) (Command, error) {
	s.change.Lock()
	defer s.change.Unlock()
	c, err := s.Find(ctx, id, command)
	switch {
	case err != nil:
		return c, err
	case c.End != Open:
		return c, core.E(core.Conflict, "command-over", "this command is over: "+string(c.End), "give the opposite one, if there is one")
	case !c.Taken.IsZero():
		return c, core.E(core.Conflict, "command-taken", "the device has taken this command already", "give the opposite one, if there is one")
	}
	return s.end(ctx, c, Cancelled, by, "")
}

// end writes the end of a command. The caller holds s.change.
func (s *Service) end(ctx context.Context, c Command, how End, by core.Actor, said string) (Command, error) {
	c.End, c.Ended, c.EndedBy = how, s.now(), by
	if said != "" {
		var err error
		if c.Answer, err = s.d.Keys.SealValue(c.Subject, sealAnswer, []byte(said)); err != nil {
			return c, fmt.Errorf("seal what the device said: %w", err)
		}
	}
	if err := s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutCommand(ctx, c); err != nil {
			return err
		}
		return tx.Record(ctx, c.ended())
	}); err != nil {
		return c, fmt.Errorf("end a command: %w", err)
	}
	s.remember(&c)
	return c, nil
}

func (c *Command) given() core.Record {
	kind := RecordGiven
	if c.Risky {
		kind = RecordAsked
	}
	return core.Record{Time: c.Given, Kind: kind, Actor: c.By, Subject: c.Subject, Product: c.Product, Policy: c.Policy, Sealed: c.Sealed, Facts: []core.Fact{
		{Name: "command", Value: c.ID},
		{Name: "name", Value: c.Name},
		{Name: "role", Value: c.Role},
		{Name: "number", Value: strconv.FormatUint(c.Number, 10)},
		{Name: "expires", Value: c.Expires.Format(time.RFC3339)},
	}}
}

func (c *Command) ended() core.Record {
	taken := ""
	if !c.Taken.IsZero() {
		taken = c.Taken.Format(time.RFC3339)
	}
	return core.Record{Time: c.Ended, Kind: RecordEnded, Actor: c.EndedBy, Subject: c.Subject, Product: c.Product, Policy: c.Policy, Facts: []core.Fact{
		{Name: "command", Value: c.ID}, {Name: "name", Value: c.Name}, {Name: "end", Value: string(c.End)}, {Name: "taken", Value: taken},
	}}
}

// Within holds a stored command against the declaration that is said to have
// allowed it: for whoever looks whether the rules were kept.
func (s *Service) Within(c *Command, pol *declaration.Policy) error {
	said, err := s.content(c)
	if err != nil {
		return err
	}
	_, err = within(pol, c, said.Params)
	return err
}
