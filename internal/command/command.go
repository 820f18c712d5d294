package command

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The kinds of records of commands.
const (
	// RecordGiven is of a command that waits for its device. Its facts:
	// command, name, role, number, expires. Values and reason are sealed.
	RecordGiven core.RecordKind = "command-given"
	// RecordEnded follows once. Its facts: command, name, end, taken.
	RecordEnded core.RecordKind = "command-ended"
)

// Bounds of commands.
const (
	UsualLife  = 24 * time.Hour
	MaxLife    = 30 * 24 * time.Hour
	Keep       = 30 * 24 * time.Hour // after its end
	maxWaiting = 16                  // for one device
	maxOpen    = 200_000             // for all
	maxReason  = 300                 // characters
	minReason  = 5
)

// End is how a command ended.
type End string

// The ends. A command without one is open.
const (
	Open       End = ""
	Done       End = "done"       // the device did it
	Refused    End = "refused"    // the device would not
	Failed     End = "failed"     // the device tried
	NotTaken   End = "not-taken"  // the device's client answered the message with an error
	Unanswered End = "unanswered" // taken, and its time passed without an answer
	Expired    End = "expired"    // its time passed before the device took it
	Cancelled  End = "cancelled"
	Withdrawn  End = "withdrawn" // the declaration allows it no more, before the device took it
)

// Kind is what kind of thing a Command is.
type Kind string

// The kinds.
const (
	Order          Kind = ""         // a command to the device
	OfSettings     Kind = "settings" // its values are settings
	OfSettingsBack Kind = "back"     // its value is the version to take back
)

// Command is one command to one device. Its values, the reason and the device's
// words are sealed under the subject's key.
type Command struct {
	ID      string         `json:"command"`
	Device  core.DeviceID  `json:"-"`
	Subject core.Subject   `json:"-"`
	Product core.ProductID `json:"product"`
	Policy  core.Hash      `json:"-"` // of the declaration that allowed it
	Name    string         `json:"name"`
	Role    string         `json:"role"` // that of who gave it, among the declaration's `by`
	Number  uint64         `json:"number"`
	Given   time.Time      `json:"given"`
	By      core.Actor     `json:"by"`
	Expires time.Time      `json:"expires"`
	// Kind is what is asked for where it is no command: a change of settings, or
	// taking one back, that is risky. Both are done when a second person agrees.
	Kind Kind `json:"kind,omitempty"`
	// Risky ones wait for a second person before they wait for their device.
	Risky    bool       `json:"risky,omitempty"`
	Second   core.Actor `json:"second,omitzero"`
	Seconded time.Time  `json:"seconded,omitzero"`
	Taken    time.Time  `json:"taken,omitzero"` // the device acknowledged the message
	End      End        `json:"end,omitempty"`
	Ended    time.Time  `json:"ended,omitzero"`
	EndedBy  core.Actor `json:"ended_by,omitzero"`

	Sealed []byte `json:"-"` // content
	Answer []byte `json:"-"` // what the device said, sealed; nil: nothing
}

// State is how it stands, in a word.
func (c *Command) State() string {
	switch {
	case c.End != Open:
		return string(c.End)
	case c.Asked():
		return "asked"
	case !c.Taken.IsZero():
		return "taken"
	}
	return "waiting"
}

// content is what is sealed of a command.
type content struct {
	Params []byte `json:"params"` // a JSON object
	Reason string `json:"reason"`
}

// What the sealed parts are, so that they cannot change places.
const (
	sealContent = "command"
	sealAnswer  = "command-answer"
)

// Message is what a device is sent: a command, or how it is to be set.
type Message struct {
	ID      string // of the command; empty: these are settings
	Name    string
	Number  uint64    // of the command, or the version of the settings
	Expires time.Time // zero: never
	Payload []byte    // wire.CommandMessage or wire.ConfigMessage
}

// Tx is what commands and settings need from storage.
type Tx interface {
	SettingsTx
	// PutCommand keeps a command, new or changed. It refuses one of a subject
	// that is being erased with core.Conflict.
	PutCommand(ctx context.Context, c Command) error
	// OpenCommands are all without an end, oldest first.
	OpenCommands(ctx context.Context) ([]Command, error)
	// Command is one; core.Unknown when there is none.
	Command(ctx context.Context, id string) (Command, error)
	// Commands are up to limit of a device under a subject, newest first.
	Commands(ctx context.Context, subject core.Subject, limit int) ([]Command, error)
	// DropCommands deletes up to limit that ended before a time, and says how many.
	DropCommands(ctx context.Context, endedBefore time.Time, limit int) (int, error)
	// Record hands evidence to the ledger in the same transaction.
	Record(ctx context.Context, r core.Record) error
}

// Listening is what a session of a device listens to, kept for its return: also
// over a restart of the server.
type Listening struct {
	Device   core.DeviceID
	Subject  core.Subject // whose it was
	ClientID string
	Topics   uint16    // the gateway's bits
	Inbox    []byte    // the gateway's, of messages at QoS 2; nil: none ever came
	Until    time.Time // zero: it is to be dropped
}
