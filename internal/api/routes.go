package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// Declarations publishes and finds declarations.
type Declarations interface {
	Publish(context.Context, core.Actor, *declaration.Policy) error
	Current(context.Context, core.ProductID) (*declaration.Policy, error)
	All(context.Context) ([]*declaration.Policy, error)
}

// Data reads, erases and holds.
type Data interface {
	Read(ctx context.Context, by core.Actor, id core.DeviceID, r ReadRequest, yield func(ReadLine) error) (ReadDone, error)
	Erase(ctx context.Context, by core.Actor, id core.DeviceID, reason string) (Receipt, error)
	PlaceHold(ctx context.Context, by core.Actor, id core.DeviceID, reason string) (Receipt, error)
	ReleaseHold(ctx context.Context, by core.Actor, hold, reason string) (Receipt, error)
	Holds(context.Context) ([]Hold, error)
	Verify(ctx context.Context, progress func(doneFiles, totalFiles int64)) (RowsCheck, error)
}

// Running is the running server itself.
type Running interface {
	Status(context.Context) (Status, error)
	Counts(context.Context, core.Subject) (Counts, error) // zero: all
	Connected(core.DeviceID) bool
	Refusals(core.Subject) []Refusal // connections refused or ended lately, oldest first
	Refresh(core.DeviceID)           // returns when live sessions follow the device's present state
	Backup(ctx context.Context, by core.Actor, to string, progress func(doneBytes, totalBytes int64)) (Backup, error)
	ConfirmClock(ctx context.Context, by core.Actor, date string) (Clock, error)
	Door(context.Context) (Door, error) // without Policy
}

// Deps are what the routes call.
type Deps struct {
	Declarations Declarations
	Devices      *identity.Service
	Data         Data
	Ledger       *ledger.Ledger
	Running      Running
	Proof        Proof
	People       People
	Evidence     Evidence
	Units        Units
	Reviews      Reviews
	Samples      Samples
	Commands     Commands
	Settings     Settings
	Services     Services
}

type handlers struct{ Deps }

// Routes is the whole local door: pattern, permission, handler.
func Routes(d Deps) []Route {
	h := handlers{d}
	return append([]Route{
		{"GET /v1/openapi.json", "server.status", h.openAPI},
		{"GET /v1/status", "server.status", h.status},
		{"GET /v1/counts", "server.status", h.counts},
		{"POST /v1/backup", "server.backup", h.backup},
		{"POST /v1/clock/confirm", "server.clock", h.confirmClock},
		{"GET /v1/declarations", "declaration.list", h.declarations},
		{"POST /v1/declarations", "declaration.publish", h.publish},
		{"GET /v1/declarations/{product}/door", "declaration.list", h.door},
		{"GET /v1/devices", "device.list", h.devices},
		{"POST /v1/devices", "device.add", h.addDevice},
		{"GET /v1/devices/{device}", "device.list", h.device},
		{"POST /v1/devices/{device}/code", "device.add", h.newCode},
		{"POST /v1/devices/{device}/revoke", "device.revoke", h.revoke},
		{"POST /v1/devices/{device}/release", "device.release", h.release},
		{"POST /v1/devices/{device}/reopen", "device.reopen", h.reopen},
		{"POST /v1/devices/{device}/certificate", "evidence.export", h.certify},
		{"POST /v1/devices/{device}/read", "data.read", h.read},
		{"POST /v1/devices/{device}/erase", "data.erase", h.erase},
		{"POST /v1/devices/{device}/hold", "data.hold", h.hold},
		{"GET /v1/holds", "data.hold", h.holds},
		{"POST /v1/holds/{hold}/release", "data.hold", h.releaseHold},
		{"GET /v1/ledger/entries", "ledger.read", h.entries},
		{"GET /v1/ledger/export", "ledger.read", h.export},
		{"GET /v1/ledger/checkpoint", "ledger.read", h.checkpoint},
		{"POST /v1/verify", "ledger.read", h.verify},
	}, slices.Concat(childRoutes(h), proofRoutes(h), peopleRoutes(h), reviewRoutes(h), sampleRoutes(h), commandRoutes(h), settingRoutes(h), serviceRoutes(h), factoryRoutes(h), legacyRoutes(h), authorityRoutes(h))...)
}

func deviceIn(r *http.Request) (core.DeviceID, error) {
	id := core.DeviceID(r.PathValue("device"))
	if !id.Valid() {
		return "", core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "use the serial number that `hawser device list` shows")
	}
	return id, nil
}

func (h handlers) status(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	s, err := h.Running.Status(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}

func (h handlers) counts(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	c, err := h.Running.Counts(r.Context(), core.Subject{})
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func (h handlers) backup(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req BackupRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	return long(w, r, func(progress func(done, total int64)) (any, error) {
		return h.Running.Backup(r.Context(), by, req.To, progress)
	})
}

func (h handlers) confirmClock(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ClockRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	c, err := h.Running.ConfirmClock(r.Context(), by, req.Date)
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

func describe(p *declaration.Policy, changes []declaration.Change) Declaration {
	d := Declaration{
		Product: string(p.Product), Name: p.Name, Version: p.Version, Hash: p.Hash.String(),
		Fields: len(p.Fields), Streams: len(p.Streams), Support: p.SupportUntil.Format(time.DateOnly),
	}
	for _, c := range changes {
		d.Changes = append(d.Changes, ChangeOf(c))
	}
	return d
}

func (h handlers) declarations(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Declarations.All(r.Context())
	if err != nil {
		return err
	}
	out := []Declaration{}
	for _, p := range all {
		out = append(out, describe(p, nil))
	}
	return writeJSON(w, out)
}

func (h handlers) publish(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req PublishRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	d, err := declaration.Parse(req.File, []byte(req.Source))
	if faults, ok := errors.AsType[declaration.Faults](err); ok {
		var text strings.Builder
		if err := faults.Render(&text); err != nil {
			return fmt.Errorf("render faults: %w", err)
		}
		return core.E(core.Invalid, "declaration-faults", text.String(), "correct the file; `hawser declaration check` shows the same")
	}
	if err != nil {
		return err
	}
	p, err := declaration.Compile(d)
	if err != nil {
		return err
	}
	var changes []declaration.Change
	if old, err := h.Declarations.Current(r.Context(), p.Product); err == nil {
		changes = declaration.Diff(old, p)
	} else if core.KindOf(err) != core.Unknown {
		return err
	}
	if err := h.Declarations.Publish(r.Context(), by, p); err != nil {
		return err
	}
	return writeJSON(w, describe(p, changes))
}

func (h handlers) show(d identity.Device) Device {
	out := Device{Device: d.ID, Product: d.Product, State: string(d.State), Connected: h.Running.Connected(d.ID)}
	if !d.Subject.IsZero() {
		out.Subject = d.Subject.String()
	}
	if !d.Serial.IsZero() {
		out.Certificate, out.NotAfter = d.Serial.String(), &d.NotAfter
	}
	if out.Child = d.Child; d.Hub != "" {
		out.Hub, out.HubSince = d.Hub, &d.HubSince
	}
	if !d.Quarantined.IsZero() {
		out.Quarantined, out.Suspicion = &d.Quarantined, d.Suspicion
	}
	return out
}

func (h handlers) devices(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	const page = 500
	out := []Device{}
	after := core.DeviceID(r.URL.Query().Get("after"))
	found, err := h.Devices.Devices(r.Context(), after, page)
	if err != nil {
		return err
	}
	for _, d := range found {
		out = append(out, h.show(d))
	}
	return writeJSON(w, out)
}

func (h handlers) device(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	d, err := h.Devices.Device(id)
	if err != nil {
		return err
	}
	out := h.show(d)
	if !d.Subject.IsZero() {
		c, err := h.Running.Counts(r.Context(), d.Subject)
		if err != nil {
			return err
		}
		out.Counts, out.Refusals = &c, h.Running.Refusals(d.Subject)
	}
	b, err := h.Devices.Birth(r.Context(), id)
	if err != nil {
		return err
	}
	out.Birth = birthOf(&b)
	return writeJSON(w, out)
}

func birthOf(b *identity.BirthRow) *Birth {
	out := &Birth{
		Added: b.Time, By: b.Operator, Station: b.Station, Door: string(b.Door), Hardware: b.Hardware, Batch: b.Batch,
		CodeBits: b.CodeBits, KeyOrigin: b.KeyOrigin,
	}
	if !b.Source.IsZero() {
		out.Source = b.Source.String()
	}
	if !b.Key.IsZero() {
		out.Key = b.Key.String()
	}
	if !b.Enrolled.IsZero() {
		out.Enrolled = &b.Enrolled
	}
	if b.Salt != [16]byte{} {
		out.Digest = b.Digest().String()
	}
	return out
}

func (h handlers) addDevice(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req AddDeviceRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	code, err := h.Devices.Register(r.Context(), by, identity.Registration{
		Device: req.Device, Product: req.Product, Station: req.Station, Hardware: req.Hardware, Batch: req.Batch,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, DeviceAdded{Device: req.Device, Product: req.Product, Code: code})
}

func (h handlers) newCode(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	code, err := h.Devices.NewCode(r.Context(), by, id)
	if err != nil {
		return err
	}
	d, err := h.Devices.Device(id)
	if err != nil {
		return err
	}
	return writeJSON(w, DeviceAdded{Device: id, Product: d.Product, Code: code})
}

// reasoned decodes a request that is a device and a reason.
func reasoned(r *http.Request) (core.DeviceID, string, error) {
	id, err := deviceIn(r)
	if err != nil {
		return "", "", err
	}
	var req ReasonRequest
	if err := decode(r, &req); err != nil {
		return "", "", err
	}
	return id, req.Reason, nil
}

// ends decodes a request that says why, has it done, and answers the receipt.
func (h handlers) ends(w http.ResponseWriter, r *http.Request, by core.Actor, do func(context.Context, core.Actor, core.DeviceID, identity.Why) (identity.Receipt, error)) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req WhyRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	rc, err := do(r.Context(), by, id, identity.Why{Cause: identity.Cause(req.Cause), Text: req.Reason})
	if err != nil {
		return err
	}
	out := Receipt{Kind: string(rc.Kind), Time: rc.Time, Device: id, Facts: map[string]string{
		"certificates": strconv.Itoa(rc.Certificates), "cause": string(rc.Cause), "reason_kept": strconv.FormatBool(rc.TextKept),
	}}
	if !rc.Subject.IsZero() {
		out.Subject = rc.Subject.String()
	}
	return writeJSON(w, out)
}

func (h handlers) revoke(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	return h.ends(w, r, by, h.Devices.Revoke)
}

func (h handlers) release(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	return h.ends(w, r, by, h.Devices.Release)
}

func (h handlers) reopen(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	if err := h.Devices.Reopen(r.Context(), by, id); err != nil {
		return err
	}
	// A live session must not drop one reading after this is answered.
	h.Running.Refresh(id)
	d, err := h.Devices.Device(id)
	if err != nil {
		return err
	}
	return writeJSON(w, Receipt{Kind: "ownership-opened", Time: d.OwnedSince, Device: id, Subject: d.Subject.String()})
}

func (h handlers) read(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req ReadRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	began := false
	done, err := h.Data.Read(r.Context(), by, id, req, func(l ReadLine) error {
		if !began {
			w.Header().Set("Content-Type", "application/jsonl")
			began = true
		}
		return enc.Encode(l)
	})
	switch {
	case err == nil:
		return enc.Encode(ReadLine{Done: &done})
	case !began:
		return err
	default: // the answer has begun; say in it that it broke off
		p := problemOf(err)
		if encErr := enc.Encode(ReadLine{Problem: &p}); encErr != nil {
			return encErr
		}
		return &toldError{err}
	}
}

func (h handlers) receipt(w http.ResponseWriter, r *http.Request, by core.Actor, do func(context.Context, core.Actor, core.DeviceID, string) (Receipt, error)) error {
	id, reason, err := reasoned(r)
	if err != nil {
		return err
	}
	rc, err := do(r.Context(), by, id, reason)
	if err != nil {
		return err
	}
	return writeJSON(w, rc)
}

func (h handlers) erase(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	return h.receipt(w, r, by, h.Data.Erase)
}

func (h handlers) hold(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	return h.receipt(w, r, by, h.Data.PlaceHold)
}

func (h handlers) holds(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	all, err := h.Data.Holds(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h handlers) releaseHold(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	var req ReasonRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	rc, err := h.Data.ReleaseHold(r.Context(), by, r.PathValue("hold"), req.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, rc)
}

func (h handlers) entries(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	const page = 500
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		return core.E(core.Invalid, "position", "`from` is no position", "give a number, 0 for the first entry")
	}
	if err := h.sequence(r.Context()); err != nil {
		return err
	}
	found, next, err := h.Ledger.List(r.Context(), ledger.Filter{Kind: core.RecordKind(r.URL.Query().Get("kind"))}, from, page)
	if err != nil {
		return err
	}
	out := Entries{Entries: []Entry{}, Next: next}
	for _, e := range found {
		x := Entry{
			Position: e.Position, Origin: e.Origin, Time: e.Record.Time, Kind: string(e.Record.Kind),
			Actor: e.Record.Actor.String(), Product: string(e.Record.Product), Facts: [][2]string{},
		}
		if !e.Record.Subject.IsZero() {
			x.Subject = e.Record.Subject.String()
		}
		for _, f := range e.Record.Facts {
			x.Facts = append(x.Facts, [2]string{f.Name, f.Value})
		}
		out.Entries = append(out.Entries, x)
	}
	return writeJSON(w, out)
}

// sequence gives everything that happened before the request its index, so
// that the answer is not older than the question.
func (h handlers) sequence(ctx context.Context) error {
	for {
		n, err := h.Ledger.Sequence(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
}

// export makes sure that everything that happened before the request is
// signed, and streams the ledger.
func (h handlers) export(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	if err := h.sequence(r.Context()); err != nil {
		return err
	}
	if _, err := h.Ledger.Checkpoint(r.Context()); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	return h.Ledger.Export(r.Context(), w)
}

func (h handlers) checkpoint(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write(h.Ledger.Latest().Note)
	return err
}

func (h handlers) verify(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	return long(w, r, func(progress func(done, total int64)) (any, error) {
		return h.Data.Verify(r.Context(), progress)
	})
}
