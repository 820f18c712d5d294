package telemetry

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// undeclaredIn says what a stored part has that its declaration does not. A
// name that nobody declared is made up by a device and is not repeated.
func undeclaredIn(p *declaration.Policy, r *Row, object []byte) string {
	version := fmt.Sprintf("version %d of %s", p.Version, p.Product)
	group := int(r.Part.Group)
	switch {
	case r.Reading.Product != p.Product:
		return "names the declaration of another product"
	case group >= len(p.Groups):
		return version + " has no such group"
	case p.Groups[group].Keep != r.Part.Epoch.Keep:
		return fmt.Sprintf("is kept for %s; %s declares %s", r.Part.Epoch.Keep, version, p.Groups[group].Keep)
	}
	undeclared := 0
	err := eachMember(object, func(m jsonMember) {
		if f := declaredAs(p, r, m.name); f == nil {
			undeclared++
		}
	})
	switch {
	case err != nil:
		return "holds something else than an object of fields"
	case undeclared > 0:
		return fmt.Sprintf("holds %d fields that %s does not declare for it", undeclared, version)
	}
	return ""
}

func declaredAs(p *declaration.Policy, r *Row, name []byte) *declaration.Field {
	_, f := p.Field(string(name))
	if f == nil || f.Stream != r.Reading.Stream || f.Group != int(r.Part.Group) {
		return nil
	}
	return f
}

// outOfDeclared says which stored value is not as declared, and never the
// value. It shares nothing with the judge of messages: numbers are compared as
// fractions.
func outOfDeclared(p *declaration.Policy, r *Row, object []byte) (why string) {
	err := eachMember(object, func(m jsonMember) {
		f := declaredAs(p, r, m.name)
		if f == nil || why != "" {
			return // the other check's business
		}
		value := string(m.whole[len(m.name)+3:])
		if wrong := wrongValue(f, value); wrong != "" {
			why = fmt.Sprintf("field %s, version %d of %s: %s", f.Name, p.Version, p.Product, wrong)
		}
	})
	if err != nil {
		return "holds something else than an object of fields"
	}
	return why
}

const notItsType = "not of its type"

func wrongValue(f *declaration.Field, value string) string {
	switch f.Type {
	case declaration.Number, declaration.Integer:
		return wrongNumber(f, value)
	case declaration.Boolean:
		if value != "true" && value != "false" {
			return notItsType
		}
		return ""
	}
	var text string
	if json.Unmarshal([]byte(value), &text) != nil {
		return notItsType
	}
	switch f.Type {
	case declaration.String:
		if n := utf8.RuneCountInString(text); n < f.MinLength || n > f.MaxLength {
			return "its length is not as declared"
		}
	case declaration.Enum:
		if !slices.Contains(f.Values, text) {
			return "none of the declared values"
		}
	case declaration.Timestamp:
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return notItsType
		}
	}
	return ""
}

func wrongNumber(f *declaration.Field, value string) string {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || strings.ContainsAny(value, "xX_pPiInN") {
		return notItsType
	}
	if f.HasRange && (v < f.Min || v > f.Max) {
		return "outside of its declared range"
	}
	exact, ok := new(big.Rat).SetString(value)
	if !ok || len(value) > maxNumber {
		return notItsType
	}
	if f.Type == declaration.Integer && !exact.IsInt() {
		return notItsType
	}
	if f.Precision != 0 {
		step, ok := new(big.Rat).SetString(strconv.FormatFloat(f.Precision, 'e', -1, 64))
		if !ok || !exact.Quo(exact, step).IsInt() {
			return "finer than declared"
		}
	}
	return ""
}
