package device

import (
	"context"
	"strings"

	"github.com/hawser-iot/hawser/internal/wire"
)

const childPrefix = "child/"

// SendFor is Send for a child: a unit that has no certificate, and for which
// this device, a hub, may speak. What it sends is judged by the child's own
// declaration, and kept as the child's, "vouched for by hub". Its number is this
// device's; the server keeps the numbers of each hub apart.
//
// The server refuses it, with the reason "no-child" in Config.Refused, for a
// child that this hub does not have: a person registers, adopts, moves and
// removes children, and a device cannot see what an id is that is not its own.
func (d *Device) SendFor(child, stream string, r *Reading) error {
	if !wire.ValidSerial(child) {
		return fault(BadReading, nil, "", "child %q is not 1 to 64 letters, digits, '.', '_' and '-'", child)
	}
	if !wire.ValidName([]byte(stream)) {
		return fault(BadReading, nil, "", "stream %q is not a lower-case name", stream)
	}
	return d.enqueue(childPrefix+child+"/"+wire.TelemetryPrefix+stream, r)
}

// Propose tells the server that this hub would have a child of this id, and
// waits for its answer. A person decides; until then nothing is taken for it.
// The answer is the same whatever the id is. It fails with NotConnected while
// there is no session, and with BadReading when the server refuses: the device
// is no hub, or proposes too often.
func (d *Device) Propose(ctx context.Context, child string) error {
	if !wire.ValidSerial(child) {
		return fault(BadReading, nil, "", "child %q is not 1 to 64 letters, digits, '.', '_' and '-'", child)
	}
	code, err := d.PublishRaw(ctx, childPrefix+child+"/"+wire.ProposeTopic, nil)
	if err != nil {
		return err
	}
	if code >= 0x80 {
		return fault(BadReading, nil, "propose less often, and see that the product's declaration has `hub`", "the server refuses the proposal (0x%02x)", code)
	}
	return nil
}

// topicOf is where a record of the queue goes. What it says of its stream is a
// name, or of a child's the whole topic: no name has a slash.
func topicOf(stream string) string {
	if strings.HasPrefix(stream, childPrefix) {
		return stream
	}
	return wire.TelemetryPrefix + stream
}

// streamOf is the name of a record's stream, and of which child; "" for the
// device's own.
func streamOf(stream string) (name, child string) {
	rest, ok := strings.CutPrefix(stream, childPrefix)
	if !ok {
		return stream, ""
	}
	child, rest, _ = strings.Cut(rest, "/")
	return strings.TrimPrefix(rest, wire.TelemetryPrefix), child
}
