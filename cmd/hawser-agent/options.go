package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// options is the agent's configuration: the fields of the file that --config
// names, and the flags of the same names, which win.
type options struct {
	Serial      string   `json:"serial"`
	Server      string   `json:"server"`
	EnrolServer string   `json:"enrol-server"`
	ServerName  string   `json:"server-name"`
	Roots       string   `json:"roots"`
	State       string   `json:"state"`
	CodeFile    string   `json:"code-file"`
	TPM         string   `json:"tpm"`
	QueueBytes  int64    `json:"queue-bytes"`
	KeepAlive   string   `json:"keep-alive"`
	Log         string   `json:"log"`
	Simulate    []string `json:"simulate"`
	Every       string   `json:"every"`
	Count       int      `json:"count"`
	Misbehave   bool     `json:"misbehave"`
	Neighbour   string   `json:"neighbour"`
	FlushFor    string   `json:"flush-for"`

	Commands map[string]commandOption `json:"commands"` // only in the file
	Settings *settingsOption          `json:"settings"` // only in the file

	keepAlive, every, flush time.Duration
	sensors                 []simulated
}

var (
	errHelp    = errors.New("help")
	errVersion = errors.New("version")
)

// codeVariable is the environment variable that may hold the enrolment code.
const codeVariable = "HAWSER_ENROLMENT_CODE"

const usageText = `hawser-agent is a device: it enrols with its own one-time code, keeps its own key,
and sends readings over mutual TLS to the server that its pinned bundle vouches for.

  hawser-agent --serial SERIAL --server HOST[:PORT] --roots FILE --state DIR [options]

Example: a device named aria-1 sends two readings and ends when they are decided on.

  printf 'climate {"room_temperature": 21.4}\nclimate {"room_temperature": 21.5}\n' |
    hawser-agent --serial aria-1 --server gateway.example --roots roots.pem \
      --state /var/lib/aria --code-file /run/aria/code

Each line on standard input is the name of a stream and one JSON object with the
fields of one reading: numbers, texts, true and false. "t" in it is the time of the
reading in Unix milliseconds; without it, it is now. What may be in a reading, the
product's declaration says. A reading is safe on disk before the next line is read;
while there is no network it waits there, in a bounded queue.

What the device can be told to do stands in the file of --config, with the device's own
bounds; a program does it, and reads the values as a JSON object on its standard input:

  {"commands": {"blink": {"run": ["/usr/bin/blink"],
    "params": [{"name": "seconds", "type": "integer", "min": 1, "max": 60}]}}}

Each command is done once. It ends with exit code 0 as done, with another as failed;
the last line on the program's standard error is what the maker reads then.

What can be set on the device stands there, too, each with what is in force until the
server sets it; a program reads all of them as a JSON object, at the start and at every
change, and puts them in force:

  {"settings": {"run": ["/usr/bin/apply"],
    "params": [{"name": "level", "type": "integer", "min": 0, "max": 3, "default": 1}]}}

With another exit code than 0 what was in force before is applied again.

Identity and server
`

const usageRest = `
The enrolment code is needed once. It is read from --code-file, or from the
environment variable ` + codeVariable + `; it is never taken from the command line,
where every process of the machine could read it.

Exit codes: 0 ended as told; 1 the device cannot go on, the log says why (a refused
code, a server that is not the right one, a disk that fails); 2 wrong command line.
`

// flags declares the flags; part is called where the help begins a new part.
func (o *options) flags(fs *flag.FlagSet, part func(title string)) {
	fs.StringVar(&o.Serial, "serial", o.Serial, "`SERIAL` number of this unit")
	fs.StringVar(&o.Server, "server", o.Server, "MQTT door of the server, `HOST[:PORT]`; port 8883 if none is given")
	fs.StringVar(&o.EnrolServer, "enrol-server", o.EnrolServer, "EST door of the server, `HOST[:PORT]`; the same host and port 8443 if none is given")
	fs.StringVar(&o.ServerName, "server-name", o.ServerName, "`NAME` in the server's certificate, if it is not the host of the address")
	fs.StringVar(&o.Roots, "roots", o.Roots, "PEM `FILE` of the roots under which the server is; no other is trusted")
	fs.StringVar(&o.State, "state", o.State, "`DIR` for key, certificates and queue")
	fs.StringVar(&o.CodeFile, "code-file", o.CodeFile, "`FILE` with the enrolment code; - is the first line of standard input")
	fs.StringVar(&o.TPM, "tpm", o.TPM, "make keys in the TPM 2.0 at `FILE` (/dev/tpmrm0), which never gives them out")
	part("Readings")
	fs.Var((*list)(&o.Simulate), "simulate", "make readings up instead of reading them; `SPEC` is \"thermostat\", or a stream and its\n"+
		"fields: \"climate room_temperature=19.5..22.5/0.1 heating_on=bool mode=auto|eco\"; may be repeated")
	fs.StringVar(&o.Every, "every", orText(o.Every, "10s"), "`TIME` between made-up readings of a stream")
	fs.IntVar(&o.Count, "count", o.Count, "end after `N` made-up readings of each stream; 0: never")
	fs.Int64Var(&o.QueueBytes, "queue-bytes", o.QueueBytes, "most `BYTES` of readings on disk; 8 MiB if 0")
	fs.StringVar(&o.FlushFor, "flush-for", orText(o.FlushFor, "30s"), "`TIME` to wait at the end until all readings are decided on")
	part("Running")
	fs.StringVar(&o.KeepAlive, "keep-alive", orText(o.KeepAlive, "1m"), "longest `TIME` of silence on the connection")
	fs.StringVar(&o.Log, "log", orText(o.Log, "human"), "`FORM` of the log on standard error: human or json")
	part("For rehearsals only")
	fs.BoolVar(&o.Misbehave, "misbehave", o.Misbehave, "beside --simulate, do what a server must not let pass: undeclared fields, out-of-range\n"+
		"values, a flood, other devices' topics, a wild clock")
	fs.StringVar(&o.Neighbour, "neighbour", o.Neighbour, "`SERIAL` of the other device whose topics --misbehave tries")
	part("Also")
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// list is a flag that may be repeated. The first use on the command line
// replaces what the file said.
type list []string

func (l *list) String() string { return strings.Join(*l, "; ") }
func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func usage() string {
	var b bytes.Buffer
	b.WriteString(usageText)
	fs := flag.NewFlagSet("hawser-agent", flag.ContinueOnError)
	shown := map[string]bool{}
	(&options{}).flags(fs, func(title string) {
		fs.VisitAll(func(f *flag.Flag) {
			if !shown[f.Name] {
				shown[f.Name] = true
				b.WriteString(flagText(f))
			}
		})
		fmt.Fprintf(&b, "\n%s\n", title)
	})
	b.WriteString("  --config FILE                JSON object of these options, for example {\"serial\": \"aria-1\"}; flags win\n" +
		"  --version                    say which version this is\n")
	b.WriteString(usageRest)
	return b.String()
}

func flagText(f *flag.Flag) string {
	name, text := flag.UnquoteUsage(f)
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 31))
	if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" {
		text += " (" + f.DefValue + ")"
	}
	return fmt.Sprintf("  --%-26s %s\n", strings.TrimSpace(f.Name+" "+name), text)
}

// parseOptions reads the command line, and before it the file that it names.
func parseOptions(args []string) (*options, error) {
	o := &options{}
	// First only for --config, then for all: what the file says are the
	// defaults of the flags.
	file, err := configFile(args)
	if err != nil {
		return nil, err
	}
	if file != "" {
		if err := o.load(file); err != nil {
			return nil, err
		}
	}
	fs := newFlagSet()
	fromFile := o.Simulate
	o.Simulate = nil
	o.flags(fs, func(string) {})
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		return nil, err
	}
	if fs.Lookup("version").Value.String() == "true" {
		return nil, errVersion
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no option", fs.Arg(0))
	}
	if len(o.Simulate) == 0 {
		o.Simulate = fromFile
	}
	return o, o.check()
}

func newFlagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("hawser-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.String("config", "", "")
	fs.Bool("version", false, "")
	return fs
}

// configFile finds --config without minding the rest.
func configFile(args []string) (string, error) {
	fs := newFlagSet()
	(&options{}).flags(fs, func(string) {})
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return "", errHelp
	}
	return fs.Lookup("config").Value.String(), err
}

const maxConfigBytes = 64 << 10

func (o *options) load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() // only read
	dec := json.NewDecoder(io.LimitReader(f, maxConfigBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(o); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%s: more than one JSON object", file)
	}
	return nil
}

func (o *options) check() error {
	for _, need := range []struct{ name, value string }{
		{"serial", o.Serial}, {"server", o.Server}, {"roots", o.Roots}, {"state", o.State},
	} {
		if need.value == "" {
			return fmt.Errorf("--%s is missing", need.name)
		}
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
		least      time.Duration
	}{
		{"keep-alive", o.KeepAlive, &o.keepAlive, time.Second},
		{"every", o.Every, &o.every, 10 * time.Millisecond},
		{"flush-for", o.FlushFor, &o.flush, 0},
	} {
		v, err := time.ParseDuration(d.text)
		if err != nil || v < d.least {
			return fmt.Errorf("--%s: %q is no time of at least %s; write 10s or 1m30s", d.name, d.text, d.least)
		}
		*d.to = v
	}
	if o.Log != "human" && o.Log != "json" {
		return fmt.Errorf("--log: %q is neither human nor json", o.Log)
	}
	if o.Count < 0 {
		return fmt.Errorf("--count: %d is less than 0", o.Count)
	}
	for _, s := range o.Simulate {
		sim, err := parseSimulated(s)
		if err != nil {
			return fmt.Errorf("--simulate: %w", err)
		}
		o.sensors = append(o.sensors, sim)
	}
	if o.Misbehave && len(o.sensors) == 0 {
		return errors.New("--misbehave works beside --simulate")
	}
	if o.Neighbour == "" {
		o.Neighbour = o.Serial + "-neighbour"
	}
	return nil
}

// enrolmentCode gives where the code comes from; nil: there is none. The code
// is looked for only when the device asks for it.
func (o *options) enrolmentCode(env func(string) string, stdin *bufio.Reader, log *slog.Logger) func() (string, error) {
	clean := func(b []byte) (string, error) {
		code := strings.TrimSpace(string(b))
		if code == "" {
			return "", errors.New("the enrolment code is empty")
		}
		return code, nil
	}
	switch {
	case o.CodeFile == "-":
		// Read now: the lines after it are readings.
		line, err := stdin.ReadString('\n')
		if err == io.EOF {
			err = nil
		}
		return func() (string, error) {
			if err != nil {
				return "", err
			}
			return clean([]byte(line))
		}
	case o.CodeFile != "":
		return func() (string, error) {
			st, err := os.Stat(o.CodeFile)
			if err != nil {
				return "", fmt.Errorf("read the enrolment code: %w", err)
			}
			if st.Size() > 1<<10 {
				return "", fmt.Errorf("%s is too long for an enrolment code", o.CodeFile)
			}
			if st.Mode().Perm()&0o077 != 0 {
				log.Warn("others can read the enrolment code", slog.String("file", o.CodeFile), slog.String("hint", "chmod 600"))
			}
			b, err := os.ReadFile(o.CodeFile)
			if err != nil {
				return "", fmt.Errorf("read the enrolment code: %w", err)
			}
			return clean(b)
		}
	case env(codeVariable) != "":
		return func() (string, error) { return clean([]byte(env(codeVariable))) }
	}
	return nil
}
