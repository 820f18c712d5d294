package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Document is the description of the door in OpenAPI 3.1, generated from the
// route table and the types of requests and answers.
type Document struct {
	OpenAPI    string                          `json:"openapi"`
	Info       docInfo                         `json:"info"`
	Servers    []docServer                     `json:"servers"`
	Paths      map[string]map[string]operation `json:"paths"` // by path, then by method
	Components components                      `json:"components"`
}

type docInfo struct {
	Title       string     `json:"title"`
	Version     string     `json:"version"`
	Description string     `json:"description"`
	License     docLicense `json:"license"`
}

type docLicense struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier"`
}

type docServer struct {
	URL         string `json:"url"`
	Description string `json:"description"`
}

type components struct {
	Schemas   map[string]*Schema  `json:"schemas"`
	Responses map[string]response `json:"responses"`
}

type operation struct {
	ID          string              `json:"operationId"`
	Summary     string              `json:"summary"`
	Permission  string              `json:"x-permission"`
	Parameters  []parameter         `json:"parameters,omitempty"`
	RequestBody *body               `json:"requestBody,omitempty"`
	Responses   map[string]response `json:"responses"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *Schema `json:"schema"`
}

type body struct {
	Required bool             `json:"required"`
	Content  map[string]media `json:"content"`
}

type response struct {
	Ref         string           `json:"$ref,omitempty"`
	Description string           `json:"description,omitempty"`
	Content     map[string]media `json:"content,omitempty"`
}

type media struct {
	Schema *Schema `json:"schema,omitempty"`
}

// Describe is the document of a route table. A route that nobody has described
// is an error, and so is a description without a route.
func Describe(routes []Route) (*Document, error) {
	d := &Document{
		OpenAPI: "3.1.0",
		Info: docInfo{
			Title: "Hawser", Version: "1", License: docLicense{Name: "Apache License 2.0", Identifier: "Apache-2.0"},
			Description: "The JSON door of a running server, on its local socket: the operating system says who asks. Errors are problems (RFC 9457). Times are RFC 3339 in UTC; ids are opaque. Each operation names the permission that it asks for as `x-permission`.",
		},
		Servers: []docServer{{URL: "http://localhost", Description: "the local socket: data/hawser.sock in the home folder, or `socket` of the configuration"}},
		Paths:   map[string]map[string]operation{},
	}
	s := newSchemas()
	told := operations()
	for _, rt := range routes {
		o, ok := told[rt.Pattern]
		if !ok {
			return nil, fmt.Errorf("describe the API: nobody has described %s", rt.Pattern)
		}
		delete(told, rt.Pattern)
		method, path, _ := strings.Cut(rt.Pattern, " ")
		if d.Paths[path] == nil {
			d.Paths[path] = map[string]operation{}
		}
		d.Paths[path][strings.ToLower(method)] = o.operation(s, rt)
	}
	for pattern := range told {
		return nil, fmt.Errorf("describe the API: %s is described, and no route", pattern)
	}
	problem := s.of(reflect.TypeFor[Problem](), answers)
	d.Components = components{Schemas: s.byName, Responses: map[string]response{
		"Problem": {Description: "It was not done. `title` says what is wrong, `hint` what to do.", Content: map[string]media{"application/problem+json": {problem}}},
	}}
	return d, s.failed
}

// operation is how one route is described.
func (o told) operation(s *schemas, rt Route) operation {
	method, path, _ := strings.Cut(rt.Pattern, " ")
	out := operation{ID: operationID(method, path), Summary: o.says, Permission: rt.Permission, Parameters: pathParameters(path)}
	for _, q := range o.query {
		out.Parameters = append(out.Parameters, parameter{Name: q.name, In: "query", Description: q.says, Required: q.required, Schema: &Schema{Type: kinds{q.kind}}})
	}
	if o.request != nil {
		out.RequestBody = &body{Required: true, Content: map[string]media{"application/json": {s.of(reflect.TypeOf(o.request), requests)}}}
	}
	ok := response{Description: "Done.", Content: map[string]media{}}
	switch {
	case o.media != "" && o.answer != nil:
		ok.Content[o.media] = media{s.of(reflect.TypeOf(o.answer), answers)}
	case o.media != "":
		ok.Content[o.media] = media{}
	default:
		ok.Content["application/json"] = media{s.of(reflect.TypeOf(o.answer), answers)}
	}
	if o.long {
		ok.Description = "Done. Who accepts " + linesType + " is told how far it is, one object a line; the last line has `done`, the answer, or `problem`."
		ok.Content[linesType] = media{s.of(reflect.TypeFor[LongLine](), answers)}
	}
	out.Responses = map[string]response{"200": ok, "default": {Ref: "#/components/responses/Problem"}}
	return out
}

// operationID is "GET /v1/devices/{device}" as one word: getDevicesDevice.
func operationID(method, path string) string {
	out := strings.ToLower(method)
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(path, "/v1"), func(r rune) bool { return strings.ContainsRune("/{}.-", r) }) {
		out += strings.ToUpper(part[:1]) + part[1:]
	}
	return out
}

func pathParameters(path string) []parameter {
	var out []parameter
	for _, part := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			out = append(out, parameter{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &Schema{Type: kinds{"string"}}})
		}
	}
	return out
}

// openAPI serves the document.
func (h handlers) openAPI(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
	d, err := Describe(Routes(h.Deps))
	if err != nil {
		return err
	}
	return writeJSON(w, d)
}

// Schema is the part of JSON Schema 2020-12 that Go's types need.
type Schema struct {
	Ref        string             `json:"$ref,omitempty"`
	Type       kinds              `json:"type,omitempty"`
	Format     string             `json:"format,omitempty"`
	Enum       []string           `json:"enum,omitempty"`
	Minimum    *int               `json:"minimum,omitempty"`
	Items      *Schema            `json:"items,omitempty"`
	MinItems   *int               `json:"minItems,omitempty"`
	MaxItems   *int               `json:"maxItems,omitempty"`
	Encoding   string             `json:"contentEncoding,omitempty"`
	Properties map[string]*Schema `json:"properties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Additional *Schema            `json:"additionalProperties,omitempty"`
	AnyOf      []*Schema          `json:"anyOf,omitempty"`

	never bool // no value fits: `false`
}

// MarshalJSON writes a schema; one that no value fits is the word false.
func (s *Schema) MarshalJSON() ([]byte, error) {
	if s.never {
		return []byte("false"), nil
	}
	type plain Schema
	return json.Marshal((*plain)(s))
}

// kinds are the types that a value may have.
type kinds []string

// MarshalJSON writes one type as a word and several as a list.
func (k kinds) MarshalJSON() ([]byte, error) {
	if len(k) == 1 {
		return json.Marshal(k[0])
	}
	return json.Marshal([]string(k))
}

// schemas are those of the types that were met, by name.
type schemas struct {
	byName map[string]*Schema
	types  map[string]reflect.Type
	failed error
}

func newSchemas() *schemas { return &schemas{map[string]*Schema{}, map[string]reflect.Type{}, nil} }

// side is which way a value goes: requests refuse what they do not know.
type side bool

const (
	requests side = true
	answers  side = false
)

func (s *schemas) fail(format string, args ...any) {
	s.failed = errors.Join(s.failed, fmt.Errorf("describe the API: "+format, args...))
}

// name is how a type is called in the document: by its own name here, with the
// package's before it from elsewhere.
func (s *schemas) name(t reflect.Type) string {
	name := t.Name()
	if pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]; pkg != "api" {
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	if old, ok := s.types[name]; ok && old != t {
		s.fail("two types are called %s", name)
	}
	s.types[name] = t
	return name
}
