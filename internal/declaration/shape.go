package declaration

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// form is what a value looks like.
type form uint8

const (
	objectForm  form = iota // a map with known keys
	tableForm               // a map from names to values of one shape
	listForm                // a list of values of one shape
	textForm                // text for people
	patternForm             // text of a fixed form
	wordForm                // one of a few words
	numberForm
	integerForm
	booleanForm
	scalarForm // a number, a text, or true or false
)

// shape is the form of a value: the one source of the check, of the JSON Schema
// and of the reference.
type shape struct {
	form        form
	rule        string // of a fault of form; "" takes the form's own
	want        string // what a message asks for: "a span such as 30d"
	keys        []Key  // of an object
	when        []when // of an object
	item        *shape // of a list or table
	names       string // pattern of a table's names
	nameRule    string // rule of a bad name; "" is `name`
	nameWant    string
	least, most int     // items, names or characters
	unique      bool    // of a list
	lo, hi      float64 // of a number
	words       []string
	refused     []refused      // words that people try, and why they are no good
	pattern     string         // of text
	re          *regexp.Regexp // of pattern, or of names
}

// Key is one key of a declaration, as the reference and editors show it.
type Key struct {
	Name     string
	Meaning  string // one or two sentences
	Unit     string // "" when it has none
	Default  string // "" when required or nothing
	Example  string // YAML
	Required bool
	rule     string // of a missing key; "" is `missing-key`
	shape    *shape
}

// when ties keys to the value of another key of the same object.
type when struct {
	key   string
	is    []string
	needs []need
	bars  []need
}

type need struct{ key, rule string }

type refused struct{ word, rule, message, fix string }

func (s *shape) key(name string) *Key {
	for i := range s.keys {
		if s.keys[i].Name == name {
			return &s.keys[i]
		}
	}
	return nil
}

// checker checks the form of a tree.
type checker struct{ *faults }

// fault reports n once and keeps the rules away from it.
func (c *checker) fault(n *node, rule, message, fix string) {
	n.bad = true
	c.add(n.at, rule, message, fix)
}

// check reports every fault of form of n. what names n in messages, p is where
// what is missing from n shows.
func (c *checker) check(n *node, s *shape, what string, p at) {
	if n.bad {
		return
	}
	switch s.form {
	case objectForm:
		if c.is(n, mapKind, s, what) {
			c.object(n, s, what, p)
		}
	case tableForm:
		if c.is(n, mapKind, s, what) {
			c.table(n, s, what)
		}
	case listForm:
		if c.is(n, listKind, s, what) {
			c.items(n, s, what)
		}
	case textForm:
		if c.is(n, textKind, s, what) {
			c.text(n, s, what)
		}
	case patternForm:
		if c.is(n, textKind, s, what) && !s.re.MatchString(n.text) {
			c.pattern(n, s, what)
		}
	case wordForm:
		if c.is(n, textKind, s, what) && !slices.Contains(s.words, n.text) {
			c.word(n, s, what)
		}
	case numberForm, integerForm:
		if c.is(n, numberKind, s, what) {
			c.number(n, s, what)
		}
	case booleanForm:
		c.is(n, boolKind, s, what)
	case scalarForm:
		if n.kind != numberKind && n.kind != boolKind {
			c.is(n, textKind, s, what)
		}
	}
}

// pattern reports text that is not of its form.
func (c *checker) pattern(n *node, s *shape, what string) {
	rule, fix := orRule(s.rule, ruleText), fixPattern(s, n.text)
	switch {
	case s.pattern == spanPattern && !eternal(n.text):
		rule = ruleDuration
	case s.pattern == datePattern:
		rule = ruleDate
	}
	if fix == "write "+s.want {
		c.fault(n, rule, fmt.Sprintf("%s is %s, which is not of its form", what, quote(n.text)), fix)
		return
	}
	c.fault(n, rule, fmt.Sprintf("%s is %s, not %s", what, quote(n.text), s.want), fix)
}

func orRule(rule, otherwise string) string {
	if rule != "" {
		return rule
	}
	return otherwise
}

// is reports whether n is of kind k, and says what it is instead.
func (c *checker) is(n *node, k kind, s *shape, what string) bool {
	if n.kind == k {
		return true
	}
	got, want, fix := n.kind.String(), k.String(), ""
	if s.want != "" {
		want = s.want
	}
	switch {
	case n.kind == textKind && n.plain && k == numberKind && oddNumber(n.text) != "":
		c.fault(n, ruleNumber, fmt.Sprintf("%s is %s, %s", what, quote(n.text), oddNumber(n.text)), "write a plain decimal number such as 0.5")
		return false
	case n.kind == textKind && k == boolKind:
		got, fix = quote(n.text), "write true or false"
	case n.kind == textKind && k == numberKind:
		got, fix = quote(n.text), "write a plain decimal number"
		if !n.plain {
			fix = "remove the quotes"
		}
	case n.kind == numberKind && k == textKind && s.form != patternForm || n.kind == boolKind && k == textKind:
		fix = fmt.Sprintf("if %s is meant as text, put it in quotes", scalarText(n))
	case n.kind == numberKind && k == textKind:
		got, fix = scalarText(n), "write "+want
		if s.pattern == spanPattern {
			fix = fmt.Sprintf("add its unit, such as %[1]ss, %[1]sm, %[1]sh or %[1]sd", scalarText(n))
		}
	case k == listKind && n.kind != mapKind:
		fix = "put it in brackets: [" + strings.Trim(scalarText(n), "[]") + "]"
	case k == mapKind:
		fix = "write its keys with their values below it"
	default:
		fix = "write " + want
	}
	c.fault(n, orRule(s.rule, ruleType), fmt.Sprintf("%s is %s, not %s", what, got, want), fix)
	return false
}

// oddNumber says why text that looks like a number is none.
func oddNumber(s string) string {
	t := strings.ToLower(strings.TrimLeft(s, "+-"))
	switch t {
	case ".nan", "nan":
		return "which is no number"
	case ".inf", "inf", "infinity":
		return "which is not finite"
	}
	if oddForm().MatchString(t) {
		return "which readers take for different numbers"
	}
	return ""
}

var oddForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(0[xob][0-9a-f_]+|0[0-9_]+|[0-9]+_[0-9_]*|\.[0-9]+|[0-9]+\.)$`)
})

func scalarText(n *node) string {
	switch n.kind {
	case boolKind:
		return strconv.FormatBool(n.yes)
	case nullKind:
		return ""
	case numberKind:
		return n.text[:min(len(n.text), 32)]
	default:
		return strings.Trim(quote(n.text), `"`)
	}
}

func (c *checker) object(n *node, s *shape, what string, p at) {
	for _, pr := range n.pairs {
		k := s.key(pr.key)
		if k == nil {
			c.add(pr.at, ruleUnknownKey, fmt.Sprintf("%s has no key %s", what, quote(pr.key)), fixUnknown(s, pr.key))
			continue
		}
		c.check(pr.value, k.shape, "`"+k.Name+"`", pr.at)
	}
	for _, k := range s.keys {
		if k.Required && n.find(k.Name) == nil {
			c.missing(s, k.Name, k.rule, what, p, "")
		}
	}
	for _, w := range s.when {
		v := n.get(w.key)
		if v == nil || v.kind != textKind || !slices.Contains(w.is, v.text) {
			continue
		}
		because := fmt.Sprintf(" (%s: %s)", w.key, v.text)
		for _, x := range w.needs {
			if n.find(x.key) == nil {
				c.missing(s, x.key, x.rule, what, p, because)
			}
		}
		for _, x := range w.bars {
			if pr := n.find(x.key); pr != nil {
				c.add(pr.at, x.rule, fmt.Sprintf("%s has no `%s`%s", what, x.key, because), "remove it")
				pr.value.bad = true
			}
		}
	}
}

func (c *checker) missing(s *shape, key, rule, what string, p at, because string) {
	fix := "add `" + key + "`"
	if k := s.key(key); k.Example != "" {
		fix = "add `" + k.Example + "`"
	}
	c.add(p, orRule(rule, ruleMissingKey), fmt.Sprintf("%s lacks `%s`%s", what, key, because), fix)
}

func fixUnknown(s *shape, key string) string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.Name
	}
	near := nearest(key, names)
	if meant := meantBy(key); near == "" && s.key(meant) != nil {
		near = meant
	}
	if near != "" {
		return "did you mean `" + near + "`?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// meantBy is the key of this language for what others call it, or "".
func meantBy(key string) string {
	switch strings.ToLower(key) {
	case "retention", "retain", "ttl", "keep_for", "keep_time", "expires", "expiry":
		return "keep"
	case "sensitivity", "classification", "category":
		return "class"
	case "description", "title", "note", "comment":
		return "about"
	case "min", "max", "minimum", "maximum", "limits", "bounds":
		return "range"
	case "enum", "options", "choices", "allowed":
		return "values"
	case "interval", "period", "rate", "frequency":
		return "every"
	case "size", "max_size", "bytes":
		return "max_bytes"
	case "access", "visible_to", "who":
		return "readers"
	case "disposal", "on_expiry", "afterlife":
		return "when_done"
	case "fields", "telemetry", "properties":
		return "data"
	case "topics", "channels":
		return "streams"
	case "vendors", "recipients", "third_parties":
		return "shares"
	case "endpoints", "destinations":
		return "talks_to"
	case "id", "model":
		return "product"
	}
	return ""
}

func (c *checker) table(n *node, s *shape, what string) {
	c.counts(n, len(n.pairs), s, what)
	for _, p := range n.pairs {
		if !s.re.MatchString(p.key) {
			c.add(p.at, orRule(s.nameRule, ruleName), fmt.Sprintf("the name %s in %s is not of the right form", quote(p.key), what), "use "+s.nameWant)
			p.value.bad = true
			continue
		}
		c.check(p.value, s.item, "`"+p.key+"`", p.at)
	}
}

func (c *checker) items(n *node, s *shape, what string) {
	c.counts(n, len(n.list), s, what)
	seen := map[string]at{}
	for i, item := range n.list {
		name := what
		if s.item.form == objectForm {
			name = fmt.Sprintf("item %d of %s", i+1, what)
		}
		c.check(item, s.item, name, item.at)
		if item.bad {
			n.part = true
			continue
		}
		if s.unique {
			if _, twice := seen[item.text]; twice {
				c.fault(item, ruleRepeated, fmt.Sprintf("%s names %s twice", what, quote(item.text)), "remove or mend one of them")
				n.part = true
				continue
			}
			seen[item.text] = item.at
		}
	}
}

func (c *checker) counts(n *node, got int, s *shape, what string) {
	if got >= s.least && got <= s.most {
		return
	}
	how := fmt.Sprintf("%d to %d", s.least, s.most)
	if s.least == s.most {
		how = strconv.Itoa(s.least)
	}
	fix := "add what is missing"
	if got > s.most {
		fix = "remove some"
	}
	unit := "items"
	if got == 1 {
		unit = "item"
	}
	c.add(n.at, orRule(s.rule, ruleCount), fmt.Sprintf("%s has %d %s, not %s", what, got, unit, how), fix)
	if s.form == listForm {
		n.bad = true
	}
}

func (c *checker) text(n *node, s *shape, what string) {
	switch l := utf8.RuneCountInString(n.text); {
	case strings.Trim(n.text, "\t\n\f\r ") == "":
		c.fault(n, orRule(s.rule, ruleText), what+" is empty", "write "+s.want)
	case strings.Trim(n.text, "?\t\n\f\r ") == "": // as `hawser observe` drafts it
		c.fault(n, orRule(s.rule, ruleText), what+" is a question that nobody answered", "write "+s.want)
	case l < s.least || l > s.most:
		c.fault(n, orRule(s.rule, ruleText), fmt.Sprintf("%s has %d characters, not %d to %d", what, l, s.least, s.most), "write "+s.want)
	default:
		c.form = false // a schema cannot see what escapes stand for
		c.characters(n, what)
		c.form = true
	}
}

func (c *checker) characters(n *node, what string) {
	for _, r := range n.text {
		if r == '\n' {
			c.fault(n, ruleText, what+" has more than one line", "fold it with `>-`")
			return
		}
		if name := forbidden(r); name != "" {
			c.fault(n, ruleCharacter, fmt.Sprintf("%s contains %s (U+%04X)", what, name, r), "remove it")
			return
		}
	}
}

func (c *checker) word(n *node, s *shape, what string) {
	for _, x := range s.refused {
		if x.word == n.text {
			c.fault(n, x.rule, x.message, x.fix)
			return
		}
	}
	fix := "take one of: " + strings.Join(s.words, ", ")
	if near := nearest(n.text, s.words); near != "" {
		fix = "did you mean " + near + "?"
	}
	c.fault(n, orRule(s.rule, ruleWord), fmt.Sprintf("%s is %s, which is none of its words", what, quote(n.text)), fix)
}

func (c *checker) number(n *node, s *shape, what string) {
	if s.form == integerForm && n.num != math.Trunc(n.num) {
		c.fault(n, orRule(s.rule, ruleNumber), fmt.Sprintf("%s is %s, not a whole number", what, scalarText(n)), "write a whole number")
		return
	}
	if n.num != s.lo && s.lo == s.hi {
		c.fault(n, orRule(s.rule, ruleNumber), fmt.Sprintf("%s is %s", what, scalarText(n)), "write "+number(s.lo))
		return
	}
	if n.num < s.lo || n.num > s.hi {
		c.fault(n, orRule(s.rule, ruleNumber), fmt.Sprintf("%s is %s, not between %s and %s", what, scalarText(n), number(s.lo), number(s.hi)), "write a number within these bounds")
	}
}

// number is v as people write it.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// checkForm checks the whole file against the language.
func checkForm(root *node, c *faults) {
	c.form = true
	k := checker{c}
	k.check(root, language(), "the declaration", at{1, 1})
	c.form = false
}

// language is the shape of a declaration. It is built once and never changed.
var language = sync.OnceValue(declarationShape)
