package device

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary a device process that its parent may kill.
const childEnv = "HAWSER_DEVICE_CHILD"

// child is what the parent tells it.
type child struct {
	Serial, Server, EnrolServer, StateDir string
	Roots                                 []byte
	Task                                  string // enrol, renew, send
	KillAt                                string // the step before which it kills itself
}

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(childMain(job))
	}
	os.Exit(m.Run())
}

func childMain(job string) int {
	var c child
	if err := json.Unmarshal([]byte(job), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return 0
}

func (c child) run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d, err := Open(Config{
		Serial: c.Serial, Server: c.Server, EnrolServer: c.EnrolServer, StateDir: c.StateDir, Roots: c.Roots,
		EnrolmentCode: func() (string, error) { return "code-of-A1", nil },
	})
	if err != nil {
		return err
	}
	d.pause = 10 * time.Millisecond
	d.keep.step = func(name string) {
		if name == c.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Minute) // until it takes effect
		}
	}
	switch c.Task {
	case "enrol":
		if err := d.Enrol(ctx); err != nil {
			return err
		}
		return c.handshake(ctx, d)
	case "renew":
		ids, err := d.keep.all()
		if err != nil {
			return err
		}
		if err := d.renew(ctx, ids[0]); err != nil {
			return err
		}
		return c.handshake(ctx, d)
	case "send":
		go d.Run(ctx) // the parent kills both
		for i := 0; ; i++ {
			r := NewReading(time.Now()).Int("n", int64(i)).String("pad", strings.Repeat("x", i%200))
			if err := d.Send("climate", r); err != nil {
				return err
			}
			fmt.Printf("%d %d %d\n", d.boot, d.seq, i)
		}
	}
	return fmt.Errorf("task %q", c.Task)
}

func (c child) handshake(ctx context.Context, d *Device) error {
	ids, err := d.keep.all()
	if err != nil {
		return err
	}
	s, end := d.connect(ctx, ids[0])
	if end.err != nil {
		return end.err
	}
	defer s.conn.Close() // ending is the purpose
	return d.keep.prove(ids[0])
}

func (b *testBench) child(t *testing.T, task, killAt string) *exec.Cmd {
	t.Helper()
	job, err := json.Marshal(child{
		Serial: "A1", Server: b.cfg.Server, EnrolServer: b.cfg.EnrolServer, StateDir: b.cfg.StateDir,
		Roots: b.cfg.Roots, Task: task, KillAt: killAt,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(job))
	cmd.Stderr = os.Stderr
	return cmd
}

// mustBeKilled runs the child until it kills itself.
func mustBeKilled(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	err := cmd.Run()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed where it should be: %v", err)
	}
}

// TestKilledAtEachStep kills a real process before each step of enrolment and
// of renewal. Whatever the step: the next start gets in, with one proven
// identity in the end, and until a new one is proven the old one is there.
func TestKilledAtEachStep(t *testing.T) {
	stored := []string{"folder made", "key written", "chain written", "renamed", "stored", "handshake done", "proven"}
	for _, c := range []struct {
		task  string
		steps []string
	}{
		{"enrol", stored},
		{"renew", append(append([]string{"renewal begins", "certificate issued"}, stored...), "old renamed", "old key removed")},
	} {
		for _, step := range c.steps {
			t.Run(c.task+"/"+step, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				var first *identity
				if c.task == "renew" {
					d, err := Open(b.cfg)
					if err != nil {
						t.Fatal(err)
					}
					if err := d.Enrol(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := (child{}).handshake(t.Context(), d); err != nil {
						t.Fatal(err)
					}
					ids, err := d.keep.all()
					if err != nil || len(ids) != 1 || !ids[0].proven {
						t.Fatalf("%d identities, %v", len(ids), err)
					}
					first = ids[0]
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
					// The code was spent with the first handshake.
					b.est.mu.Lock()
					clear(b.est.codes)
					b.est.mu.Unlock()
				}
				mustBeKilled(t, b.child(t, c.task, step))

				d := b.open(t)
				ids, err := d.keep.all()
				if err != nil {
					t.Fatal(err)
				}
				proven := step == "proven" || strings.HasPrefix(step, "old")
				if c.task == "renew" {
					kept := false
					for _, id := range ids {
						kept = kept || id.leaf().Equal(first.leaf())
					}
					if !proven && !kept {
						t.Error("the old identity is gone, and no new one was proven")
					}
				}
				mustSend(t, d, 3)
				stop := start(t, d)
				eventually(t, "three readings", func() bool { return len(b.mqtt.taken()) >= 3 })
				eventually(t, "an empty queue", func() bool { return d.Status().Queued == 0 })
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				wantOnce(t, b.mqtt.taken(), 3)
				ids, err = d.keep.all()
				if err != nil || len(ids) != 1 || !ids[0].proven {
					t.Errorf("in the end %d identities, %v", len(ids), err)
				}
				left, err := os.ReadDir(d.keep.dir)
				if err != nil || len(left) != 1 {
					t.Errorf("in the end the folder holds %v, %v", left, err)
				}
			})
		}
	}
}

// TestKilledWhileSending kills a device process again and again while it takes
// readings and sends them. Every reading whose Send returned arrives, and no
// (boot, seq) ever names two readings.
func TestKilledWhileSending(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	promised := map[[2]uint64]string{} // (boot, seq) → n
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	boots := map[uint64]bool{}
	for range rounds {
		cmd := b.child(t, "send", "")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		quota := 20 + rand.IntN(200)
		for i := 0; lines.Scan(); i++ {
			var boot, seq uint64
			var n int
			if _, err := fmt.Sscan(lines.Text(), &boot, &seq, &n); err != nil {
				break // cut off in the middle of a line
			}
			promised[[2]uint64{boot, seq}] = fmt.Sprintf(`"n":%d,`, n)
			boots[boot] = true
			if i == quota {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed
	}
	if len(boots) != rounds {
		t.Errorf("%d starts have %d boot numbers", rounds, len(boots))
	}
	d := b.open(t)
	start(t, d)
	eventually(t, "an empty queue", func() bool { return d.Status().Queued == 0 })
	arrived := map[[2]uint64]string{}
	for _, g := range b.mqtt.taken() {
		name := [2]uint64{g.Boot, g.Seq}
		if before, again := arrived[name]; again && before != g.Payload {
			t.Errorf("%v names two readings: %s and %s", name, before, g.Payload)
		}
		arrived[name] = g.Payload
	}
	for name, n := range promised {
		if !strings.Contains(arrived[name], n) {
			t.Errorf("%v (%s) was promised and arrived as %q", name, n, arrived[name])
		}
	}
	if len(promised) < rounds*20 {
		t.Errorf("only %d readings were promised", len(promised))
	}
	t.Logf("%d readings over %d kills, %d arrived", len(promised), rounds, len(arrived))
}
