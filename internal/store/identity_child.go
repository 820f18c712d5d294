package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

const childLinkColumns = `child, hub, series, since_us`

func scanChildLink(row oneRow) (identity.LinkRow, error) {
	var l identity.LinkRow
	var series []byte
	var since sql.NullInt64
	if err := row.Scan(&l.Child, &l.Hub, &series, &since); err != nil {
		return l, err
	}
	l.Since = fromUS(since)
	return l, fill(l.Series[:], series, "series")
}

// ChildLink says which hub speaks for a child.
func (t *Tx) ChildLink(ctx context.Context, child core.DeviceID) (*identity.LinkRow, error) {
	l, err := scanChildLink(t.tx.QueryRowContext(ctx, `SELECT `+childLinkColumns+` FROM child_link WHERE child = ?`, child))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a child's link: %w", err)
	}
	return &l, nil
}

func (t *Tx) links(ctx context.Context, fn func(identity.LinkRow) error, where string, args ...any) error {
	err := t.rows(ctx, func(row oneRow) error {
		l, err := scanChildLink(row)
		if err != nil {
			return err
		}
		return fn(l)
	}, `SELECT `+childLinkColumns+` FROM child_link`+where, args...)
	if err != nil {
		return fmt.Errorf("read links of children: %w", err)
	}
	return nil
}

// ChildLinksOf are those of a hub.
func (t *Tx) ChildLinksOf(ctx context.Context, hub core.DeviceID) ([]identity.LinkRow, error) {
	var out []identity.LinkRow
	err := t.links(ctx, func(l identity.LinkRow) error { out = append(out, l); return nil }, ` WHERE hub = ? ORDER BY child`, hub)
	return out, err
}

// EachChildLink walks all links.
func (t *Tx) EachChildLink(ctx context.Context, fn func(identity.LinkRow) error) error {
	return t.links(ctx, fn, ``)
}

// InsertChildLink ties a child to its hub.
func (t *Tx) InsertChildLink(ctx context.Context, l identity.LinkRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO child_link (`+childLinkColumns+`) VALUES (?,?,?,?)`, l.Child, l.Hub, l.Series[:], l.Since.UnixMicro())
	if err != nil {
		return fmt.Errorf("link a child: %w", err)
	}
	return nil
}

// DeleteChildLink ends a child's link.
func (t *Tx) DeleteChildLink(ctx context.Context, child core.DeviceID) error {
	r, err := t.tx.ExecContext(ctx, `DELETE FROM child_link WHERE child = ?`, child)
	return one(r, err, "end a child's link")
}

// PutChildProposal keeps what a hub proposed, up to most of them.
func (t *Tx) PutChildProposal(ctx context.Context, p identity.ProposalRow, most int) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO child_proposal (hub, child, first_us, last_us) VALUES (?,?,?,?)
		ON CONFLICT (hub, child) DO UPDATE SET last_us = excluded.last_us`, p.Hub, p.Child, p.First.UnixMicro(), p.Last.UnixMicro())
	if err != nil {
		return fmt.Errorf("keep a proposal: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `DELETE FROM child_proposal WHERE hub = ? AND child NOT IN
		(SELECT child FROM child_proposal WHERE hub = ? ORDER BY last_us DESC, child LIMIT ?)`, p.Hub, p.Hub, most)
	if err != nil {
		return fmt.Errorf("bound the proposals of a hub: %w", err)
	}
	return nil
}

// ChildProposals are those of a hub.
func (t *Tx) ChildProposals(ctx context.Context, hub core.DeviceID) ([]identity.ProposalRow, error) {
	var out []identity.ProposalRow
	err := t.rows(ctx, func(row oneRow) error {
		p := identity.ProposalRow{Hub: hub}
		var first, last sql.NullInt64
		if err := row.Scan(&p.Child, &first, &last); err != nil {
			return err
		}
		p.First, p.Last = fromUS(first), fromUS(last)
		out = append(out, p)
		return nil
	}, `SELECT child, first_us, last_us FROM child_proposal WHERE hub = ? ORDER BY last_us DESC, child`, hub)
	if err != nil {
		return nil, fmt.Errorf("read proposals: %w", err)
	}
	return out, nil
}

// DeleteChildProposal forgets one.
func (t *Tx) DeleteChildProposal(ctx context.Context, hub, child core.DeviceID) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM child_proposal WHERE hub = ? AND child = ?`, hub, child); err != nil {
		return fmt.Errorf("forget a proposal: %w", err)
	}
	return nil
}

// DeleteChildProposals forgets all of a hub.
func (t *Tx) DeleteChildProposals(ctx context.Context, hub core.DeviceID) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM child_proposal WHERE hub = ?`, hub); err != nil {
		return fmt.Errorf("forget the proposals of a hub: %w", err)
	}
	return nil
}
