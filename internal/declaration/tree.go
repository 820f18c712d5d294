package declaration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Bounds of a file. A declaration of 256 fields takes some 60 KB.
const (
	maxBytes = 256 << 10
	maxDepth = 12    // lists and maps inside each other
	maxNodes = 20000 // values and keys
)

type kind uint8

const (
	nullKind kind = iota
	boolKind
	numberKind
	textKind
	listKind
	mapKind
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a map"}[k]
}

// node is one value of the file, with its place.
type node struct {
	kind  kind
	at    at
	text  string  // the text, or the number as written
	num   float64 // of a number; finite
	yes   bool    // of a boolean
	plain bool    // written without quotes
	list  []*node
	pairs []pair
	bad   bool // a fault of it was reported; rules leave it out
	part  bool // of a list: an item of it is bad
}

type pair struct {
	key   string
	at    at
	value *node
}

// find is the pair of that key, or nil.
func (n *node) find(key string) *pair {
	if n == nil {
		return nil
	}
	for i := range n.pairs {
		if n.pairs[i].key == key {
			return &n.pairs[i]
		}
	}
	return nil
}

// get is the value of that key if it is there and wholly sound, or nil.
func (n *node) get(key string) *node {
	if p := n.find(key); p != nil && !p.value.bad && !p.value.part {
		return p.value
	}
	return nil
}

// sound is the sound items of the list of that key.
func (n *node) sound(key string) []*node {
	p := n.find(key)
	if p == nil || p.value.bad {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.value.list), func(x *node) bool { return x.bad })
}

// place is where a fault of the key shows: at the value, or if the key is
// missing at the given place.
func (n *node) place(key string, otherwise at) at {
	if p := n.find(key); p != nil {
		return p.value.at
	}
	return otherwise
}

// readYAML turns a file into a tree, or reports why it cannot. YAML is taken in
// the narrow sense: one document of maps, lists and plain values, no anchors,
// aliases, merges, tags or directives, numbers as JSON writes them.
func readYAML(src []byte, c *faults) *node {
	if len(src) > maxBytes {
		c.add(at{1, 1}, ruleSize, fmt.Sprintf("the file has %d bytes, more than %d", len(src), maxBytes), "split the product, or shorten texts")
		return nil
	}
	if bytes.HasPrefix(src, []byte("\xff\xfe")) || bytes.HasPrefix(src, []byte("\xfe\xff")) {
		c.add(at{1, 1}, ruleUTF8, "this is UTF-16", "save the file as UTF-8")
		return nil
	}
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	c.lines = strings.Split(strings.ReplaceAll(string(src), "\r\n", "\n"), "\n")
	if !cleanText(c) {
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(4*maxDepth))))
	if err != nil {
		c.add(at{1, 1}, ruleYAML, "the YAML reader does not start: "+err.Error(), "report this as a bug")
		return nil
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			c.add(at{1, 1}, ruleOneDocument, "the file is empty", "start with `declaration: 1`")
			return nil
		}
		c.addYAML(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		c.add(at{1, 1}, ruleOneDocument, "the file is empty", "start with `declaration: 1`")
		return nil
	}
	var second yaml.Node
	if err := loader.Load(&second); err == nil {
		c.add(at{second.Line, second.Column}, ruleOneDocument, "a second document begins here", "remove `---` and what follows: one file declares one product")
		return nil
	} else if !errors.Is(err, io.EOF) {
		c.addYAML(err)
		return nil
	}
	t := treeBuilder{c: c}
	root := t.build(doc.Content[0], 1)
	if t.stop {
		return nil
	}
	return root
}

// cleanText refuses bytes and characters that no declaration needs and that
// make it look different from what it says.
func cleanText(c *faults) bool {
	ok := true
	for i, line := range c.lines {
		if !utf8.ValidString(line) {
			c.add(at{i + 1, badByte(line)}, ruleUTF8, "this is not UTF-8", "save the file as UTF-8")
			ok = false
			continue
		}
		if strings.HasPrefix(line, "%") {
			c.add(at{i + 1, 1}, ruleDirective, "a YAML directive", "remove the line: a declaration is plain YAML 1.2")
			ok = false
		}
		indent, col := true, 0
		for _, r := range line {
			col++
			if r == '\t' && indent {
				c.add(at{i + 1, col}, ruleTab, "a tab indents this line", "indent with spaces")
				ok = false
				break
			}
			if r != ' ' {
				indent = false
			}
			if name := forbidden(r); name != "" && r != '\t' {
				c.add(at{i + 1, col}, ruleCharacter, name+fmt.Sprintf(" (U+%04X) stands here", r), "remove it")
				ok = false
				break
			}
		}
	}
	return ok
}

func badByte(line string) int {
	col := 0
	for i, r := range line {
		col++
		if r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd") {
			break
		}
	}
	return max(col, 1)
}

// forbidden names what kind of character r is that may stand nowhere in a
// declaration, or is "". Bidirectional controls reorder what a reader sees;
// the others are invisible or end lines in some editors only.
func forbidden(r rune) string {
	switch {
	case r < 0x20 || r == 0x7f:
		return "a control character"
	case r >= 0x80 && r <= 0x9f:
		return "a control character"
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
		return "a control of text direction"
	case r == 0x2028, r == 0x2029:
		return "a line separator"
	case r == 0xfeff, r == 0x200b, r == 0x2060, r == 0xfffe, r == 0xffff:
		return "an invisible character"
	}
	return ""
}

// addYAML reports what the YAML reader says in this house's words.
func (c *faults) addYAML(err error) {
	p, text := at{1, 1}, err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		p, text = at{e.Mark.Line, e.Mark.Column}, e.Message
		if e.ContextMsg != "" {
			text = e.ContextMsg + ": " + text
		}
		if from := e.ContextMark.Line; from > 0 && from < p.line {
			text += fmt.Sprintf("; it began on line %d", from)
		}
	}
	if strings.Contains(text, "exceeded max depth") {
		c.add(p, ruleDepth, "lists and maps are nested without end", fmt.Sprintf("nest at most %d levels", maxDepth))
		return
	}
	if strings.Contains(text, "unknown anchor") {
		c.add(p, ruleAnchor, "an alias (`*name`) stands here", "write the value out")
		return
	}
	fix := "look at indentation, colons, brackets and quotes here and on the line before"
	switch {
	case strings.Contains(text, "mapping values are not allowed"):
		fix = "put text that contains `: ` in quotes, and give each key its own line"
	case strings.Contains(text, "cannot start any token"):
		fix = "put text that begins with this character in quotes"
	case strings.Contains(text, "',' or ']'"), strings.Contains(text, "',' or '}'"):
		fix = "close the bracket, separate items with commas, and put text that contains `: ` in quotes"
	}
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	c.add(p, ruleYAML, "this is not YAML ("+clean+")", fix)
}

type treeBuilder struct {
	c     *faults
	nodes int
	stop  bool
}

func (t *treeBuilder) build(y *yaml.Node, depth int) *node {
	n := &node{at: at{y.Line, y.Column}}
	if t.stop {
		return n
	}
	if t.nodes++; t.nodes > maxNodes {
		t.c.add(n.at, ruleSize, fmt.Sprintf("more than %d values", maxNodes), "split the product")
		t.stop = true
		return n
	}
	if depth > maxDepth {
		t.c.add(n.at, ruleDepth, fmt.Sprintf("lists and maps are nested more than %d deep", maxDepth), "flatten them")
		t.stop = true
		return n
	}
	if y.Kind == yaml.AliasNode || y.Anchor != "" {
		what := "an anchor (`&name`)"
		if y.Kind == yaml.AliasNode {
			what = "an alias (`*name`)"
		}
		t.c.add(n.at, ruleAnchor, what+" stands here", "write the value out")
		n.bad = true
		if y.Kind == yaml.AliasNode {
			return n
		}
	}
	if y.Style&yaml.TaggedStyle != 0 {
		t.c.add(n.at, ruleTag, "a tag ("+quote(y.Tag)+") stands here", "remove it; quote text that looks like a number")
		n.bad = true
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapKind
		t.pairs(n, y, depth)
	case yaml.SequenceNode:
		n.kind = listKind
		for _, item := range y.Content {
			n.list = append(n.list, t.build(item, depth+1))
		}
	default:
		t.scalar(n, y)
	}
	return n
}

func (t *treeBuilder) pairs(n *node, y *yaml.Node, depth int) {
	seen := make(map[string]at, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		p := pair{key: k.Value, at: at{k.Line, k.Column}}
		value := t.build(y.Content[i+1], depth+1)
		switch {
		case k.Anchor != "" || k.Kind == yaml.AliasNode:
			t.c.add(p.at, ruleAnchor, "an anchor or alias stands for a key", "write the key out")
			continue
		case k.Style&yaml.TaggedStyle != 0 && k.Tag != "!!merge":
			t.c.add(p.at, ruleTag, "a tag ("+quote(k.Tag)+") stands before a key", "remove it")
			continue
		case k.Kind != yaml.ScalarNode:
			t.c.add(p.at, ruleYAML, "a key is "+map[yaml.Kind]string{yaml.MappingNode: "a map", yaml.SequenceNode: "a list"}[k.Kind], "make keys plain words")
			continue
		case k.Value == "<<" && k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0:
			t.c.add(p.at, ruleAnchor, "a merge (`<<`) stands here", "write the values out")
			continue
		}
		if first, twice := seen[p.key]; twice {
			t.c.add(p.at, ruleDuplicateKey, fmt.Sprintf("%s stands here again; first on line %d", quote(p.key), first.line), "keep one of them")
			continue
		}
		seen[p.key] = p.at
		p.value = value
		n.pairs = append(n.pairs, p)
	}
}

// scalar resolves a plain value by the JSON schema of YAML 1.2 (§10.2):
// numbers only as JSON writes them, so that no two readers differ over `010`,
// `1_000`, `yes` or `0x1F`. What looks like anything else is text.
func (t *treeBuilder) scalar(n *node, y *yaml.Node) {
	n.kind, n.text = textKind, y.Value
	n.plain = y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if !n.plain {
		return
	}
	switch y.Value {
	case "", "~", "null", "Null", "NULL":
		n.kind = nullKind
	case "true", "false":
		n.kind, n.yes = boolKind, y.Value == "true"
	default:
		t.number(n)
	}
}

func (t *treeBuilder) number(n *node) {
	if !jsonNumber(n.text) {
		return
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		t.c.add(n.at, ruleNumber, n.text[:min(len(n.text), 24)]+" is too large for a number", "write a number below 1e308")
		n.kind, n.bad = numberKind, true
		return
	}
	if v == 0 {
		v = 0 // RFC 8785 §3.2.2.3: there is one zero
	}
	n.kind, n.num = numberKind, v
}

// jsonNumber reports whether s is a number by RFC 8259 §6.
func jsonNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	digits := func() bool {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		s = s[i:]
		return i > 0
	}
	if strings.HasPrefix(s, "0") {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if strings.HasPrefix(s, ".") {
		if s = s[1:]; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// readJSON turns canonical JSON into the same tree, without places.
func readJSON(src []byte) (*node, error) {
	if len(src) > 4*maxBytes {
		return nil, fmt.Errorf("canonical declaration has %d bytes, more than %d", len(src), 4*maxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	nodes := 0
	n, err := jsonValue(d, 1, &nodes)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the canonical declaration")
	}
	return n, nil
}

func jsonValue(d *json.Decoder, depth int, nodes *int) (*node, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	if *nodes++; *nodes > 2*maxNodes || depth > maxDepth {
		return nil, errors.New("canonical declaration is too deep or too large")
	}
	n := &node{at: at{1, 1}}
	switch v := tok.(type) {
	case nil:
	case bool:
		n.kind, n.yes = boolKind, v
	case string:
		n.kind, n.text = textKind, v
	case json.Number:
		n.kind, n.text = numberKind, v.String()
		if n.num, err = v.Float64(); err != nil {
			return nil, err
		}
	case json.Delim:
		n.kind = listKind
		if v == '{' {
			n.kind = mapKind
		}
		seen := map[string]struct{}{}
		for d.More() {
			var p pair
			if n.kind == mapKind {
				k, err := d.Token()
				if err != nil {
					return nil, err
				}
				p.key, _ = k.(string) // a JSON object's key is text
				if _, twice := seen[p.key]; twice {
					return nil, fmt.Errorf("key %q stands twice", p.key)
				}
				seen[p.key] = struct{}{}
			}
			item, err := jsonValue(d, depth+1, nodes)
			if err != nil {
				return nil, err
			}
			if n.kind == mapKind {
				p.value, p.at = item, item.at
				n.pairs = append(n.pairs, p)
			} else {
				n.list = append(n.list, item)
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, err
		}
	}
	return n, nil
}
