package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// same says where what programs saw last differs from what lies there: if the
// trace was followed to its end without a slip, nowhere. Of the calls that were
// under way when the server was killed each may have had its effect; a write
// may have had it up to the end of a page.
func (d *disk) same(torn []call) error {
	there, err := load(d.root)
	if err != nil {
		return err
	}
	writes, names := map[string][]tear{}, map[string]bool{} // names: true, where another file may lie there
	for _, c := range torn {
		if err := d.mayHave(&c, writes, names); err != nil {
			return fmt.Errorf("%s, which was under way: %w", c.name, err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.names)) {
		f, g := d.names[path], there.names[path]
		_, loose := names[path]
		switch {
		case aside(path):
		case g == nil && loose:
		case g == nil || g.folder != f.folder:
			return fmt.Errorf("%s is not there", path)
		case names[path]:
		case !ends(f.now, g.now, writes[path]):
			return fmt.Errorf("%s has %d bytes, and by the trace %d others", path, len(g.now), len(f.now))
		}
	}
	for path := range there.names {
		if _, loose := names[path]; d.names[path] == nil && !loose && !aside(path) {
			return fmt.Errorf("%s is there, and not by the trace", path)
		}
	}
	return nil
}

// mayHave notes what a call that was under way may have changed: the bytes of
// a file, or names.
func (d *disk) mayHave(c *call, writes map[string][]tear, names map[string]bool) error {
	switch c.name {
	case "openat", "mkdirat", "unlinkat", "renameat", "renameat2", "linkat":
		for i := 0; i+1 < len(c.args) && i <= 2; i += 2 {
			if p, err := place(c.args[i], c.args[i+1]); err == nil && d.inside(p) && changesNames(c) {
				names[p] = names[p] || strings.HasPrefix(c.name, "rename") || c.name == "openat" && strings.Contains(c.args[2], "O_TRUNC")
			}
		}
		return nil
	case "write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate":
		fd, path, err := descriptor(c.args[0])
		if err != nil || !d.inside(path) || aside(path) {
			return err
		}
		if h := d.open[fd]; h != nil {
			writes[path] = append(writes[path], tear{*c, *h})
		}
	}
	return nil
}

// changesNames reports whether a call on a path may do more than open what is
// there.
func changesNames(c *call) bool {
	return c.name != "openat" || len(c.args) > 2 && (strings.Contains(c.args[2], "O_CREAT") || strings.Contains(c.args[2], "O_TRUNC"))
}

// tear is a write that was under way, and where its file was written.
type tear struct {
	call call
	by   handle
}

// ends reports whether the writes, each done, done in part or not begun, lead
// from one content to another.
func ends(from, to []byte, writes []tear) bool {
	if len(writes) == 0 || bytes.Equal(from, to) {
		return bytes.Equal(from, to)
	}
	if len(writes) > 4 {
		return false // more threads than ever write one file
	}
	w, rest := writes[0], writes[1:]
	if ends(from, to, rest) {
		return true
	}
	size, at := w.call.bytes(), w.by.at
	if w.by.append {
		at = int64(len(from))
	}
	if w.call.name[0] == 'p' {
		at, _ = strconv.ParseInt(w.call.args[len(w.call.args)-1], 0, 64) // apply says what is wrong with it
	}
	for n := size; n >= 0; n-- {
		if n < size && (at+int64(n))%page != 0 {
			continue
		}
		f := &file{now: bytes.Clone(from)}
		h := handle{file: f, at: w.by.at, append: w.by.append}
		c := w.call
		c.result = fmt.Sprint(n)
		if h.apply(&c) == nil && ends(f.now, to, rest) {
			return true
		}
	}
	return false
}

// bytes is how many a call would have written, 0 for one that writes none.
func (c *call) bytes() int {
	var b []byte
	switch c.name {
	case "write", "pwrite64":
		b, _ = quotedBytes(c.args[1]) // none: then the call explains nothing
	case "writev", "pwritev":
		b, _ = vector(c.args[1])
	}
	return len(b)
}
