package store_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// fresh is an empty store of the embedded engine.
func fresh(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	return s
}

// The embedded engine keeps what every engine must.

func TestAccess(t *testing.T)      { storetest.Access(t, fresh) }
func TestAssurance(t *testing.T)   { storetest.Assurance(t, fresh) }
func TestClock(t *testing.T)       { storetest.Clock(t, fresh) }
func TestDeclaration(t *testing.T) { storetest.Declaration(t, fresh) }
func TestErasure(t *testing.T)     { storetest.Erasure(t, fresh) }
func TestGate(t *testing.T)        { storetest.Gate(t, fresh) }
func TestIdentity(t *testing.T)    { storetest.Identity(t, fresh) }
func TestLedger(t *testing.T)      { storetest.Ledger(t, fresh) }
func TestReview(t *testing.T)      { storetest.Review(t, fresh) }
func TestSampling(t *testing.T)    { storetest.Sampling(t, fresh) }
func TestUndeclared(t *testing.T)  { storetest.Undeclared(t, fresh) }
func TestCommand(t *testing.T)     { storetest.Command(t, fresh) }
func TestRemember(t *testing.T)    { storetest.Remember(t, fresh) }
func TestCounts(t *testing.T)      { storetest.Counts(t, fresh) }
func TestEpochs(t *testing.T)      { storetest.Epochs(t, fresh) }

func TestHoldFiles(t *testing.T) {
	storetest.HoldFiles(t, func(t *testing.T, dir string) telemetry.HoldFiles {
		f, err := store.OpenHoldFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}
