package demo

import (
	"bytes"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/api"
)

// screen is what a terminal of some columns shows after it got out: text,
// line ends, "up" and "erase below", which is all that a teller sends.
func screen(t *testing.T, out string, width int) []string {
	t.Helper()
	control := regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)
	lines, row, col := [][]rune{nil}, 0, 0
	down := func() {
		row, col = row+1, 0
		if row == len(lines) {
			lines = append(lines, nil)
		}
	}
	for out != "" {
		if m := control.FindStringSubmatch(out); m != nil {
			n, _ := strconv.Atoi(m[1]) // none is 0
			switch m[2] {
			case "A":
				row = max(0, row-n)
			case "J":
				lines = append(lines[:row:row], lines[row][:min(col, len(lines[row]))])
			case "m":
			default:
				t.Fatalf("a control that this screen does not know: %q", m[0])
			}
			out = out[len(m[0]):]
			continue
		}
		r, n := utf8.DecodeRuneInString(out)
		out = out[n:]
		if r == '\n' {
			down()
			continue
		}
		if col == width {
			down()
		}
		lines[row] = append(lines[row][:min(col, len(lines[row]))], r)
		col++
	}
	var all []string
	for _, l := range lines {
		all = append(all, string(l))
	}
	return all
}

// TestLiveTableFitsTheTerminal: what is drawn over itself leaves nothing of
// what was there before, although one line is longer than the terminal is wide.
func TestLiveTableFitsTheTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 100} {
		var out bytes.Buffer
		s := &teller{w: &out, tty: true, width: width}
		s.title()
		s.step("What happens to their messages", "hawser device show aria-5")
		rows := []api.Device{
			{Device: "aria-1", Counts: &api.Counts{Accepted: 5, Stored: 5}},
			{Device: "aria-5", Counts: &api.Counts{Accepted: 1, Refused: map[string]uint64{"rate": 1}}},
		}
		for range 9 {
			s.live(rows)
			rows[1].Counts.Refused["rate"] *= 10
			rows[1].Counts.Refused["duplicate-key"]++
			rows[1].Counts.Refused["nothing-left"]++
			rows[1].Counts.Refused["unknown-stream"]++
			rows[1].Counts.Refused["wrong-topic"]++
		}
		s.liveEnd(rows)
		s.detail("%s", `22:24:37  climate  {"heating_on":false,"room_label":"canary-6fc6ad23a8010aff","room_temperature":22.3}`)
		s.ending()
		shown := strings.Join(screen(t, out.String(), width), "\n")
		for _, once := range []string{"DEVICE ", "aria-1 ", "aria-5 ", "1000000000"} {
			if n := strings.Count(shown, once); n != 1 {
				t.Errorf("%d columns: %q stands there %d times, want once\n%s", width, once, n, shown)
			}
		}
		if width < 80 {
			continue
		}
		for _, l := range strings.Split(out.String(), "\n") {
			l = regexp.MustCompile(`\x1b\[\d*[A-Za-z]`).ReplaceAllString(l, "")
			if n := utf8.RuneCountInString(l); n > width {
				t.Errorf("a line of %d columns where %d fit: %s", n, width, l)
			}
		}
	}
}

// TestFreePort: a port that is taken is replaced, one that is free is not.
func TestFreePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	usual := l.Addr().(*net.TCPAddr).Port
	other, err := freePort(usual)
	if err != nil || other == usual || other == 0 {
		t.Errorf("port %d is taken: got %d, %v", usual, other, err)
	}
	if taken(other, usual) == "" {
		t.Error("nobody is told that another port was taken")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if again, err := freePort(usual); err != nil || again != usual {
		t.Errorf("port %d is free: got %d, %v", usual, again, err)
	}
	if said := taken(usual, usual); said != "" {
		t.Errorf("nothing was taken, and it says %q", said)
	}
}
