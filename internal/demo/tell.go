package demo

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/term"
)

// teller is what the person at the terminal sees. With --json it is silent.
type teller struct {
	w     io.Writer
	tty   bool
	width int // columns of a line
	n     int
	drawn int // lines of the live table on the screen
	began time.Time
}

func newTeller(o Options) *teller {
	if o.JSON || o.Out == nil {
		return &teller{w: io.Discard, width: term.Usual, began: time.Now()}
	}
	t := &teller{w: o.Out, width: term.Usual, began: time.Now()}
	if columns := term.Width(o.Out); columns > 0 {
		t.tty = os.Getenv("NO_COLOR") == ""
		t.width = min(columns, 100)
	}
	return t
}

func (t *teller) bold(s string) string {
	if !t.tty {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}

func (t *teller) dim(s string) string {
	if !t.tty {
		return s
	}
	return "\x1b[2m" + s + "\x1b[0m"
}

func (t *teller) title() {
	fmt.Fprintf(t.w, "\n%s\n", t.bold("Hawser: what a product declares is enforced, and proved"))
	t.text(0, "Five thermostats, one of them bad. Everything runs on this machine, in a folder that is removed at the end.")
}

// step begins a step; the function it returns ends it.
func (t *teller) step(what, command string) func() {
	t.n++
	began := time.Now()
	fmt.Fprintf(t.w, "\n%s\n", t.bold(fmt.Sprintf("%2d  %s", t.n, what)))
	if command != "" {
		fmt.Fprintf(t.w, "    %s\n", t.dim("$ "+command))
	}
	return func() {
		fmt.Fprintf(t.w, "    %s\n", t.dim(fmt.Sprintf("done in %.1f s", time.Since(began).Seconds())))
	}
}

func (t *teller) detail(format string, args ...any) {
	t.text(4, fmt.Sprintf(format, args...))
}

// text prints lines that fit the terminal.
func (t *teller) text(indent int, text string) {
	fmt.Fprintln(t.w, strings.Join(term.Wrap(strings.Repeat(" ", indent)+text, t.width, indent), "\n"))
}

// live draws the table of the devices, over itself on a terminal.
func (t *teller) live(rows []api.Device) {
	if !t.tty {
		return
	}
	t.rub()
	t.draw(rows)
}

func (t *teller) rub() {
	if t.drawn > 0 {
		fmt.Fprintf(t.w, "\x1b[%dA\x1b[J", t.drawn)
		t.drawn = 0
	}
}

// draw prints the table. It counts the lines as the screen shows them: rub
// goes up by that many.
func (t *teller) draw(rows []api.Device) {
	const columns = "    %-8s %8s %7s %14s  "
	indent := len(fmt.Sprintf(columns, "", "", "", ""))
	line := func(row, last string) {
		for _, l := range term.Wrap(row+last, t.width, indent) {
			fmt.Fprintln(t.w, l)
			t.drawn++
		}
	}
	line(fmt.Sprintf(columns, "DEVICE", "ACCEPTED", "STORED", "FIELDS DROPPED"), "REFUSED")
	for _, r := range rows {
		c := api.Counts{}
		if r.Counts != nil {
			c = *r.Counts
		}
		line(fmt.Sprintf(columns, r.Device, fmt.Sprint(c.Accepted), fmt.Sprint(c.Stored), fmt.Sprint(c.DroppedFields)), reasons(c.Refused))
	}
}

func reasons(m map[string]uint64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%d %s", m[k], strings.ReplaceAll(k, "-", " ")))
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ", ")
}

func (t *teller) liveEnd(rows []api.Device) {
	t.rub()
	t.draw(rows)
	t.drawn = 0
	t.detail("An undeclared field is dropped and the rest kept; an impossible value is never stored; a refused message is counted without its content, and the device is told why.")
}

func (t *teller) faults(faults []string) {
	fmt.Fprintf(t.w, "\n%s\n", t.bold("This did not hold:"))
	for _, f := range faults {
		t.detail("%s", f)
	}
}

func (t *teller) ending() {
	fmt.Fprintf(t.w, `
%s

What to try next
    bin/hawser demo --stay              keep it running, join with mosquitto_pub
    bin/hawser demo --json              the same, as figures
    bin/hawser declaration check FILE   your own: every fault, with its fix
    bin/hawser help                     everything else
`, t.bold(fmt.Sprintf("All of it held, in %.0f seconds.", time.Since(t.began).Seconds())))
}

func (t *teller) staying(d *demo, guest *device, founder string) {
	fmt.Fprintf(t.w, `
%s

The restored server runs, with its devices; aria-1 was erased, so its readings
are acknowledged, dropped and counted. It runs until you press Ctrl-C; then its
folder is removed.

Join with any MQTT client. %s is enrolled; this sends one reading as it:

    mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 \
      --cafile %s \
      --cert %s \
      --key %s \
      -t telemetry/climate -m '{"room_temperature":21.5,"ssid":"never stored"}'

Then look at what became of it:

    %[7]s read guest-1 --purpose service.control --reason "my first reading" --home %[8]s
    %[7]s device show aria-5 --home %[8]s
    %[7]s ledger show --home %[8]s
    %[7]s doctor --home %[8]s

See what is proved, in a browser. This link makes one founder's passkey, once. The
certificate is this demo's own: have the browser trust %[4]s, and forget it after.

    %[9]s
`, t.bold(fmt.Sprintf("All of it held, in %.0f seconds.", time.Since(t.began).Seconds())), guest.serial, d.ports.devices,
		d.roots, filepath.Join(guest.dir, "cert.pem"), filepath.Join(guest.dir, "key.pem"), d.opt.Hawser, d.home, founder)
}
