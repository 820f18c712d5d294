//go:build !linux

package server

import "github.com/hawser-iot/hawser/internal/core"

type sockets struct{}

func (*sockets) while(do func() error) error { return do() }

// listeners cannot be seen here without a program of the system's.
func (*sockets) listeners() ([]listener, error) {
	return nil, core.E(core.Unready, "platform", "which ports are open cannot be seen on this system", "run live installations on Linux")
}

func (*sockets) others() ([]ownSocket, error) { return nil, nil }
func (*sockets) shut(string) error            { return nil }
func ownInodes() (map[string]bool, error)     { return nil, nil }
