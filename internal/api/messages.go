package api

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// PublishRequest asks to publish a declaration: the text of the YAML file.
type PublishRequest struct {
	File   string `json:"file"` // the name that faults are reported under
	Source string `json:"source"`
}

// Validate bounds the request.
func (r *PublishRequest) Validate() error {
	if r.Source == "" {
		return core.E(core.Invalid, "no-source", "the declaration is empty", "send the text of the YAML file as `source`")
	}
	if r.File == "" {
		r.File = "declaration.yaml"
	}
	return nil
}

// Declaration describes one published declaration.
type Declaration struct {
	Product string   `json:"product"`
	Name    string   `json:"name"`
	Version int      `json:"version"`
	Hash    string   `json:"hash"`
	Fields  int      `json:"fields"`
	Streams int      `json:"streams"`
	Support string   `json:"security_updates_until"`
	Changes []Change `json:"changes,omitempty"` // against the version before
}

// Change is one difference between two versions of a declaration.
type Change struct {
	Direction string `json:"direction"` // widens, narrows or neutral
	What      string `json:"what"`
	Where     string `json:"where"`
	Text      string `json:"text"`
}

// ChangeOf is a change as programs read it.
func ChangeOf(c declaration.Change) Change {
	return Change{Direction: c.Direction.String(), What: c.What, Where: c.Where, Text: c.Text}
}

// AddDeviceRequest registers one unit and asks for its enrolment code.
type AddDeviceRequest struct {
	Device   core.DeviceID  `json:"device"`
	Product  core.ProductID `json:"product"`
	Station  string         `json:"station,omitempty"`  // where it is registered: a line, a bench; a word, none: by-hand
	Hardware string         `json:"hardware,omitempty"` // revision, a word
	Batch    string         `json:"batch,omitempty"`    // a word
}

// Validate checks the form of both ids, and of what its birth record keeps.
func (r *AddDeviceRequest) Validate() error {
	if !r.Device.Valid() {
		return core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
	}
	if !r.Product.Valid() {
		return core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	for _, w := range []string{r.Station, r.Hardware, r.Batch} {
		if !identity.ValidBirthWord(w) {
			return core.E(core.Invalid, "birth-word", "station, hardware revision or batch is no word of 64 characters", "use up to 64 letters, digits, '.', '_', '/', '+' and '-'; they are kept for ever, so they name no person")
		}
	}
	return nil
}

// DeviceAdded carries the enrolment code, which is shown once and kept only as
// a hash (CC 1.9, CC 1.12).
type DeviceAdded struct {
	Device  core.DeviceID  `json:"device"`
	Product core.ProductID `json:"product"`
	Code    string         `json:"enrolment_code"`
}

// Device is one unit of the register.
type Device struct {
	Device      core.DeviceID  `json:"device"`
	Product     core.ProductID `json:"product"`
	State       string         `json:"state"`
	Subject     string         `json:"subject,omitempty"` // pseudonym of the present ownership
	Certificate string         `json:"certificate,omitempty"`
	NotAfter    *time.Time     `json:"certificate_until,omitempty"`
	Connected   bool           `json:"connected"`
	Quarantined *time.Time     `json:"quarantined,omitempty"`        // since when
	Suspicion   string         `json:"suspicion,omitempty"`          // why, a word
	Child       bool           `json:"child,omitempty"`              // it has no certificate: a hub vouches for it
	Hub         core.DeviceID  `json:"vouched_for_by_hub,omitempty"` // of a child: which one; none: no hub speaks for it at present
	HubSince    *time.Time     `json:"hub_since,omitempty"`
	Counts      *Counts        `json:"counts,omitempty"`
	Birth       *Birth         `json:"birth,omitempty"`    // only of one device
	Refusals    []Refusal      `json:"refusals,omitempty"` // only of one device
}

// Birth says where a unit comes from (CC 1.7).
type Birth struct {
	Added     time.Time  `json:"added"`
	By        string     `json:"by"`
	Station   string     `json:"station,omitempty"`    // where it was registered
	Door      string     `json:"door,omitempty"`       // how it first gets a certificate: enrolment-code, factory-list, factory-ca
	Hardware  string     `json:"hardware,omitempty"`   // revision
	Batch     string     `json:"batch,omitempty"`      //
	Source    string     `json:"source,omitempty"`     // SHA-256 of the factory's list or authority
	CodeBits  int        `json:"code_bits"`            // strength of its enrolment code; 0: it came without one
	KeyOrigin string     `json:"key_origin,omitempty"` // device: it made its own key
	Key       string     `json:"key_sha256,omitempty"` // of its first public key
	Enrolled  *time.Time `json:"enrolled,omitempty"`   // first handshake
	Digest    string     `json:"digest,omitempty"`     // of the birth record, as the ledger has it
}

// Refusal is one connection that was refused or ended (CC 4.17).
type Refusal struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Source string    `json:"source"` // a /24 or a /48
}

// ReasonRequest is any request that only needs a reason.
type ReasonRequest struct {
	Reason string `json:"reason"`
}

// Validate requires the reason: it stands in the ledger.
func (r *ReasonRequest) Validate() error { return checkReason(r.Reason) }

func checkReason(reason string) error {
	if n := len([]rune(reason)); n < 5 || n > 300 {
		return core.E(core.Invalid, "no-reason", "a reason is required", "give --reason \"…\", 5 to 300 characters; it stands in the ledger")
	}
	return nil
}

// WhyRequest is a request that ends something: a cause, and what the operator
// wants to add to it.
type WhyRequest struct {
	Cause  string `json:"cause,omitempty"`  // one of identity.Causes; none: other
	Reason string `json:"reason,omitempty"` // kept sealed under the owner's key, or not at all
}

// Validate requires one of the two.
func (r *WhyRequest) Validate() error {
	if r.Cause != "" && r.Reason == "" {
		return nil // whether it is one is identity's affair
	}
	if n := len([]rune(r.Reason)); n < 5 || n > 300 {
		return core.E(core.Invalid, "no-reason", "a cause or a reason is required", "give --cause WORD, --reason \"…\" (5 to 300 characters), or both; `hawser device revoke --help` lists the causes")
	}
	return nil
}

// ReadRequest asks for a device's readings.
type ReadRequest struct {
	Fields  []string  `json:"fields,omitempty"` // none: all that the reader may see
	From    time.Time `json:"from"`             // zero: the oldest
	To      time.Time `json:"to"`               // zero: now
	Purpose string    `json:"purpose"`          // one that the declaration collects for
	Reason  string    `json:"reason"`
}

// Validate requires the reason and a possible span.
func (r *ReadRequest) Validate() error {
	if !r.To.IsZero() && r.To.Before(r.From) {
		return core.E(core.Invalid, "span", "the span ends before it begins", "give --from an earlier time than --to")
	}
	return checkReason(r.Reason)
}

// ReadLine is one line of the answer to a read: a reading, or the last line,
// which has Done set.
type ReadLine struct {
	Time       time.Time       `json:"t,omitzero"`
	Received   time.Time       `json:"received,omitzero"`
	Stream     string          `json:"stream,omitempty"`
	Boot       *uint64         `json:"boot,omitempty"`
	Seq        *uint64         `json:"seq,omitempty"`
	WrongClock bool            `json:"wrong_clock,omitempty"`
	VouchedBy  core.DeviceID   `json:"vouched_for_by_hub,omitempty"` // of a child: the hub on whose session it came in; "?": its certificate is not kept any more
	Values     json.RawMessage `json:"values,omitempty"`
	Done       *ReadDone       `json:"done,omitempty"`
	Problem    *Problem        `json:"problem,omitempty"` // the answer broke off here
}

// ReadDone closes the answer to a read.
type ReadDone struct {
	Readings   int      `json:"readings"`
	Withheld   []string `json:"withheld"`             // fields that this reader may not see, and why
	Unreadable int      `json:"unreadable,omitempty"` // parts that were changed on disk
	Undeclared int      `json:"undeclared,omitempty"` // stored members that no declaration names: a fault of the server
	Behind     bool     `json:"behind,omitempty"`     // the newest readings are not filed yet
	Damaged    []string `json:"damaged,omitempty"`    // epochs whose file is damaged
}

// LongLine is one line of the answer to a request that takes long, for a caller
// that accepts application/jsonl: how far it is, and last its outcome.
type LongLine struct {
	Progress *Progress       `json:"progress,omitempty"`
	Done     json.RawMessage `json:"done,omitempty"`    // the answer that others get alone
	Problem  *Problem        `json:"problem,omitempty"` // it broke off
}

// Progress is how much of about how much is done.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Receipt proves an erasure or a revocation; it stands in the ledger.
type Receipt struct {
	Kind     string            `json:"kind"`
	Time     time.Time         `json:"time"`
	Device   core.DeviceID     `json:"device"`
	Subject  string            `json:"subject,omitempty"`
	Destroys string            `json:"destroys,omitempty"` // proven or best-effort
	Facts    map[string]string `json:"facts,omitempty"`
}

// BackupRequest names an empty folder on the server's machine.
type BackupRequest struct {
	To string `json:"to"`
}

// Validate requires the folder.
func (r *BackupRequest) Validate() error {
	if r.To == "" {
		return core.E(core.Invalid, "no-folder", "no folder for the backup", "name a new folder")
	}
	return nil
}

// ClockRequest says that the server's clock is right.
type ClockRequest struct {
	Date string `json:"date"` // today's, as in 2026-11-22
}

// Validate requires the date, which is compared with the clock.
func (r *ClockRequest) Validate() error {
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return core.E(core.Invalid, "date", fmt.Sprintf("%q is no date", r.Date), "give today's date as in 2026-11-22")
	}
	return nil
}

// Clock is what the server's clock says.
type Clock struct {
	Time time.Time `json:"time"`
	Seen time.Time `json:"seen"` // the latest time at which it was believed before
}

// Counts is what became of messages, as the store counted them.
type Counts struct {
	Accepted      uint64            `json:"accepted"`
	Stored        uint64            `json:"stored"`
	DroppedFields uint64            `json:"dropped_fields"`
	Dropped       map[string]uint64 `json:"dropped,omitempty"` // acknowledged and not stored, by reason
	Refused       map[string]uint64 `json:"refused"`
	Duplicates    uint64            `json:"duplicates"`
}

// Finding is one line of doctor: what is wrong and what to do.
type Finding struct {
	Severity string `json:"severity"` // error, warning, instruction
	Area     string `json:"area"`
	Text     string `json:"text"`
	Do       string `json:"do,omitempty"`
}

// Status is how the server is.
type Status struct {
	Version     string    `json:"version"`
	Environment string    `json:"environment"`
	Started     time.Time `json:"started"`
	Devices     string    `json:"devices_address"`
	HTTPS       string    `json:"https_address"`
	Connected   int       `json:"connected"`
	Gateways    []Gateway `json:"gateways,omitempty"`
	Counts      Counts    `json:"counts"`
	Findings    []Finding `json:"findings"`
}

// Gateway is a server that takes devices in and has no keys.
type Gateway struct {
	Name     string `json:"name"`
	Devices  string `json:"devices_address"`
	Sessions int    `json:"sessions"`
	Lost     bool   `json:"lost"` // it is not heard of, and takes nobody in
}

// Hold is one legal hold.
type Hold struct {
	ID      string        `json:"hold"`
	Subject string        `json:"subject"`
	Device  core.DeviceID `json:"device"`
	Rows    int64         `json:"rows"`
	Since   time.Time     `json:"since"`
	By      string        `json:"by"`
	Reason  string        `json:"reason"`
}

// Backup says what a backup holds.
type Backup struct {
	Folder     string `json:"folder"`
	Files      int    `json:"files"`
	Bytes      int64  `json:"bytes"`
	Generation uint64 `json:"keyring_generation"`
}

// Restored says what a restore made.
type Restored struct {
	Folder           string    `json:"folder"`
	Files            int       `json:"files"`
	Generation       uint64    `json:"keyring_generation"`
	BackupGeneration uint64    `json:"backup_keyring_generation"`
	Origin           string    `json:"ledger_origin"`
	BackupTime       time.Time `json:"backup_time"`
	ErasedAgain      int       `json:"erased_again"` // owners whom the backup still named: erased since, and now again
}

// Entry is one entry of the ledger.
type Entry struct {
	Position uint64      `json:"position"`
	Origin   string      `json:"origin"`
	Time     time.Time   `json:"time"`
	Kind     string      `json:"kind"`
	Actor    string      `json:"actor"`
	Subject  string      `json:"subject,omitempty"`
	Product  string      `json:"product,omitempty"`
	Facts    [][2]string `json:"facts"`
}

// Entries is a page of the ledger. Next is the position to go on from, 0 at
// the end.
type Entries struct {
	Entries []Entry `json:"entries"`
	Next    uint64  `json:"next"`
}

// RowsCheck is the comparison of the stored readings with the batch roots in
// the ledger (CC 3.3).
type RowsCheck struct {
	Files   int      `json:"files"`
	Batches int      `json:"batches"`
	Rows    int      `json:"rows"`
	Faults  []string `json:"faults"`
}
