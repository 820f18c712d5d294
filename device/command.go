package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Param is one value that a command takes, as the product's declaration has it,
// or narrower.
type Param struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`             // number, integer, boolean, string, enum or timestamp
	Values    []string `json:"values,omitempty"` // of an enum
	Min       float64  `json:"min,omitempty"`    // of number and integer, both included
	Max       float64  `json:"max,omitempty"`
	MinLength int      `json:"min_length,omitempty"` // of a string, in characters
	MaxLength int      `json:"max_length,omitempty"`
}

// Command is something that this device can be told to do. What the server
// sends is held against it again: a value out of bounds, a command that is none,
// one that is over or was here before is refused, and Do is not called (CC 3.7).
type Command struct {
	Name   string
	Params []Param // all of them required
	// Do does it and says how it went: an error's text is told to the maker, so
	// it must name nobody. One command at a time is done, each at most once,
	// also over a power cut. ctx ends with Run.
	Do func(ctx context.Context, values map[string]any) error
}

const (
	maxReplies  = 16
	commandsMax = 64 << 10 // bytes of the file
)

// orders is what the device remembers of commands: the number of the last one
// that it took, and answers that the server has not acknowledged.
type orders struct {
	path string

	mu    sync.Mutex // guards what follows, over disk writes on purpose
	state ordersState
	next  uint64        // names answers
	ready chan struct{} // has a token when there may be an answer to send
}

type ordersState struct {
	Last    uint64   `json:"last"`
	Replies []answer `json:"replies,omitempty"`
}

// answer is one that waits for the server.
type answer struct {
	ID      uint64 `json:"id"`
	Topic   string `json:"topic"`
	Payload []byte `json:"payload"`
}

func openOrders(path string) (*orders, error) {
	o := &orders{path: path, ready: make(chan struct{}, 1)}
	b, err := readSmall(path, commandsMax)
	if errors.Is(err, os.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &o.state); err != nil {
		// Without the last number an old command could be done twice.
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	for _, r := range o.state.Replies {
		o.next = max(o.next, r.ID)
	}
	o.wake()
	return o, nil
}

func (o *orders) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// save is called with the lock held.
func (o *orders) save() error {
	b, err := json.Marshal(o.state)
	if err != nil {
		return err
	}
	return writeFile(o.path, b)
}

// take notes that a command is being taken; false when it was here before. It
// is on disk before anything is done.
func (o *orders) take(number uint64) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if number <= o.state.Last {
		return false, nil
	}
	last := o.state.Last
	o.state.Last = number
	if err := o.save(); err != nil {
		o.state.Last = last
		return false, err
	}
	return true, nil
}

// answer keeps what the server is to be told. The oldest goes when there are
// too many.
func (o *orders) answer(topic string, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.state.Replies) == maxReplies {
		o.state.Replies = slices.Delete(o.state.Replies, 0, 1)
	}
	o.next++
	o.state.Replies = append(o.state.Replies, answer{o.next, topic, payload})
	defer o.wake()
	return o.save()
}

// report keeps how the device is set, in the place of what it said before.
func (o *orders) report(payload []byte) error {
	o.mu.Lock()
	o.state.Replies = slices.DeleteFunc(o.state.Replies, func(a answer) bool { return a.Topic == wire.StateTopic })
	o.mu.Unlock()
	return o.answer(wire.StateTopic, payload)
}

// answers are those that wait.
func (o *orders) answers() []answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.state.Replies)
}

// told forgets an answer that the server has decided on.
func (o *orders) told(id uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.state.Replies)
	if o.state.Replies = slices.DeleteFunc(o.state.Replies, func(a answer) bool { return a.ID == id }); len(o.state.Replies) == n {
		return nil
	}
	return o.save()
}

// commanded takes one command from the server: noted on disk, acknowledged,
// and done by a goroutine of its own, after those before it.
func (s *session) commanded(p packetIn) error {
	d := s.d
	name, id, ok := wire.SplitCommand(p.topic)
	c, err := wire.ParseCommand(p.payload)
	if !ok || err != nil {
		d.cfg.Log.Warn("a command cannot be read", slog.String("topic", plain([]byte(p.topic))), slog.Any("err", err))
		return nil
	}
	fresh, err := d.orders.take(c.Number)
	if err != nil {
		return fault(StateUnusable, err, "check the disk of the device", "what the device was told cannot be noted")
	}
	if !fresh {
		d.cfg.Log.Info("a command that was here before is not done again", slog.String("name", name))
		return nil
	}
	d.count(func(st *Status) { st.Commands++ })
	select {
	case d.toDo <- order{name, id, c}:
	default:
		return d.reply(name, id, wire.Reply{Outcome: wire.OutcomeRefused, Text: "the device is busy with commands before it"})
	}
	return nil
}

// order is a command on its way to be done.
type order struct {
	name, id string
	wire.CommandMessage
}

// maxToDo is how many commands may wait to be done.
const maxToDo = 16

// obey applies settings and does commands, one after the other, until ctx ends.
func (d *Device) obey(ctx context.Context) {
	changed := d.settings.ready
	if len(d.cfg.Settings) == 0 {
		changed = nil
	} else if err := d.applySettings(ctx); err != nil {
		d.cfg.Log.Error("the settings that are kept could not be applied", slog.Any("err", err))
	}
	for {
		select {
		case <-changed:
			if err := d.applySettings(ctx); err != nil {
				d.cfg.Log.Error("settings could not be kept", slog.Any("err", err))
			}
		case o := <-d.toDo:
			if err := d.reply(o.name, o.id, d.do(ctx, &o)); err != nil {
				d.cfg.Log.Error("the outcome of a command could not be kept", slog.Any("err", err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// do does one command, if it is one of the device's, within its bounds and its
// time.
func (d *Device) do(ctx context.Context, o *order) (r wire.Reply) {
	refuse := func(format string, a ...any) wire.Reply {
		return wire.Reply{Outcome: wire.OutcomeRefused, Text: fmt.Sprintf(format, a...)}
	}
	i := slices.IndexFunc(d.cfg.Commands, func(c Command) bool { return c.Name == o.name })
	if i < 0 {
		return refuse("the device knows no command %s", o.name)
	}
	c := &d.cfg.Commands[i]
	if now, trusted := d.clock.read(); trusted && now.Add(-wire.MaxClockAhead).UnixMilli() > o.Expires {
		return refuse("its time was over when it came")
	}
	declared := make([]wire.Param, len(c.Params))
	for i, p := range c.Params {
		declared[i] = wire.Param(p)
	}
	values, err := wire.ParseParams(declared, o.Params)
	if err != nil {
		return refuse("%v", err)
	}
	byName := make(map[string]any, len(values))
	for _, v := range values {
		byName[v.Name] = v.Is
	}
	defer func() {
		if f := recover(); f != nil {
			d.cfg.Log.Error("a command's code failed", slog.String("name", o.name), slog.Any("fault", f))
			r = wire.Reply{Outcome: wire.OutcomeFailed, Text: "the device's code failed"}
		}
	}()
	began := time.Now()
	if err := c.Do(ctx, byName); err != nil {
		return wire.Reply{Outcome: wire.OutcomeFailed, Text: plain([]byte(err.Error()))}
	}
	d.cfg.Log.Info("command done", slog.String("name", o.name), slog.Duration("took", time.Since(began)))
	return wire.Reply{Outcome: wire.OutcomeDone}
}

func (d *Device) reply(name, id string, r wire.Reply) error {
	if t := []rune(r.Text); len(t) > wire.MaxReplyText {
		r.Text = string(t[:wire.MaxReplyText])
	}
	return d.orders.answer(wire.ReplyTopic(name, id), wire.AppendReply(nil, &r))
}

// sendAnswers sends what the server has not acknowledged in this session, as
// far as the window goes.
func (s *session) sendAnswers() error {
	for _, a := range s.d.orders.answers() {
		if s.answering[a.ID] || len(s.inflight) >= s.window {
			continue
		}
		id := s.takeID()
		var err error
		if s.out, err = mqtt.AppendPublish(s.out[:0], mqtt.V5, []byte(a.Topic), a.Payload, mqtt.AtLeastOnce, id); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
		s.inflight[id] = flight{answer: a.ID}
		s.answering[a.ID] = true
	}
	return nil
}

func ordersPath(dir string) string { return filepath.Join(dir, "commands") }
