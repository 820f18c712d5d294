package store

import (
	"context"
	"fmt"
)

// SecretForm is how the values of one column that guards something look.
type SecretForm struct {
	Where string // "person.password"
	Total int
	Good  int // of the form that such a column must have
}

// SecretForms says of every column that holds what people or devices prove
// themselves with whether its values have the form of a hash, or are sealed.
// What people choose is argon2id with at least 19 MiB; what a machine made is
// 32 bytes of a hash (CC 1.12).
func (t *Tx) SecretForms(ctx context.Context) ([]SecretForm, error) {
	var out []SecretForm
	for _, q := range []struct{ where, table, value, good string }{
		{"person.password", "person", "password", `CAST(password AS TEXT) GLOB '$argon2id$v=19$m=[1-9][0-9][0-9][0-9][0-9]*,t=[2-9],p=*'`},
		{"person.totp", "person", "totp", `length(totp) >= 44 AND CAST(totp AS TEXT) NOT GLOB '[A-Z2-7][A-Z2-7][A-Z2-7][A-Z2-7]*'`},
		{"setup_link.token", "setup_link", "token", `length(token) = 32`},
		{"recovery_code.code", "recovery_code", "code", `length(code) = 32`},
		{"person_session.token", "person_session", "token", `length(token) = 32`},
		{"device.code", "device", "code", `length(code) = 32`},
		{"device.spent", "device", "spent", `length(spent) = 32`},
	} {
		f := SecretForm{Where: q.where}
		err := t.tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(CASE WHEN `+q.good+` THEN 1 ELSE 0 END), 0) FROM `+q.table+` WHERE `+q.value+` IS NOT NULL`).Scan(&f.Total, &f.Good)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", q.where, err)
		}
		out = append(out, f)
	}
	return out, nil
}
