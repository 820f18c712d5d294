package storetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// Declaration tells what declarations need from every engine. open gives an
// empty store that is closed when the test ends.
func Declaration(t *testing.T, open func(testing.TB) *store.Store) {
	put := func(t *testing.T, s *store.Store, p declaration.Published) error {
		t.Helper()
		return s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutDeclaration(t.Context(), p) })
	}
	version := func(product core.ProductID, n int) declaration.Published {
		return declaration.Published{
			Product: product, Version: n, Hash: core.Hash{byte(n), product[0]}, Canonical: []byte{'{', byte(n), 0, 0xff, '}'},
			At: time.Date(2026, 1, n, 1, 2, 3, 456789000, time.UTC),
		}
	}

	t.Run("versions", func(t *testing.T) {
		s := open(t)
		want := []declaration.Published{version("beta", 2), version("alpha", 1), version("alpha", 10), version("alpha", 9)}
		for _, p := range want {
			if err := put(t, s, p); err != nil {
				t.Fatal(err)
			}
		}
		err := s.View(t.Context(), func(tx *store.Tx) error {
			one, err := tx.CurrentDeclaration(t.Context(), "alpha")
			sameDeclarations(t, "current", []declaration.Published{one}, []declaration.Published{want[2]}, err)
			all, err := tx.CurrentDeclarations(t.Context())
			sameDeclarations(t, "current of all", all, []declaration.Published{want[2], want[0]}, err)
			list, err := tx.Declarations(t.Context(), "alpha")
			sameDeclarations(t, "history", list, []declaration.Published{want[1], want[3], want[2]}, err)
			one, err = tx.DeclarationByHash(t.Context(), want[1].Hash)
			sameDeclarations(t, "by hash", []declaration.Published{one}, []declaration.Published{want[1]}, err)
			first, err := tx.FirstDeclared(t.Context(), "alpha")
			if err != nil || !first.Equal(want[1].At) {
				t.Errorf("first declared: %v, %v; want %v", first, err, want[1].At)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})

	t.Run("absent", func(t *testing.T) {
		s := open(t)
		err := s.View(t.Context(), func(tx *store.Tx) error {
			_, one := tx.CurrentDeclaration(t.Context(), "alpha")
			_, hash := tx.DeclarationByHash(t.Context(), core.Hash{1})
			_, first := tx.FirstDeclared(t.Context(), "alpha")
			for _, err := range []error{one, hash, first} {
				if err == nil || core.KindOf(err) != core.Unknown {
					t.Errorf("absent declaration: got %v, want core.Unknown", err)
				}
			}
			all, err := tx.CurrentDeclarations(t.Context())
			sameDeclarations(t, "none", all, nil, err)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})

	t.Run("once", func(t *testing.T) {
		s := open(t)
		if err := put(t, s, version("alpha", 1)); err != nil {
			t.Fatal(err)
		}
		again := version("alpha", 1)
		again.Hash = core.Hash{99}
		if put(t, s, again) == nil {
			t.Error("a version could be written twice")
		}
		hash := version("alpha", 2)
		hash.Hash = version("alpha", 1).Hash
		if put(t, s, hash) == nil {
			t.Error("a hash could be written twice")
		}
	})

	t.Run("publish", func(t *testing.T) { publishDeclarations(t, open(t)) })
}

// publishDeclarations runs the real service on the engine: state and evidence stand and
// fall together.
func publishDeclarations(t *testing.T, s *store.Store) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	svc, err := declaration.NewService(declaration.Deps{
		Update:      declarations(s.Update),
		View:        declarations(s.View),
		Now:         func() time.Time { return now },
		Environment: core.Live,
	})
	if err != nil {
		t.Fatal(err)
	}
	staff := core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"}
	first := ariaPolicy(t, func(src string) string { return src })
	if err := svc.Publish(t.Context(), staff, first); err != nil {
		t.Fatal(err)
	}
	got, err := svc.Current(t.Context(), first.Product)
	if err != nil || got.Hash != first.Hash {
		t.Fatalf("current: %v, %v", got, err)
	}
	narrower := ariaPolicy(t, func(src string) string {
		return strings.Replace(strings.Replace(src, "version: 3", "version: 4", 1), "keep: 30d", "keep: 20d", 1)
	})
	failed := errors.New("the ledger is full")
	err = s.Update(t.Context(), func(tx *store.Tx) error {
		inner, err := declaration.NewService(declaration.Deps{
			Update:      func(_ context.Context, fn func(declaration.Tx) error) error { return fn(tx) },
			View:        func(_ context.Context, fn func(declaration.Tx) error) error { return fn(tx) },
			Now:         func() time.Time { return now },
			Environment: core.Live,
		})
		if err != nil {
			return err
		}
		if err := inner.Publish(t.Context(), staff, narrower); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if got, err := svc.Current(t.Context(), first.Product); err != nil || got.Version != 3 {
		t.Errorf("after a failed publication: %+v, %v", got, err)
	}
	if n := pendingRecords(t, s); n != 1 {
		t.Errorf("after a failed publication: %d records, want 1", n)
	}
	if err := svc.Publish(t.Context(), staff, narrower); err != nil {
		t.Fatal(err)
	}
	if n := pendingRecords(t, s); n != 2 {
		t.Errorf("after two publications: %d records, want 2", n)
	}
	if got, err := svc.ByHash(t.Context(), first.Hash); err != nil || !bytes.Equal(got.Canonical, first.Canonical) {
		t.Errorf("the old version by its hash: %v", err)
	}
	if at, err := svc.FirstPublished(t.Context(), first.Product); err != nil || !at.Equal(now) {
		t.Errorf("first published: %v, %v", at, err)
	}
}

func pendingRecords(t *testing.T, s *store.Store) int {
	t.Helper()
	var n int
	err := s.View(t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(t.Context(), 100)
		n = len(pending)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func declarations(run func(context.Context, func(*store.Tx) error) error) func(context.Context, func(declaration.Tx) error) error {
	return func(ctx context.Context, fn func(declaration.Tx) error) error {
		return run(ctx, func(tx *store.Tx) error { return fn(tx) })
	}
}

func ariaPolicy(t *testing.T, edit func(string) string) *declaration.Policy {
	t.Helper()
	const file = "aria-thermostat.yaml"
	src, err := os.ReadFile(filepath.Join("..", "..", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	d, err := declaration.Parse(file, []byte(edit(string(src))))
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sameDeclarations(t *testing.T, what string, got, want []declaration.Published, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if !slices.EqualFunc(got, want, func(a, b declaration.Published) bool {
		return a.Product == b.Product && a.Version == b.Version && a.Hash == b.Hash && bytes.Equal(a.Canonical, b.Canonical) && a.At.Equal(b.At)
	}) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}
