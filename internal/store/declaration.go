package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

const declarationColumns = `SELECT product, version, hash, canonical, published_us FROM declaration `

// PutDeclaration adds a version of a product's declaration.
func (t *Tx) PutDeclaration(ctx context.Context, p declaration.Published) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO declaration (product, version, hash, canonical, published_us) VALUES (?, ?, ?, ?, ?)`,
		p.Product, p.Version, p.Hash[:], p.Canonical, p.At.UnixMicro())
	if err != nil {
		return fmt.Errorf("write declaration: %w", err)
	}
	return nil
}

// CurrentDeclaration is a product's highest version.
func (t *Tx) CurrentDeclaration(ctx context.Context, product core.ProductID) (declaration.Published, error) {
	return t.declaration(ctx, declarationColumns+`WHERE product = ? ORDER BY version DESC LIMIT 1`, product)
}

// DeclarationByHash is the version with that hash.
func (t *Tx) DeclarationByHash(ctx context.Context, hash core.Hash) (declaration.Published, error) {
	return t.declaration(ctx, declarationColumns+`WHERE hash = ?`, hash[:])
}

// CurrentDeclarations is the highest version of every product, by product.
func (t *Tx) CurrentDeclarations(ctx context.Context) ([]declaration.Published, error) {
	return t.declarations(ctx, declarationColumns+`AS d
		WHERE version = (SELECT max(version) FROM declaration WHERE product = d.product) ORDER BY product`)
}

// Declarations is every version of a product, oldest first.
func (t *Tx) Declarations(ctx context.Context, product core.ProductID) ([]declaration.Published, error) {
	return t.declarations(ctx, declarationColumns+`WHERE product = ? ORDER BY version`, product)
}

// FirstDeclared is when a product's first version was published.
func (t *Tx) FirstDeclared(ctx context.Context, product core.ProductID) (time.Time, error) {
	var us int64
	err := t.tx.QueryRowContext(ctx, `SELECT published_us FROM declaration WHERE product = ? ORDER BY version LIMIT 1`, product).Scan(&us)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, noDeclaration()
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read first declaration: %w", err)
	}
	return time.UnixMicro(us).UTC(), nil
}

func noDeclaration() error {
	return core.E(core.Unknown, "no-declaration", "no such declaration is published", "publish one with `hawser declaration publish FILE`")
}

func (t *Tx) declaration(ctx context.Context, query string, arg any) (declaration.Published, error) {
	list, err := t.declarations(ctx, query, arg)
	if err != nil {
		return declaration.Published{}, err
	}
	if len(list) == 0 {
		return declaration.Published{}, noDeclaration()
	}
	return list[0], nil
}

func (t *Tx) declarations(ctx context.Context, query string, args ...any) ([]declaration.Published, error) {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err below tells what went wrong
	var out []declaration.Published
	for rows.Next() {
		var p declaration.Published
		var hash []byte
		var us int64
		if err := rows.Scan(&p.Product, &p.Version, &hash, &p.Canonical, &us); err != nil {
			return nil, fmt.Errorf("read declaration: %w", err)
		}
		if copy(p.Hash[:], hash) != len(p.Hash) || len(hash) != len(p.Hash) {
			return nil, fmt.Errorf("read declaration of %s: its hash has %d bytes", p.Product, len(hash))
		}
		p.At = time.UnixMicro(us).UTC()
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	return out, nil
}
