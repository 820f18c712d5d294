package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// backedUp is an installation with two devices and a backup, after which the
// device "gone" was erased. No server runs.
type backedUp struct {
	home, backup string
	gone         core.Subject
}

func newBackedUp(t *testing.T) backedUp {
	t.Helper()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	for _, id := range []core.DeviceID{"gone", "stays"} {
		c := dialMQTT(t, l, l.enrol(t, id))
		for range 20 {
			c.publish(t, "telemetry/climate", `{"temp":20.5}`)
		}
		if code, err := c.try("telemetry/climate", `{"temp":900}`); code != 0x99 {
			t.Fatalf("an impossible value: %#x, %v", code, err)
		}
		c.close(t)
	}
	b := backedUp{home: l.home, backup: filepath.Join(t.TempDir(), "backup")}
	var err error
	if b.gone, err = core.ParseSubject(l.device(t, "gone").Subject); err != nil {
		t.Fatal(err)
	}
	l.call(t, "POST", "/v1/backup", api.BackupRequest{To: b.backup}, nil)
	l.call(t, "POST", "/v1/devices/gone/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	return b
}

// emptyHome is a home folder without data that uses the keys of another.
func emptyHome(t testing.TB, keysHome string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "restored")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	k := filepath.Join(keysHome, "keys")
	conf := "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nservices: 127.0.0.1:0\nca: " + k + "/ca\nroots: " + k + "/roots\nkeyring: [" + k + "/keyring-a/keyring, " +
		k + "/keyring-b/keyring]\nledger_key: " + k + "/ledger.key\ncheckpoint: " + k + "/checkpoint\n"
	if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}

// restore makes a new home from a backup and the keys of an old home.
func restore(t testing.TB, keysHome, backup string) string {
	t.Helper()
	home := emptyHome(t, keysHome)
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), c, RestoreOptions{From: backup}); err != nil {
		t.Fatal(err)
	}
	return home
}

// wantReason is for refusals: any other error is not the one that is wanted.
func wantReason(t testing.TB, what string, err error, kind core.Kind, text string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v (%v), want %v that says %q", what, err, core.KindOf(err), kind, text)
	}
}

// restoredWell looks at a server on restored data: the survivor opens, the
// erased one does not and is nobody's, and rows and ledger are in order.
func (b backedUp) restoredWell(t *testing.T, r *live, kept []byte) {
	t.Helper()
	lines, err := r.readAll(t, "stays")
	if err != nil || len(lines) != 20 {
		t.Errorf("the survivor: %d readings, %v", len(lines), err)
	}
	_, err = r.readAll(t, "gone")
	wantReason(t, "the erased one", err, core.Unknown, "the device belongs to nobody")
	if d := r.device(t, "gone"); d.Subject != "" || d.Counts != nil {
		t.Errorf("the erased one is shown as %+v", d)
	}
	var page api.Entries
	r.call(t, "GET", "/v1/ledger/entries?from=0&kind=subject-erased-again", nil, &page)
	if len(page.Entries) != 1 || page.Entries[0].Subject != b.gone.String() || !slices.Contains(page.Entries[0].Facts, [2]string{"erasers", "key,commands,counts,ownership,person"}) {
		t.Errorf("records of what was erased again: %+v", page.Entries)
	}
	var check api.RowsCheck
	r.call(t, "POST", "/v1/verify", nil, &check)
	if len(check.Faults) != 0 || check.Rows == 0 {
		t.Errorf("rows against the ledger: %+v", check)
	}
	var export bytes.Buffer
	if err := r.client.Stream(t.Context(), "GET", "/v1/ledger/export", nil, func(line []byte) error {
		_, err := export.Write(append(line, '\n'))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	report, err := verify.Log(&export, verify.Options{Earlier: kept})
	if err != nil || !report.OK() || len(report.Origins) != 2 || len(report.Losses) != 1 || !strings.Contains(report.Losses[0].Said, "restored from the backup") {
		t.Errorf("the ledger against the checkpoint from before: %+v, %v", report, err)
	}
}

// forgotten looks into a data folder that no server uses: nothing there leads
// to the erased subject, nor counts for it.
func (b backedUp) forgotten(t *testing.T, home string) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(home, "data")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }() // only read
	err = st.View(t.Context(), func(tx *store.Tx) error {
		own, err := tx.OwnershipOf(t.Context(), b.gone)
		if err != nil || own != nil {
			t.Errorf("its ownership: %+v, %v", own, err)
		}
		sums, err := tx.SubjectCount(t.Context(), b.gone)
		if err != nil || len(sums) != 0 {
			t.Errorf("its counts: %+v, %v", sums, err)
		}
		minutes, err := tx.MinuteCounts(t.Context(), 0, 10_000)
		for _, m := range minutes {
			if m.Subject == b.gone {
				t.Errorf("a count of a minute: %+v", m)
			}
		}
		if err != nil || len(minutes) == 0 {
			t.Errorf("%d counts of minutes, %v", len(minutes), err)
		}
		row, some, err := tx.Erasure(t.Context(), b.gone)
		if err != nil || !some || row.State != telemetry.ErasureDone {
			t.Errorf("its erasure: %+v, %t, %v", row, some, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBackupRestoreErased: the restore opens the survivors and not the erased
// one, and the ledger goes on in a new origin (CC 4.8).
func TestBackupRestoreErased(t *testing.T) {
	b := newBackedUp(t)
	kept, err := os.ReadFile(filepath.Join(b.home, "keys", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	home := emptyHome(t, b.home)
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	done, err := Restore(t.Context(), c, RestoreOptions{From: b.backup})
	if err != nil {
		t.Fatal(err)
	}
	if done.ErasedAgain != 1 || done.Generation != done.BackupGeneration+1 || done.Files < 3 || done.Folder != c.Data || done.Origin == "" {
		t.Errorf("restored %+v", done)
	}
	b.forgotten(t, home)
	r := startIn(t, home, b.home) // the authority is the first installation's
	b.restoredWell(t, r, kept)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.forgotten(t, home)

	// The old folder is behind its own kept checkpoint now: no server runs on it.
	old, err := LoadConfig(b.home)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), old, Options{}); core.ReasonOf(err) != "ledger-other-origin" {
		t.Errorf("the folder that was replaced: %v", err)
	}
	// And a restore overwrites nothing.
	if _, err := Restore(t.Context(), c, RestoreOptions{From: b.backup}); core.ReasonOf(err) != "data-exists" {
		t.Errorf("a restore over a folder in use: %v", err)
	}
}

// restoreSteps are the effects of a restore on disk, in order.
func restoreSteps() []string {
	return []string{
		"first file", "copied", "settled", "origin begun", "erased again", "finished", "durable", "place free", "in place", "signed",
	}
}

// The process that TestRestoreKilled starts: a restore that ends itself.
const (
	restoreStepVar = "HAWSER_TEST_RESTORE_STEP"
	restoreHomeVar = "HAWSER_TEST_RESTORE_HOME"
	restoreFromVar = "HAWSER_TEST_RESTORE_FROM"
)

// TestRestoreToBeKilled is the restore that TestRestoreKilled ends.
func TestRestoreToBeKilled(t *testing.T) {
	last := os.Getenv(restoreStepVar)
	if last == "" {
		t.Skip("only for TestRestoreKilled")
	}
	c, err := LoadConfig(os.Getenv(restoreHomeVar))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	_, err = Restore(t.Context(), c, RestoreOptions{From: os.Getenv(restoreFromVar), step: func(name string) {
		if seen = append(seen, name); name == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // and if it fails, the next line tells
			time.Sleep(time.Minute)
		}
	}})
	t.Fatalf("it came to its end: %v; steps %q", err, seen)
}

// TestRestoreKilled kills a restore after each of its effects. Either the new
// folder is not there, the old one serves as if nothing had been, and the next
// restore succeeds and leaves nothing behind; or the new one is whole, and a
// server starts on it without anybody's help (design, section 5, Effects
// outside SQL).
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	kept, err := os.ReadFile(filepath.Join(b.home, "keys", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range restoreSteps() {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			old := filepath.Join(t.TempDir(), "old")
			copyTree(t, old, b.home)
			home := emptyHome(t, old)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRestoreToBeKilled$")
			cmd.Env = append(os.Environ(), restoreStepVar+"="+step, restoreHomeVar+"="+home, restoreFromVar+"="+b.backup)
			out, err := cmd.CombinedOutput()
			if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			data, part := filepath.Join(home, "data"), filepath.Join(home, "data"+store.RestoringSuffix)
			_, err = os.Stat(data)
			there := err == nil
			if want := step == "in place" || step == "signed"; there != want {
				t.Errorf("the folder is there: %t, want %t", there, want)
			}
			if !there {
				if _, err := os.Stat(part); err != nil {
					t.Errorf("nothing was begun: %v", err)
				}
				c, err := LoadConfig(home)
				if err != nil {
					t.Fatal(err)
				}
				if err := Run(t.Context(), c, Options{}); core.ReasonOf(err) != "not-initialised" || !strings.Contains(hintOf(err), "hawser restore") {
					t.Errorf("serve on half a restore: %v: %s", err, hintOf(err))
				}
				l := start(t, old)
				if lines, err := l.readAll(t, "stays"); err != nil || len(lines) != 20 {
					t.Errorf("the old folder: %d readings, %v", len(lines), err)
				}
				if f := l.finding(t, "ledger"); f != "" {
					t.Errorf("the old folder's ledger: %s", f)
				}
				if err := l.stop(); err != nil {
					t.Fatal(err)
				}
				if _, err := Restore(t.Context(), c, RestoreOptions{From: b.backup}); err != nil {
					t.Fatalf("the next restore: %v", err)
				}
			}
			if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left behind: %v", err)
			}
			r := startIn(t, home, old)
			b.restoredWell(t, r, kept)
		})
	}
}

// TestRestoreSteps: the list of steps to kill at is the list that there is.
func TestRestoreSteps(t *testing.T) {
	b := newBackedUp(t)
	c, err := LoadConfig(emptyHome(t, b.home))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	var done, total int64
	o := RestoreOptions{From: b.backup, step: func(name string) { seen = append(seen, name) }, Progress: func(d, t int64) { done, total = d, t }}
	if _, err := Restore(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, restoreSteps()) {
		t.Errorf("steps %q, killed at %q", seen, restoreSteps())
	}
	if total == 0 || done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
}

// TestRestoredLateRowsAreNobodys: readings of the erased one that wait in the
// late lane of the backup are filed after the restore, and counted for nobody
// (CC 4.8).
func TestRestoredLateRowsAreNobodys(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	const away = 8 * 24 * time.Hour
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "gone")
	b := backedUp{home: home}
	var err error
	if b.gone, err = core.ParseSubject(l.device(t, "gone").Subject); err != nil {
		t.Fatal(err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(away) }
	l = startAt(t, home, home, now)
	c := dialMQTT(t, l, u)
	n := 0
	waitFor(t, 60*time.Second, "a backup has readings in its late lane", func() bool {
		n++
		for day := range 7 { // more days than are filed at once
			at := now().Add(-away + time.Duration(day)*24*time.Hour + time.Hour)
			c.publish(t, "telemetry/climate", fmt.Sprintf(`{"t":%d,"temp":19.5,"boot":1,"seq":%d}`, at.UnixMilli(), 10*n+day))
		}
		b.backup = filepath.Join(t.TempDir(), fmt.Sprint("backup", n))
		l.call(t, "POST", "/v1/backup", api.BackupRequest{To: b.backup}, nil)
		late, err := os.ReadFile(filepath.Join(b.backup, "telemetry", "late.db"))
		return err == nil && bytes.Contains(late, b.gone[:])
	})
	c.close(t)
	l.call(t, "POST", "/v1/devices/gone/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	restored := restore(t, home, b.backup)
	b.forgotten(t, restored)
	r := startAt(t, restored, home, now)
	waiting := func() (n int) {
		for _, f := range []string{"late.db", "late.db-wal"} {
			text, err := os.ReadFile(filepath.Join(restored, "data", "telemetry", f))
			if err == nil {
				n += bytes.Count(text, b.gone[:])
			}
		}
		return n
	}
	if waiting() == 0 {
		t.Fatal("nothing waits: this test shows nothing")
	}
	var before api.Counts
	r.call(t, "GET", "/v1/counts", nil, &before)
	waitFor(t, 60*time.Second, "the late rows are filed", func() bool {
		var sums api.Counts
		r.call(t, "GET", "/v1/counts", nil, &sums)
		var check api.RowsCheck
		r.call(t, "POST", "/v1/verify", nil, &check)
		return sums.Stored > before.Stored || r.metric(t, "hawser_projector_rows_total") > 0
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.forgotten(t, restored)
}
