package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerUID asks for SO_PEERCRED (unix(7)).
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reach local socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("reach local socket: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("ask for the peer of the local socket: %w", credErr)
	}
	return cred.Uid, nil
}
