package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

// words are the types of which only some values exist.
func words() map[reflect.Type][]string {
	of := func(list ...string) []string { return list }
	var verdicts, asked []string
	for _, v := range assurance.Verdicts() {
		verdicts = append(verdicts, string(v))
	}
	for _, k := range check.Kinds() {
		asked = append(asked, string(k))
	}
	return map[reflect.Type][]string{
		reflect.TypeFor[assurance.Verdict](): verdicts,
		reflect.TypeFor[assurance.How]():     of(string(assurance.Live), string(assurance.OnBench), string(assurance.ByPerson)),
		reflect.TypeFor[check.Kind]():        asked,
		reflect.TypeFor[check.Outcome]():     of(string(check.Pass), string(check.Fail), string(check.Error), string(check.Empty)),
	}
}

// of is the schema of what encoding/json writes for a type.
func (s *schemas) of(t reflect.Type, way side) *Schema {
	zero := 0
	switch t {
	case reflect.TypeFor[time.Time]():
		return &Schema{Type: kinds{"string"}, Format: "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return &Schema{}
	}
	if list, ok := words()[t]; ok {
		return &Schema{Type: kinds{"string"}, Enum: list}
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return &Schema{Type: kinds{"string"}}
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		s.fail("%s writes itself, and nobody says how", t)
		return &Schema{}
	}
	switch t.Kind() {
	case reflect.String:
		return &Schema{Type: kinds{"string"}}
	case reflect.Bool:
		return &Schema{Type: kinds{"boolean"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &Schema{Type: kinds{"integer"}}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &Schema{Type: kinds{"integer"}, Minimum: &zero}
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: kinds{"number"}}
	case reflect.Pointer:
		return orNull(s.of(t.Elem(), way))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return orNull(&Schema{Type: kinds{"string"}, Encoding: "base64"})
		}
		return orNull(&Schema{Type: kinds{"array"}, Items: s.of(t.Elem(), way)})
	case reflect.Array:
		n := t.Len()
		return &Schema{Type: kinds{"array"}, Items: s.of(t.Elem(), way), MinItems: &n, MaxItems: &n}
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			s.fail("%s has keys that are no texts", t)
		}
		return orNull(&Schema{Type: kinds{"object"}, Additional: s.of(t.Elem(), way)})
	case reflect.Struct:
		return s.object(t, way)
	default:
		s.fail("%s has no form in JSON", t)
		return &Schema{}
	}
}

// orNull is a schema that null fits, too: what Go writes for nil.
func orNull(x *Schema) *Schema {
	if x.Ref != "" || len(x.Type) == 0 {
		return &Schema{AnyOf: []*Schema{x, {Type: kinds{"null"}}}}
	}
	x.Type = append(slices.Clone(x.Type), "null")
	return x
}

// object is a struct under its name; one without a name stands where it is.
func (s *schemas) object(t reflect.Type, way side) *Schema {
	out := &Schema{Type: kinds{"object"}, Properties: map[string]*Schema{}}
	if way == requests {
		out.Additional = &Schema{never: true} // CC 2.2: decode refuses what is not declared
	}
	if t.Name() == "" {
		s.fields(out, t, way)
		return out
	}
	name := s.name(t)
	if s.byName[name] == nil {
		s.byName[name] = out // before its fields: a type may hold itself
		s.fields(out, t, way)
		slices.Sort(out.Required)
	}
	return &Schema{Ref: "#/components/schemas/" + name}
}

// fields adds the fields of a struct as encoding/json sees them.
func (s *schemas) fields(out *Schema, t reflect.Type, way side) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, hasTag := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			s.fields(out, inner, way)
			continue
		case !hasTag || name == "":
			name = f.Name
		}
		x := s.of(f.Type, way)
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if optional && way == answers {
			x = notNull(x) // nothing is left out, not null
		}
		out.Properties[name] = x
		if !optional && way == answers {
			out.Required = append(out.Required, name)
		}
	}
}

// notNull takes back what orNull did.
func notNull(x *Schema) *Schema {
	if len(x.AnyOf) == 2 {
		return x.AnyOf[0]
	}
	if n := len(x.Type); n > 1 {
		x.Type = x.Type[:n-1]
	}
	return x
}
