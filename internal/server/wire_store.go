package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// storeOf is the store that a configuration names.
func storeOf(c *Config) store.Options {
	o := store.Options{Dir: c.Data, Postgres: c.postgres()}
	if c.Turns {
		o.Postgres.Sight = turnSight
	}
	return o
}

// orStore is the second half of what a server holds, for an error.
func orStore(c *Config) string {
	if c.Store == "" {
		return ""
	}
	return ", or on its database"
}

// installed refuses where no installation is, before anything is made there.
func installed(ctx context.Context, c *Config) error {
	if c.Store != "" {
		there, err := store.InstalledOnPG(ctx, c.postgres())
		if err != nil {
			return err
		}
		if _, err := os.Stat(c.Data); !there || err != nil {
			return core.E(core.Unready, "not-initialised", "there is no installation in the database that the key `store` names, or no folder "+c.Data,
				"make one with `hawser init`, or move one there with `hawser migrate --to postgres`; if there should be one, find out where it is: keys are never silently made again")
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, "control.db")); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Clean(c.Data) + store.RestoringSuffix); err == nil {
			return core.E(core.Unready, "not-initialised", "there is no installation in "+c.Data+": a restore was interrupted",
				"run `hawser restore` again; it begins anew")
		}
		return core.E(core.Unready, "not-initialised", "there is no installation in "+c.Data,
			"make one with `hawser init`; if there should be one, find out where its disk is: keys are never silently made again")
	}
	return nil
}
