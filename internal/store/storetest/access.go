package storetest

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// Access tells what the register of people needs from every engine. open gives
// an empty store that is closed when the test ends.
func Access(t *testing.T, open func(testing.TB) *store.Store) {
	t.Run("people", func(t *testing.T) { accessPeople(t, open(t)) })
	t.Run("passkeys", func(t *testing.T) { accessPasskeys(t, open(t)) })
	t.Run("links", func(t *testing.T) { accessLinks(t, open(t)) })
	t.Run("codes", func(t *testing.T) { accessCodes(t, open(t)) })
	t.Run("sessions", func(t *testing.T) { accessSessions(t, open(t)) })
	t.Run("notices", func(t *testing.T) { accessNotices(t, open(t)) })
	t.Run("refusals", func(t *testing.T) { accessRefusals(t, open(t)) })
	t.Run("refoundings", func(t *testing.T) { accessRefoundings(t, open(t)) })
	t.Run("forget", func(t *testing.T) { accessForget(t, open(t)) })
}

func aPerson(id access.PersonID, n byte) access.PersonRow {
	return access.PersonRow{
		ID: id, Subject: core.Subject{n}, State: access.Invited, Roles: []access.Role{access.Operator}, Invited: at(int64(n)),
		InvitedBy: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"},
	}
}

// fullPerson has every column.
func fullPerson(id access.PersonID, n byte) access.PersonRow {
	p := aPerson(id, n)
	p.State, p.Roles, p.Approver, p.ApproverFrom, p.Founder = access.Active, []access.Role{access.Administrator, access.Security}, true, at(72), true
	p.Details, p.Lookup = seal.SealedOf[access.Details]([]byte{1, n, 0}), core.Hash{9, n}
	p.Password, p.TOTP, p.TOTPStep = "$argon2id$…", seal.SealedOf[[]byte]([]byte{2, n, 0}), 59000000
	p.Joined, p.Disabled = at(80), at(90)
	p.Period = access.Period{From: at(70), Until: at(99)}
	return p
}

func accessRefoundings(t *testing.T, s *store.Store) {
	ctx := t.Context()
	one := access.Refounding{Number: 1, At: at(1), By: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}}
	two := access.Refounding{Number: 2, At: at(5), By: one.By, First: "pone", FirstAt: at(6), Second: "ptwo", SecondAt: at(7)}
	write(t, s, func(tx *store.Tx) error { return tx.InsertRefounding(ctx, two) })
	write(t, s, func(tx *store.Tx) error { return tx.InsertRefounding(ctx, one) })
	refuses(t, s, "one number twice", func(tx *store.Tx) error { return tx.InsertRefounding(ctx, one) })
	refuses(t, s, "a number that is not there", func(tx *store.Tx) error {
		return tx.UpdateRefounding(ctx, access.Refounding{Number: 3})
	})
	one.First, one.FirstAt = "pone", at(2)
	write(t, s, func(tx *store.Tx) error { return tx.UpdateRefounding(ctx, one) })
	write(t, s, func(tx *store.Tx) error {
		all, err := tx.Refoundings(ctx)
		same(t, "oldest first", all, []access.Refounding{one, two})
		return err
	})
}

func addPeople(t *testing.T, s *store.Store, people ...access.PersonRow) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		for _, p := range people {
			if err := tx.InsertPerson(t.Context(), p); err != nil {
				return err
			}
		}
		return nil
	})
}

func accessPeople(t *testing.T, s *store.Store) {
	ctx := t.Context()
	one, two, three := aPerson("pone", 1), aPerson("ptwo", 2), fullPerson("pthree", 3)
	addPeople(t, s, two, one, three)
	refuses(t, s, "one id twice", func(tx *store.Tx) error { return tx.InsertPerson(ctx, aPerson("pone", 9)) })
	refuses(t, s, "one subject twice", func(tx *store.Tx) error { return tx.InsertPerson(ctx, aPerson("pnine", 1)) })
	write(t, s, func(tx *store.Tx) error {
		all, err := tx.People(ctx)
		same(t, "in the order of their invitation", all, []access.PersonRow{one, two, three})
		if _, err := tx.Person(ctx, "nobody"); core.KindOf(err) != core.Unknown {
			t.Errorf("absent person: %v", err)
		}
		if _, err := tx.PersonByLookup(ctx, core.Hash{}); core.KindOf(err) != core.Unknown {
			t.Errorf("no lookup: %v", err)
		}
		return err
	})
	full := fullPerson("pone", 1)
	full.Period = access.Period{} // no update changes it
	write(t, s, func(tx *store.Tx) error { return tx.UpdatePerson(ctx, full) })
	write(t, s, func(tx *store.Tx) error { return tx.UpdatePerson(ctx, full) }) // the own lookup is no conflict
	taken := aPerson("ptwo", 2)
	taken.Lookup = full.Lookup
	if err := refuses(t, s, "another's lookup", func(tx *store.Tx) error { return tx.UpdatePerson(ctx, taken) }); core.KindOf(err) != core.Conflict {
		t.Errorf("another's lookup: %v", err)
	}
	refuses(t, s, "update of nobody", func(tx *store.Tx) error { return tx.UpdatePerson(ctx, aPerson("nobody", 7)) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.PersonByLookup(ctx, full.Lookup)
		same(t, "a full row", got, full)
		return err
	})
	bare := aPerson("pone", 1) // what was set can be unset
	write(t, s, func(tx *store.Tx) error { return tx.UpdatePerson(ctx, bare) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Person(ctx, "pone")
		same(t, "a bare row", got, bare)
		return err
	})
	for _, c := range []struct {
		step int64
		want bool
	}{{5, true}, {5, false}, {4, false}, {6, true}} {
		write(t, s, func(tx *store.Tx) error {
			if ok, err := tx.UseTOTPStep(ctx, "pone", c.step); err != nil || ok != c.want {
				t.Errorf("step %d: %v, %v, want %v", c.step, ok, err, c.want)
			}
			if ok, err := tx.UseTOTPStep(ctx, "nobody", c.step); err != nil || ok {
				t.Errorf("step %d of nobody: %v, %v", c.step, ok, err)
			}
			return nil
		})
	}
}

func accessPasskeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1), aPerson("ptwo", 2))
	key := func(id byte, p access.PersonID, added int64) access.PasskeyRow {
		return access.PasskeyRow{
			ID: []byte{id, 0, 0xff}, Person: p, Public: []byte{4, id}, Count: 1<<32 - 1, Flags: 0xff, AAGUID: make([]byte, 16),
			Transports: []string{"usb", "nfc"}, Label: seal.SealedOf[string]([]byte{id}), Added: at(added),
		}
	}
	late, early, other := key(1, "pone", 20), key(2, "pone", 10), key(3, "ptwo", 5)
	early.Transports, early.AAGUID = nil, nil
	write(t, s, func(tx *store.Tx) error {
		for _, k := range []access.PasskeyRow{late, early, other} {
			if err := tx.InsertPasskey(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
	twice := late
	twice.Person = "ptwo"
	if err := refuses(t, s, "one id twice", func(tx *store.Tx) error { return tx.InsertPasskey(ctx, twice) }); core.KindOf(err) != core.Conflict {
		t.Errorf("one id twice: %v", err)
	}
	refuses(t, s, "of nobody", func(tx *store.Tx) error { return tx.InsertPasskey(ctx, key(9, "nobody", 1)) })
	late.Count, late.Flags, late.Label, late.Used, late.Disabled = 0, 0x1d, seal.SealedOf[string]([]byte{8}), at(30), at(31)
	write(t, s, func(tx *store.Tx) error { return tx.UpdatePasskey(ctx, late) })
	refuses(t, s, "another's is not deleted", func(tx *store.Tx) error { return tx.DeletePasskey(ctx, "pone", other.ID) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Passkeys(ctx, "pone")
		same(t, "oldest first", got, []access.PasskeyRow{early, late})
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeletePasskey(ctx, "pone", early.ID) })
	refuses(t, s, "update of a deleted one", func(tx *store.Tx) error { return tx.UpdatePasskey(ctx, early) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Passkeys(ctx, "pone")
		same(t, "what is left", got, []access.PasskeyRow{late})
		return err
	})
}

func accessLinks(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1))
	first := access.LinkRow{Token: core.Hash{1}, Person: "pone", Made: at(1), Until: at(10)}
	second := access.LinkRow{Token: core.Hash{2}, Person: "pone", Made: at(2), Until: at(20), Used: at(3), Replays: 2}
	write(t, s, func(tx *store.Tx) error {
		if _, err := tx.LinkOf(ctx, "pone"); core.KindOf(err) != core.Unknown {
			t.Errorf("no link yet: %v", err)
		}
		if err := tx.InsertLink(ctx, second); err != nil {
			return err
		}
		return tx.InsertLink(ctx, first)
	})
	refuses(t, s, "one link twice", func(tx *store.Tx) error { return tx.InsertLink(ctx, first) })
	first.Until, first.Used, first.Replays = at(11), at(12), 1
	write(t, s, func(tx *store.Tx) error { return tx.UpdateLink(ctx, first) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Link(ctx, first.Token)
		same(t, "a used link", got, first)
		if got, err := tx.LinkOf(ctx, "pone"); err != nil || got.Token != second.Token {
			t.Errorf("newest link %+v, %v", got, err)
		}
		if _, err := tx.Link(ctx, core.Hash{9}); core.KindOf(err) != core.Unknown {
			t.Errorf("absent link: %v", err)
		}
		return err
	})
}

func accessCodes(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1), aPerson("ptwo", 2))
	write(t, s, func(tx *store.Tx) error {
		if err := tx.ReplaceRecovery(ctx, "pone", []core.Hash{{1}, {2}, {3}}, at(1)); err != nil {
			return err
		}
		return tx.ReplaceRecovery(ctx, "ptwo", []core.Hash{{4}}, at(1))
	})
	for _, c := range []struct {
		who  access.PersonID
		code byte
		want bool
	}{{"pone", 4, false}, {"pone", 9, false}, {"nobody", 1, false}, {"pone", 1, true}, {"pone", 1, false}, {"ptwo", 4, true}} {
		write(t, s, func(tx *store.Tx) error {
			if ok, err := tx.SpendRecovery(ctx, c.who, core.Hash{c.code}, at(5)); err != nil || ok != c.want {
				t.Errorf("%s spends %d: %v, %v, want %v", c.who, c.code, ok, err, c.want)
			}
			return nil
		})
	}
	left := func(want int) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			n, err := tx.RecoveryLeft(ctx, "pone")
			if n != want {
				t.Errorf("%d codes left, want %d", n, want)
			}
			return err
		})
	}
	left(2)
	write(t, s, func(tx *store.Tx) error { return tx.ReplaceRecovery(ctx, "pone", []core.Hash{{7}}, at(6)) })
	left(1)
	write(t, s, func(tx *store.Tx) error {
		if ok, err := tx.SpendRecovery(ctx, "pone", core.Hash{2}, at(7)); err != nil || ok {
			t.Errorf("a replaced code: %v, %v", ok, err)
		}
		return tx.ReplaceRecovery(ctx, "pone", nil, at(8))
	})
	left(0)
}

func aSession(n byte, p access.PersonID, started int64) access.SessionRow {
	return access.SessionRow{
		Token: core.Hash{n}, Person: p, Started: at(started), Seen: at(started), Ends: at(started + 100), Verified: at(started),
		Means: []gate.Means{gate.Password, gate.TOTP}, Browser: seal.SealedOf[access.Browser]([]byte{n}),
	}
}

func accessSessions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1), aPerson("ptwo", 2))
	old, fresh, other := aSession(1, "pone", 10), aSession(2, "pone", 20), aSession(3, "ptwo", 30)
	fresh.Passkey = at(21)
	for _, r := range []access.SessionRow{old, fresh, other} {
		write(t, s, func(tx *store.Tx) error { return tx.InsertSession(ctx, r) })
	}
	refuses(t, s, "one token twice", func(tx *store.Tx) error { return tx.InsertSession(ctx, aSession(1, "ptwo", 1)) })
	refuses(t, s, "a session of nobody", func(tx *store.Tx) error { return tx.InsertSession(ctx, aSession(9, "nobody", 1)) })
	old.Seen = at(50)
	write(t, s, func(tx *store.Tx) error { return tx.TouchSession(ctx, old.Token, at(50)) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Session(ctx, old.Token)
		same(t, "a session", got, old)
		if _, err := tx.Session(ctx, core.Hash{9}); core.KindOf(err) != core.Unknown {
			t.Errorf("absent session: %v", err)
		}
		all, lerr := tx.Sessions(ctx, "pone")
		same(t, "newest first", all, []access.SessionRow{fresh, old})
		if lerr != nil {
			return lerr
		}
		return err
	})
	prune := func(now, idle time.Time, want int) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			n, err := tx.PruneSessions(ctx, now, idle)
			if n != want {
				t.Errorf("pruned %d, want %d", n, want)
			}
			return err
		})
	}
	prune(at(60), at(19), 0)
	prune(at(60), at(20), 1)  // fresh was not seen since
	prune(at(110), at(20), 1) // old has ended
	write(t, s, func(tx *store.Tx) error { return tx.InsertSession(ctx, aSession(4, "ptwo", 40)) })
	write(t, s, func(tx *store.Tx) error {
		if n, err := tx.DeleteSessions(ctx, "ptwo"); err != nil || n != 2 {
			t.Errorf("ended %d, %v, want 2", n, err)
		}
		return tx.DeleteSession(ctx, other.Token) // gone is no error
	})
}

func accessNotices(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1), aPerson("ptwo", 2))
	write(t, s, func(tx *store.Tx) error {
		for i, p := range []access.PersonID{"pone", "ptwo", "pone", "pone"} {
			if err := tx.InsertNotice(ctx, access.NoticeRow{Person: p, Kind: access.NoticeApprover, About: "ptwo", At: at(int64(i))}); err != nil {
				return err
			}
		}
		return nil
	})
	var middle int64
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Notices(ctx, "pone", 2)
		if err != nil || len(got) != 2 || got[0].ID < got[1].ID || !got[0].At.Equal(at(3)) || got[0].About != "ptwo" || !got[0].Seen.IsZero() {
			t.Errorf("newest first, at most two: %+v, %v", got, err)
			return err
		}
		middle = got[1].ID
		return tx.SeeNotices(ctx, "pone", middle, at(9))
	})
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Notices(ctx, "pone", 9)
		if err != nil || len(got) != 3 || !got[0].Seen.IsZero() || !got[1].Seen.Equal(at(9)) || !got[2].Seen.Equal(at(9)) {
			t.Errorf("seen up to one: %+v, %v", got, err)
		}
		other, err := tx.Notices(ctx, "ptwo", 9)
		if err != nil || len(other) != 1 || !other[0].Seen.IsZero() {
			t.Errorf("another's: %+v, %v", other, err)
		}
		return err
	})
}

func accessRefusals(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, aPerson("pone", 1), aPerson("ptwo", 2))
	hour := func(n int) time.Time { return time.Unix(int64(n)*3600, 0).UTC() }
	refused := func(p access.PersonID, h, n int) access.RefusalRow {
		return access.RefusalRow{Person: p, Hour: hour(h), Count: n}
	}
	write(t, s, func(tx *store.Tx) error {
		for _, r := range []access.RefusalRow{refused("pone", 1, 2), refused("pone", 1, 3), refused("pone", 2, 1), refused("ptwo", 1, 4), refused("nobody", 1, 9)} {
			if err := tx.CountRefusals(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
	for _, want := range [][]access.RefusalRow{{refused("pone", 1, 5), refused("ptwo", 1, 4)}, nil} {
		write(t, s, func(tx *store.Tx) error {
			got, err := tx.TakeRefusals(ctx, hour(2))
			same(t, "the hours that are over", got, want)
			return err
		})
	}
}

func accessForget(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addPeople(t, s, fullPerson("pone", 1), fullPerson("ptwo", 2))
	write(t, s, func(tx *store.Tx) error {
		for i, p := range []access.PersonID{"pone", "ptwo"} {
			n := byte(i + 1)
			if err := tx.InsertPasskey(ctx, access.PasskeyRow{ID: []byte{n}, Person: p, Public: []byte{n}, Label: seal.SealedOf[string]([]byte{n}), Added: at(1)}); err != nil {
				return err
			}
			if err := tx.InsertLink(ctx, access.LinkRow{Token: core.Hash{n}, Person: p, Made: at(1), Until: at(9)}); err != nil {
				return err
			}
			if err := tx.ReplaceRecovery(ctx, p, []core.Hash{{n}}, at(1)); err != nil {
				return err
			}
			if err := tx.InsertSession(ctx, aSession(n, p, 1)); err != nil {
				return err
			}
			if err := tx.InsertNotice(ctx, access.NoticeRow{Person: p, Kind: access.NoticeMeans, At: at(1)}); err != nil {
				return err
			}
			if err := tx.CountRefusals(ctx, access.RefusalRow{Person: p, Hour: at(0), Count: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		write(t, s, func(tx *store.Tx) error { return tx.ForgetPerson(ctx, core.Subject{1}) })
	}
	write(t, s, func(tx *store.Tx) error { return tx.ForgetPerson(ctx, core.Subject{99}) }) // nobody's
	counts := func(p access.PersonID) (n [5]int, row access.PersonRow) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			var err error
			if row, err = tx.Person(ctx, p); err != nil {
				return err
			}
			keys, err := tx.Passkeys(ctx, p)
			if err != nil {
				return err
			}
			sessions, err := tx.Sessions(ctx, p)
			if err != nil {
				return err
			}
			notices, err := tx.Notices(ctx, p, 9)
			if err != nil {
				return err
			}
			codes, err := tx.RecoveryLeft(ctx, p)
			if err != nil {
				return err
			}
			link, err := tx.LinkOf(ctx, p)
			open := 0
			if link.Until.After(link.Made) {
				open = 1
			}
			n = [5]int{len(keys), len(sessions), len(notices), codes, open}
			return err
		})
		return n, row
	}
	n, row := counts("pone")
	want := access.PersonRow{
		ID: "pone", State: access.Disabled, Roles: row.Roles, Approver: true, ApproverFrom: at(72), Founder: true, TOTPStep: row.TOTPStep,
		Invited: at(1), InvitedBy: row.InvitedBy, Joined: at(80), Disabled: at(90),
		Period: access.Period{From: at(70), Until: at(99)},
	}
	same(t, "what is left of the person", row, want)
	if n != ([5]int{}) {
		t.Errorf("left of the person: %v passkeys, sessions, notices, codes, open links", n)
	}
	if n, row := counts("ptwo"); n != [5]int{1, 1, 1, 1, 1} || row.Password == "" {
		t.Errorf("left of another: %v, %+v", n, row)
	}
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.TakeRefusals(ctx, at(7200))
		if len(got) != 1 || got[0].Person != "ptwo" {
			t.Errorf("refusals %+v", got)
		}
		return err
	})
}
