package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/term"
)

// stdio is where a command reads and prints.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	alone    bool // nothing but this command runs in the process
}

// command is one subcommand. Its texts are what `--help` and docs/cli.md show.
type command struct {
	name    string // "device add"
	args    string // "SERIAL --product PRODUCT"
	short   string // one line
	long    string // what it does, to whom, what it leaves behind
	example string // something that works when typed
	nargs   [2]int // least and most positional arguments
	flags   func(*env)
	run     func(context.Context, *env) error
}

// env is one run of a command.
type env struct {
	io   stdio
	cmd  *command
	fs   *flag.FlagSet
	home string
	json bool
	args []string
	// typed is what stood behind the command's name.
	typed []string
	opt   map[string]*string
	on    map[string]*bool
}

func newEnv(io stdio, cmd *command) *env {
	e := &env{io: io, cmd: cmd, fs: flag.NewFlagSet(cmd.name, flag.ContinueOnError), opt: map[string]*string{}, on: map[string]*bool{}}
	e.fs.SetOutput(discard{})
	home := os.Getenv("HAWSER_HOME")
	if home == "" {
		home = "hawser"
	}
	e.fs.StringVar(&e.home, "home", home, "the home `folder` of the installation (or HAWSER_HOME)")
	e.fs.BoolVar(&e.json, "json", false, "print JSON, for programs")
	if cmd.flags != nil {
		cmd.flags(e)
	}
	return e
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// str declares a text flag; usage names its value in backquotes.
func (e *env) str(name, value, usage string) { e.opt[name] = e.fs.String(name, value, usage) }

// flag declares a switch.
func (e *env) flag(name, usage string) { e.on[name] = e.fs.Bool(name, false, usage) }

// parse accepts flags before and after the positional arguments.
func (e *env) parse(args []string) error {
	e.typed = args
	for {
		if err := e.fs.Parse(args); err != nil {
			return err
		}
		rest := e.fs.Args()
		if len(rest) == 0 {
			break
		}
		e.args = append(e.args, rest[0])
		args = rest[1:]
	}
	if n := len(e.args); n < e.cmd.nargs[0] {
		return fmt.Errorf("something is missing after %q", "hawser "+e.cmd.name)
	} else if n > e.cmd.nargs[1] {
		return fmt.Errorf("%q is one argument too many", e.args[e.cmd.nargs[1]])
	}
	return nil
}

// client talks to the running server of this home.
func (e *env) client() (*api.Client, error) { return dial(e.home) }

// find picks the command with the longest name that args begin with.
func find(cmds []*command, args []string) (cmd *command, rest []string, wantHelp bool) {
	if len(args) > 0 && args[0] == "help" {
		args, wantHelp = args[1:], true
	}
	best := 0
	for _, c := range cmds {
		words := strings.Fields(c.name)
		if len(words) > best && len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			cmd, best = c, len(words)
		}
	}
	rest = args[best:]
	for _, a := range rest {
		if a == "--help" || a == "-h" || a == "-help" {
			wantHelp = true
		}
		if a == "--" {
			break
		}
	}
	return cmd, rest, wantHelp
}

func joined(args []string) string {
	words := []string{}
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// overview lists the commands, or those of one group; it reports whether there
// are any.
func overview(w io.Writer, cmds []*command, group string) bool {
	var names, shorts []string
	wide := 0
	for _, c := range cmds {
		if group == "" || strings.HasPrefix(c.name, group+" ") {
			names, shorts = append(names, "hawser "+c.name), append(shorts, c.short)
			wide = max(wide, len(c.name)+len("hawser "))
		}
	}
	if len(names) == 0 {
		return false
	}
	if group == "" {
		fmt.Fprint(w, "hawser keeps a connected product's promises: one declaration, enforced on every\nmessage, published, and proved.\n\n")
	}
	fmt.Fprintln(w, "Commands")
	for i, name := range names {
		for _, l := range term.Wrap(fmt.Sprintf("  %-*s  %s", wide, name, shorts[i]), term.Usual, wide+4) {
			fmt.Fprintln(w, l)
		}
	}
	fmt.Fprint(w, "\n`hawser COMMAND --help` teaches with an example. `--json` prints for programs.\n")
	return true
}

// help is what `--help` prints. It fits 80 columns wherever it goes.
func help(w io.Writer, c *command, fs *flag.FlagSet) {
	fmt.Fprintf(w, "hawser %s\n\n", strings.TrimSpace(c.name+" "+c.args))
	fmt.Fprintln(w, strings.Join(term.Wrap(strings.Join(strings.Fields(c.long), " "), term.Usual, 0), "\n"))
	fmt.Fprint(w, "\nExample:\n")
	for l := range strings.Lines(strings.TrimSpace(c.example)) {
		fmt.Fprintf(w, "  %s\n", strings.TrimSuffix(l, "\n"))
	}
	fmt.Fprint(w, "\nFlags:\n")
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (default " + f.DefValue + ")"
		}
		const column = 22
		line := fmt.Sprintf("  %-*s  %s", column, strings.TrimSpace("--"+f.Name+" "+value), usage)
		for _, l := range term.Wrap(line, term.Usual, column+4) {
			fmt.Fprintln(w, l)
		}
	})
}
