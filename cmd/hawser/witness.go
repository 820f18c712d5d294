package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/witness"
)

// witnessTime bounds one look at a ledger.
const witnessTime = 2 * time.Minute

func witnessCommands() []*command {
	return []*command{{
		name: "witness", args: "URL --name NAME --log-key KEY", nargs: [2]int{1, 1},
		short: "be the second machine that remembers, and cosigns the ledger",
		long: `Run this on another machine than the server's, best of another owner. It takes the newest
checkpoint of the ledger at URL, has it proved that it grew out of the one that it saw
last, and cosigns it; whoever verifies evidence with this witness's key then knows that
nothing before was rewritten. A ledger that forks or goes back is refused, with both
checkpoints kept as the proof. Keep the state folder: it is the memory. With --every it
goes on looking until it is stopped.`,
		example: "hawser witness https://localhost:8443 --name witness.example/hawser --log-key KEY --state witness --roots root.pem",
		flags: func(e *env) {
			e.str("name", "", "what this witness calls itself: a `name` without blanks or +")
			e.str("log-key", "", "the ledger's public `key` (NAME+ID+KEY), from elsewhere; several with commas")
			e.str("state", "witness", "the `folder` that remembers, with the witness's own key")
			e.str("roots", "", "a PEM `file` of the roots that the server's certificate is under (default: the system's)")
			e.str("every", "", "look again after each `duration`: 10m")
		},
		run: runWitness,
	}}
}

func runWitness(ctx context.Context, e *env) error {
	every := time.Duration(0)
	if text := *e.opt["every"]; text != "" {
		var err error
		if every, err = time.ParseDuration(text); err != nil || every < time.Second {
			return core.E(core.Invalid, "every", "--every is no duration of a second or more", "write it as in 10m")
		}
	}
	if *e.opt["name"] == "" || *e.opt["log-key"] == "" {
		return core.E(core.Invalid, "witness-flags", "a witness needs a name and the ledger's key", "give --name and --log-key; `hawser ledger key` on the server shows the key")
	}
	state := *e.opt["state"]
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	k, err := witnessKey(filepath.Join(state, "witness.key"), *e.opt["name"])
	if err != nil {
		return err
	}
	w, err := witness.New(witness.Options{Dir: state, Key: k, Logs: strings.Split(*e.opt["log-key"], ","), Now: time.Now})
	if err != nil {
		return err
	}
	roots, err := rootsIn(*e.opt["roots"])
	if err != nil {
		return err
	}
	client, err := witness.HTTP(e.args[0], &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}})
	if err != nil {
		return err
	}
	for {
		if err := witnessOnce(ctx, e, w, client, k, state); err != nil {
			_, contradicts := errors.AsType[*witness.Contradiction](err)
			if every == 0 || contradicts || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(e.io.err, "hawser witness: %v\n", err) // it may pass
		}
		if every == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

func witnessOnce(ctx context.Context, e *env, w *witness.Witness, client witness.Client, k witness.Key, state string) error {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	c, err := w.Look(ctx, client)
	if err != nil {
		return err
	}
	file := filepath.Join(state, "cosigned")
	if err := os.WriteFile(file, c.Note, 0o600); err != nil {
		return fmt.Errorf("write the cosigned checkpoint: %w", err)
	}
	out := struct {
		witness.Cosigned
		Witness string `json:"witness"`
		File    string `json:"file"`
	}{c, k.Verifier(), file}
	return e.print(out, func(o io.Writer) {
		if c.First {
			fmt.Fprintf(o, "saw %s for the first time, with %d entries\n", c.Origin, c.Size)
		} else {
			fmt.Fprintf(o, "%s has %d entries, %d more than before, and begins with all that was seen\n", c.Origin, c.Size, c.Grew)
		}
		fmt.Fprintf(o, "cosigned in %s\nthis witness's key: %s\n", file, k.Verifier())
	})
}

// witnessKey is the witness's own key, made the first time.
func witnessKey(path, name string) (witness.Key, error) {
	k, err := witness.LoadKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return witness.CreateKey(path, name)
	}
	if err == nil && k.Name() != name {
		return k, core.E(core.Conflict, "witness-name", "the key in the state folder is of "+k.Name(), "give that name, or another state folder")
	}
	return k, err
}

// rootsIn is a pool of the certificates in a PEM file; nil, the system's, for
// no file.
func rootsIn(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read --roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, core.E(core.Invalid, "roots", name+" holds no certificate", "give a PEM file of root certificates")
	}
	return pool, nil
}
