package server

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
)

// Key is one key of the configuration, as its comment in Config explains it.
type Key struct {
	Name    string `json:"key"`
	Meaning string `json:"meaning"`
	Default string `json:"default"`
	Example string `json:"example"`
}

// DescribeConfig lists the keys of config.yaml. It reads the comments of the
// Config struct from the program's own source, so that code and manual cannot
// disagree.
func DescribeConfig() ([]Key, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "config.go", configSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read own configuration source: %w", err)
	}
	var keys []Key
	ast.Inspect(f, func(n ast.Node) bool {
		ts, ok := n.(*ast.TypeSpec)
		if !ok || ts.Name.Name != "Config" {
			return true
		}
		for _, fl := range ts.Type.(*ast.StructType).Fields.List {
			if fl.Tag == nil {
				continue
			}
			tag := reflect.StructTag(strings.Trim(fl.Tag.Value, "`"))
			text := strings.Join(strings.Fields(fl.Doc.Text()), " ")
			meaning, rest, _ := strings.Cut(text, " Default: ")
			def, example, _ := strings.Cut(rest, ". Example: ")
			// The comment opens with the Go name; the reader knows the key.
			_, meaning, _ = strings.Cut(meaning, " ")
			keys = append(keys, Key{Name: tag.Get("yaml"), Meaning: meaning, Default: def, Example: example})
		}
		return false
	})
	return keys, nil
}

// ConfigReference is docs/config.md.
func ConfigReference() (string, error) {
	keys, err := DescribeConfig()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# config.yaml\n\n<!-- Made by `make docs` from internal/server/config.go; do not edit. -->\n\n")
	b.WriteString("`config.yaml` lies in the home folder (`--home`). It may be missing or empty: every key has a safe default. ")
	b.WriteString("An unknown key is an error. Paths that are not absolute count from the home folder. ")
	b.WriteString("`hawser config check` reads it with the very code that `hawser serve` runs.\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "\n## %s\n\n`%s` %s\n\n- Default: `%s`\n- Example: `%s: %s`\n", k.Name, k.Name, k.Meaning, k.Default, k.Name, k.Example)
	}
	return b.String(), nil
}
