package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/server"
	"github.com/hawser-iot/hawser/internal/term"
)

// dial makes a client for the server of a home folder.
func dial(home string) (*api.Client, error) {
	c, err := server.LoadConfig(home)
	if err != nil {
		return nil, err
	}
	return api.NewClient(c.Socket), nil
}

func configCommands() []*command {
	return []*command{
		{
			name: "config describe", nargs: [2]int{0, 0},
			short:   "explain every key of config.yaml",
			long:    "Explains every key of config.yaml: meaning, default, example.",
			example: "hawser config describe",
			run: func(_ context.Context, e *env) error {
				keys, err := server.DescribeConfig()
				if err != nil {
					return err
				}
				return e.print(keys, func(w io.Writer) {
					for _, k := range keys {
						fmt.Fprintln(w, k.Name)
						for _, l := range term.Wrap("    "+k.Name+" "+k.Meaning, term.Usual, 4) {
							fmt.Fprintln(w, l)
						}
						fmt.Fprintf(w, "    default: %s\n    example: %s: %s\n\n", k.Default, k.Name, k.Example)
					}
				})
			},
		},
		{
			name: "config check", nargs: [2]int{0, 0},
			short:   "check config.yaml as serve would",
			long:    "Reads config.yaml in the home folder with the very code that `hawser serve` runs, and says what is wrong by line and key.",
			example: "hawser config check --home /etc/hawser",
			run: func(_ context.Context, e *env) error {
				c, err := server.LoadConfig(e.home)
				if err != nil {
					return err
				}
				return e.print(map[string]string{"home": c.Home(), "result": "ok"}, func(w io.Writer) {
					fmt.Fprintf(w, "%s/config.yaml: nothing is wrong\n", c.Home())
				})
			},
		},
	}
}

func versionCommand() *command {
	return &command{
		name: "version", nargs: [2]int{0, 0},
		short: "print the version", long: "Prints the version, the Go release it was built with and the platform.",
		example: "hawser version --json",
		run: func(_ context.Context, e *env) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return e.print(v, func(w io.Writer) { fmt.Fprintf(w, "hawser %s (%s, %s)\n", v.Version, v.Go, v.Platform) })
		},
	}
}
