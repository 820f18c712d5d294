package storetest

import (
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// Readers tells what the maker's own services need from every engine: each
// thing comes back as it was kept; a subject has one alias for each service,
// none once its erasure was asked for, and none after it was forgotten.
func Readers(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	update := func(fn func(*store.Tx) error) { t.Helper(); must(t, s.Update(ctx, fn)) }
	same := func(what string, read func(*store.Tx) (any, error), want any) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := read(tx)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return err
		}))
	}

	app := readers.Reader{Name: "app", Added: at, AnswerIn: time.Hour, Key: [32]byte{1, 31: 2}}
	zed := readers.Reader{Name: "zed", Added: at.Add(time.Second), Revoked: at.Add(time.Minute), AnswerIn: 48 * time.Hour}
	update(func(tx *store.Tx) error {
		return tx.PutReader(ctx, readers.Reader{Name: "zed", Added: at, AnswerIn: time.Hour})
	})
	update(func(tx *store.Tx) error { return tx.PutReader(ctx, app) })
	update(func(tx *store.Tx) error { return tx.PutReader(ctx, zed) })
	same("readers", func(tx *store.Tx) (any, error) { return tx.Readers(ctx) }, []readers.Reader{app, zed})

	old := readers.Certificate{Number: readers.Number{1}, Reader: "app", DER: []byte{9, 8}, Issued: at, NotAfter: at.Add(time.Hour)}
	young := readers.Certificate{Number: readers.Number{2}, Reader: "app", DER: []byte{7}, Issued: at.Add(time.Second), NotAfter: at.Add(2 * time.Hour), Ended: at.Add(time.Minute)}
	update(func(tx *store.Tx) error {
		c := young
		c.Ended = time.Time{}
		return tx.PutReaderCertificate(ctx, c)
	})
	update(func(tx *store.Tx) error { return tx.PutReaderCertificate(ctx, old) })
	update(func(tx *store.Tx) error {
		c := young
		c.DER = []byte{6} // what was issued does not change
		return tx.PutReaderCertificate(ctx, c)
	})
	same("certificates", func(tx *store.Tx) (any, error) { return tx.ReaderCertificates(ctx) }, []readers.Certificate{old, young})
	update(func(tx *store.Tx) error { return tx.DropReaderCertificates(ctx, at.Add(90*time.Minute)) })
	same("certificates that did not run out", func(tx *store.Tx) (any, error) { return tx.ReaderCertificates(ctx) }, []readers.Certificate{young})

	ada, bea, gone := core.Subject{1}, core.Subject{2}, core.Subject{3}
	adaApp := readers.Alias{Subject: ada, Alias: core.Subject{11}, Product: "p", Since: at}
	adaZed := readers.Alias{Subject: ada, Alias: core.Subject{12}, Product: "p", Since: at.Add(time.Second)}
	add := func(reader string, a readers.Alias, want bool) {
		t.Helper()
		update(func(tx *store.Tx) error {
			kept, err := tx.AddReaderAlias(ctx, reader, a)
			if kept != want {
				t.Errorf("alias of %v kept %v, want %v", a.Subject, kept, want)
			}
			return err
		})
	}
	update(func(tx *store.Tx) error {
		return tx.InsertErasure(ctx, telemetry.ErasureRow{Subject: gone, Product: "p", Requested: at, State: telemetry.ErasureAsked})
	})
	add("app", adaApp, true)
	add("zed", adaZed, true)
	add("app", readers.Alias{Subject: bea, Alias: core.Subject{13}, Product: "p", Since: at}, true)
	add("app", readers.Alias{Subject: gone, Alias: core.Subject{14}, Product: "p", Since: at}, false)
	same("aliases", func(tx *store.Tx) (any, error) { return tx.ReaderAliases(ctx, "app", []core.Subject{ada, gone, bea}) },
		map[core.Subject]core.Subject{ada: {11}, bea: {13}})
	same("no aliases", func(tx *store.Tx) (any, error) { return tx.ReaderAliases(ctx, "app", nil) }, map[core.Subject]core.Subject{})
	same("aliases of one", func(tx *store.Tx) (any, error) { return tx.AliasesOf(ctx, ada) }, map[string]readers.Alias{"app": adaApp, "zed": adaZed})
	same("how many", func(tx *store.Tx) (any, error) { return tx.CountAliases(ctx, "app", "p") }, 2)
	same("how many of another product", func(tx *store.Tx) (any, error) { return tx.CountAliases(ctx, "app", "q") }, 0)
	update(func(tx *store.Tx) error { return tx.ForgetAliases(ctx, ada) })
	same("aliases of one that was erased", func(tx *store.Tx) (any, error) { return tx.AliasesOf(ctx, ada) }, map[string]readers.Alias{})
	same("aliases of the rest", func(tx *store.Tx) (any, error) { return tx.CountAliases(ctx, "app", "p") }, 1)

	readerEvents(t, s, at)

	hook := readers.Webhook{Reader: "app", URL: "https://a.example/x", Set: at}
	update(func(tx *store.Tx) error {
		return tx.PutReaderWebhook(ctx, readers.Webhook{Reader: "app", URL: "https://b.example/", Set: at.Add(-time.Second)})
	})
	update(func(tx *store.Tx) error { return tx.PutReaderWebhook(ctx, hook) })
	same("webhooks", func(tx *store.Tx) (any, error) { return tx.ReaderWebhooks(ctx) }, []readers.Webhook{hook})
	update(func(tx *store.Tx) error { return tx.DropReaderWebhook(ctx, "app") })
	same("no webhooks", func(tx *store.Tx) (any, error) { return tx.ReaderWebhooks(ctx) }, []readers.Webhook(nil))

	one := readers.Session{Reader: "app", Product: "p", Name: "S1", Opened: at, Readings: 7, Gaps: 1}
	two := readers.Session{Reader: "app", Product: "q", Name: "S2", Opened: at, Readings: 1}
	update(func(tx *store.Tx) error {
		return tx.PutReaderSession(ctx, readers.Session{Reader: "app", Product: "p", Name: "S0", Opened: at.Add(-time.Hour)})
	})
	update(func(tx *store.Tx) error { return tx.PutReaderSession(ctx, two) })
	update(func(tx *store.Tx) error { return tx.PutReaderSession(ctx, one) })
	same("sessions", func(tx *store.Tx) (any, error) { return tx.ReaderSessions(ctx) }, []readers.Session{one, two})
	must(t, s.View(ctx, func(tx *store.Tx) error {
		x, ok, err := tx.ReaderSession(ctx, "app", "p")
		if !ok || x != one {
			t.Errorf("session %+v, %v", x, ok)
		}
		return err
	}))
	update(func(tx *store.Tx) error { return tx.DropReaderSession(ctx, "app", "p") })
	same("sessions but one", func(tx *store.Tx) (any, error) { return tx.ReaderSessions(ctx) }, []readers.Session{two})

	seen := readers.Seen{Reader: "app", Product: "p", Cursor: "abc", Made: at, At: at.Add(time.Second)}
	update(func(tx *store.Tx) error {
		return tx.PutSeen(ctx, readers.Seen{Reader: "app", Product: "p", Cursor: "xyz", Made: at, At: at})
	})
	update(func(tx *store.Tx) error { return tx.PutSeen(ctx, seen) })
	same("how far", func(tx *store.Tx) (any, error) { return tx.SeenBy(ctx, "app") }, []readers.Seen{seen})
}

// readerEvents is the part of Readers about orders and canaries, on a store in
// which the services app and zed are registered: events are numbered without
// gaps, an answer is kept once, what waits for an answer is not forgotten.
func readerEvents(t *testing.T, s *store.Store, at time.Time) {
	t.Helper()
	ctx := t.Context()
	update := func(fn func(*store.Tx) error) { t.Helper(); must(t, s.Update(ctx, fn)) }
	same := func(what string, read func(*store.Tx) (any, error), want any) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := read(tx)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return err
		}))
	}
	day := 24 * time.Hour
	e := core.EpochAt(30*day, day, at)
	all := []readers.Event{
		{Reader: "app", Product: "p", ID: "o1", Kind: readers.Erase, Alias: core.Subject{11}, At: at, Due: at.Add(2 * time.Hour)},
		{Reader: "app", Product: "p", ID: "o2", Kind: readers.Expire, Epoch: e, At: at, Due: at.Add(time.Hour)},
		{Reader: "zed", Product: "p", ID: "o3", Kind: readers.Tell, Alias: core.Subject{12}, At: at, Due: at.Add(3 * time.Hour)},
		{Reader: "app", Product: "q", ID: "o4", Kind: readers.Made, Alias: core.Subject{13}, Body: []byte("{}"), At: at},
	}
	for i := range all {
		update(func(tx *store.Tx) error { return tx.AddReaderEvent(ctx, &all[i]) })
	}
	if n := []uint64{all[0].Number, all[1].Number, all[2].Number, all[3].Number}; !reflect.DeepEqual(n, []uint64{1, 2, 1, 3}) {
		t.Errorf("numbers %v", n)
	}
	same("events", func(tx *store.Tx) (any, error) { return tx.ReaderEvents(ctx, "app", "p", 0, 10) }, all[:2])
	same("one event", func(tx *store.Tx) (any, error) { return tx.ReaderEvents(ctx, "app", "p", 0, 1) }, all[:1])
	same("events after one", func(tx *store.Tx) (any, error) { return tx.ReaderEvents(ctx, "app", "p", 1, 10) }, all[1:2])
	same("events of another product", func(tx *store.Tx) (any, error) { return tx.ReaderEvents(ctx, "app", "q", 0, 10) }, all[3:])
	same("open events", func(tx *store.Tx) (any, error) { return tx.OpenReaderEvents(ctx) }, []readers.Event{all[1], all[0], all[2]})
	answered := all[0]
	answered.Answered, answered.Held, answered.Receipt, answered.Signature, answered.Certificate = at.Add(time.Minute), readers.HoldsNothing, []byte("r"), []byte("s"), readers.Number{9}
	update(func(tx *store.Tx) error { return tx.AnswerReaderEvent(ctx, answered) })
	update(func(tx *store.Tx) error {
		x := answered
		x.Held, x.Receipt = readers.Holds, []byte("other")
		return tx.AnswerReaderEvent(ctx, x)
	})
	find := func(what string, ok bool, read func(*store.Tx) (readers.Event, bool, error), want readers.Event) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, found, err := read(tx)
			if err == nil && (found != ok || ok && !reflect.DeepEqual(got, want)) {
				t.Errorf("%s: %+v, %v", what, got, found)
			}
			return err
		}))
	}
	find("an answer, kept once", true, func(tx *store.Tx) (readers.Event, bool, error) { return tx.ReaderEvent(ctx, "app", "o1") }, answered)
	find("by number", true, func(tx *store.Tx) (readers.Event, bool, error) { return tx.ReaderEventAt(ctx, "app", 3) }, all[3])
	find("another's", false, func(tx *store.Tx) (readers.Event, bool, error) { return tx.ReaderEvent(ctx, "zed", "o1") }, readers.Event{})
	same("open events but one", func(tx *store.Tx) (any, error) { return tx.OpenReaderEvents(ctx) }, []readers.Event{all[1], all[2]})
	same("products", func(tx *store.Tx) (any, error) { return tx.ReaderProducts(ctx, "app") }, []core.ProductID{"p", "q"})
	update(func(tx *store.Tx) error { return tx.DropReaderEvents(ctx, at.Add(time.Minute)) })
	same("what waits stays", func(tx *store.Tx) (any, error) { return tx.ReaderEvents(ctx, "app", "p", 0, 10) }, all[1:2])
	next := readers.Event{Reader: "app", Product: "p", ID: "o5", Kind: readers.Tell, At: at, Due: at}
	update(func(tx *store.Tx) error { return tx.AddReaderEvent(ctx, &next) })
	if next.Number != 4 {
		t.Errorf("after some were forgotten the next number is %d, want 4", next.Number)
	}

	gone := core.EpochAt(30*day, day, at.Add(-40*day))
	update(func(tx *store.Tx) error {
		if err := tx.PutEpochHead(ctx, e, telemetry.Head{Rows: 1}, at); err != nil {
			return err
		}
		return tx.PutEpochState(ctx, gone, telemetry.EpochEnded, "", at)
	})
	for range 2 {
		update(func(tx *store.Tx) error { return tx.AddReaderEpochs(ctx, "app", "p", []core.Epoch{e, gone}) })
	}
	ended := readers.ReaderEpoch{Reader: "app", Product: "p", Epoch: gone}
	same("ended epochs", func(tx *store.Tx) (any, error) { return tx.EndedReaderEpochs(ctx) }, []readers.ReaderEpoch{ended})
	update(func(tx *store.Tx) error { return tx.DropReaderEpoch(ctx, ended) })
	same("no ended epochs", func(tx *store.Tx) (any, error) { return tx.EndedReaderEpochs(ctx) }, []readers.ReaderEpoch(nil))

	canary := func(n byte, state readers.CanaryState, after time.Duration) readers.Canary {
		return readers.Canary{Alias: core.Subject{n}, Reader: "app", Product: "p", State: state, Event: uint64(n), Changed: at.Add(after)}
	}
	older, newer, going := canary(1, readers.Proved, 0), canary(2, readers.StillHeld, time.Hour), canary(3, readers.Asked, 2*time.Hour)
	for _, c := range []readers.Canary{newer, canary(3, readers.Planted, 0), older, going} {
		update(func(tx *store.Tx) error { return tx.PutReaderCanary(ctx, c) })
	}
	same("canaries", func(tx *store.Tx) (any, error) { return tx.ReaderCanaries(ctx) }, []readers.Canary{newer, going})
	must(t, s.View(ctx, func(tx *store.Tx) error {
		for from, want := range map[core.Subject]bool{{}: true, {255}: true} {
			if a, some, err := tx.AnAlias(ctx, "app", "p", from); err != nil || some != want || a != (core.Subject{13}) {
				t.Errorf("an alias from %v: %v %v %v", from, a, some, err)
			}
		}
		_, some, err := tx.AnAlias(ctx, "zed", "q", core.Subject{})
		if some {
			t.Error("an alias of a product that the service does not know")
		}
		return err
	}))
}
