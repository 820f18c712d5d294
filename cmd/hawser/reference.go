package main

import (
	"flag"
	"fmt"
	"strings"
)

// reference is docs/cli.md: what `--help` says, for every command.
func reference() string {
	var b strings.Builder
	b.WriteString("# hawser, command by command\n\n<!-- Made by `make docs` from cmd/hawser; do not edit. -->\n\n")
	b.WriteString("Every command takes `--home FOLDER` (or `HAWSER_HOME`; default `hawser`) and `--json`. ")
	b.WriteString("Commands about a running server ask it through its local socket, where the operating system says who is asking.\n\n")
	b.WriteString("Exit codes: 0 done; 1 tried and failed, or the answer is no; 2 the command line is wrong; 3 no server is running; 130 it was interrupted.\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n## hawser %s\n\n", c.name)
		fmt.Fprintf(&b, "`hawser %s`\n\n%s\n\n", strings.TrimSpace(c.name+" "+c.args), strings.TrimSpace(c.long))
		fmt.Fprintf(&b, "```\n%s\n```\n", strings.TrimSpace(c.example))
		e := newEnv(stdio{}, c)
		var rows []string
		e.fs.VisitAll(func(f *flag.Flag) {
			if f.Name == "home" || f.Name == "json" {
				return
			}
			value, usage := flag.UnquoteUsage(f)
			rows = append(rows, fmt.Sprintf("| `%s` | %s |", strings.TrimSpace("--"+f.Name+" "+value), usage))
		})
		if len(rows) > 0 {
			fmt.Fprintf(&b, "\n| flag | |\n|---|---|\n%s\n", strings.Join(rows, "\n"))
		}
	}
	return b.String()
}
