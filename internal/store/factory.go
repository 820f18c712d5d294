package store

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

const lineColumns = `name, product, public, operator, added_us, until_us, max_units, ended_us`

func scanLine(row oneRow) (identity.Line, error) {
	var l identity.Line
	var public []byte
	var added, until, ended sql.NullInt64
	err := row.Scan(&l.Name, &l.Product, &public, &l.Operator, &added, &until, &l.MaxUnits, &ended)
	l.Public, l.Added, l.Until, l.Ended = ed25519.PublicKey(public), fromUS(added), fromUS(until), fromUS(ended)
	if err == nil && len(public) != ed25519.PublicKeySize {
		err = fmt.Errorf("key of a line has %d bytes", len(public))
	}
	return l, err
}

// FactoryLine finds a production line.
func (t *Tx) FactoryLine(ctx context.Context, name string) (*identity.Line, error) {
	l, err := scanLine(t.tx.QueryRowContext(ctx, `SELECT `+lineColumns+` FROM factory_line WHERE name = ?`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read line: %w", err)
	}
	return &l, nil
}

// FactoryLines are all production lines, by name.
func (t *Tx) FactoryLines(ctx context.Context) ([]identity.Line, error) {
	var out []identity.Line
	err := t.rows(ctx, func(row oneRow) error {
		l, err := scanLine(row)
		out = append(out, l)
		return err
	}, `SELECT `+lineColumns+` FROM factory_line ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	return out, nil
}

// InsertFactoryLine adds a production line.
func (t *Tx) InsertFactoryLine(ctx context.Context, l identity.Line) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO factory_line (`+lineColumns+`) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
		l.Name, l.Product, []byte(l.Public), l.Operator, l.Added.UnixMicro(), l.Until.UnixMicro(), l.MaxUnits, us(l.Ended))
	return taken(r, err, core.E(core.Conflict, "line-exists", "a line of this name, or with this key, is there", "give it another name and a key of its own; the name of a line that ended is not given again"))
}

// taken turns an insert that found its place taken into conflict.
func taken(r sql.Result, err error, conflict error) error {
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	if n != 1 {
		return conflict
	}
	return nil
}

// EndFactoryLine ends a line.
func (t *Tx) EndFactoryLine(ctx context.Context, name string, at time.Time) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE factory_line SET ended_us = ? WHERE name = ? AND ended_us IS NULL`, at.UnixMicro(), name)
	return one(r, err, "end line")
}

const listColumns = `digest, line, name, units, operator, taken_us, done`

func scanList(row oneRow) (identity.ListRow, error) {
	var l identity.ListRow
	var sum []byte
	var taken sql.NullInt64
	if err := row.Scan(&sum, &l.Line, &l.Name, &l.Units, &l.Operator, &taken, &l.Done); err != nil {
		return l, err
	}
	l.Taken = fromUS(taken)
	return l, fill(l.Digest[:], sum, "digest")
}

// FactoryList finds a list by its digest.
func (t *Tx) FactoryList(ctx context.Context, sum core.Hash) (*identity.ListRow, error) {
	l, err := scanList(t.tx.QueryRowContext(ctx, `SELECT `+listColumns+` FROM factory_list WHERE digest = ?`, sum[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read factory list: %w", err)
	}
	return &l, nil
}

// FactoryLists are all lists, oldest first.
func (t *Tx) FactoryLists(ctx context.Context) ([]identity.ListRow, error) {
	var out []identity.ListRow
	err := t.rows(ctx, func(row oneRow) error {
		l, err := scanList(row)
		out = append(out, l)
		return err
	}, `SELECT `+listColumns+` FROM factory_list ORDER BY taken_us, digest`)
	if err != nil {
		return nil, fmt.Errorf("read factory lists: %w", err)
	}
	return out, nil
}

// InsertFactoryList notes a list that is being taken.
func (t *Tx) InsertFactoryList(ctx context.Context, l identity.ListRow) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO factory_list (`+listColumns+`) VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
		l.Digest[:], l.Line, l.Name, l.Units, l.Operator, l.Taken.UnixMicro(), number(l.Done))
	return taken(r, err, core.E(core.Conflict, "list-name-used", "another list of this line has this name", "a list is never changed: give the new one a name of its own, and in it only the units that are new"))
}

// FinishFactoryList marks a list as taken whole.
func (t *Tx) FinishFactoryList(ctx context.Context, sum core.Hash) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE factory_list SET done = 1 WHERE digest = ? AND done = 0`, sum[:])
	return one(r, err, "finish factory list")
}

const caColumns = `id, name, der, product, place, operator, added_us, until_us, max_units, ended_us`

// FactoryCAs are all factory authorities, by name.
func (t *Tx) FactoryCAs(ctx context.Context) ([]identity.FactoryCA, error) {
	var out []identity.FactoryCA
	err := t.rows(ctx, func(row oneRow) error {
		var c identity.FactoryCA
		var id []byte
		var added, until, ended sql.NullInt64
		if err := row.Scan(&id, &c.Name, &c.DER, &c.Product, &c.SerialFrom, &c.Operator, &added, &until, &c.MaxUnits, &ended); err != nil {
			return err
		}
		c.Added, c.Until, c.Ended = fromUS(added), fromUS(until), fromUS(ended)
		out = append(out, c)
		return fill(out[len(out)-1].ID[:], id, "id")
	}, `SELECT `+caColumns+` FROM factory_ca ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read factory authorities: %w", err)
	}
	return out, nil
}

// InsertFactoryCA adds a factory authority.
func (t *Tx) InsertFactoryCA(ctx context.Context, c identity.FactoryCA) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO factory_ca (`+caColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
		c.ID[:], c.Name, c.DER, c.Product, c.SerialFrom, c.Operator, c.Added.UnixMicro(), c.Until.UnixMicro(), c.MaxUnits, us(c.Ended))
	return taken(r, err, core.E(core.Conflict, "factory-ca-exists", "a factory authority of this name, or with this certificate, is there", "`hawser factory show` lists them; one authority is for one product"))
}

// EndFactoryCA ends a factory authority.
func (t *Tx) EndFactoryCA(ctx context.Context, name string, at time.Time) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE factory_ca SET ended_us = ? WHERE name = ? AND ended_us IS NULL`, at.UnixMicro(), name)
	return one(r, err, "end factory authority")
}

func (t *Tx) bornUnit(ctx context.Context, where string, arg any) (*identity.BornUnit, error) {
	var u identity.BornUnit
	var key, source []byte
	var spent sql.NullInt64
	err := t.tx.QueryRowContext(ctx, `SELECT spki, device, source, spent_us FROM factory_unit WHERE `+where, arg).Scan(&key, &u.Device, &source, &spent)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		u.Spent = fromUS(spent)
		err = errors.Join(fill(u.Key[:], key, "key"), fill(u.Source[:], source, "source"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the key a unit was born with: %w", err)
	}
	return &u, nil
}

// BornUnit finds a unit by the key that it was born with.
func (t *Tx) BornUnit(ctx context.Context, key core.Hash) (*identity.BornUnit, error) {
	return t.bornUnit(ctx, `spki = ?`, key[:])
}

// BornUnitOf is the key that a unit was born with.
func (t *Tx) BornUnitOf(ctx context.Context, id core.DeviceID) (*identity.BornUnit, error) {
	return t.bornUnit(ctx, `device = ?`, id)
}

// InsertBornUnit keeps the key that a unit was born with.
func (t *Tx) InsertBornUnit(ctx context.Context, u identity.BornUnit) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO factory_unit (spki, device, source, spent_us) VALUES (?,?,?,?)`, u.Key[:], u.Device, u.Source[:], us(u.Spent))
	if err != nil {
		return fmt.Errorf("keep the key a unit was born with: %w", err)
	}
	return nil
}

// SpendBornUnit uses up the key that a unit was born with.
func (t *Tx) SpendBornUnit(ctx context.Context, id core.DeviceID, at time.Time) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE factory_unit SET spent_us = ? WHERE device = ? AND spent_us IS NULL`, at.UnixMicro(), id); err != nil {
		return fmt.Errorf("spend the key a unit was born with: %w", err)
	}
	return nil
}

// BornUnits counts what a list or an authority brought.
func (t *Tx) BornUnits(ctx context.Context, source core.Hash) (n int, err error) {
	if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM factory_unit WHERE source = ?`, source[:]).Scan(&n); err != nil {
		return 0, fmt.Errorf("count factory units: %w", err)
	}
	return n, nil
}

// KeyTied reports whether a key was certified.
func (t *Tx) KeyTied(ctx context.Context, key core.Hash) (bool, error) {
	var n int
	if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM device_key WHERE spki = ?`, key[:]).Scan(&n); err != nil {
		return false, fmt.Errorf("look up a key: %w", err)
	}
	return n > 0, nil
}
