package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

func document(t *testing.T) (*Document, []byte) {
	t.Helper()
	d, err := Describe(Routes(Deps{}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return d, append(b, '\n')
}

// TestDocsOpenAPI holds the published description to the routes and types as
// they are; -update writes it anew.
func TestDocsOpenAPI(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "openapi.json")
	_, got := document(t)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the routes say: go test ./internal/api -run Docs -update", path)
	}
}

// TestEveryRouteIsDescribed: none is left out, and none is made up.
func TestEveryRouteIsDescribed(t *testing.T) {
	routes := Routes(Deps{})
	if _, err := Describe(append(slices.Clone(routes), Route{"GET /v1/new", "new", nil})); err == nil || !strings.Contains(err.Error(), "/v1/new") {
		t.Errorf("a route without a description: %v", err)
	}
	if _, err := Describe(routes[1:]); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(routes[0].Pattern, "GET ")) {
		t.Errorf("a description without a route: %v", err)
	}
	d, _ := document(t)
	for _, rt := range routes {
		method, path, _ := strings.Cut(rt.Pattern, " ")
		o, ok := d.Paths[path][strings.ToLower(method)]
		if !ok || o.Permission != rt.Permission || o.Summary == "" {
			t.Errorf("%s: %+v", rt.Pattern, o)
		}
	}
}

// TestDocumentHolds checks the document as OpenAPI 3.1 asks for it: names are
// unique, parameters are those of the path, and every reference leads to
// something.
func TestDocumentHolds(t *testing.T) {
	d, b := document(t)
	if d.OpenAPI != "3.1.0" || d.Info.Title == "" || d.Info.Version == "" || d.Info.License.Identifier == "" {
		t.Errorf("head %+v", d.Info)
	}
	methods := []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}
	word := regexp.MustCompile(`^[a-zA-Z0-9._-]+$`) // OpenAPI 3.1 §4.8.7
	ids := map[string]bool{}
	for path, item := range d.Paths {
		inPath := regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(path, -1)
		for method, o := range item {
			if !slices.Contains(methods, method) || !strings.HasPrefix(path, "/") || ids[o.ID] || !word.MatchString(o.ID) {
				t.Errorf("%s %s: %q", method, path, o.ID)
			}
			ids[o.ID] = true
			n := 0
			for _, p := range o.Parameters {
				if p.In == "path" {
					if n >= len(inPath) || inPath[n][1] != p.Name || !p.Required {
						t.Errorf("%s %s: parameter %q is not in the path", method, path, p.Name)
					}
					n++
				}
			}
			if n != len(inPath) || len(o.Responses["200"].Content) == 0 || o.Responses["default"].Ref == "" {
				t.Errorf("%s %s: %d parameters, answers %v", method, path, n, o.Responses)
			}
			if method == "get" && o.RequestBody != nil {
				t.Errorf("%s %s has a body", method, path)
			}
		}
	}
	for name := range d.Components.Schemas {
		if !word.MatchString(name) {
			t.Errorf("schema %q", name)
		}
	}
	seen := 0
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/([a-z]+)/([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		seen++
		_, schema := d.Components.Schemas[m[2]]
		_, answer := d.Components.Responses[m[2]]
		if m[1] == "schemas" && !schema || m[1] == "responses" && !answer {
			t.Errorf("%s leads nowhere", m[0])
		}
	}
	if seen < 40 {
		t.Errorf("looked at %d references", seen)
	}
}

// compiled are the schemas of the document, ready to judge values.
func compiled(t *testing.T, b []byte) func(name string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("https://hawser.example/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return func(name string) *jsonschema.Schema {
		s, err := c.Compile("https://hawser.example/openapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatalf("schema %s: %v", name, err)
		}
		return s
	}
}

// filled puts something into everything of a value.
func filled(v reflect.Value, depth int) {
	if depth > 14 {
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)))
		return
	}
	if list, ok := words()[v.Type()]; ok {
		v.SetString(list[0])
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem(), depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(`{"a":1}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		filled(v.Index(0), depth+1)
	case reflect.Array:
		for i := range v.Len() {
			filled(v.Index(i), depth+1)
		}
	case reflect.Map:
		k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(k, depth+1)
		filled(x, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, x)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				filled(v.Field(i), depth+1)
			}
		}
	}
}

func judged(t *testing.T, s *jsonschema.Schema, v any) error {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestSchemasAreTrue: what Go writes for the types of all answers, empty and
// full, fits the schemas; what has a wrong type, or lacks something, does not.
func TestSchemasAreTrue(t *testing.T) {
	_, b := document(t)
	schemaOf := compiled(t, b)
	s := newSchemas()
	tried := 0
	for pattern, o := range operations() {
		for _, x := range []struct {
			v   any
			way side
		}{{o.answer, answers}, {o.request, requests}} {
			if x.v == nil {
				continue
			}
			typ := reflect.TypeOf(x.v)
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			s.of(typ, x.way)
			schema := schemaOf(s.name(typ))
			v := reflect.New(typ).Elem()
			if x.way == answers { // an empty one with words that do not exist is never sent
				if err := judged(t, schema, v.Interface()); err != nil && !strings.Contains(err.Error(), "must be one of") {
					t.Errorf("%s: an empty %s: %v", pattern, typ, err)
				}
			}
			filled(v, 0)
			if err := judged(t, schema, v.Interface()); err != nil {
				t.Errorf("%s: a full %s: %v", pattern, typ, err)
			}
			if err := schema.Validate("text"); err == nil {
				t.Errorf("%s: a text passes as %s", pattern, typ)
			}
			open := x.way == answers && len(s.byName[s.name(typ)].Required) == 0 // nothing of it must be there
			if err := schema.Validate(map[string]any{"nobody-declared-this": true}); err == nil && !open {
				t.Errorf("%s: something undeclared passes as %s", pattern, typ)
			}
			tried++
		}
	}
	if tried < 40 || s.failed != nil {
		t.Errorf("tried %d types: %v", tried, s.failed)
	}
}

// TestNoTypeGoesBothWays: a request refuses what an answer may grow by.
func TestNoTypeGoesBothWays(t *testing.T) {
	for pattern, o := range operations() {
		for other, p := range operations() {
			if o.request != nil && p.answer != nil && reflect.TypeOf(o.request) == reflect.TypeOf(p.answer) {
				t.Errorf("%s asks with what %s answers", pattern, other)
			}
		}
	}
}

// TestTypesThatHaveNoSchema are refused, not guessed.
func TestTypesThatHaveNoSchema(t *testing.T) {
	for _, bad := range []any{struct{ F func() }{}, map[int]string{}, struct{ C chan int }{}, struct{ I any }{}, &Schema{}} {
		s := newSchemas()
		s.of(reflect.TypeOf(bad), answers)
		if s.failed == nil {
			t.Errorf("%T has a schema", bad)
		}
	}
	s := newSchemas()
	s.of(reflect.TypeFor[Problem](), answers)
	if len(s.types) != 1 || s.failed != nil {
		t.Errorf("met %v: %v", s.types, s.failed)
	}
	type Problem struct{ X int }
	s.of(reflect.TypeFor[Problem](), answers)
	if s.failed == nil {
		t.Error("two types have one name")
	}
}

// TestOpenAPIIsServed: the running door gives the very document.
func TestOpenAPIIsServed(t *testing.T) {
	c, _ := served(t, 10*time.Second, Routes(Deps{})...)
	var got, want json.RawMessage
	if err := c.Call(t.Context(), http.MethodGet, "/v1/openapi.json", nil, &got); err != nil {
		t.Fatal(err)
	}
	d, _ := document(t)
	want, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(got), want) {
		t.Errorf("%d bytes are served, want %d", len(got), len(want))
	}
}
