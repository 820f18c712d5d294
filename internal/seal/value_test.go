package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

type contact struct {
	Name  string `json:"name"`
	Phone string `json:"phone"`
}

func TestSealedValue(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 2)
	plain := contact{Name: "Ada Canary", Phone: "+44 20 5550 0199"}
	v, err := seal.Seal(k, s[0], "ownership.contact", plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Open(k, s[0], "ownership.contact"); err != nil || got != plain {
		t.Errorf("opened %+v, %v", got, err)
	}
	_, err = v.Open(k, s[1], "ownership.contact")
	wantReason(t, "another subject", err, core.Invalid, "not-authentic")
	_, err = v.Open(k, s[0], "ownership.note")
	wantReason(t, "another context", err, core.Invalid, "not-authentic")
	for i := range v.Bytes() {
		b := bytes.Clone(v.Bytes())
		b[i] ^= 0x40
		_, err = seal.SealedOf[contact](b).Open(k, s[0], "ownership.contact")
		wantReason(t, fmt.Sprintf("byte %d changed", i), err, core.Invalid, "not-authentic")
	}
	_, err = seal.SealedOf[contact](v.Bytes()[:20]).Open(k, s[0], "ownership.contact")
	wantReason(t, "cut short", err, core.Invalid, "not-authentic")
	_, err = seal.Sealed[contact]{}.Open(k, s[0], "ownership.contact")
	wantReason(t, "no value", err, core.Unknown, "no-value")

	if _, err := k.Shred(t.Context(), seal.Order{Subjects: s[:1]}); err != nil {
		t.Fatal(err)
	}
	_, err = v.Open(k, s[0], "ownership.contact")
	if wantReason(t, "after erasure", err, core.Unknown, "erased"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("got %v, want ErrNoKey", err)
	}
}

// TestSealedNeverTells (CC 2.10) prints a sealed value in every way there is, inside
// other values too: neither the plain value nor the ciphertext is in it,
// except in JSON, which carries the ciphertext.
func TestSealedNeverTells(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 1)[0]
	v, err := seal.Seal(k, s, "c", contact{Name: "Ada Canary"})
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID string
		V  seal.Sealed[contact]
		P  *seal.Sealed[contact]
	}
	r := row{ID: "1", V: v, P: &v}
	var log bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))} {
		l.Info("m", slog.Any("v", v), slog.Any("p", &v))
	}
	if strings.Count(log.String(), "[sealed]") != 4 {
		t.Errorf("log: %s", log.String())
	}
	printed := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		printed += fmt.Sprintf(verb, v) + fmt.Sprintf(verb, r)
	}
	j, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"print": printed, "json": string(j), "bytes": string(v.Bytes())} {
		if strings.Contains(text, "Canary") {
			t.Errorf("%s tells: %s", where, text)
		}
	}
	var back row
	if err := json.Unmarshal(j, &back); err != nil {
		t.Fatal(err)
	}
	if got, err := back.V.Open(k, s, "c"); err != nil || got.Name != "Ada Canary" {
		t.Errorf("through JSON: %+v, %v", got, err)
	}
	for _, bad := range []string{`"!!"`, `12`, `{"name":"Ada"}`, `"YQ"`} {
		if err := json.Unmarshal([]byte(bad), &back.V); err == nil {
			t.Errorf("%s was taken for a sealed value", bad)
		}
	}
	if b, err := json.Marshal(seal.Sealed[contact]{}); err != nil || string(b) != "null" {
		t.Errorf("no value: %s, %v", b, err)
	}
}

func TestSealedColumn(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 1)[0]
	v, err := seal.Seal(k, s, "c", 42)
	if err != nil {
		t.Fatal(err)
	}
	column := bytes.Clone(v.Bytes())
	var got seal.Sealed[int]
	if err := got.Scan(column); err != nil {
		t.Fatal(err)
	}
	clear(column) // drivers reuse their buffers
	if n, err := got.Open(k, s, "c"); err != nil || n != 42 {
		t.Errorf("got %d, %v", n, err)
	}
	if err := got.Scan("42"); err == nil {
		t.Error("a text column was taken for a sealed one")
	}
	if err := got.Scan(nil); err != nil || !got.IsZero() {
		t.Errorf("NULL: %v, %v", got.IsZero(), err)
	}
	if !seal.IsSealed(reflect.TypeOf(got)) || !seal.IsSealed(reflect.TypeFor[seal.Sealed[contact]]()) {
		t.Error("Sealed is not known as sealed")
	}
	if seal.IsSealed(reflect.TypeFor[[]byte]()) || seal.IsSealed(reflect.TypeFor[contact]()) {
		t.Error("a plain type is taken for sealed")
	}
}
