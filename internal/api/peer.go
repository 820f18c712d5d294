package api

import (
	"context"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"github.com/hawser-iot/hawser/internal/core"
)

// Peer is who stands at the other end of the local socket, as the operating
// system says; nothing of it comes from the request.
type Peer struct {
	UID  uint32
	Name string // the user's name, or the number where it has none
}

// Actor is the peer as the ledger names it.
func (p Peer) Actor() core.Actor {
	return core.Actor{Kind: core.ActorStaff, ID: fmt.Sprintf("os:%s(%d)", p.Name, p.UID)}
}

type peerKey struct{}

// WithPeer is an http.Server's ConnContext: it asks the operating system who
// connected. A connection whose peer cannot be told carries none and is
// refused by every route.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(uc)
	if err != nil {
		return ctx
	}
	p := Peer{UID: uid, Name: strconv.FormatUint(uint64(uid), 10)}
	if u, err := user.LookupId(p.Name); err == nil {
		p.Name = u.Username
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
