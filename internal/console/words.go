package console

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// funcs are what templates may call.
func funcs(a *assets) template.FuncMap {
	return template.FuncMap{
		"asset":  a.url,
		"num":    num,
		"stamp":  stamp,
		"day":    day,
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"ago":    ago,
		"span":   span,
		"cut":    cut,
		"short":  short,
		"list":   list,
		"digest": func(s string) bool { _, err := core.ParseHash(s); return err == nil },
		"plural": func(n any, one, many string) (string, error) {
			x, err := whole(n)
			if err != nil {
				return "", err
			}
			if x == 1 {
				return num(1) + " " + one, nil
			}
			return num(x) + " " + many, nil
		},
		"pieces":   pieces,
		"sentence": sentence, "pages": entries,
		"when": func(now, t time.Time) moment { return moment{now, t} },
	}
}

// moment is a time, and the one that it is seen from.
type moment struct{ Now, T time.Time }

func whole(n any) (uint64, error) {
	switch n := n.(type) {
	case int:
		return uint64(max(n, 0)), nil
	case int64:
		return uint64(max(n, 0)), nil
	case uint64:
		return n, nil
	}
	return 0, fmt.Errorf("%T is no count", n)
}

// num is a count with its thousands apart.
func num(n any) string {
	x, err := whole(n)
	if err != nil {
		return "?"
	}
	s := strconv.FormatUint(x, 10)
	var b strings.Builder
	for i, d := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteString("\u202f")
		}
		b.WriteRune(d)
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
func day(t time.Time) string   { return t.UTC().Format("2 January 2006") }

// ago is how long before now something was, in one unit: people compare, they
// do not add.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < -2*time.Second:
		return "in " + span(-d)
	case d < 2*time.Second:
		return "just now"
	default:
		return span(d) + " ago"
	}
}

// span is a duration in the unit that fits it.
func span(d time.Duration) string {
	n := func(x float64, one string) string {
		i := int(math.Round(x))
		if i == 1 {
			return "1 " + one
		}
		return strconv.Itoa(i) + " " + one + "s"
	}
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Millisecond:
		return "less than 1 ms"
	case d < 2*time.Second && d%time.Second != 0:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 2*time.Minute:
		return n(d.Seconds(), "second")
	case d < 2*time.Hour:
		return n(d.Minutes(), "minute")
	case d < 2*day:
		return n(d.Hours(), "hour")
	case d < 2*365*day:
		return n(d.Hours()/24, "day")
	default:
		return n(d.Hours()/24/365, "year")
	}
}

// cut is the beginning of a long text.
func cut(n int, s string) string {
	if len(s) <= n {
		return s
	}
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:n]), " ,;:") + "…"
}

// short is the beginning of a digest: enough to compare by eye.
func short(s string) string { return s[:min(12, len(s))] }

// list is words with commas, and the last with "and".
func list(words []string) string {
	words = slices.Clone(words)
	if n := len(words); n > 1 {
		words[n-2] += " and " + words[n-1]
		words = words[:n-1]
	}
	return strings.Join(words, ", ")
}

// piece is a part of a text: what stands between backticks is to be typed.
type piece struct {
	Text string
	Code bool
}

func pieces(s string) []piece {
	parts := strings.Split(s, "`")
	if len(parts)%2 == 0 { // one is never closed
		return []piece{{Text: s}}
	}
	var out []piece
	for i, p := range parts {
		if p != "" {
			out = append(out, piece{p, i%2 == 1})
		}
	}
	return out
}
