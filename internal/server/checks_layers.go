package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// layerChecks take one layer of defence away and see that the others hold
// (CC 1.8).
func (s *server) layerChecks() []check.Check {
	return []check.Check{{
		ID: "layers.hold", Version: 2, Rows: []string{"1.8"}, Kind: check.Probe, MaxAge: check.ProbeAge,
		Says: "Somebody with a valid certificate of a device still reaches no neighbour, gets nothing stored that is not declared, and is stopped and counted at the declared rate: at a door with the code, authority, rates and judge of the devices' door, over MQTT; and its rate is not to be had a second time over HTTPS.",
		Do:   "The finding names the layer that gave way. Restart the server: it enforces what is declared. If it gives way again, stop the server and report a vulnerability (SECURITY.md).",
		Look: s.lookAtLayers,
		Violations: []check.Violation{
			{ID: "no-authority", Says: "Opens the twin's devices' door, so that a device may name its neighbours, and has one of them do it.", Do: openToNeighbours},
			{ID: "no-rate", Says: "Puts a rate in force at the twin's devices' door that nobody declared.", Do: own(withoutRate)},
			{ID: "no-schema", Says: "Has the twin judge messages by a declaration with a field that was never published.", Do: own(withoutSchema)},
		},
	}}
}

const (
	// layerProducts is how many products one look tries.
	layerProducts = 8
	// over is how many messages too many are sent.
	over = 5
	// oddField is declared by nobody.
	oddField = "field_of_a_look"
)

func (s *server) lookAtLayers(ctx context.Context, l *check.Look) error {
	stored, err := s.storedDeclarations(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: declaration")
	mrand.Shuffle(len(stored), func(i, j int) { stored[i], stored[j] = stored[j], stored[i] })
	for i, d := range stored {
		if i == layerProducts {
			break // the others have their turn
		}
		p, err := declaration.ParsePolicy(d.Canonical)
		if err != nil {
			return fmt.Errorf("read declaration of %s: %w", d.Product, err)
		}
		if err := s.knockOut(ctx, l, p); err != nil {
			return fmt.Errorf("try a device of %s: %w", d.Product, err)
		}
	}
	return nil
}

// knockOut is a thief with the certificate of one device of a product: the
// layer of identity is gone.
func (s *server) knockOut(ctx context.Context, l *check.Look, p *declaration.Policy) (err error) {
	d, err := s.openSideDoor()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	own := core.DeviceID("LOOK-" + rand.Text()[:8])
	c, err := d.device(ctx, l, p.Product, own)
	if err != nil {
		return err
	}
	defer c.close()
	l.Touch("product", string(p.Product)+", as it is declared")
	name := string(p.Product)
	l.Expect("products with a stored declaration, by layer", 3)

	// Authority.
	stream := slowest(p)
	neighbour := "devices/NEIGHBOUR-1/"
	granted, err := c.subscribe([]string{neighbour + "command/#", neighbour + "refused", neighbour + "telemetry/" + stream.Name, "devices/+/#"})
	if err != nil {
		return err
	}
	codes, err := c.publish([]message{{neighbour + "telemetry/" + stream.Name, `{}`}}, 1, func() {})
	if err != nil {
		return err
	}
	l.Holds(len(granted) == 0 && codes[0] == mqtt.NotAuthorized, name, "layer authority: %d topics of a neighbour are granted, and a message on one is answered 0x%02x", len(granted), uint8(codes[0]))

	// The declaration, and the rate. Every message says something odd, and most
	// say something right, too.
	own1 := "telemetry/" + stream.Name
	odd := `{` + sampleOf(p, stream) + `"` + oddField + `":"AAAA"}`
	all := make([]message, stream.Burst+over)
	for i := range all {
		all[i] = message{own1, odd}
	}
	codes, err = c.publish(all, mqtt.DefaultMaxFilters, func() {})
	if err != nil {
		return err
	}
	stored, noticed := 0, d.counted("")-d.counted(telemetry.ReasonRate)-d.counted(telemetry.ReasonWrongTopic)
	for _, t := range d.took() {
		if bytes.Contains(t.fields, []byte(oddField)) {
			stored++
		}
		noticed += min(t.strays, 1)
	}
	late := 0
	for _, code := range codes {
		if code == mqtt.QuotaExceeded {
			late++
		}
	}
	l.Holds(stored == 0 && noticed == len(all)-late, name, "layer declaration: of %d messages with a field that is not declared, it would be stored of %d, and is noticed of %d", len(all)-late, stored, noticed)
	// The door for batches has no rate of its own that could be had besides.
	v, err := d.g.Visit(ctx, c.leaf, false)
	if err != nil {
		return fmt.Errorf("come by the door for batches: %w", err)
	}
	defer v.Close()
	again := "taken"
	if err := v.Begin(ctx, stream.Name, 1, len(odd)); err != nil {
		again = core.ReasonOf(err)
	}
	l.Holds(late == over && d.counted(telemetry.ReasonRate) == late && again == string(telemetry.ReasonRate), name,
		"layer rate: of %d messages at once, where %d are declared, %d are refused, and %d are counted; one more over HTTPS is answered: %s", len(all), stream.Burst, late, d.counted(telemetry.ReasonRate), again)
	return nil
}

// slowest is the stream with the smallest burst.
func slowest(p *declaration.Policy) *declaration.Stream {
	return &p.Streams[slices.IndexFunc(p.Streams, func(s declaration.Stream) bool {
		return !slices.ContainsFunc(p.Streams, func(o declaration.Stream) bool { return o.Burst < s.Burst })
	})]
}

// sampleOf is a good value of a field of a stream, as the beginning of a JSON
// object; "" where the look does not know one.
func sampleOf(p *declaration.Policy, s *declaration.Stream) string {
	for _, i := range s.Fields {
		f := &p.Fields[i]
		value := ""
		switch f.Type {
		case declaration.Number, declaration.Integer:
			value = strconv.FormatFloat(f.Min, 'f', -1, 64)
		case declaration.Boolean:
			value = "true"
		case declaration.Enum:
			b, err := json.Marshal(f.Values[0])
			if err != nil {
				continue
			}
			value = string(b)
		case declaration.String:
			value = `"` + strings.Repeat("a", max(f.MinLength, 1)) + `"`
		default:
			continue
		}
		if got := `"` + f.Name + `":` + value + `,`; len(got)+len(oddField)+16 <= s.MaxBytes {
			return got
		}
	}
	return ""
}
