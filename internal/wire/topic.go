package wire

import "bytes"

// Kind is what a topic is for.
type Kind uint8

// The kinds of topic. Unknown is no topic of the contract; Foreign is in
// form, but names another device.
const (
	Unknown        Kind = iota
	Foreign             // devices/<other id>/…, $aws/things/<other id>/…
	Telemetry           // telemetry/<stream>
	ChildTelemetry      // child/<id>/telemetry/<stream>
	ChildProposal       // child/<id>/propose
	State               // state
	Posture             // posture, $aws/things/<own id>/defender/metrics/{json,cbor}
	CommandReply        // command/<name>/reply/<id>
	Command             // command/<name>/<id>, to the device
	Config              // config, to the device
	Update              // update, to the device
	Notice              // notice, to the device
	Refused             // refused, to the device
)

// Form is which of the two names of a topic was used.
type Form uint8

// The two forms. A relative topic belongs to the device whose certificate
// opened the session; the absolute form says the same and adds its id.
const (
	Relative Form = iota
	Absolute
)

// The topics to the device, relative, and the filter of its commands.
const (
	RefusedTopic  = "refused"
	ConfigTopic   = "config"
	UpdateTopic   = "update"
	NoticeTopic   = "notice"
	StateTopic    = "state"
	PostureTopic  = "posture"
	CommandFilter = "command/#"
	ProposeTopic  = "propose" // after child/<id>/
)

// TelemetryPrefix and AbsolutePrefix are the beginnings of topics.
const (
	TelemetryPrefix = "telemetry/"
	AbsolutePrefix  = "devices/"
	awsPrefix       = "$aws/things/"
)

// Topic is a topic that a device published to, taken apart. Its slices alias
// the topic.
type Topic struct {
	Kind   Kind
	Form   Form
	Stream []byte // of Telemetry and ChildTelemetry
	Child  []byte // of ChildTelemetry and ChildProposal
	Name   []byte // of CommandReply: the command
	ID     []byte // of CommandReply: which call of it
	CBOR   bool   // of Posture in the form of AWS Device Defender
}

// Publish takes apart a topic that the device own publishes to. A device
// cannot name another device: what names one is Foreign, whatever follows
// (CC 3.6). Only kinds that a device may publish come back besides Foreign and
// Unknown. It allocates nothing.
func Publish(own string, topic []byte) Topic {
	if rest, ok := bytes.CutPrefix(topic, []byte(awsPrefix)); ok {
		id, metric, found := bytes.Cut(rest, []byte{'/'})
		switch {
		case string(id) != own:
			return Topic{Kind: Foreign, Form: Absolute}
		case found && string(metric) == "defender/metrics/json":
			return Topic{Kind: Posture, Form: Absolute}
		case found && string(metric) == "defender/metrics/cbor":
			return Topic{Kind: Posture, Form: Absolute, CBOR: true}
		}
		return Topic{Form: Absolute}
	}
	form, rel, mine := relative(own, topic)
	if !mine {
		return Topic{Kind: Foreign, Form: Absolute}
	}
	t := Topic{Form: form}
	first, rest, more := bytes.Cut(rel, []byte{'/'})
	switch {
	case string(first) == "telemetry" && more && ValidName(rest):
		t.Kind, t.Stream = Telemetry, rest
	case string(first) == "child" && more:
		child, rest, _ := bytes.Cut(rest, []byte{'/'})
		stream, ok := bytes.CutPrefix(rest, []byte(TelemetryPrefix))
		switch {
		case !validID(child):
		case ok && ValidName(stream):
			t.Kind, t.Child, t.Stream = ChildTelemetry, child, stream
		case string(rest) == ProposeTopic:
			t.Kind, t.Child = ChildProposal, child
		}
	case string(first) == "command" && more:
		name, rest, _ := bytes.Cut(rest, []byte{'/'})
		id, ok := bytes.CutPrefix(rest, []byte("reply/"))
		if ok && ValidName(name) && validID(id) {
			t.Kind, t.Name, t.ID = CommandReply, name, id
		}
	case more:
	case string(first) == StateTopic:
		t.Kind = State
	case string(first) == PostureTopic:
		t.Kind = Posture
	}
	return t
}

// relative strips the absolute form. mine is false when topic names another
// device.
func relative(own string, topic []byte) (form Form, rel []byte, mine bool) {
	rest, ok := bytes.CutPrefix(topic, []byte(AbsolutePrefix))
	if !ok {
		return Relative, topic, true
	}
	id, rel, _ := bytes.Cut(rest, []byte{'/'})
	if string(id) != own {
		return Absolute, nil, false
	}
	return Absolute, rel, true
}

// Subscribe says whether the device own may subscribe to filter, and gives the
// filter in its relative form and the form in which it asked, in which
// messages must be delivered. What is allowed lies wholly under command/,
// config, update, notice and refused; a wildcard may stand only under
// command/ (CC 3.6). A filter that names another device, or could, is Foreign.
func Subscribe(own string, filter []byte) (kind Kind, form Form, rel []byte) {
	form, rel, mine := relative(own, filter)
	if !mine || bytes.HasPrefix(filter, []byte("+")) || bytes.HasPrefix(filter, []byte("#")) || bytes.HasPrefix(filter, []byte(awsPrefix)) {
		return Foreign, form, nil
	}
	switch string(rel) {
	case RefusedTopic:
		return Refused, form, rel
	case ConfigTopic:
		return Config, form, rel
	case UpdateTopic:
		return Update, form, rel
	case NoticeTopic:
		return Notice, form, rel
	}
	if bytes.HasPrefix(rel, []byte("command/")) {
		return Command, form, rel
	}
	return Unknown, form, nil
}

// AppendTopic writes the topic rel of the device own in the given form.
func AppendTopic(dst []byte, own string, form Form, rel string) []byte {
	if form == Absolute {
		dst = append(append(append(dst, AbsolutePrefix...), own...), '/')
	}
	return append(dst, rel...)
}

// ValidName reports whether b has the form of the name of a stream or a
// command: a lower-case letter, then up to 62 lower-case letters, digits, '_'
// or '-'.
func ValidName(b []byte) bool {
	if len(b) == 0 || len(b) > MaxStream || b[0] < 'a' || b[0] > 'z' {
		return false
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// ValidSerial reports whether s has the form of a device's serial number: 1 to
// 64 characters out of letters, digits, '.', '_' and '-', a letter or digit
// first.
func ValidSerial(s string) bool { return len(s) <= MaxSerial && validID([]byte(s)) }

func validID(b []byte) bool {
	if len(b) == 0 || len(b) > MaxSerial || b[0] == '.' || b[0] == '_' || b[0] == '-' {
		return false
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
