package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// The files of a bundle.
const (
	nameReadme     = "README.txt"
	namePage       = "index.html"
	nameVerdicts   = "verdicts.json"
	nameInput      = "input.json"
	nameClaims     = "claims.json"
	nameSampling   = "sampling.json"
	nameCrosswalk  = "crosswalk.csv"
	nameResults    = "oscal/assessment-results.json"
	nameComponents = "oscal/component-definition.json"
	nameCheckpoint = "log/checkpoint"
	nameProofs     = "log/proofs.json"
	nameSigners    = "keys/allowed_signers"
	nameSums       = "SHA256SUMS"
	nameSig        = "SHA256SUMS.sig"
)

// roundName is the file of a round of the period, olderName of one before it
// that holds a proof which still counts.
func roundName(n uint64) string { return fmt.Sprintf("rounds/%08d.jsonl", n) }
func olderName(n uint64) string { return fmt.Sprintf("older/%08d.jsonl", n) }

// given are the files that are told, not worked out; the others follow from
// them.
func given() []string { return []string{nameInput, nameCheckpoint, nameProofs} }

// derived are the files that follow from the others and from the signer.
func derived() []string {
	return []string{nameReadme, namePage, nameVerdicts, nameClaims, nameCrosswalk, nameResults, nameComponents, nameSigners}
}

func isRound(name string) bool {
	dir, file, _ := strings.Cut(name, "/")
	digits, ok := strings.CutSuffix(file, ".jsonl")
	return ok && (dir == "rounds" || dir == "older") && len(digits) >= 8 && len(digits) <= 20 && strings.Trim(digits, "0123456789") == ""
}

// Bounds of a bundle, ours or a stranger's.
const (
	maxFiles      = 100_000
	maxFileBytes  = 256 << 20
	maxTotalBytes = 1 << 30
	maxPathBytes  = 200
)

// files are a bundle's files by their path.
type files map[string][]byte

func (f files) names() []string { return slices.Sorted(maps.Keys(f)) }

// sums are the digests of all files as sha256sum(1) writes them, in the order
// of their names.
func (f files) sums() []byte {
	var b bytes.Buffer
	for _, name := range f.names() {
		if name == nameSums || name == nameSig {
			continue
		}
		sum := sha256.Sum256(f[name])
		b.WriteString(hex.EncodeToString(sum[:]))
		b.WriteString("  ")
		b.WriteString(name)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// readFiles reads a folder, within bounds. What is not a plain file or a folder
// that a bundle has is an error: it could show one reader what it hides from
// the next.
func readFiles(fsys fs.FS) (files, error) {
	out := files{}
	total := 0
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if p != "." && !slices.Contains([]string{"rounds", "older", "oscal", "log", "keys"}, p) {
				return fmt.Errorf("%s is no folder of a bundle", inert(p))
			}
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a plain file", inert(p))
		case len(out) >= maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		case len(p) > maxPathBytes:
			return fmt.Errorf("%s is too long a name", inert(p))
		}
		b, err := readFile(fsys, p, min(maxFileBytes, maxTotalBytes-total))
		if err != nil {
			return err
		}
		total += len(b)
		out[p] = b
		return nil
	})
	return out, err
}

func readFile(fsys fs.FS, p string, most int) ([]byte, error) {
	f, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var b bytes.Buffer
	if st, err := f.Stat(); err == nil && st.Size() < int64(most) {
		b.Grow(int(st.Size()) + bytes.MinRead)
	}
	if _, err := io.Copy(&b, io.LimitReader(f, int64(most)+1)); err != nil {
		return nil, err
	}
	if b.Len() > most {
		return nil, fmt.Errorf("%s is too long, or all files together are", inert(p))
	}
	return b.Bytes(), nil
}

// agree says where SHA256SUMS and the files do not agree.
func (f files) agree() (faults []string) {
	sums, ok := f[nameSums]
	if !ok {
		return []string{nameSums + " is missing"}
	}
	if bytes.Equal(sums, f.sums()) {
		return nil
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(sums)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		b, there := f[name]
		got := sha256.Sum256(b)
		switch {
		case !ok || listed[name] || path.Clean(name) != name:
			faults = append(faults, fmt.Sprintf("%s has a line that is none: %s", nameSums, inert(line)))
		case !there:
			faults = append(faults, inert(name)+" is missing")
		case hex.EncodeToString(got[:]) != sum:
			faults = append(faults, inert(name)+" was changed")
		}
		listed[name] = true
	}
	for _, name := range f.names() {
		if !listed[name] && name != nameSums && name != nameSig {
			faults = append(faults, inert(name)+" was added")
		}
	}
	if len(faults) == 0 {
		faults = []string{nameSums + " is not in the form in which it is written"}
	}
	return faults
}

// strange says which files a bundle does not have, and which it must have.
func (f files) strange() (faults []string) {
	known := append(append(given(), derived()...), nameSums, nameSig)
	for _, name := range known {
		if _, ok := f[name]; !ok {
			faults = append(faults, name+" is missing")
		}
	}
	for _, name := range f.names() {
		if !slices.Contains(known, name) && name != nameSampling && !isRound(name) {
			faults = append(faults, inert(name)+" is no file of a bundle")
		}
	}
	return faults
}

// inert keeps a stranger's text short, on its line, and unable to move a
// terminal.
func inert(s string) string {
	const most = 120
	var b strings.Builder
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			r = '·'
		}
		if b.Len() > most {
			return b.String() + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}

// encode writes a file of JSON in its one form.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decode reads a file of JSON, in that form and no other.
func decode[T any](b []byte) (*T, error) {
	v := new(T)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return nil, err
	}
	again, err := encode(v)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("it is not in the form in which it is written")
	}
	return v, nil
}
