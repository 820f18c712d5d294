package gate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"
)

// The owner is told once an hour, over restarts too (CC 1.13).
func TestOwnerIsTold(t *testing.T) {
	f := newFixture(t)
	began := f.now()
	for i := range 4 {
		f.try(password("ann", net(i)), false)
		f.advance(time.Minute)
	}
	f.mustGetIn(password("ann", net(8))) // was on the way when it was the fifth
	if n := f.notices(); len(n) != 0 {
		t.Fatalf("told too early: %+v", n)
	}
	for i := range 20 {
		f.try(password("ann", net(i%10)), false)
	}
	f.restart()
	for i := range 20 {
		f.try(password("ann", net(i%10)), false)
	}
	n := f.notices()
	if len(n) != 1 {
		t.Fatalf("told %d times in an hour", len(n))
	}
	want := gate.Notice{Account: "ann", Means: gate.Password, Wrong: 5, Networks: 5, Since: began}
	want.Networks = n[0].Networks // a sketch; see TestNetworks
	if n[0] != want || n[0].Networks < 4 || n[0].Networks > 5 {
		t.Errorf("told %+v, want %+v", n[0], want)
	}
	f.advance(time.Hour)
	for i := range 1000 {
		f.try(password("ann", net(1000+i)), false)
	}
	n = f.notices()
	if len(n) != 2 {
		t.Fatalf("told %d times in two hours", len(n))
	}
	f.advance(time.Hour)
	f.try(password("ann", net(1)), false) // is refused or not
	if n = f.notices(); len(n) != 3 {
		t.Fatalf("told %d times in three hours", len(n))
	}
	if l := n[2]; l.Refused < 900 || l.Networks < 500 || !l.Since.Equal(began) {
		t.Errorf("told %+v", l)
	}
	if f.try(password("ben", net(1)), false); len(f.notices()) != 3 {
		t.Error("ben was told of ann's")
	}
}

// Made by machines: told, and never locked.
func TestOwnerOfAMachineMadeSecretIsTold(t *testing.T) {
	f := newFixture(t)
	a := gate.Attempt{Means: gate.EnrolmentCode, Account: "A1"}
	for i := range 2000 {
		a.Source = net(i)
		if f.try(a, false) > 0 {
			t.Fatalf("a unit was locked by strangers after %d tries", i)
		}
	}
	n := f.notices()
	if len(n) != 1 || n[0].Account != "A1" || n[0].Means != gate.EnrolmentCode || n[0].Held {
		t.Errorf("told %+v", n)
	}
	if r := f.records(gate.RecordGuessing); len(r) != 0 {
		t.Errorf("%d records of units that are not locked", len(r))
	}
}

// Strangers cannot make the ledger grow: one record an account and hour, and a
// limit for all accounts.
func TestLedgerDoesNotGrow(t *testing.T) {
	f := newFixture(t)
	for i := range 200 {
		f.try(password("ann", net(i)), false)
	}
	r := f.records(gate.RecordGuessing)
	if len(r) != 1 {
		t.Fatalf("%d records", len(r))
	}
	if fact(r[0], "wrong") != "50" || fact(r[0], "means") != "password" || fact(r[0], "since") != "2026-11-22T12:00:00Z" ||
		len(fact(r[0], "account_hash")) != 32 || r[0].Actor.ID != "gate" {
		t.Errorf("record %+v", r[0])
	}
	f.restart()
	for range 3 {
		f.advance(29 * time.Minute)
		f.try(password("ann", net(300)), false)
	}
	if r = f.records(gate.RecordGuessing); len(r) != 2 {
		t.Errorf("%d records after 87 minutes, want 2", len(r))
	}
	f.advance(time.Hour)
	for p := range 100 {
		f.advance(3 * time.Second) // or the limit of all is in the way
		together(60, func(i int) { f.try(password(fmt.Sprint("person-", p), net(1000+60*p+i)), false) })
	}
	r = f.records(gate.RecordGuessing)
	if n := len(r) - 2; n < 60 || n > 66 {
		t.Errorf("%d records of a hundred accounts in five minutes, want about 60", n)
	}
	f.advance(2 * time.Hour)
	for i := range 60 {
		f.try(password("zoe", net(i)), false)
	}
	r = f.records(gate.RecordGuessing)
	if left := fact(r[len(r)-1], "not_recorded"); left == "0" || len(left) != 2 {
		t.Errorf("%s records left out, want some tens", left)
	}
}
