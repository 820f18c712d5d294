package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Waiting reports whether a device has something to take. It asks memory.
func (s *Service) Waiting(id core.DeviceID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.open[id], func(w waiting) bool { return !w.taken && !w.asked })
}

// Next are up to n messages for a device under its present owner, with numbers
// above after, oldest first. What is over, or was given under another owner, is
// not among them.
func (s *Service) Next(ctx context.Context, id core.DeviceID, subject core.Subject, after uint64, n int) ([]Message, error) {
	var out []Message
	now := s.now()
	for _, w := range s.of(id) {
		if w.taken || w.asked || w.number <= after || w.subject != subject || !w.expires.After(now) || len(out) == n {
			continue
		}
		var c Command
		err := s.d.View(ctx, func(tx Tx) (err error) { c, err = tx.Command(ctx, w.id); return err })
		if core.KindOf(err) == core.Unknown {
			continue // erased at this moment
		}
		if err != nil {
			return nil, fmt.Errorf("read a command: %w", err)
		}
		if c.End != Open || c.Number != w.number {
			continue
		}
		said, err := s.content(&c)
		if err != nil {
			return nil, err
		}
		// What is allowed no more is not done any more, however it was asked for.
		if ok, err := s.still(ctx, &c, said); err != nil {
			return nil, err
		} else if !ok {
			if err := s.endNow(ctx, c.ID, Withdrawn); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, Message{
			ID: c.ID, Name: c.Name, Number: c.Number, Expires: c.Expires,
			Payload: wire.AppendCommand(nil, &wire.CommandMessage{Number: c.Number, Given: c.Given.UnixMilli(), Expires: c.Expires.UnixMilli(), Params: said.Params}),
		})
	}
	return out, nil
}

// still reports whether the declaration in force allows a command.
func (s *Service) still(ctx context.Context, c *Command, said content) (bool, error) {
	pol, err := s.d.Policy(ctx, c.Product)
	if err != nil || pol.Hash == c.Policy {
		return err == nil, err
	}
	_, risky, err := allowed(pol, &Request{Name: c.Name, Role: c.Role, Params: said.Params})
	return err == nil && (!risky || !c.Seconded.IsZero()), nil
}

func (s *Service) content(c *Command) (content, error) {
	b, err := s.d.Keys.OpenValue(c.Subject, sealContent, c.Sealed)
	if err != nil {
		return content{}, fmt.Errorf("open command %s: %w", c.ID, err)
	}
	var said content
	return said, json.Unmarshal(b, &said)
}

// find is an open command of a device, by what memory says.
func (s *Service) find(id core.DeviceID, is func(*waiting) bool) (waiting, bool) {
	list := s.of(id)
	i := slices.IndexFunc(list, func(w waiting) bool { return is(&w) })
	if i < 0 {
		return waiting{}, false
	}
	return list[i], true
}

// Taken notes that a device acknowledged a message; refused is its client's
// word that it was not taken, which is final. What is open no more is left
// alone.
func (s *Service) Taken(ctx context.Context, id core.DeviceID, number uint64, refused bool) error {
	s.change.Lock()
	defer s.change.Unlock()
	w, ok := s.find(id, func(w *waiting) bool { return w.number == number && !w.asked })
	if !ok || w.taken {
		return nil
	}
	var c Command
	if err := s.d.View(ctx, func(tx Tx) (err error) { c, err = tx.Command(ctx, w.id); return err }); err != nil {
		return gone(err)
	}
	if refused {
		_, err := s.end(ctx, c, NotTaken, deviceOf(&c), "")
		return gone(err)
	}
	c.Taken = s.now()
	if err := s.d.Update(ctx, func(tx Tx) error { return tx.PutCommand(ctx, c) }); err != nil {
		return gone(fmt.Errorf("note that a command was taken: %w", err))
	}
	s.remember(&c)
	return nil
}

func deviceOf(c *Command) core.Actor {
	return core.Actor{Kind: core.ActorDevice, ID: c.Subject.String()}
}

// gone is err, or nil where the command was erased meanwhile.
func gone(err error) error {
	switch core.KindOf(err) {
	case core.Unknown, core.Conflict:
		return nil
	}
	return err
}

// ErrNoCommand is why an answer is not taken: there is no open command of this
// name and id for the device.
var ErrNoCommand = errors.New("no such command waits for an answer")

// ErrReply is why an answer is not taken: it is none.
var ErrReply = errors.New("the answer cannot be read")

// Reply records what a device answered. It fails with ErrNoCommand or ErrReply
// for what is to be refused, with anything else for trouble of ours.
func (s *Service) Reply(ctx context.Context, id core.DeviceID, subject core.Subject, name, call string, payload []byte) error {
	w, ok := s.find(id, func(w *waiting) bool { return w.id == call && w.name == name && w.subject == subject && !w.asked })
	if !ok {
		return ErrNoCommand
	}
	r, err := wire.ParseReply(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReply, err)
	}
	s.change.Lock()
	defer s.change.Unlock()
	var c Command
	if err := s.d.View(ctx, func(tx Tx) (err error) { c, err = tx.Command(ctx, w.id); return err }); err != nil {
		return gone(err)
	}
	if c.End != Open {
		return nil // it ended while this waited
	}
	if c.Taken.IsZero() {
		c.Taken = s.now() // its acknowledgement was lost, or is still on its way
	}
	_, err = s.end(ctx, c, End(r.Outcome), deviceOf(&c), r.Text)
	return gone(err)
}

// perTick bounds what one run of Tick ends or drops.
const perTick = 1000

// Tick ends what is over and drops what is kept no longer. Run it every few
// seconds.
func (s *Service) Tick(ctx context.Context) error {
	now := s.now()
	s.mu.RLock()
	type over struct {
		id  string
		how End
	}
	var ends []over
	for _, list := range s.open {
		for _, w := range list {
			if len(ends) < perTick && !w.expires.After(now) {
				how := Expired
				if w.taken {
					how = Unanswered
				}
				ends = append(ends, over{w.id, how})
			}
		}
	}
	s.mu.RUnlock()
	var errs []error
	for _, o := range ends {
		errs = append(errs, s.endNow(ctx, o.id, o.how))
	}
	errs = append(errs, s.d.Update(ctx, func(tx Tx) error {
		if _, err := tx.DropCommands(ctx, now.Add(-Keep), perTick); err != nil {
			return err
		}
		_, err := tx.DropChanges(ctx, now, perTick)
		return err
	}), s.follow(ctx))
	return errors.Join(errs...)
}

func (s *Service) endNow(ctx context.Context, id string, how End) error {
	s.change.Lock()
	defer s.change.Unlock()
	var c Command
	err := s.d.View(ctx, func(tx Tx) (err error) { c, err = tx.Command(ctx, id); return err })
	if err != nil || c.End != Open {
		return gone(err)
	}
	_, err = s.end(ctx, c, how, core.Job("commands"), "")
	return gone(err)
}

// Forget drops from memory what waits for an erased subject; its rows are the
// eraser's.
func (s *Service) Forget(subject core.Subject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range s.held {
		if h.subject == subject {
			s.held[id] = held{product: h.product, version: h.version}
		}
	}
	for id, list := range s.open {
		left := slices.DeleteFunc(list, func(w waiting) bool { return w.subject == subject })
		s.opened -= len(list) - len(left)
		if len(left) == 0 {
			delete(s.open, id)
		} else {
			s.open[id] = left
		}
	}
}

// Open is how many commands wait or were taken without an answer yet.
func (s *Service) Open() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.opened
}
