package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// smallDisk mounts a file system of the given size, which needs root.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", dir).CombinedOutput()
	if err != nil {
		t.Skipf("skipped full-disk test: cannot mount a tmpfs (needs root): %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// A disk that really runs full, in the middle of a write: nothing that was
// acknowledged is lost, nothing is acknowledged while it is full, and the
// journal comes back by itself when there is room.
func TestFullDiskStopsAndRecovers(t *testing.T) {
	for name, minFree := range map[string]int64{"noticed before": 4 << 20, "hit in the middle": -1} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, 24<<20)
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			opt := testOptions(filepath.Join(dir, "journal"))
			opt.MinFreeBytes, opt.MaxBytes = minFree, 1<<30
			j := open(t, opt)
			got := newTally()
			submitted := 0
			for range 1000 {
				rec := append(record(uint64(submitted)), make([]byte, 50<<10)...)
				if j.Submit(rec, got, uint64(submitted)) != nil {
					break
				}
				submitted++
				if _, bad := got.wait(t, submitted); bad > 0 {
					break
				}
			}
			ok, bad := got.wait(t, submitted)
			// 12 MiB hold 245 records; stopping 4 MiB earlier, 170 and a check's worth.
			if ok < 100 || bad == 0 || ok > 245 || minFree > 0 && ok > 200 {
				t.Fatalf("%d acknowledged and %d not, on a disk with 12 MiB free", ok, bad)
			}
			for _, err := range got.errs {
				if core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "disk-full" {
					t.Errorf("failed with %v (%s), want disk-full", err, core.ReasonOf(err))
				}
			}
			if err := j.Submit(record(0), got, 0); !errors.Is(err, ErrDisk) {
				t.Errorf("submit on a full disk: %v", err)
			}
			if s := j.State(); !errors.Is(s.Trouble, ErrDisk) {
				t.Errorf("trouble is %v, want %v", s.Trouble, ErrDisk)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			eventually(t, "submit after room was made", func() bool { return j.Submit(record(uint64(submitted)), got, uint64(submitted)) == nil })
			if again, _ := got.wait(t, submitted+1); again != ok+1 {
				t.Fatal("not acknowledged although there is room")
			}
			// Those acknowledged are all there, in order. One that was not may be.
			records, _ := readAll(t, j, 0, ok+1)
			next := 0
			for _, rec := range records {
				n := 0
				for _, c := range rec[7:15] {
					n = n<<8 | int(c)
				}
				if next < len(got.ok) && n == int(got.ok[next]) {
					next++
				}
			}
			if next < ok {
				t.Errorf("%d of %d acknowledged records read back", next, ok)
			}
		})
	}
}
