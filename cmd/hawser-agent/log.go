package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// newLog makes the log in one of its two forms.
func newLog(w io.Writer, form string) *slog.Logger {
	if form == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(&human{w: w, mu: &sync.Mutex{}})
}

// human writes lines for a person's eye: time, what happened, and the rest as
// name=value.
type human struct {
	w     io.Writer
	attrs string

	mu *sync.Mutex // one line at a time
}

func (h *human) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *human) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Time.Format("15:04:05 "))
	if r.Level >= slog.LevelWarn {
		b.WriteString(strings.ToLower(r.Level.String()) + ": ")
	}
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(text(a))
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

func text(a slog.Attr) string {
	v := a.Value.Resolve().String()
	if v == "" {
		return ""
	}
	if strings.ContainsAny(v, " \"=\n\t") {
		v = fmt.Sprintf("%q", v)
	}
	return " " + a.Key + "=" + v
}

func (h *human) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	for _, a := range attrs {
		n.attrs += text(a)
	}
	return &n
}

// WithGroup: the agent and its library use no groups.
func (h *human) WithGroup(string) slog.Handler { return h }
