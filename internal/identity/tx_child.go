package identity

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// LinkRow says which hub speaks for a child.
type LinkRow struct {
	Child, Hub core.DeviceID
	Series     [16]byte // random: what the hub counts, it counts for this link alone
	Since      time.Time
}

// ProposalRow is a child that a hub proposed: an id that it made up, for all
// that anybody knows.
type ProposalRow struct {
	Hub, Child  core.DeviceID
	First, Last time.Time
}

// ChildTx is what children need from storage.
type ChildTx interface {
	// ChildLink is a child's; nil when no hub speaks for it.
	ChildLink(context.Context, core.DeviceID) (*LinkRow, error)
	// ChildLinksOf are those of a hub, by child.
	ChildLinksOf(ctx context.Context, hub core.DeviceID) ([]LinkRow, error)
	// InsertChildLink fails when the child has one.
	InsertChildLink(context.Context, LinkRow) error
	DeleteChildLink(ctx context.Context, child core.DeviceID) error
	// EachChildLink calls fn once per link, in no order.
	EachChildLink(ctx context.Context, fn func(LinkRow) error) error

	// PutChildProposal writes a proposal or when it came again, and deletes the
	// oldest of the hub beyond most.
	PutChildProposal(ctx context.Context, p ProposalRow, most int) error
	// ChildProposals are those of a hub, newest first.
	ChildProposals(ctx context.Context, hub core.DeviceID) ([]ProposalRow, error)
	DeleteChildProposal(ctx context.Context, hub, child core.DeviceID) error
	DeleteChildProposals(ctx context.Context, hub core.DeviceID) error
}
