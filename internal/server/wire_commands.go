package server

import (
	"context"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

func (s *server) openCommands(ctx context.Context) (err error) {
	s.commands, err = command.New(ctx, command.Deps{
		Update: update[command.Tx](s.store), View: view[command.Tx](s.store), Keys: s.ring, Policy: s.loose.policy(s.decl), Now: s.opt.Now,
		Owner: func(ctx context.Context, id core.DeviceID) (command.Owned, error) {
			o, err := s.owner(ctx, id)
			d, _ := s.devices.Device(id) // owner has said what is wrong with it
			return command.Owned{Subject: o.Subject, Product: o.Product, Child: d.Child}, err
		},
		Alone: s.loose.alone.Load,
		Wake:  s.wake, // the gateway is made below; nobody gives commands before it is
	})
	if err != nil {
		return err
	}
	s.jobs = append(s.jobs, &job{name: "commands", period: 5 * time.Second, run: s.clock.unlessAhead(s.commands.Tick)})
	return nil
}

// memory keeps what devices listen to.
type memory struct{ s *server }

func (m memory) Remember(ctx context.Context, list []command.Listening) error {
	return m.s.store.Update(ctx, func(tx *store.Tx) error { return tx.Remember(ctx, list) })
}

// recall gives the gateway the sessions that outlived the last run, of those
// devices that still belong to whom they did.
func (s *server) recall(ctx context.Context) error {
	var list []command.Listening
	if err := s.store.Update(ctx, func(tx *store.Tx) (err error) { list, err = tx.Remembered(ctx, s.opt.Now()); return err }); err != nil {
		return err
	}
	s.gateway.Recall(slices.DeleteFunc(list, func(l command.Listening) bool {
		d, err := s.devices.Device(l.Device)
		return err != nil || d.Subject != l.Subject
	}))
	return nil
}

// orders give commands at the local door and in the console.
type orders struct{ s *server }

func (o orders) Give(ctx context.Context, by core.Actor, id core.DeviceID, r api.CommandRequest) (api.Command, error) {
	c, err := o.s.commands.Give(ctx, by, command.Request{
		Device: id, Name: r.Name, Params: r.Params, Role: r.As, Reason: r.Reason, Life: time.Duration(r.Seconds) * time.Second,
	})
	if err != nil {
		return api.Command{}, err
	}
	return o.shown(&c)
}

func (o orders) List(ctx context.Context, id core.DeviceID) ([]api.Command, error) {
	all, err := o.s.commands.List(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]api.Command, 0, len(all))
	for i := range all {
		out = append(out, api.CommandOf(&all[i], "")) // what a device said is shown of one that is asked for by name
	}
	return out, nil
}

func (o orders) Find(ctx context.Context, id core.DeviceID, name string) (api.Command, error) {
	c, err := o.s.commands.Find(ctx, id, name)
	if err != nil {
		return api.Command{}, err
	}
	return o.shown(&c)
}

func (o orders) Cancel(ctx context.Context, by core.Actor, id core.DeviceID, name string) (api.Command, error) {
	c, err := o.s.commands.Cancel(ctx, by, id, name)
	if err != nil {
		return api.Command{}, err
	}
	return o.shown(&c)
}

func (o orders) shown(c *command.Command) (api.Command, error) {
	said, err := o.s.commands.Said(c)
	return api.CommandOf(c, said), err
}
