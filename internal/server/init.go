package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// caRootFolder is where init puts the root of the certificate authority. The
// server never reads it; whoever runs the installation moves it away.
const caRootFolder = "keys/ca-root"

// Made is what Init made.
type Made struct {
	Home        string     `json:"home"`
	Environment string     `json:"environment"`
	Root        string     `json:"ca_root"`
	Made        []MadePath `json:"made"`
}

// MadePath is one thing that Init made.
type MadePath struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// Init makes a new installation in a home folder: certificate authority, root
// key, keyring, ledger key, data folder. It overwrites nothing: where any part
// exists already it refuses and names it. It makes no credential for anybody
// (CC 1.9).
func Init(ctx context.Context, home string, env core.Environment) (_ *Made, err error) {
	if !env.Valid() {
		return nil, core.E(core.Invalid, "environment", "an installation is either test or live", "give --environment test or --environment live; it is fixed for ever")
	}
	c, err := LoadConfig(home)
	if err != nil {
		return nil, err
	}
	if c.Store != "" {
		if there, err := store.InstalledOnPG(ctx, c.postgres()); err != nil {
			return nil, err
		} else if there {
			return nil, core.E(core.Conflict, "exists", "the database that the key `store` names holds an installation already", "init overwrites nothing; name another database")
		}
	}
	rootDir := c.at(caRootFolder)
	parts := []MadePath{
		{rootDir, "root of the certificate authority: move it away"},
		{c.CA, "working certificate authority"},
		{c.Roots, "root key of the keyring"},
		{c.LedgerKey, "key that signs the ledger's checkpoints"},
		{c.GateKey, "key under which wrong tries are counted"},
		{c.Data, "data: databases, sealed readings, journal"},
	}
	for _, k := range c.Keyring {
		parts = append(parts, MadePath{k, "copy of the keyring"})
	}
	for _, p := range append(parts, MadePath{Path: c.Checkpoint}) {
		if _, err := os.Stat(p.Path); err == nil {
			return nil, core.E(core.Conflict, "exists", p.Path+" exists already", "init overwrites nothing; name another --home, or move it away first")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look at %s: %w", p.Path, err)
		}
	}
	for _, p := range append([]string{c.home, rootDir, c.CA, c.Roots, c.Data, filepath.Dir(c.LedgerKey), filepath.Dir(c.Checkpoint)}, parents(c.Keyring)...) {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, fmt.Errorf("make folder: %w", err)
		}
	}
	keys, err := openKeyPlaces(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	if err := identity.CreateCA(identity.CAOptions{Environment: env, RootDir: rootDir, Dir: c.CA, Keys: keys.authority, Now: time.Now}); err != nil {
		return nil, err
	}
	ring, err := seal.Create(ctx, seal.Options{Copies: c.Keyring, Roots: keys.roots, Now: time.Now})
	if err != nil {
		return nil, err
	}
	if err := ring.Close(); err != nil {
		return nil, fmt.Errorf("close new keyring: %w", err)
	}
	key, err := ledger.CreateKey(c.LedgerKey)
	if err != nil {
		return nil, err
	}
	if _, _, err := gate.OpenKey(c.GateKey); err != nil {
		return nil, err
	}
	if err := initData(ctx, c, env, key); err != nil {
		return nil, err
	}
	return &Made{Home: c.home, Environment: string(env), Root: rootDir, Made: parts}, nil
}

func initData(ctx context.Context, c *Config, env core.Environment, key ledger.Key) (err error) {
	st, err := store.Open(ctx, storeOf(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	id := make([]byte, 8)
	_, _ = rand.Read(id) // crypto/rand.Read never fails
	inst := store.Installation{ID: hex.EncodeToString(id), Environment: env, Created: time.Now()}
	by := core.Job("init")
	err = st.Update(ctx, func(tx *store.Tx) error {
		if err := tx.PutInstallation(ctx, inst); err != nil {
			return err
		}
		if err := tx.PutClockSeen(ctx, inst.Created); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{
			Time: inst.Created.UTC(), Kind: "installation-made", Actor: by,
			Facts: []core.Fact{{Name: "environment", Value: string(env)}, {Name: "installation", Value: inst.ID}},
		})
	})
	if err != nil {
		return err
	}
	l, err := ledger.Create(ctx, ledgerDeps(c, st, inst, key, time.Now, nil), by)
	if err != nil {
		return err
	}
	if _, err := l.Sequence(ctx); err != nil {
		return err
	}
	_, err = l.Checkpoint(ctx)
	return err
}

func parents(files []string) []string {
	var out []string
	for _, f := range files {
		out = append(out, filepath.Dir(f))
	}
	return out
}
