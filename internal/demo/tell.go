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
)

// teller is what the person at the terminal sees. With --json it is silent.
type teller struct {
	w     io.Writer
	tty   bool
	n     int
	drawn int // lines of the live table on the screen
	began time.Time
}

func newTeller(o Options) *teller {
	if o.JSON || o.Out == nil {
		return &teller{w: io.Discard, began: time.Now()}
	}
	t := &teller{w: o.Out, began: time.Now()}
	if f, ok := o.Out.(*os.File); ok {
		if st, err := f.Stat(); err == nil {
			t.tty = st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
		}
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
	fmt.Fprintf(t.w, "\n%s\nFive thermostats, one of them bad. Everything runs on this machine, in a folder that is removed at the end.\n", t.bold("Hawser: what a product declares is enforced, and proved"))
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
	fmt.Fprintf(t.w, "    "+format+"\n", args...)
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

func (t *teller) draw(rows []api.Device) {
	line := func(format string, args ...any) {
		fmt.Fprintf(t.w, "    "+format+"\n", args...)
		t.drawn++
	}
	line("%-8s %9s %9s %15s   %s", "DEVICE", "ACCEPTED", "STORED", "FIELDS DROPPED", "REFUSED")
	for _, r := range rows {
		c := api.Counts{}
		if r.Counts != nil {
			c = *r.Counts
		}
		line("%-8s %9d %9d %15d   %s", r.Device, c.Accepted, c.Stored, c.DroppedFields, reasons(c.Refused))
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
	fmt.Fprintln(t.w, "    An undeclared field is dropped and the rest kept; an impossible value never arrives;")
	fmt.Fprintln(t.w, "    a refused message is never stored, and the device is told why.")
}

func (t *teller) faults(faults []string) {
	fmt.Fprintf(t.w, "\n%s\n", t.bold("This did not hold:"))
	for _, f := range faults {
		fmt.Fprintf(t.w, "    %s\n", f)
	}
}

func (t *teller) ending() {
	fmt.Fprintf(t.w, `
%s

What to try next
    bin/hawser demo --stay                  keep it running and join with mosquitto_pub
    bin/hawser demo --json                  the same, as figures
    bin/hawser declaration check FILE       write your own declaration; every fault names line and fix
    bin/hawser help                         everything else
`, t.bold(fmt.Sprintf("All of it held, in %.0f seconds.", time.Since(t.began).Seconds())))
}

func (t *teller) staying(d *demo, guest *device) {
	fmt.Fprintf(t.w, `
%s

The restored server runs, with its devices; aria-1 was erased, so its readings are
acknowledged, dropped and counted. It keeps running until you press Ctrl-C; then its folder is removed.

Join with any MQTT client. %s is enrolled; this sends one reading as it:

    mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 \
      --cafile %s \
      --cert %s \
      --key %s \
      -t telemetry/climate -m '{"room_temperature":21.5,"ssid":"never stored"}'

Then look at what became of it:

    %[7]s read guest-1 --reason "my first reading" --home %[8]s
    %[7]s device show aria-5 --home %[8]s
    %[7]s ledger show --home %[8]s
    %[7]s doctor --home %[8]s
`, t.bold(fmt.Sprintf("All of it held, in %.0f seconds.", time.Since(t.began).Seconds())), guest.serial, d.ports.devices,
		d.roots, filepath.Join(guest.dir, "cert.pem"), filepath.Join(guest.dir, "key.pem"), d.opt.Hawser, d.home)
}
