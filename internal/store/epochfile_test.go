package store_test

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func epochFiles(maxOpen int) storetest.PartitionsOpener {
	return func(t *testing.T) (func() telemetry.Partitions, func()) {
		t.Helper()
		dir := t.TempDir()
		var opened *store.EpochFiles
		open := func() telemetry.Partitions {
			s, err := store.OpenEpochFiles(store.EpochFilesOptions{Dir: dir, MaxOpen: maxOpen, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			opened = s
			return s
		}
		return open, func() {
			if opened == nil {
				return
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
			opened = nil
		}
	}
}

func TestEpochFiles(t *testing.T) { storetest.Partitions(t, epochFiles(0)) }

// With room for one open file every other call closes one and opens one.
func TestEpochFilesOneOpen(t *testing.T) { storetest.Partitions(t, epochFiles(1)) }
