package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/server"
)

func authorityCommands() []*command {
	return []*command{
		{
			name: "authority show", nargs: [2]int{0, 0},
			short:   "what signs devices' certificates, and until when",
			long:    "Shows the root that devices pin, the intermediate that signs devices' certificates, until when it is good, and how many before it still have certificates that are.",
			example: "hawser authority show",
			run: func(ctx context.Context, e *env) error {
				return authorityCall(ctx, e, "GET", "/v1/authority")
			},
		},
		{
			name: "authority renew", args: "--root FOLDER", nargs: [2]int{0, 0},
			short: "new intermediates under the same root, without touching a device",
			long: `Makes new intermediates with the root's key, from the folder that hawser init wrote and that
was moved away; bring it for this command only. The keys of the old ones are deleted. The
running server takes the new ones at once: devices stay connected, what the old one signed is
good until it runs out, and each device gets its next certificate from the new one. Devices
pin the root and need not be touched. What was done stands in the ledger.`,
			example: "hawser authority renew --root /media/usb/ca-root",
			flags:   func(e *env) { e.str("root", "", "the root's `folder`, with its key") },
			run: func(ctx context.Context, e *env) (err error) {
				root := *e.opt["root"]
				if root == "" {
					return core.E(core.Invalid, "root-folder", "no root is named", "give --root: the folder that `hawser init` wrote the root to")
				}
				// The server is asked first: what it does not take helps nobody.
				c, err := e.client()
				if err != nil {
					return err
				}
				var before api.Authority
				if err := c.Call(ctx, "GET", "/v1/authority", nil, &before); err != nil {
					return err
				}
				conf, err := server.LoadConfig(e.home)
				if err != nil {
					return err
				}
				keys, letGo, err := server.AuthorityKeys(conf)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, letGo()) }()
				o := identity.CAOptions{Environment: core.Environment(before.Environment), RootDir: root, Dir: conf.CA, Keys: keys, Now: time.Now}
				if err := identity.RenewCA(o); err != nil {
					return err
				}
				if err := authorityCall(ctx, e, "POST", "/v1/authority/take"); err != nil {
					return err
				}
				return identity.DropOldKeys(o)
			},
		},
	}
}

func authorityCall(ctx context.Context, e *env, method, path string) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var a api.Authority
	if err := c.Call(ctx, method, path, nil, &a); err != nil {
		return err
	}
	return e.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "root    %s\nissuer  %s, until %s\n", a.Root, a.Issuer, a.Until.Format(time.DateOnly))
		if a.Retired > 0 {
			fmt.Fprintf(w, "before  %d that sign no more; their certificates are good until they run out\n", a.Retired)
		}
	})
}
