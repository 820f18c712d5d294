package store

import (
	"context"
	"fmt"
	"regexp"
)

// SecretForm is how the values of one column that guards something look.
type SecretForm struct {
	Where string // "person.password"
	Total int
	Good  int // of the form that such a column must have
}

// argon2idForm is what the hash of a password looks like: argon2id with at least
// 10000 KiB, of which access asks 19 MiB, and two rounds.
var argon2idForm = regexp.MustCompile(`^\$argon2id\$v=19\$m=[1-9][0-9]{4,},t=[2-9],p=`)

// bareCode is a secret of one-time codes as people are shown it.
var bareCode = regexp.MustCompile(`^[A-Z2-7]{4}`)

// SecretForms says of every column that holds what people or devices prove
// themselves with whether its values have the form of a hash, or are sealed.
// What people choose is argon2id with at least 19 MiB; what a machine made is
// 32 bytes of a hash (CC 1.12).
func (t *Tx) SecretForms(ctx context.Context) ([]SecretForm, error) {
	var out []SecretForm
	for _, q := range []struct {
		where, table, value string
		good                func([]byte) bool
	}{
		{"person.password", "person", "password", argon2idForm.Match},
		{"person.totp", "person", "totp", func(b []byte) bool { return len(b) >= 44 && !bareCode.Match(b) }},
		{"setup_link.token", "setup_link", "token", nil},
		{"recovery_code.code", "recovery_code", "code", nil},
		{"person_session.token", "person_session", "token", nil},
		{"device.code", "device", "code", nil},
		{"device.spent", "device", "spent", nil},
	} {
		f := SecretForm{Where: q.where}
		var err error
		if q.good == nil { // of many units: the engine counts
			err = t.tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(CASE WHEN length(`+q.value+`) = 32 THEN 1 ELSE 0 END), 0)
				FROM `+q.table+` WHERE `+q.value+` IS NOT NULL`).Scan(&f.Total, &f.Good)
		} else {
			err = each(ctx, t.tx, `SELECT `+q.value+` FROM `+q.table+` WHERE `+q.value+` IS NOT NULL`, nil, func(scan scanner) error {
				var b []byte
				err := scan(&b)
				f.Total++
				if q.good(b) {
					f.Good++
				}
				return err
			})
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", q.where, err)
		}
		out = append(out, f)
	}
	return out, nil
}
