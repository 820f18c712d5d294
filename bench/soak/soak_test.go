package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
)

// TestKillSmoke is a small true soak: the shipped program, killed three times
// under load.
func TestKillSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and kills the server")
	}
	hawser := house.Program(t, "hawser")
	r, err := soak(t.Context(), &options{
		hawser: hawser, dir: t.TempDir(), rounds: 3, devices: 4, window: 16, rate: 400,
		span: time.Second, seed: uint64(time.Now().UnixNano()), progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *r)
	if err := r.fault(); err != nil {
		t.Error(err)
	}
	if r.Stored < r.Acked {
		t.Errorf("%d stored, %d acknowledged", r.Stored, r.Acked)
	}
}

// TestPowerSmoke is a small true recording: the shipped program at work, and
// the power fails twelve times.
func TestPowerSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and records the server")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace (Debian: strace) is missing")
	}
	r, err := powerless(t.Context(), &options{
		hawser: house.Program(t, "hawser"), dir: t.TempDir(), points: 12, devices: 3, window: 8, rate: 60,
		span: 2 * time.Second, seed: uint64(time.Now().UnixNano()), progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *r)
	if err := r.fault(); err != nil {
		t.Error(err)
	}
}

// TestDisk: what was synced stays, and what was not may be lost in part.
func TestDisk(t *testing.T) {
	root := t.TempDir()
	steps := `1 1.000000 openat(AT_FDCWD</>, "ROOT/a", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<ROOT/a>
1 1.000001 write(3<ROOT/a>, "\x31\x32", 2) = 2
1 1.000002 fsync(3<ROOT/a> <unfinished ...>
2 1.000003 pwritev(3<ROOT/a>, [{iov_base="\x33", iov_len=1}, {iov_base="\x34", iov_len=1}], 2, 2) = 2
1 1.000004 <... fsync resumed>) = 0
1 1.000005 open("ROOT/b", O_RDWR|O_CREAT|O_APPEND, 0600) = 4<ROOT/b>
1 1.000006 write(4<ROOT/b>, "\x35", 1) = 1
1 1.000007 rename("ROOT/b", "ROOT/c") = 0
1 1.000008 unlink("ROOT/none") = -1 ENOENT (No such file or directory)
1 1.000009 close(3<ROOT/a> <unfinished ...>
2 1.000010 openat(AT_FDCWD</>, "ROOT/a", O_RDWR) = 3<ROOT/a>
1 1.000011 <... close resumed>) = 0
2 1.000012 write(3<ROOT/a>, "", 0) = 0
`
	trace := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(trace, []byte(strings.ReplaceAll(steps, "ROOT", root)), 0o600); err != nil {
		t.Fatal(err)
	}
	calls, _, err := readTrace(trace)
	if err != nil {
		t.Fatal(err)
	}
	d, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recording{before: d, calls: calls}
	syncs := map[int]*syncing{}
	for _, e := range rec.events() {
		if !e.end {
			syncs[e.call], err = d.begin(&calls[e.call])
		} else {
			err = d.end(&calls[e.call], syncs[e.call])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for i := range uint64(500) {
		files := d.cut(rand.New(rand.NewPCG(i, 0)))
		var names []string
		for path, b := range files {
			names = append(names, fmt.Sprintf("%s=%q", strings.TrimPrefix(path, root+"/"), b))
		}
		slices.Sort(names)
		seen[strings.Join(names, " ")]++
	}
	// The write that was under way when the sync began is not covered by it,
	// and names come in order.
	for _, want := range []string{`a="12"`, `a="1234"`, `a="12" b=""`, `a="1234" b="5"`, `a="12" c="5"`, `a="1234" c=""`} {
		if seen[want] == 0 {
			t.Errorf("%s was never left", want)
		}
	}
	for got := range seen {
		if !strings.HasPrefix(got, `a="12`) || strings.Contains(got, "b=") && strings.Contains(got, "c=") {
			t.Errorf("%s was left", got)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "a"), []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.same(nil); err == nil {
		t.Error("a file that is missing was not noticed")
	}
	if err := os.WriteFile(filepath.Join(root, "c"), []byte("5"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.same(nil); err != nil {
		t.Error(err)
	}
}

// TestTorn: a call that was under way at the kill may have had its effect, up
// to the end of a page, and nothing else may differ.
func TestTorn(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat(`\x34`, 2*page)
	steps := `1 1.000000 openat(AT_FDCWD</>, "ROOT/a", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<ROOT/a>
1 1.000001 write(3<ROOT/a>, "\x31\x32", 2) = 2
1 1.000002 openat(AT_FDCWD</>, "ROOT/b", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 4<ROOT/b>
1 1.000003 pwrite64(3<ROOT/a>, "` + long + `", 8192, 2 <unfinished ...>
2 1.000004 unlink("ROOT/b" <unfinished ...>
3 1.000005 write(4<ROOT/b>, "\x35", 1) = ?
4 1.000005 ???( <detached ...>
1 1.000006 +++ killed by SIGKILL +++
`
	trace := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(trace, []byte(strings.ReplaceAll(steps, "ROOT", root)), 0o600); err != nil {
		t.Fatal(err)
	}
	calls, torn, err := readTrace(trace)
	if err != nil || len(calls) != 3 || len(torn) != 4 {
		t.Fatalf("%d calls, %d under way: %v", len(calls), len(torn), err)
	}
	d, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range calls {
		if err := d.end(&calls[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	fours := func(n int) string { return strings.Repeat("4", n) }
	for _, c := range []struct {
		a, b string // "-": not there
		ok   bool
	}{
		{"12", "", true},
		{"12", "5", true},
		{"12", "-", true},
		{"12" + fours(2*page), "", true},
		{"12" + fours(page-2), "-", true},
		{"12" + fours(100), "", false},
		{"13", "", false},
		{"12", "6", false},
		{"-", "", false},
		{"12" + fours(2*page+1), "", false},
	} {
		for name, content := range map[string]string{"a": c.a, "b": c.b} {
			path := filepath.Join(root, name)
			if content == "-" {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.same(torn); (err == nil) != c.ok {
			t.Errorf("a of %d bytes, b %q: %v", len(c.a), c.b, err)
		}
	}
}

// TestCompare: a comparison that finds nothing wrong must be one that would
// have found it.
func TestCompare(t *testing.T) {
	const id core.DeviceID = "d"
	at := func(seq uint64) time.Time { return time.UnixMilli(1_800_000_000_000 + int64(seq)*10).UTC() }
	line := func(seq, number uint64) api.ReadLine {
		b := uint64(boot)
		v := fmt.Appendf(nil, `{"number":%d,"text":%q}`, number, said(id, number))
		return api.ReadLine{Time: at(seq), Received: at(seq), Boot: &b, Seq: &seq, Values: json.RawMessage(v)}
	}
	acked := map[uint64]string{}
	for seq := uint64(1); seq <= 5; seq++ {
		acked[seq] = digest(id, seq, at(seq).UnixMilli(), seq, said(id, seq))
	}
	lines := func(seqs ...uint64) (l []api.ReadLine) {
		for _, s := range seqs {
			l = append(l, line(s, s))
		}
		return l
	}
	other := lines(1, 2, 3, 4, 5)
	other[2] = line(3, 4)
	later := lines(1, 2, 3, 4, 5)
	later[3].Received = at(1)
	moved := lines(1, 2, 3, 4, 5)
	moved[4].Time = moved[4].Time.Add(time.Millisecond)
	for _, c := range []struct {
		name  string
		lines []api.ReadLine
		want  result
	}{
		{"all there", lines(1, 2, 3, 4, 5), result{}},
		{"stored, its acknowledgement lost", lines(1, 2, 3, 4, 5, 6), result{StoredOnly: 1}},
		{"one lost", lines(1, 2, 4, 5), result{Lost: 1}},
		{"all lost", nil, result{Lost: 5}},
		{"one twice", lines(1, 2, 2, 3, 4, 5), result{Twice: 1}},
		{"two changed places", lines(1, 3, 2, 4, 5), result{Reordered: 1}},
		{"received before its forerunner", later, result{Reordered: 1}},
		{"another's content", other, result{Changed: 1}},
		{"another time", moved, result{Changed: 1}},
		{"nobody sent it", lines(1, 2, 3, 4, 5, 9), result{Strange: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got result
			if err := got.compare(id, 6, acked, c.lines); err != nil {
				t.Fatal(err)
			}
			c.want.Acked, c.want.Stored = len(acked), len(c.lines)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			bad := got.Lost+got.Changed+got.Strange+got.Twice+got.Reordered > 0
			got.Ledger, got.Rounds, got.Killed, got.Loaded = true, 1, 1, 1
			if err := got.fault(); (err != nil) != bad {
				t.Errorf("verdict: %v", err)
			}
		})
	}
}

func TestNothingKilledIsAFault(t *testing.T) {
	for _, r := range []result{
		{Rounds: 10, Killed: 9, Loaded: 9, Acked: 100, Ledger: true},
		{Rounds: 10, Killed: 10, Loaded: 2, Acked: 100, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Acked: 1, Refused: 1, Ledger: true},
		{Rounds: 1, Killed: 1, Loaded: 1, Acked: 1},
	} {
		if r.fault() == nil {
			t.Errorf("%+v passed", r)
		}
	}
}
