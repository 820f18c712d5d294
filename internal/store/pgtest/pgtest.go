// Package pgtest starts a real PostgreSQL server for tests: a throw-away
// cluster with a local socket and nothing else, one for each test binary, and
// an empty database for each test. Its files lie in memory where that is
// possible, so that every commit may be synced as in earnest. It stops and
// disappears with the test process, however that ends.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Cluster is a running PostgreSQL server.
type Cluster struct {
	dir  string // of everything; the data lies in dir/data
	bin  string
	cred *syscall.Credential

	hold io.Closer // while it is open the watchman lets the server run
	done chan struct{}
}

var (
	shared = sync.OnceValues(func() (*Cluster, error) { return start("", nil) })
	number atomic.Int64
)

// Database gives the name (postgres://…) of an empty database on the cluster
// of this test binary. It is dropped when the test ends. Where PostgreSQL 15
// or later is not installed the test skips.
func Database(t testing.TB) string {
	t.Helper()
	need(t)
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return c.Database(t)
}

// Start starts a cluster for one test alone, which may ill-treat it. The
// settings are lines of postgresql.conf; dir is where it lies, "" for memory.
func Start(t testing.TB, dir string, settings ...string) *Cluster {
	t.Helper()
	need(t)
	c, err := start(dir, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	return c
}

func need(t testing.TB) {
	t.Helper()
	if testing.Short() && os.Getenv("HAWSER_RACE") != "" {
		t.Skip("PostgreSQL is left out beside the race detector")
	}
	if binaries() == "" {
		t.Skip("PostgreSQL 15 or later is not installed (Debian: postgresql)")
	}
}

// binaries is the folder of the newest PostgreSQL, "" when there is none.
func binaries() string {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return ""
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	best, found := 14, ""
	for _, d := range dirs {
		out, err := exec.Command(filepath.Join(d, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		words := strings.Fields(string(out)) // postgres (PostgreSQL) 15.14 (Debian …)
		if len(words) < 3 {
			continue
		}
		major, _, _ := strings.Cut(words[2], ".")
		if n, err := strconv.Atoi(major); err == nil && n > best {
			best, found = n, d
		}
	}
	return found
}

// servant is who runs the server: PostgreSQL refuses to run as root.
func servant() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.New("no user to run PostgreSQL as")
}

func start(dir string, settings []string) (*Cluster, error) {
	cred, err := servant()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		dir = os.TempDir()
		if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
			dir = "/dev/shm"
		}
	}
	if dir, err = os.MkdirTemp(dir, "hawser-pg-"); err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: binaries(), cred: cred}
	if err := c.make(settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.Run(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

func (c *Cluster) make(settings []string) error {
	if c.cred != nil {
		if err := os.Chown(c.dir, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			return err
		}
	}
	out, err := c.command("initdb", "-D", c.Data(), "-U", "hawser", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	lines := append([]string{
		"listen_addresses = ''", "unix_socket_directories = '" + c.dir + "'", "unix_socket_permissions = 0700",
		"max_connections = 100", "shared_buffers = 32MB", "max_wal_size = 128MB", "wal_level = minimal", "max_wal_senders = 0",
	}, settings...)
	return appendTo(filepath.Join(c.Data(), "postgresql.conf"), strings.Join(lines, "\n")+"\n")
}

// Data is the data folder of the cluster.
func (c *Cluster) Data() string { return filepath.Join(c.dir, "data") }

// User is who runs the server.
func (c *Cluster) User() string {
	if c.cred == nil {
		return strconv.Itoa(os.Getuid())
	}
	return strconv.Itoa(int(c.cred.Uid))
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Setpgid: true}
	return cmd
}

// watchman runs the server for as long as its own input is open. A test process
// that is killed closes it, too.
const watchman = `"$1"/postgres -D "$2"/data >>"$2"/log 2>&1 </dev/null & pg=$!
cat >/dev/null
kill -QUIT $pg 2>/dev/null
wait $pg
[ "$(head -1 "$2"/keep 2>/dev/null)" = yes ] || rm -rf "$2"`

// Run starts the server again after Stop, and returns when it answers.
func (c *Cluster) Run() error {
	if err := os.Remove(filepath.Join(c.dir, "keep")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", watchman, "sh", c.bin, c.dir)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: c.cred, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.hold, c.done = in, make(chan struct{})
	go func() {
		_ = cmd.Wait() // how the watchman ends is not the test's business
		close(c.done)
	}()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	for {
		conn, err := pgx.Connect(ctx, c.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, log[max(0, len(log)-2000):])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop stops the server as `pg_ctl stop -m MODE` does: immediate is like a
// crash, fast ends sessions. Its data stays.
func (c *Cluster) Stop(mode string) error {
	if err := os.WriteFile(filepath.Join(c.dir, "keep"), []byte("yes\n"), 0o644); err != nil {
		return err
	}
	out, err := c.command("pg_ctl", "stop", "-D", c.Data(), "-m", mode, "-w", "-t", "30").CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_ctl stop: %w\n%s", err, out)
	}
	_ = c.hold.Close()
	<-c.done
	return nil
}

// end stops the server for good.
func (c *Cluster) end() {
	_ = os.Remove(filepath.Join(c.dir, "keep"))
	_ = c.hold.Close()
	<-c.done
	_ = os.RemoveAll(c.dir) // the watchman did it, unless Stop came before
}

// PIDs are the processes of the server, the postmaster last.
func (c *Cluster) PIDs() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	master, err := strconv.Atoi(string(first))
	if err != nil {
		return nil, err
	}
	pids, err := childrenOf(master)
	return append(pids, master), err
}

// Signal sends a signal to the postmaster and all its children.
func (c *Cluster) Signal(sig syscall.Signal) error {
	pids, err := c.PIDs()
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// childrenOf are the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	out, err := exec.Command("ps", "-e", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, err
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		w := strings.Fields(line)
		if len(w) == 2 && w[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(w[0])
			if err != nil {
				return nil, err
			}
			found = append(found, child)
		}
	}
	slices.Sort(found)
	return found, nil
}

// DSN is the name of a database of the cluster.
func (c *Cluster) DSN(database string) string {
	return "postgres://hawser@/" + database + "?host=" + url.QueryEscape(c.dir)
}

// Database makes an empty database, dropped when the test ends.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", number.Add(1))
	if err := c.Exec("postgres", `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8'`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Exec("postgres", `DROP DATABASE `+name+` WITH (FORCE)`) }) // it goes with the cluster at the latest
	return c.DSN(name)
}

// Exec runs statements in a database as the superuser.
func (c *Cluster) Exec(database string, statements ...string) error {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	conn, err := pgx.Connect(ctx, c.DSN(database))
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err = conn.Exec(ctx, s); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}
