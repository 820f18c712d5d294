package server

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// sockets tells listening sockets that this process holds from others. It
// looks through all files of the process only when a socket appears that it
// has not seen: a server with many devices has many files.
type sockets struct {
	mu   sync.Mutex
	ours map[string]bool // by inode, of those in the last table
	rest map[string]bool // the same, of sockets of others' tables
}

// listeners reads the kernel's table of listening TCP sockets (proc(5)) of
// this network namespace, and which of them this process holds.
func (k *sockets) listeners() ([]listener, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []listener
	var inodes []string
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without that protocol
		}
		if err != nil {
			return nil, fmt.Errorf("read listening sockets: %w", err)
		}
		found, at, err := listening(f)
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("read listening sockets: %w", err)
		}
		out, inodes = append(out, found...), append(inodes, at...)
	}
	if slices.ContainsFunc(inodes, func(i string) bool { _, known := k.ours[i]; return !known }) {
		own, err := ownInodes()
		if err != nil {
			return nil, err
		}
		k.ours = map[string]bool{}
		for _, i := range inodes {
			k.ours[i] = own[i]
		}
	}
	for i := range out {
		out[i].ours = k.ours[inodes[i]]
	}
	slices.SortStableFunc(out, func(a, b listener) int { return a.addr.Compare(b.addr) })
	return out, nil
}

// while does something during which nobody here looks for ports.
func (k *sockets) while(do func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return do()
}

// listening reads a table up to its first connection: what listens comes first.
func listening(r io.Reader) (out []listener, inodes []string, err error) {
	sc := bufio.NewScanner(r)
	sc.Scan() // the names of the columns
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		const listen = "0A"
		if len(f) < 10 || f[3] != listen {
			break
		}
		addr, err := procAddr(f[1])
		if err != nil {
			return nil, nil, err
		}
		out, inodes = append(out, listener{addr: addr, inode: f[9]}), append(inodes, f[9])
	}
	return out, inodes, sc.Err()
}

// procAddr reads "0100007F:1F90": 32-bit words in the machine's order.
func procAddr(s string) (netip.AddrPort, error) {
	ip, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(ip)
	p, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4]) // every machine that we build for is little-endian
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

// others are the sockets of this process, but for those of listeners, at which
// somebody else could come in: local ones that listen, and UDP that is bound to
// nobody.
func (k *sockets) others() ([]ownSocket, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []ownSocket
	for _, t := range []struct {
		file string
		read func([]string) (ownSocket, bool)
	}{{"/proc/net/udp", datagrams}, {"/proc/net/udp6", datagrams}, {"/proc/net/unix", local}} {
		found, err := table(t.file, t.read)
		if err != nil {
			return nil, fmt.Errorf("read sockets: %w", err)
		}
		all = append(all, found...)
	}
	if slices.ContainsFunc(all, func(x ownSocket) bool { _, known := k.rest[x.inode]; return !known }) {
		own, err := ownInodes()
		if err != nil {
			return nil, err
		}
		k.rest = map[string]bool{}
		for _, x := range all {
			k.rest[x.inode] = own[x.inode]
		}
	}
	return slices.DeleteFunc(all, func(x ownSocket) bool { return !k.rest[x.inode] }), nil
}

// table reads the lines of a kernel's table that are of interest.
func table(name string, read func([]string) (ownSocket, bool)) (out []ownSocket, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without that protocol
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	sc := bufio.NewScanner(f)
	sc.Scan() // the names of the columns
	for sc.Scan() {
		if x, ok := read(strings.Fields(sc.Text())); ok {
			out = append(out, x)
		}
	}
	return out, sc.Err()
}

// datagrams reads a line of UDP: one that is connected takes nobody else's.
func datagrams(f []string) (ownSocket, bool) {
	const unconnected = "07"
	if len(f) < 10 || f[3] != unconnected {
		return ownSocket{}, false
	}
	addr, err := procAddr(f[1])
	return ownSocket{"udp", addr.String(), f[9]}, err == nil
}

// local reads a line of local sockets: __SO_ACCEPTCON says that one listens.
func local(f []string) (ownSocket, bool) {
	const accepts = 1 << 16
	if len(f) < 8 {
		return ownSocket{}, false // it has no name
	}
	flags, err := strconv.ParseUint(f[3], 16, 32)
	return ownSocket{"unix", strings.Join(f[7:], " "), f[6]}, err == nil && flags&accepts != 0
}

// shut makes a listening socket of this process unreachable, whoever holds it.
func (k *sockets) shut(inode string) error {
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read own sockets: %w", err)
	}
	is := func(fd int) bool {
		to, err := os.Readlink(dir + "/" + strconv.Itoa(fd))
		return err == nil && to == "socket:["+inode+"]"
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || !is(fd) {
			continue
		}
		own, err := syscall.Dup(fd) // the number may become another file's meanwhile
		if err != nil {
			continue
		}
		if is(own) {
			err = syscall.Shutdown(own, syscall.SHUT_RDWR)
		} else {
			err = fs.ErrNotExist
		}
		if err = errors.Join(err, syscall.Close(own)); err == nil {
			return nil
		}
	}
	return nil // it is closed already
}

// ownInodes are the inodes of this process's sockets.
func ownInodes() (map[string]bool, error) {
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read own sockets: %w", err)
	}
	out := map[string]bool{}
	for _, e := range list {
		to, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			out[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return out, nil
}
