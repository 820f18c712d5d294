package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// doors are what the server listens on.
type doors struct {
	mqtt, https, local          net.Listener
	mqttBalanced, httpsBalanced net.Listener // nil without balancers
	link                        net.Listener // nil: no gateways
}

func (d *doors) close() {
	for _, l := range []net.Listener{d.mqtt, d.https, d.local, d.mqttBalanced, d.httpsBalanced, d.link} {
		if l != nil {
			_ = l.Close() // closed already, unless its door never came to open it
		}
	}
}

// listen opens all doors but the console's, or none.
func (s *server) listen() (_ *doors, err error) {
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.mqtt, err = door("tcp", s.c.Devices, "devices"); err != nil {
		return nil, err
	}
	if d.https, err = door("tcp", s.c.HTTPS, "https"); err != nil {
		return nil, err
	}
	if err := s.listenBalanced(d); err != nil {
		return nil, err
	}
	if s.c.Link != "" {
		if d.link, err = door("tcp", s.c.Link, "link"); err != nil {
			return nil, err
		}
	}
	if err := removeDeadSocket(s.c.Socket); err != nil {
		return nil, err
	}
	if d.local, err = door("unix", s.c.Socket, "socket"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.c.Socket, 0o600); err != nil {
		return nil, fmt.Errorf("protect socket: %w", err)
	}
	s.addr = Addresses{
		Devices: d.mqtt.Addr().String(), HTTPS: d.https.Addr().String(), Socket: s.c.Socket,
		BalancedDevices: addressOf(d.mqttBalanced), BalancedHTTPS: addressOf(d.httpsBalanced),
		Link: addressOf(d.link),
	}
	return d, nil
}

func door(network, addr, key string) (net.Listener, error) {
	if err := mayOpen(ownInterfaces(), key); err != nil {
		return nil, err
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, &core.Error{Kind: core.Conflict, Reason: "listen", Message: "cannot listen on " + addr, Hint: "another program may hold it; choose another with the key `" + key + "` in config.yaml", Err: err}
	}
	return l, nil
}

// removeDeadSocket makes room for our socket: what lies there must be a socket
// at which nobody listens any more.
func removeDeadSocket(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the local socket: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return core.E(core.Conflict, "socket-path", path+" is there and is no socket", "choose another path with the key `socket` in config.yaml")
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // it was only to see whether somebody answers
		return core.E(core.Conflict, "socket-in-use", "another program listens on "+path, "stop it, or choose another path with the key `socket` in config.yaml")
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove old socket: %w", err)
	}
	return nil
}

// mayUseSocket lets the user that runs the server and root in, nobody else.
func (s *server) mayUseSocket(p api.Peer, _ string) bool {
	return p.UID == 0 || p.UID == uint32(os.Geteuid())
}
