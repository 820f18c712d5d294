package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childDir tells the re-executed test binary that it is the one to be killed.
const childDir = "HAWSER_JOURNAL_KILL_DIR"

// TestKillChild is the process that TestKilledProcessLosesNothing kills. It
// writes as fast as it can and prints each token once it is acknowledged.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("only as a child of TestKilledProcessLosesNothing")
	}
	j, err := Open(context.Background(), testOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := strconv.ParseUint(os.Getenv(childDir+"_FIRST"), 10, 64)
	out := printer{w: os.Stdout}
	fmt.Println("open", j.Incarnation())
	for i := first; ; i++ {
		for j.Submit(append(record(i), make([]byte, rand.IntN(2000))...), &out, i) != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) Done(token uint64, err error) {
	if err == nil {
		p.mu.Lock()
		fmt.Fprintln(p.w, "ack", token)
		p.mu.Unlock()
	}
}

// What was acknowledged survives kill -9 at any moment, once and in order.
func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var acked []uint64
	incarnation := ""
	next := uint64(0)
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childDir+"_FIRST="+strconv.FormatUint(next, 10))
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
		started := false
		for lines.Scan() {
			what, value, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "open":
				if incarnation != "" && value != incarnation {
					t.Errorf("opened as %s, was %s", value, incarnation)
				}
				incarnation = value
			case "ack":
				n, _ := strconv.ParseUint(value, 10, 64)
				acked = append(acked, n)
				if !started {
					started = true
					time.AfterFunc(time.Duration(50+rand.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		if !started {
			t.Fatal("the child acknowledged nothing")
		}
		next = acked[len(acked)-1] + 1_000_000 // numbers that the killed one cannot have used
	}

	j := open(t, testOptions(dir))
	if j.Incarnation() != incarnation {
		t.Errorf("reopened as %s, was %s", j.Incarnation(), incarnation)
	}
	var stored []uint64
	r := j.Reader(0)
	defer r.Close()
	for last := j.State().Last; r.pos < last; {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Missing != 0 {
			t.Errorf("%d batches missing before %d", b.Missing, b.Seq)
		}
		for _, rec := range b.Records {
			rec = bytes.TrimPrefix(rec, []byte("record "))
			n := uint64(0)
			for _, c := range rec[:8] {
				n = n<<8 | uint64(c)
			}
			stored = append(stored, n)
		}
	}
	// Every acknowledged number is there, once, in order. Others between are
	// those whose acknowledgement the kill cut off.
	i := 0
	for k, n := range stored {
		if k > 0 && n <= stored[k-1] {
			t.Fatalf("%d is stored after %d: doubled or out of order", n, stored[k-1])
		}
		if i < len(acked) && n == acked[i] {
			i++
		}
	}
	if i != len(acked) {
		t.Errorf("%d of %d acknowledged records are gone; the first is %d", len(acked)-i, len(acked), acked[i])
	}
	t.Logf("4 kills, %d acknowledged, %d stored", len(acked), len(stored))
}
