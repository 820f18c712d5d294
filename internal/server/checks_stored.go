package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// storedChecks hold what lies on disk: that it is what was declared, that it is
// as it was filed, that it ends, and that its keys lie elsewhere.
func (s *server) storedChecks() []check.Check {
	return []check.Check{
		{
			ID: "store.declared", Version: 1, Rows: []string{"1.2", "5.11"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.2, 5.11
			Says: "Stored readings hold nothing that the version of the declaration they were judged by does not name.",
			Do:   "Erase what should not be there, and find out how it passed the door: `hawser read` never shows it.",
			Look: s.lookAtReadings(undeclared),
			Violations: []check.Violation{{
				ID: "undeclared-field", Says: "Writes an undeclared field into a stored reading behind the program's back, sealed with the twin's own keys.",
				Do: reseal(func(o []byte) []byte {
					return append(bytes.TrimSuffix(o, []byte("}")), `,"wifi_ssid":"home"}`...)
				}),
			}},
		},
		{
			ID: "store.precision", Version: 1, Rows: []string{"4.3"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.3
			Says: "Stored numbers are no finer than declared, and within their range.",
			Do:   "Erase what is finer than declared, and find out how it passed the door.",
			Look: s.lookAtReadings(tooFine),
			Violations: []check.Violation{{
				ID: "finer-than-declared", Says: "Writes a place with seven decimals, where two are declared, into a stored reading behind the program's back.",
				Do: reseal(func(o []byte) []byte { return []byte(`{"latitude":52.3702157,"temp":20.123456}`) }),
			}},
		},
		{
			ID: "store.rows", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.3
			Says: "Every stored row is the one that was filed: none changed, missing, added or doubled, by the digests in the ledger.",
			Do:   "`hawser ledger verify` names every row; bring the file back from a backup, and find out who writes to it.",
			Look: s.lookAtRows,
			Violations: []check.Violation{
				{ID: "row-edited", Says: "Changes one byte of a stored row behind the program's back.", Do: editRow(func(b []byte) []byte {
					c := slices.Clone(b)
					c[len(c)/2] ^= 1
					return c
				})},
				{ID: "row-removed", Says: "Removes a stored row behind the program's back.", Do: removeRow},
			},
		},
		{
			ID: "keys.apart", Version: 1, Rows: []string{"2.9"}, Kind: check.Query, MaxAge: check.Critical, // CC 2.9
			Says: "Keys and keyring lie outside the data folder, nobody else can read them, and the keyring has two whole copies.",
			Do:   "Take the copy out of the data folder and out of every backup made since; `chmod go=` what others can read.",
			Look: s.lookAtKeys,
			Violations: []check.Violation{
				{ID: "keyring-in-data", Says: "Copies the keyring into the data folder.", Do: copyKeyring},
				{ID: "key-readable", Says: "Lets everybody read the key that signs the ledger.", Do: openKey},
			},
		},
		{
			ID: "expiry.ran", Version: 1, Rows: []string{"4.4"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.4
			Says:       "No file and no key of an epoch is there after its keep-time.",
			Do:         "`hawser doctor` says why expiry does not run; a wrong clock is confirmed with `hawser clock confirm`.",
			Look:       s.lookAtEpochs,
			Violations: []check.Violation{{ID: "file-put-back", Says: "Puts a file of an epoch that is long over back into the data folder.", Do: putBack}},
		},
		{
			ID: "keep.declared", Version: 1, Rows: []string{"4.4", "4.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.4, 4.7
			Says:       "Every field in force, as stored, has a keep-time that ends and a way in which it ends.",
			Do:         "Publish the declaration anew; if the stored one was changed behind the program's back, bring control.db back from a backup.",
			Look:       s.lookAtKeeps,
			Violations: []check.Violation{{ID: "disposal-removed", Says: "Takes the way in which a field ends out of a stored declaration behind the program's back.", Do: editDeclaration(`"when_done":"shred"`, `"when_done":""`)}},
		},
	}
}

// Bounds of one look at stored readings.
const (
	lookDevices = 20
	lookEpochs  = 4
	lookRows    = 60 // of one device in one epoch
)

var errEnough = errors.New("enough was looked at")

// lookAtReadings opens a sample of what is stored, devices and epochs in turn,
// and asks of each part what is wrong with it. Nobody sees a value: what leaves
// is a count, and for what is wrong the name of an epoch and a pseudonym.
func (s *server) lookAtReadings(wrong func(p *declaration.Policy, group uint8, members map[string]json.RawMessage) string) func(context.Context, *check.Look) error {
	return func(ctx context.Context, l *check.Look) error {
		epochs, err := s.telem.files.List(ctx)
		if err != nil {
			return err
		}
		sample := s.sampled()
		slices.SortFunc(epochs, func(a, b core.Epoch) int { return int(b.Start - a.Start) })
		for _, e := range epochs[:min(len(epochs), lookEpochs)] {
			l.Touch("file", "telemetry/"+e.String())
			for _, subject := range sample {
				n := 0
				q := telemetry.Query{Subject: subject, From: time.Unix(e.Start, 0), To: e.End()}
				err := s.telem.files.Scan(ctx, e, &q, func(r *telemetry.Row) error {
					if n++; n > lookRows {
						return errEnough
					}
					return s.lookAtRow(ctx, l, e, r, wrong)
				})
				if err != nil && !errors.Is(err, errEnough) {
					return err
				}
			}
		}
		return nil
	}
}

func (s *server) lookAtRow(ctx context.Context, l *check.Look, e core.Epoch, r *telemetry.Row, wrong func(*declaration.Policy, uint8, map[string]json.RawMessage) string) error {
	l.Expect("rows of the sampled devices in the epoch files", 1)
	name := fmt.Sprintf("%s, row %d of %s", e, r.ID, r.Reading.Subject)
	policy, err := s.decl.ByHash(ctx, r.Reading.Policy)
	if core.KindOf(err) == core.Unknown {
		l.Fail(name, "it names a declaration that was never published")
		return nil
	}
	if err != nil {
		return err
	}
	key, err := s.ring.Lease(r.Reading.Subject, e)
	if err != nil {
		l.Exclude(name, "its key is destroyed")
		return nil
	}
	plain, err := key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part))
	if err != nil {
		l.Exclude(name, "it does not open; store.rows looks at that")
		return nil
	}
	_, object, err := telemetry.CutPlain(plain)
	members := map[string]json.RawMessage{}
	if err == nil {
		err = json.Unmarshal(object, &members)
	}
	if err != nil {
		l.Fail(name, "what is sealed in it is no reading")
		return nil
	}
	why := wrong(policy, r.Part.Group, members)
	l.Holds(why == "", name, "%s", why)
	return nil
}

// sampled are the subjects that this look is about: the next few by serial
// number, so that in time each device has its turn.
func (s *server) sampled() []core.Subject {
	s.rounds.mu.Lock()
	after := s.rounds.cursor
	s.rounds.mu.Unlock()
	var out []core.Subject
	for range 2 { // from the cursor, and from the beginning when that was the end
		found, err := s.devices.Devices(context.Background(), after, lookDevices-len(out))
		if err != nil {
			return out
		}
		for _, d := range found {
			after = d.ID
			if !d.Subject.IsZero() && !slices.Contains(out, d.Subject) {
				out = append(out, d.Subject)
			}
		}
		if len(out) >= lookDevices {
			break
		}
		if len(found) < lookDevices {
			after = ""
		}
	}
	s.rounds.mu.Lock()
	s.rounds.cursor = after
	s.rounds.mu.Unlock()
	return out
}

func undeclared(p *declaration.Policy, group uint8, members map[string]json.RawMessage) string {
	if int(group) >= len(p.Groups) {
		return "it names a group that its declaration does not have"
	}
	for name := range members {
		if i, f := p.Field(name); f == nil || !slices.Contains(p.Groups[group].Fields, i) {
			return fmt.Sprintf("it holds a field that version %d of %s does not declare for its group", p.Version, p.Product)
		}
	}
	return ""
}

func tooFine(p *declaration.Policy, _ uint8, members map[string]json.RawMessage) string {
	for name, raw := range members {
		_, f := p.Field(name)
		if f == nil || f.Type != declaration.Number && f.Type != declaration.Integer {
			continue
		}
		v, err := strconv.ParseFloat(string(raw), 64)
		switch {
		case err != nil:
			return name + " is no number"
		case f.HasRange && (v < f.Min || v > f.Max):
			return name + " is out of its declared range"
		case f.Precision > 0:
			if steps := v / f.Precision; math.Abs(steps-math.Round(steps)) > 1e-6*math.Max(1, math.Abs(steps)) {
				return fmt.Sprintf("%s is finer than the declared %g", name, f.Precision)
			}
		}
	}
	return ""
}

// lookAtRows verifies the newest files and one of the others in turn.
func (s *server) lookAtRows(ctx context.Context, l *check.Look) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.telem.roots.SealMinute(ctx); err != nil {
		return err
	}
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	epochs, err := s.telem.files.List(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(epochs, func(a, b core.Epoch) int { return int(b.Start - a.Start) })
	some := epochs[:min(len(epochs), lookEpochs)]
	if rest := epochs[len(some):]; len(rest) > 0 {
		some = append(slices.Clone(some), rest[int(l.Now.Unix()/int64(check.QueryAge/time.Second))%len(rest)])
	}
	for _, e := range some {
		v, err := s.telem.roots.VerifyFile(ctx, e)
		if broken, ok := telemetry.AsBroken(err); ok {
			l.Expect("files in the data folder", 1)
			l.Fail(e.String(), "%v", broken)
			continue
		}
		if err != nil {
			return err
		}
		l.Touch("file", "telemetry/"+e.String())
		l.Expect("batches that the files count themselves", int(v.Batches))
		if len(v.Found) == 0 {
			l.Pass(int(v.Batches))
			continue
		}
		for _, d := range v.Found {
			l.Fail(fmt.Sprintf("%s, row %d", e, d.Row), "%s", d.Detail)
		}
	}
	return nil
}

// lookAtKeys looks at files, not at the configuration that was checked once.
func (s *server) lookAtKeys(_ context.Context, l *check.Look) error {
	files := append([]string{s.c.LedgerKey, s.c.GateKey}, s.c.Keyring...)
	for _, dir := range []string{s.c.CA, s.c.Roots} {
		list, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("look at keys: %w", err)
		}
		for _, e := range list {
			if filepath.Ext(e.Name()) != ".pem" || e.Name() != "root.pem" {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	l.Expect("files of keys, by configuration and folder", len(files)+1)
	sizes := map[int64][]string{}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			l.Fail(filepath.Base(f), "is not there: %v", errors.Unwrap(err))
			continue
		}
		l.Touch("file", filepath.Base(filepath.Dir(f))+"/"+filepath.Base(f))
		real, err := filepath.EvalSymlinks(f)
		public := filepath.Ext(f) == ".pem" && filepath.Dir(f) == s.c.CA && !bytes.Contains([]byte(filepath.Base(f)), []byte("key"))
		switch {
		case err != nil || within(s.c.Data, real):
			l.Fail(filepath.Base(f), "lies in the data folder")
		case !public && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0:
			l.Fail(filepath.Base(f), "can be read by others: mode %v", st.Mode().Perm())
		default:
			l.Pass(1)
		}
		if st.Mode().IsRegular() {
			sizes[st.Size()] = append(sizes[st.Size()], f)
		}
	}
	found := ""
	err := filepath.WalkDir(s.c.Data, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a file that went meanwhile holds nothing
		}
		st, err := d.Info()
		if err != nil {
			return nil // it went meanwhile
		}
		for _, k := range sizes[st.Size()] {
			if same(p, k) {
				found = p
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for keys in the data folder: %w", err)
	}
	l.Touch("folder", "data: every file of a key's size")
	l.Holds(found == "", "data folder", "holds a copy of a key: %s", filepath.Base(found))
	return nil
}

func same(a, b string) bool {
	x, err := os.ReadFile(a)
	if err != nil {
		return false
	}
	y, err := os.ReadFile(b)
	return err == nil && bytes.Equal(x, y)
}

// lookAtEpochs compares files and keys with the time. The expiry job has its
// period to come, and a clock that nobody believes yet ends nothing.
func (s *server) lookAtEpochs(ctx context.Context, l *check.Look) error {
	files, err := s.telem.files.List(ctx)
	if err != nil {
		return err
	}
	l.Touch("folder", "data/telemetry")
	l.Touch("keyring", "epochs")
	const grace = 3 * time.Minute
	seen := map[core.Epoch]bool{}
	look := func(what string, all []core.Epoch) {
		for _, e := range all {
			l.Expect("keep-times in the names of files and in the keyring", 1)
			seen[e] = true
			if l.Now.After(e.Due().Add(grace)) {
				l.Fail(e.String(), "its %s is still there; it was due on %s", what, e.Due().Format(time.RFC3339))
			} else {
				l.Pass(1)
			}
		}
	}
	look("file", files)
	look("key", s.ring.Epochs())
	return nil
}

func (s *server) lookAtKeeps(ctx context.Context, l *check.Look) error {
	var stored []declaration.Published
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.CurrentDeclarations(ctx); return err }); err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	l.Touch("table", "control.db: declaration")
	for _, d := range stored {
		p, err := declaration.ParsePolicy(d.Canonical)
		if err != nil {
			l.Expect("declarations as stored", 1)
			l.Fail(string(d.Product), "version %d as stored is not one that could be published", d.Version)
			continue
		}
		l.Expect("fields of the declarations as stored", len(p.Fields))
		for _, f := range p.Fields {
			ok := f.Keep >= declaration.MinKeep && f.Keep <= declaration.MaxKeep && f.WhenDone != ""
			l.Holds(ok, string(p.Product)+"."+f.Name, "has no end, or no way to end")
		}
	}
	return nil
}
