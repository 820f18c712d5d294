package assurance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// Digest is the digest of everything that verdicts are read by: sections,
// controls, rows, the cross-walk and its coverage, which facts make a row moot,
// and from where on a row is asked for and how strictly. It changes when a word
// of them does; evidence carries it, so that evidence judged by an edited
// catalogue is told from evidence judged by this one.
func Digest() (core.Hash, error) {
	h := sha256.New()
	e := json.NewEncoder(h) // one value a line: no two catalogues run into one
	for _, v := range []any{Sections(), Controls(), Rows(), rulesInWords()} {
		if err := e.Encode(v); err != nil {
			return core.Hash{}, fmt.Errorf("digest of the catalogue: %w", err)
		}
	}
	if err := Crosswalk(h); err != nil {
		return core.Hash{}, fmt.Errorf("digest of the catalogue: %w", err)
	}
	if err := WriteCoverage(h); err != nil {
		return core.Hash{}, fmt.Errorf("digest of the catalogue: %w", err)
	}
	return core.Hash(h.Sum(nil)), nil
}

// rulesInWords are the rules of row 0.1 without their code: their rows, levels
// and sentences.
func rulesInWords() (out [][]string) {
	for _, m := range moots() {
		out = append(out, []string{"moot", string(m.row), m.none})
	}
	for _, b := range beyond() {
		out = append(out, []string{"beyond", string(b.Row), b.Level.String(), b.Also, b.Why})
	}
	for _, s := range strictness() {
		out = append(out, []string{"strict", s.Level.String(), fmt.Sprint(s.MaxAgeFactor), s.Why})
	}
	return out
}
