package telemetry

// Reason says why a field was dropped or a message was not stored. It is a
// stable, plain word: counters, refusal records, metrics, the `refused` topic
// and tests use the same one. The empty Reason means "accepted".
type Reason string

// Why a field is dropped while the rest of its message is kept.
const (
	ReasonUndeclared Reason = "undeclared-field" // the declaration does not name it in this stream
	ReasonBadField   Reason = "bad-field"        // wrong type, out of range, too long; with `on_bad: message` the whole message
)

// Why a message is refused. Nothing of it is stored.
const (
	ReasonNothingLeft   Reason = "nothing-left"   // no declared, good field in it
	ReasonNotJSON       Reason = "not-json"       // not JSON by RFC 8259, or not clean UTF-8, and nothing else that is taken
	ReasonNotObject     Reason = "not-object"     // JSON or CBOR, but neither an object nor a SenML pack
	ReasonTooDeep       Reason = "too-deep"       // nested deeper than maxDepth
	ReasonDuplicateKey  Reason = "duplicate-key"  // a declared name twice: parsers disagree which counts
	ReasonTooLarge      Reason = "too-large"      // over the stream's max_bytes
	ReasonUnknownStream Reason = "unknown-stream" // the product declares no such stream
	ReasonNoPlan        Reason = "no-declaration" // the product has no declaration in force
	ReasonRate          Reason = "rate"           // over the stream's, device's or product's rate
	ReasonWrongTopic    Reason = "wrong-topic"    // not a topic of this device
	ReasonNotYet        Reason = "not-yet"        // a form or feature this version does not take
	ReasonNotCBOR       Reason = "not-cbor"       // begins as CBOR does, but is not by RFC 8949, or its text is not clean UTF-8
	ReasonNotSenML      Reason = "not-senml"      // an array of records that breaks RFC 8428, or asks for more than it
	ReasonSeveralTimes  Reason = "several-times"  // a SenML pack of several readings: one message is one
	ReasonSeveralNames  Reason = "several-names"  // a SenML pack whose names have several beginnings: of several devices
	ReasonQuarantined   Reason = "quarantined"    // two hold the device's identity; which one sends cannot be seen
	ReasonNoCommand     Reason = "no-command"     // an answer to a command that does not wait for one
	ReasonBadReply      Reason = "bad-reply"      // an answer to a command that cannot be read
	ReasonBadReport     Reason = "bad-report"     // what a device says of itself cannot be read
	ReasonNoChild       Reason = "no-child"       // of a child that this hub does not have, whatever it is instead
)

// Why a message is acknowledged but not stored: by rule, not by fault.
const (
	ReasonUnowned     Reason = "unowned"      // the device has no owner, or its owner was erased
	ReasonTooOld      Reason = "too-old"      // older than its keep-time on arrival
	ReasonBeforeOwner Reason = "before-owner" // from before the present owner's time
)

// ReasonTrouble is our own passing trouble (disk, journal, keys). The message
// is neither acknowledged nor refused; the device sends it again.
const ReasonTrouble Reason = "trouble"

// reasonCount is how many reasons there are; reasonAt fixes their order in
// counters. Append only.
const reasonCount = 26

func reasonAt(i int) Reason {
	switch i {
	case 0:
		return ReasonUndeclared
	case 1:
		return ReasonBadField
	case 2:
		return ReasonNothingLeft
	case 3:
		return ReasonNotJSON
	case 4:
		return ReasonNotObject
	case 5:
		return ReasonTooDeep
	case 6:
		return ReasonDuplicateKey
	case 7:
		return ReasonTooLarge
	case 8:
		return ReasonUnknownStream
	case 9:
		return ReasonNoPlan
	case 10:
		return ReasonRate
	case 11:
		return ReasonWrongTopic
	case 12:
		return ReasonNotYet
	case 13:
		return ReasonUnowned
	case 14:
		return ReasonTooOld
	case 15:
		return ReasonBeforeOwner
	case 16:
		return ReasonTrouble
	case 17:
		return ReasonQuarantined
	case 18:
		return ReasonNoCommand
	case 19:
		return ReasonBadReply
	case 20:
		return ReasonNotCBOR
	case 21:
		return ReasonNotSenML
	case 22:
		return ReasonSeveralTimes
	case 23:
		return ReasonSeveralNames
	case 24:
		return ReasonNoChild
	case 25:
		return ReasonBadReport
	}
	return ""
}

// reasonIndex is the inverse of reasonAt; -1 for a reason of another version.
func reasonIndex(r Reason) int {
	for i := range reasonCount {
		if reasonAt(i) == r {
			return i
		}
	}
	return -1
}

// Reasons lists every reason once, in a fixed order, for metrics and docs.
func Reasons() []Reason {
	out := make([]Reason, reasonCount)
	for i := range out {
		out[i] = reasonAt(i)
	}
	return out
}

// Text is one plain sentence for the maker's engineer who finds the reason on
// the `refused` topic: what is wrong and what to do. It never repeats input.
func (r Reason) Text() string {
	switch r {
	case ReasonUndeclared:
		return "The declaration names no such field in this stream; declare it or stop sending it."
	case ReasonBadField:
		return "A field has the wrong type or lies outside its declared range or length."
	case ReasonNothingLeft:
		return "No declared field with an acceptable value was in the message."
	case ReasonNotJSON:
		return "The payload is neither JSON (RFC 8259) in clean UTF-8, nor a CBOR map, nor a SenML pack."
	case ReasonNotCBOR:
		return "The payload is not CBOR (RFC 8949) with its text in clean UTF-8."
	case ReasonNotSenML:
		return "The payload is an array of records but no SenML pack (RFC 8428); send one object of declared fields, or a pack."
	case ReasonSeveralTimes:
		return "The records of the SenML pack have several times; send one pack for each time."
	case ReasonSeveralNames:
		return "The names in the SenML pack begin differently, as of several devices; a device sends its own readings only."
	case ReasonNotObject:
		return "The payload is neither an object of declared fields nor a SenML pack (RFC 8428); send one object."
	case ReasonTooDeep:
		return "The payload is nested too deeply; send a flat object of declared fields."
	case ReasonDuplicateKey:
		return "A name stands twice in the payload; send each field once."
	case ReasonTooLarge:
		return "The payload is larger than the stream's max_bytes."
	case ReasonUnknownStream:
		return "The product's declaration names no such stream."
	case ReasonNoPlan:
		return "The product has no declaration in force."
	case ReasonRate:
		return "The stream's declared rate is exceeded; send less often."
	case ReasonQuarantined:
		return "The device is in quarantine: an old certificate of it was used after its successor; ask the maker."
	case ReasonNoCommand:
		return "No command of this name and id waits for an answer of this device: it was answered, or is over."
	case ReasonBadReply:
		return "The answer to a command is not {\"outcome\": \"done\", \"refused\" or \"failed\", \"text\": …}."
	case ReasonBadReport:
		return "The report on the topic state is not {\"settings\": {\"version\": …, \"values\": {…}, \"refused\": {…}}}, or its version was never given."
	case ReasonNoChild:
		return "This device has no such child. A person registers or adopts it; to propose it, publish to child/<id>/propose."
	case ReasonWrongTopic:
		return "This is not a topic of this device."
	case ReasonNotYet:
		return "This server does not take this kind of message yet."
	case ReasonUnowned:
		return "The device has no owner; its readings are not kept."
	case ReasonTooOld:
		return "The reading is older than its keep-time and is not kept."
	case ReasonBeforeOwner:
		return "The reading is from before the present owner's time and is not kept."
	case ReasonTrouble:
		return "The server has passing trouble; send the message again."
	}
	return ""
}

// valid reports whether r has the form of a reason: what a record may carry.
func (r Reason) valid() bool {
	if len(r) == 0 || len(r) > maxReason {
		return false
	}
	for i := range len(r) {
		if c := r[i]; (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}
