package declaration

import (
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of one product. Group, field and stream numbers travel in a byte or
// two of every record, and a plan of all products lies in memory.
const (
	MaxFields  = 256 // fields of a product
	MaxStreams = 64  // streams of a product
	MaxGroups  = 32  // groups of a product: (class, readers, keep-time)
)

// Bounds of a hub.
const (
	MaxChildren      = 256 // that one hub may speak for
	MaxChildProducts = 32  // of which it may have children
)

// The shortest and the longest keep-time.
const (
	MinKeep = time.Hour
	MaxKeep = 10 * 365 * 24 * time.Hour
)

// Policy is a compiled declaration. It is immutable: nobody may change what its
// slices hold. Lists that have no order of their own are sorted by name, so two
// files that say the same have the same Policy.
type Policy struct {
	Product      core.ProductID
	Name         string // as people know the product
	Version      int    // grows with every published change
	Canonical    []byte // the declaration as canonical JSON (RFC 8785), defaults filled in
	Hash         core.Hash
	Risk         Risk
	Audience     Audience
	Health       bool // the law's duties for health data apply (row 2.14)
	Identity     Identity
	Streams      []Stream // by name
	Fields       []Field  // by name; the declaration order of everything that follows fields
	Groups       []Group  // by ID
	Commands     []Command
	Settings     []Setting // by name
	Interfaces   []Interface
	Network      Network
	Updates      Updates
	SupportUntil time.Time // last second (UTC) of the day until which security updates come
	Afterwards   string    // what still works after that day
	Services     []OwnService
	Shares       []Share
	Contacts     Contacts
	Claims       []Claim
	Hub          *Hub    // nil: its devices speak for themselves alone
	Legacy       *Legacy // nil: the door for old devices does not exist
}

// Risk is what row 0.1 asks of a product besides its data and its shares.
type Risk struct {
	Purpose  string // what the product is for: "comfort"
	Harm     Harm   // how bad it is when it goes wrong
	Exposure string // where it stands: "home"
}

// Harm is the magnitude of what can go wrong.
type Harm uint8

// The harms, smallest first.
const (
	LowHarm Harm = iota
	MediumHarm
	HighHarm
)

// String is the word of the declaration.
func (h Harm) String() string { return harmWords()[h] }

func harmWords() []string { return []string{"low", "medium", "high"} }

// Audience is for whom the product is made.
type Audience uint8

// The audiences.
const (
	GeneralAudience Audience = iota // grown-ups
	MixedAudience                   // children among others
	ChildAudience                   // children under 13 (16 CFR part 312)
)

// String is the word of the declaration.
func (a Audience) String() string { return audienceWords()[a] }

func audienceWords() []string { return []string{"general", "mixed", "child"} }

// Identity is how long a device may go without renewing.
type Identity struct {
	Life     time.Duration // of a device certificate: 7 d to 400 d
	MaySleep time.Duration // how long after its end an expired certificate may re-enrol; 0: to the end of support
}

// OnBad is what happens to a message with a bad declared field.
type OnBad uint8

// What happens to a message with a bad declared field (design, section 5).
const (
	BadField   OnBad = iota // drop the field, keep the rest
	BadMessage              // refuse the message
)

// String is the word of the declaration.
func (o OnBad) String() string { return onBadWords()[o] }

func onBadWords() []string { return []string{"field", "message"} }

// Stream is a named flow of messages: `telemetry/<Name>`.
type Stream struct {
	Name     string
	Every    time.Duration // a device may send one message per Every in the long run
	Burst    int           // and this many at once
	MaxBytes int           // of a payload
	OnBad    OnBad
	Fields   []int // indexes in Policy.Fields, ascending
}

// FieldType is the type of a value. The type `media` is reserved and does not
// pass the check.
type FieldType uint8

// The types.
const (
	Number    FieldType = iota // JSON number
	Integer                    // JSON number without a fraction, within ±2^53
	Boolean                    // true or false
	String                     // text of MinLength to MaxLength characters
	Enum                       // one of Values
	Timestamp                  // RFC 3339 text
)

// String is the word of the declaration.
func (t FieldType) String() string { return typeWords()[t] }

func typeWords() []string {
	return []string{"number", "integer", "boolean", "string", "enum", "timestamp"}
}

// Class is how personal a field is. A higher class asks for more.
type Class uint8

// The classes, least personal first.
const (
	Public Class = iota
	Personal
	Sensitive
	Child
	Health
)

// String is the word of the declaration.
func (c Class) String() string { return classWords()[c] }

func classWords() []string { return []string{"public", "personal", "sensitive", "child", "health"} }

// Field is one value in a stream's messages.
type Field struct {
	Name       string
	Stream     string
	Type       FieldType
	Unit       string   // SenML or UCUM; Number and Integer only
	Values     []string // Enum only, in the order of the file
	HasRange   bool     // Number and Integer always have one
	Min, Max   float64  // both inclusive
	MinLength  int      // String only, in Unicode code points
	MaxLength  int      // String only, in Unicode code points
	Precision  float64  // finer readings are rounded to a multiple of it; 0: none
	Class      Class
	Purposes   []string // sorted: "service.control"
	Keep       time.Duration
	Readers    []string     // sorted: roles, "service:NAME", "share:NAME"
	WhenDone   string       // "shred" or "aggregate(k=20, by=day)"
	Protection []Protection // sorted; never empty for Sensitive, Child and Health
	About      string       // what it is, in plain words; may be empty
	Group      int          // index in Policy.Groups
}

// Protection is what guards a field beyond the sealing that every field has.
type Protection string

// The protections. The check holds the first three; whoever serves reads holds
// the others, and refuses a read that it cannot protect so.
const (
	NoStaff    Protection = "no-staff"    // no role of the maker's staff is a reader
	NoShares   Protection = "no-shares"   // no share has it
	Coarse     Protection = "coarse"      // has a precision of at least 1/1000 of its range
	StepUp     Protection = "step-up"     // a person proves a second factor anew for each read
	TwoPersons Protection = "two-persons" // a second person of the staff approves each read by staff
)

// Group is the fields of one class, one set of readers and one keep-time, across
// the product's streams. A reading holds one ciphertext per group.
type Group struct {
	ID      string // "personal/owner+support/k2592000"
	Class   Class
	Readers []string // sorted
	Keep    time.Duration
	Fields  []int // indexes in Policy.Fields, ascending
}

// Command is what a device can be told to do.
type Command struct {
	Name   string
	Params []Param  // by name
	By     []string // sorted roles and services
	Risky  bool     // asks for a second factor or person (rows 3.7, 3.8)
}

// Param is one bounded value of a command.
type Param struct {
	Name                 string
	Type                 FieldType
	Unit                 string
	Values               []string
	HasRange             bool
	Min, Max             float64
	MinLength, MaxLength int
}

// Interface is one way into or out of the product (rows 1.1, 4.13).
type Interface struct {
	Name      string
	Protocol  string
	Direction string // "in" or "out"
	Port      int    // 0: none
	On        string // where it can be reached: "lan"; "" for out
	Auth      string
	Open      string // when it is reachable: "always", "until-claimed", "on-request"
}

// Network is what the product talks to (rows 2.6, 3.13, 5.9).
type Network struct {
	TalksTo []Destination // by service, host, port
	WiFi    []string      // of wpa2, wpa3; empty: no Wi-Fi
	TLS     string        // oldest version spoken with us: "1.3" or "1.2"
}

// Destination is one thing on the network that the product connects to.
type Destination struct {
	Service string // "gateway" is ourselves
	Host    string // DNS name; "" for the gateway
	Port    int    // 0: the usual one of the service
}

// Updates is how security updates come (rows 5.14, 7.11).
type Updates struct {
	Automatic   bool
	WhyManual   string        // set when not automatic
	CheckEvery  time.Duration // how often a device asks
	WindowStart time.Duration // after local midnight; both 0: any time
	WindowEnd   time.Duration
	Critical    time.Duration // from release to offered on every device
	High        time.Duration
}

// OwnService is a service: the maker's own app or cloud that reads.
type OwnService struct {
	Name     string
	What     string   // what it does, in plain words
	Purposes []string // sorted; it may read only fields that have one of them
}

// Share is a slice of the data that another company gets (rows 4.6, 6.15).
type Share struct {
	Name          string
	Fields        []int // indexes in Policy.Fields, ascending
	Purpose       string
	Transform     []string  // in order: "geo_grid(10km)", "hour"
	ContractUntil time.Time // last second (UTC) of the contract's last day
}

// Contacts are shown on the product's public page.
type Contacts struct {
	Security string // mail address or https URL (RFC 9116 §2.5.3)
	Help     string
}

// Claim is a public promise and the controls that it stands on (row 8.1).
type Claim struct {
	Say     string
	RestsOn []string // sorted control ids: "DM-03"
}

// Hub is for whom devices of the product may speak besides themselves: children,
// which have no certificate (decision 015).
type Hub struct {
	Children []core.ProductID // sorted
	Max      int              // of one hub, at most MaxChildren
}

// Legacy is the door for devices that cannot have a certificate of ours yet
// (design, section 5, Brownfield). Every device that uses it fails row 3.2.
type Legacy struct {
	Auth       string    // "own-ca" or "device-token"
	Until      time.Time // last second (UTC) of its last day
	MaxDevices int
}

// EpochLength is how long an epoch of a keep-time is: the largest of 5 minutes,
// 1 hour, 6 hours, a day, a week and 30 days that is at most a tenth of it
// (design, section 5, Time). Keep-times start at one hour, so 5 minutes fit.
func EpochLength(keep time.Duration) time.Duration {
	const day = 24 * time.Hour
	for _, l := range []time.Duration{30 * day, 7 * day, day, 6 * time.Hour, time.Hour} {
		if l <= keep/10 {
			return l
		}
	}
	return 5 * time.Minute
}

// Field is the field of that name, and its index in p.Fields.
func (p *Policy) Field(name string) (int, *Field) {
	i, ok := slices.BinarySearchFunc(p.Fields, name, func(f Field, n string) int { return strings.Compare(f.Name, n) })
	if !ok {
		return -1, nil
	}
	return i, &p.Fields[i]
}

// Stream is the stream of that name, or nil.
func (p *Policy) Stream(name string) *Stream {
	i, ok := slices.BinarySearchFunc(p.Streams, name, func(s Stream, n string) int { return strings.Compare(s.Name, n) })
	if !ok {
		return nil
	}
	return &p.Streams[i]
}
