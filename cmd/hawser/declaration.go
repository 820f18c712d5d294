package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// maxDeclarationBytes bounds the file that is read; Parse has a bound of its own.
const maxDeclarationBytes = 1 << 20

func declarationCommands() []*command {
	return []*command{
		{
			name: "declaration check", args: "FILE", nargs: [2]int{1, 1},
			short:   "find every fault of a declaration, with its place and fix",
			long:    "Reads a declaration and prints every fault at once: file, line, column, rule, what is wrong, what to write. docs/declaration.md explains every key and rule.",
			example: "hawser declaration check examples/aria-thermostat.yaml",
			run:     declarationCheck,
		},
		{
			name: "declaration diff", args: "OLD NEW", nargs: [2]int{2, 2},
			short: "say what a new version widens and what it narrows",
			long: `Compares two versions of a declaration. Widening is what lets more data be
collected, seen or kept, or opens a new way in or out; it needs a second person's
approval on a live installation. Narrowing never does.`,
			example: "hawser declaration diff aria-v2.yaml aria-v3.yaml",
			run:     declarationDiff,
		},
		{
			name: "declaration schema", nargs: [2]int{0, 0},
			short:   "print the JSON Schema that editors complete by",
			long:    "Prints the JSON Schema (2020-12) of declarations. An editor with a YAML language server completes and explains every key by it.",
			example: "hawser declaration schema > declaration.schema.json",
			run: func(_ context.Context, e *env) error {
				_, err := e.io.out.Write(declaration.Schema())
				return err
			},
		},
		{
			name: "declaration publish", args: "FILE", nargs: [2]int{1, 1},
			short: "put a declaration in force",
			long: `Checks and publishes a declaration: from the next message on it is enforced, and
its hash stands on every reading and ledger entry. Versions grow; the end of support
never moves earlier; a live installation refuses a version that widens.`,
			example: "hawser declaration publish examples/aria-thermostat.yaml",
			run:     declarationPublish,
		},
		{
			name: "declaration list", nargs: [2]int{0, 0},
			short:   "list the declarations in force",
			long:    "Lists the declaration in force for each product.",
			example: "hawser declaration list",
			run:     declarationList,
		},
	}
}

func readDeclaration(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read declaration: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxDeclarationBytes))
	if err != nil {
		return nil, fmt.Errorf("read declaration: %w", err)
	}
	return src, nil
}

func compile(name string) (*declaration.Policy, error) {
	src, err := readDeclaration(name)
	if err != nil {
		return nil, err
	}
	d, err := declaration.Parse(name, src)
	if err != nil {
		return nil, err
	}
	return declaration.Compile(d)
}

// faulty prints a declaration's faults and gives the exit code; any other
// error is passed on.
func faulty(e *env, err error) error {
	faults, ok := errors.AsType[declaration.Faults](err)
	if !ok {
		return err
	}
	if e.json {
		err = printJSON(e.io.out, map[string]any{"faults": faults})
	} else {
		err = faults.Render(e.io.err)
		fmt.Fprintln(e.io.err, count(len(faults), "fault"))
	}
	if err != nil {
		return err
	}
	return &quiet{code: exitFailed}
}

func declarationCheck(_ context.Context, e *env) error {
	p, err := compile(e.args[0])
	if err != nil {
		return faulty(e, err)
	}
	out := api.Declaration{
		Product: string(p.Product), Name: p.Name, Version: p.Version, Hash: p.Hash.String(),
		Fields: len(p.Fields), Streams: len(p.Streams), Support: p.SupportUntil.Format("2006-01-02"),
	}
	return e.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s: nothing is wrong\n", e.args[0])
		fmt.Fprintf(w, "%s version %d, %s in %s, sealed in %s\n", p.Name, p.Version, count(len(p.Fields), "field"), count(len(p.Streams), "stream"), count(len(p.Groups), "group"))
		fmt.Fprintf(w, "hash %s\n", p.Hash)
	})
}

func declarationDiff(_ context.Context, e *env) error {
	var ps [2]*declaration.Policy
	for i, name := range e.args {
		p, err := compile(name)
		if err != nil {
			return faulty(e, err)
		}
		ps[i] = p
	}
	if ps[0].Product != ps[1].Product {
		return core.E(core.Invalid, "other-product", fmt.Sprintf("%s is of product %s, %s of %s", e.args[0], ps[0].Product, e.args[1], ps[1].Product), "compare two versions of one product")
	}
	changes := []api.Change{}
	for _, c := range declaration.Diff(ps[0], ps[1]) {
		changes = append(changes, api.ChangeOf(c))
	}
	return e.print(changes, func(w io.Writer) {
		if len(changes) == 0 {
			fmt.Fprintln(w, "no difference")
		}
		printChanges(w, changes)
	})
}

func printChanges(w io.Writer, changes []api.Change) {
	if len(changes) == 0 {
		return
	}
	var rows [][]string
	for _, c := range changes {
		rows = append(rows, []string{c.Direction, c.Where, c.Text})
	}
	table(w, []string{"CHANGE", "WHERE", "WHAT"}, rows)
}

func declarationPublish(ctx context.Context, e *env) error {
	// The file's faults are shown here, with their place, before anyone is
	// asked; the server checks again.
	if _, err := compile(e.args[0]); err != nil {
		return faulty(e, err)
	}
	src, err := readDeclaration(e.args[0])
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.Declaration
	if err := c.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: filepath.Base(e.args[0]), Source: string(src)}, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s version %d is in force: %s in %s\nhash %s\n", out.Name, out.Version, count(out.Fields, "field"), count(out.Streams, "stream"), out.Hash)
		printChanges(w, out.Changes)
	})
}

func declarationList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out []api.Declaration
	if err := c.Call(ctx, "GET", "/v1/declarations", nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		if len(out) == 0 {
			fmt.Fprintln(w, "no declaration yet; `hawser declaration publish FILE` puts the first in force")
			return
		}
		var rows [][]string
		for _, p := range out {
			rows = append(rows, []string{p.Product, p.Name, fmt.Sprint(p.Version), fmt.Sprint(p.Fields), p.Support, p.Hash[:16]})
		}
		table(w, []string{"PRODUCT", "NAME", "VERSION", "FIELDS", "SECURITY UPDATES UNTIL", "HASH"}, rows)
	})
}
