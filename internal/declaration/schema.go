package declaration

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
)

// Schema is the JSON Schema 2020-12 of a declaration's form, indented, made
// from the same table that Parse checks by. Editors complete and explain by it:
//
//	# yaml-language-server: $schema=declaration.schema.json
//
// What it cannot say (which stream is declared, how long a span is) only Parse
// finds.
func Schema() []byte { return bytes.Clone(schema()) }

var schema = sync.OnceValue(func() []byte {
	c := &canon{}
	o := c.schema(language())
	o.text("$schema", "https://json-schema.org/draft/2020-12/schema")
	o.text("$id", "urn:hawser:declaration:1")
	o.text("title", "Hawser declaration")
	o.text("description", "What a connected product collects, who may read it, how long it is kept, what it talks to, how it is updated and until when.")
	var b bytes.Buffer
	if err := json.Indent(&b, o.bytes(), "", "  "); err != nil || c.err != nil {
		return nil // cannot be: the writer writes JSON; TestSchemaAgrees fails
	}
	b.WriteByte('\n')
	return b.Bytes()
})

func (c *canon) schema(s *shape) *object {
	o := c.object()
	switch s.form {
	case objectForm:
		o.text("type", "object").yes("additionalProperties", false)
		var required []string
		properties := c.object()
		for i := range s.keys {
			k := &s.keys[i]
			properties.put(k.Name, c.property(k).bytes())
			if k.Required {
				required = append(required, k.Name)
			}
		}
		o.put("properties", properties.bytes()).texts("required", required)
		if len(s.when) > 0 {
			o.put("allOf", c.list(len(s.when), func(i int) *object { return c.condition(&s.when[i]) }))
		}
	case tableForm:
		o.text("type", "object").put("additionalProperties", c.schema(s.item).bytes())
		o.put("propertyNames", c.object().text("pattern", s.names).bytes())
		o.whole("minProperties", s.least).whole("maxProperties", s.most)
	case listForm:
		o.text("type", "array").put("items", c.schema(s.item).bytes()).whole("minItems", s.least).whole("maxItems", s.most)
		if s.unique {
			o.yes("uniqueItems", true)
		}
	case textForm:
		o.text("type", "string").whole("minLength", s.least).whole("maxLength", s.most).text("pattern", `[^\s?]`)
	case patternForm:
		o.text("type", "string").text("pattern", s.pattern)
	case wordForm:
		o.texts("enum", s.words)
	case numberForm:
		o.text("type", "number").number("minimum", s.lo).number("maximum", s.hi)
	case integerForm:
		o.text("type", "integer").number("minimum", s.lo).number("maximum", s.hi)
	case booleanForm:
		o.text("type", "boolean")
	case scalarForm:
		o.texts("type", []string{"number", "string", "boolean"})
	}
	return o
}

func (c *canon) property(k *Key) *object {
	o := c.schema(k.shape)
	text := []string{k.Meaning}
	if k.Unit != "" {
		text = append(text, "Unit: "+k.Unit+".")
	}
	if k.Default != "" {
		text = append(text, "Default: "+k.Default+".")
	}
	if k.Example != "" {
		text = append(text, "Example: "+k.Example)
	}
	return o.text("description", strings.Join(text, " "))
}

func (c *canon) condition(w *when) *object {
	is := c.object().put(w.key, c.object().texts("enum", w.is).bytes())
	then := c.object()
	if len(w.needs) > 0 {
		var names []string
		for _, n := range w.needs {
			names = append(names, n.key)
		}
		then.texts("required", names)
	}
	if len(w.bars) > 0 {
		bars := c.object()
		for _, n := range w.bars {
			bars.yes(n.key, false)
		}
		then.put("properties", bars.bytes())
	}
	return c.object().put("if", c.object().put("properties", is.bytes()).texts("required", []string{w.key}).bytes()).put("then", then.bytes())
}
