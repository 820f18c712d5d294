package declaration

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Parse reads a declaration and holds it against every rule. When anything is
// wrong the error is Faults, which names all of it at once; file stands in the
// faults and is not opened. Only faults that keep a file from being read as
// YAML hide others.
func Parse(file string, src []byte) (*Declaration, error) {
	c := &faults{file: file}
	root := readYAML(src, c)
	if root == nil {
		return nil, c.result()
	}
	d := examine(file, root, c)
	if err := c.result(); err != nil {
		return nil, err
	}
	return d, nil
}

func examine(file string, root *node, c *faults) *Declaration {
	checkForm(root, c)
	if root.bad || root.kind != mapKind {
		return nil
	}
	d := decode(file, root)
	j := judge{faults: c, d: d}
	j.all()
	return d
}

// Compile makes the policy of a declaration. It fails only on a Declaration
// that did not come from Parse.
func Compile(d *Declaration) (*Policy, error) {
	if d == nil || d.root == nil {
		return nil, core.E(core.Invalid, "declaration-empty", "there is no declaration to compile", "parse one first")
	}
	p := d.p
	p.Streams = slices.Clone(p.Streams)
	for _, f := range d.fields {
		p.Fields = append(p.Fields, f.Field)
	}
	p.Groups = groups(p.Fields)
	for i := range p.Fields {
		if s := p.Stream(p.Fields[i].Stream); s != nil {
			s.Fields = append(s.Fields, i)
		}
	}
	for _, s := range d.share {
		x := s.Share
		for _, n := range s.fields {
			i, _ := p.Field(n.text)
			x.Fields = append(x.Fields, i)
		}
		slices.Sort(x.Fields)
		p.Shares = append(p.Shares, x)
	}
	var err error
	if p.Canonical, err = canonical(&p); err != nil {
		return nil, fmt.Errorf("compile %s: %w", d.file, err)
	}
	p.Hash = sha256.Sum256(p.Canonical)
	return &p, nil
}

func groupID(f *Field) string {
	return f.Class.String() + "/" + strings.Join(f.Readers, "+") + "/" + core.Epoch{Keep: f.Keep}.Class()
}

// groups are the fields by class, readers and keep-time, in the order of their
// ids; it sets Field.Group.
func groups(fields []Field) []Group {
	var out []Group
	for i := range fields {
		f := &fields[i]
		id := groupID(f)
		k := slices.IndexFunc(out, func(g Group) bool { return g.ID == id })
		if k < 0 {
			k = len(out)
			out = append(out, Group{ID: id, Class: f.Class, Readers: slices.Clone(f.Readers), Keep: f.Keep})
		}
		out[k].Fields = append(out[k].Fields, i)
	}
	slices.SortFunc(out, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	for k := range out {
		for _, i := range out[k].Fields {
			fields[i].Group = k
		}
	}
	return out
}

// ParsePolicy reads a policy back from its canonical form. It holds it against
// every rule again and fails unless the very same bytes come out: nothing in
// it was altered, added or left out.
func ParsePolicy(canonicalJSON []byte) (*Policy, error) {
	altered := func(why error) error {
		return &core.Error{Kind: core.Invalid, Reason: "policy-altered", Message: "this is not a policy in canonical form", Hint: "publish the declaration again", Err: why}
	}
	root, err := readJSON(canonicalJSON)
	if err != nil {
		return nil, altered(err)
	}
	c := &faults{file: "policy"}
	d := examine("policy", root, c)
	if err := c.result(); err != nil {
		return nil, altered(err)
	}
	p, err := Compile(d)
	if err != nil {
		return nil, altered(err)
	}
	if !bytes.Equal(p.Canonical, canonicalJSON) {
		return nil, altered(fmt.Errorf("it compiles to other bytes"))
	}
	return p, nil
}
