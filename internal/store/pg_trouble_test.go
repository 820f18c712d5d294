package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// counter is a store with one number in it, which grows.
type counter struct {
	t *testing.T
	s *Store
}

func (c counter) up() error {
	ctx, stop := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer stop()
	return c.s.Update(ctx, func(tx *Tx) error {
		at, err := tx.ClockSeen(ctx)
		if err != nil {
			return err
		}
		if at.IsZero() {
			at = time.UnixMicro(0)
		}
		return tx.PutClockSeen(ctx, at.Add(time.Microsecond))
	})
}

func (c counter) value() (n int64) {
	c.t.Helper()
	err := c.s.View(c.t.Context(), func(tx *Tx) error {
		at, err := tx.ClockSeen(c.t.Context())
		if !at.IsZero() {
			n = at.UnixMicro()
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// must goes up by one, and says how long that took to come about.
func (c counter) must(limit time.Duration) {
	c.t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = c.up(); err == nil {
			return
		}
	}
	c.t.Fatalf("it does not go on: %v", err)
}

func openCounter(t *testing.T, dsn string, patience time.Duration) counter {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: dsn, Patience: patience}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return counter{t, s}
}

// TestPGTrouble: a server that is killed, stopped, read-only or full is named as
// what it is, nothing is lost or doubled, and the store goes on by itself.
func TestPGTrouble(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "")
	dsn := cl.Database(t)
	c := openCounter(t, dsn, time.Second)
	c.must(time.Second)
	want := int64(1)

	t.Run("killed and started again", func(t *testing.T) {
		c.t = t
		if err := cl.Stop("immediate"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := c.up(); core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "database-gone" {
				t.Errorf("without a server: %v", err)
			}
		}
		if err := cl.Run(); err != nil {
			t.Fatal(err)
		}
		c.must(5 * time.Second)
		want++
		if got := c.value(); got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	})

	t.Run("asked to end its sessions", func(t *testing.T) {
		c.t = t
		err := c.s.Update(t.Context(), func(tx *Tx) error {
			if _, err := tx.ClockSeen(t.Context()); err != nil {
				return err
			}
			if err := cl.Exec("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hawser'`); err != nil {
				return err
			}
			return tx.PutClockSeen(t.Context(), time.UnixMicro(77))
		})
		if core.ReasonOf(err) != "database-gone" {
			t.Errorf("in the middle of it: %v", err)
		}
		c.must(5 * time.Second)
		want++
		if got := c.value(); got != want {
			t.Errorf("value %d, want %d", got, want)
		}
		locked := false
		for range 50 {
			if locked = cl.Exec("postgres", `DO $$ BEGIN ASSERT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory'); END $$`) == nil; locked {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if _, err := Open(t.Context(), Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: dsn}}); !locked || !errors.Is(err, ErrInUse) {
			t.Errorf("the lock is there again: %v; a second server: %v", locked, err)
		}
	})

	t.Run("stopped, not dead", func(t *testing.T) {
		c.t = t
		if err := cl.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err := c.up()
		if took := time.Since(begin); core.KindOf(err) != core.Unavail || took > 25*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		if err := cl.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		c.must(15 * time.Second)
		want++
		if got := c.value(); got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	})

	t.Run("read-only", func(t *testing.T) {
		c.t = t
		db := dsn[strings.Index(dsn, "/t")+1 : strings.Index(dsn, "?")]
		end := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hawser'`
		if err := cl.Exec("postgres", `ALTER DATABASE `+db+` SET default_transaction_read_only = on`, end); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 20 { // the first errors are those of the ended sessions
			if err = c.up(); core.ReasonOf(err) == "database-read-only" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "database-read-only" {
			t.Errorf("read-only: %v", err)
		}
		if got := c.value(); got != want { // reading goes on
			t.Errorf("value %d, want %d", got, want)
		}
		if err := cl.Exec("postgres", `ALTER DATABASE `+db+` RESET default_transaction_read_only`); err != nil {
			t.Fatal(err)
		}
		c.must(5 * time.Second)
		want++
	})

	t.Run("slow", func(t *testing.T) {
		c.t = t
		err := c.s.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.tx.ExecContext(t.Context(), `SELECT pg_sleep(?)`, 30)
			return err
		})
		if core.ReasonOf(err) != "database-slow" {
			t.Errorf("slow: %v", err)
		}
		c.must(5 * time.Second)
		want++
		if got := c.value(); got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	})

	t.Run("a lock that somebody holds", func(t *testing.T) {
		c.t = t
		held, release := make(chan error), make(chan struct{})
		go func() {
			held <- c.s.pg.hold(release, held)
		}()
		if err := <-held; err != nil {
			t.Fatal(err)
		}
		if err := c.up(); core.ReasonOf(err) != "database-slow" {
			t.Errorf("beside a lock: %v", err)
		}
		close(release)
		if err := <-held; err != nil {
			t.Fatal(err)
		}
		c.must(5 * time.Second)
		want++
	})
	c.t = t
	if got := c.value(); got != want || c.s.LostWhy() != nil {
		t.Errorf("value %d, want %d; lost: %v", got, want, c.s.LostWhy())
	}
}

// hold locks the row of the writers, as a hung server would.
func (p *pgControl) hold(release chan struct{}, held chan error) error {
	tx, err := p.w.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(context.Background(), `SELECT 1 FROM store_holder FOR UPDATE`); err != nil {
		return err
	}
	held <- nil
	<-release
	return nil
}

// TestPGFull: a disk without room is named, nothing that was acknowledged is
// lost, and with room again the store goes on.
func TestPGFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make a small disk")
	}
	cl := pgtest.Start(t, "")
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small disk: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
	for dir := filepath.Dir(disk); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	space := filepath.Join(disk, "space")
	if out, err := exec.Command("install", "-d", "-o", cl.User(), "-m", "700", space).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := cl.Exec("postgres", `CREATE TABLESPACE small LOCATION '`+space+`'`, `CREATE DATABASE small TEMPLATE template0 ENCODING 'UTF8' TABLESPACE small`); err != nil {
		t.Fatal(err)
	}
	c := openCounter(t, cl.DSN("small"), 5*time.Second)
	put := func(n int) error {
		return c.s.Update(t.Context(), func(tx *Tx) error {
			for i := range 64 {
				line := bytes.Repeat([]byte{byte(n), byte(i), byte(n >> 8), byte(n * i)}, 4096)
				if err := tx.AddPending(t.Context(), [][]byte{line[:len(line)-i]}); err != nil {
					return err
				}
			}
			_, err := tx.tx.ExecContext(t.Context(), `ALTER TABLE assurance_pending ALTER COLUMN line SET STORAGE EXTERNAL`)
			return err
		})
	}
	acked, failed := 0, error(nil)
	for n := range 200 {
		if failed = put(n); failed != nil {
			break
		}
		acked++
	}
	if core.KindOf(failed) != core.Unavail || core.ReasonOf(failed) != "database-full" || acked == 0 {
		t.Fatalf("after %d: %v", acked, failed)
	}
	count := func() (n int) {
		t.Helper()
		err := c.s.View(t.Context(), func(tx *Tx) error {
			all, err := tx.Pending(t.Context())
			n = len(all)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := count(); got != acked*64 {
		t.Errorf("%d rows are there, %d were acknowledged", got, acked*64)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=64m", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := put(1); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if got := count(); got != (acked+1)*64 {
		t.Errorf("%d rows are there, %d were acknowledged", got, (acked+1)*64)
	}
}

// cutter stands between a store and its server and can cut at a commit. It
// passes no request to cancel: the driver sends one for a session that broke,
// and where it overtook the commit that was to succeed, that was aborted.
type cutter struct {
	to   string
	l    net.Listener
	mu   sync.Mutex
	when string // "", "before", "after": cut when the next commit passes
	shut bool   // lets nobody in
}

const cancelRequest = 80877102 // PostgreSQL manual, "Message Formats", CancelRequest

func newCutter(t *testing.T, dsn string) (*cutter, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	k := &cutter{to: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432"), l: l}
	go k.serve()
	return k, strings.Replace(dsn, url.QueryEscape(u.Query().Get("host")), url.QueryEscape(dir), 1)
}

func (k *cutter) set(when string, shut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.when, k.shut = when, shut
}

func (k *cutter) serve() {
	for {
		in, err := k.l.Accept()
		if err != nil {
			return
		}
		k.mu.Lock()
		shut := k.shut
		k.mu.Unlock()
		out, err := net.Dial("unix", k.to)
		if err != nil || shut {
			_ = in.Close()
			continue
		}
		end := func() { _, _ = in.Close(), out.Close() }
		go func() { _, _ = io.Copy(in, out); end() }()
		go func() { k.pass(in, out); end() }()
	}
}

func (k *cutter) pass(in, out net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil || n == 16 && binary.BigEndian.Uint32(buf[4:]) == cancelRequest {
			return
		}
		k.mu.Lock()
		cut := ""
		if bytes.Contains(buf[:n], []byte("commit")) {
			cut, k.when = k.when, ""
		}
		if cut == "late" {
			k.shut = true
		}
		k.mu.Unlock()
		if cut == "before" {
			return
		}
		if cut != "" {
			_ = in.Close() // nobody hears the answer
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return
		}
		if cut != "" {
			time.Sleep(200 * time.Millisecond) // and it is done
			return
		}
	}
}

// TestPGCommitCut: the connection breaks at a commit. Only the database knows
// what became of it, and it is asked: an Update that was told to fail changed
// nothing, or the store is lost.
func TestPGCommitCut(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	k, cut := newCutter(t, dsn)
	c := openCounter(t, cut, time.Second)
	c.must(time.Second)

	k.set("before", false)
	if err := c.up(); core.ReasonOf(err) != "database-gone" {
		t.Errorf("a commit that never arrived: %v", err)
	}
	if got := c.value(); got != 1 {
		t.Errorf("value %d, want 1", got)
	}
	k.set("after", false)
	if err := c.up(); err != nil {
		t.Errorf("a commit whose answer was lost: %v", err)
	}
	if got := c.value(); got != 2 {
		t.Errorf("value %d, want 2", got)
	}
	c.must(time.Second)

	k.set("late", false) // nobody can ask any more
	if err := c.up(); core.KindOf(err) != core.Unavail {
		t.Errorf("a commit of which nothing is known: %v", err)
	}
	if err := c.up(); err == nil {
		t.Error("a write before the one before it was settled")
	}
	if c.s.LostWhy() != nil {
		t.Errorf("lost already: %v", c.s.LostWhy())
	}
	k.set("", false)
	if err := c.up(); core.ReasonOf(err) != "database-differs" {
		t.Errorf("after a commit that was reported as failed: %v", err)
	}
	select {
	case <-c.s.Lost():
	default:
		t.Error("the store is not lost, although memory and database differ")
	}
	_ = c.s.Close()
	again := openCounter(t, dsn, time.Second)
	if got := again.value(); got != 4 {
		t.Errorf("value %d, want 4", got)
	}
}
