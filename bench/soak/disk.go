package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// disk is a folder as a file system would have it on its platter: what was
// synced, and what only the page cache holds. Its rules are those of ext4 with
// ordered data, at their weakest: names (made, renamed, removed) reach the disk
// in order, all of them with the next sync of anything; the bytes of a file,
// and its length, reach it with a sync of that file, and before that in any
// part and any order, page by page.
type disk struct {
	root   string
	strict bool             // names reach the disk with the sync of a folder only
	names  map[string]*file // as programs see them; folders are files too
	early  map[string]*file // on the platter
	late   []renaming       // between the two, in order
	before int              // how many came to the platter
	open   map[int]*handle
}

// file is one inode.
type file struct {
	folder bool
	now    []byte
	synced []byte
	late   []change // from synced to now
	before int      // how many came to the platter
}

// change is one write, or a new length.
type change struct {
	at   int64
	data []byte
	size int64 // >= 0: a new length, and no data
}

type handle struct {
	file   *file
	at     int64
	append bool
}

// renaming is one change of names: make (from == ""), remove (to == ""), or
// rename.
type renaming struct {
	from, to string
	file     *file
}

// page is what a disk writes at once.
const page = 4096

// load reads a folder as it lies there: all of it synced.
func load(root string) (*disk, error) {
	d := &disk{root: root, names: map[string]*file{}, early: map[string]*file{}, open: map[int]*handle{}}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSocket != 0 || path == root {
			return err
		}
		f := &file{folder: e.IsDir()}
		if !f.folder {
			if f.now, err = os.ReadFile(path); err != nil {
				return err
			}
			f.synced = bytes.Clone(f.now)
		}
		d.names[path], d.early[path] = f, f
		return nil
	})
	return d, err
}

func (d *disk) inside(path string) bool { return strings.HasPrefix(path, d.root+"/") }

// aside are files that are no part of an installation: the shared memory of
// SQLite, which lives in a mapping and is made anew whatever is left of it, and
// what the server says, which was opened before it began.
func aside(path string) bool {
	return strings.HasSuffix(path, "-shm") || filepath.Base(path) == "serve.log"
}

func (f *file) do(c change) {
	f.now = c.apply(f.now)
	f.late = append(f.late, c)
}

func (c *change) apply(b []byte) []byte {
	if c.size >= 0 {
		if c.size <= int64(len(b)) {
			return b[:c.size]
		}
		return append(b, make([]byte, c.size-int64(len(b)))...)
	}
	if end := c.at + int64(len(c.data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.at:], c.data)
	return b
}

// syncing is what a sync that has begun will have made durable at its end:
// everything up to these counts.
type syncing struct {
	file    *file
	changes int
	names   int
}

// begin says what a call may count on when it began: of a sync, what was
// there before it. A descriptor is closed from the beginning of its close on:
// another thread may have its number before the end is seen.
func (d *disk) begin(c *call) (*syncing, error) {
	if c.name == "close" {
		fd, path, err := descriptor(c.args[0])
		if err == nil && d.inside(path) {
			delete(d.open, fd)
		}
		return nil, err
	}
	if c.name != "fsync" && c.name != "fdatasync" {
		return nil, nil
	}
	fd, path, err := descriptor(c.args[0])
	if err != nil || !d.inside(path) || strings.HasSuffix(path, "(deleted)") {
		return nil, err
	}
	if h := d.open[fd]; h != nil {
		return &syncing{h.file, h.file.before + len(h.file.late), d.before + len(d.late)}, nil
	}
	return nil, fmt.Errorf("%s of %s, which is not open", c.name, path)
}

// end applies a call that has ended; s is what begin gave for it.
func (d *disk) end(c *call, s *syncing) error {
	if c.failed() {
		return nil
	}
	if err := d.apply(c, s); err != nil {
		return fmt.Errorf("%s(%.200s) = %s: %w", c.name, strings.Join(c.args, ", "), c.result, err)
	}
	return nil
}

var errUnknown = errors.New("this call is not known here")

func (d *disk) apply(c *call, s *syncing) error {
	switch c.name {
	case "openat":
		return d.opened(c)
	case "close": // done when it began
		return nil
	case "mkdirat", "unlinkat", "renameat", "renameat2", "linkat":
		return d.named(c)
	case "fsync", "fdatasync":
		if s != nil {
			d.synced(s)
		}
		return nil
	case "mmap":
		return d.mapped(c)
	}
	for _, a := range c.args { // a path where it is not looked for
		if p, err := quotedBytes(a); err == nil && c.name != "write" && c.name != "pwrite64" && d.inside(string(p)) {
			return errUnknown
		}
	}
	if len(c.args) == 0 {
		return errUnknown
	}
	fd, path, err := descriptor(c.args[0])
	if err != nil || !d.inside(path) || aside(path) || strings.HasSuffix(path, "(deleted)") {
		return err
	}
	h := d.open[fd]
	if h == nil {
		return errors.New("the descriptor is not open")
	}
	return h.apply(c)
}

func (h *handle) apply(c *call) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	number := func(i int) (v int64) {
		if err == nil {
			v, err = strconv.ParseInt(c.args[i], 0, 64)
		}
		return v
	}
	var data []byte
	switch c.name {
	case "write", "pwrite64":
		data, err = quotedBytes(c.args[1])
	case "writev", "pwritev":
		data, err = vector(c.args[1])
	case "ftruncate":
		if size := number(1); err == nil {
			h.file.do(change{size: size})
		}
		return err
	case "fallocate":
		if end := number(2) + number(3); err == nil && c.args[1] == "0" && end > int64(len(h.file.now)) {
			h.file.do(change{size: end})
		}
		return err
	case "lseek":
		h.at = int64(n)
		return nil
	default:
		return errUnknown
	}
	if err != nil {
		return err
	}
	if len(data) < n {
		return fmt.Errorf("the trace has %d of %d bytes", len(data), n)
	}
	data = data[:n]
	if c.name[0] == 'p' {
		at := number(len(c.args) - 1)
		if err == nil {
			h.file.do(change{at: at, data: data, size: -1})
		}
		return err
	}
	if h.append {
		h.at = int64(len(h.file.now))
	}
	h.file.do(change{at: h.at, data: data, size: -1})
	h.at += int64(n)
	return nil
}

func (d *disk) opened(c *call) error {
	fd, path, err := descriptor(c.result)
	if err != nil || !d.inside(path) && path != d.root {
		return err
	}
	flags := c.args[2]
	f := d.names[path]
	if f == nil {
		if path == d.root {
			f = &file{folder: true}
		} else if strings.Contains(flags, "O_CREAT") {
			f = &file{}
			d.rename(renaming{to: path, file: f})
		} else if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 || aside(path) {
			return nil
		} else {
			return errors.New("it opens what is not there")
		}
	}
	if strings.Contains(flags, "O_TRUNC") && len(f.now) > 0 {
		f.do(change{size: 0})
	}
	d.open[fd] = &handle{file: f, append: strings.Contains(flags, "O_APPEND")}
	return nil
}

// mapped refuses what this model cannot follow: writing through memory.
func (d *disk) mapped(c *call) error {
	if len(c.args) < 5 || !strings.Contains(c.args[3], "MAP_SHARED") || !strings.Contains(c.args[2], "PROT_WRITE") {
		return nil
	}
	_, path, err := descriptor(c.args[4])
	if err == nil && d.inside(path) && !aside(path) {
		err = errors.New("it writes through memory")
	}
	return err
}

// place is the path that a folder's descriptor and a name give.
func place(folder, name string) (string, error) {
	n, err := quotedBytes(name)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(string(n)) {
		return filepath.Clean(string(n)), nil
	}
	_, at, err := descriptor(folder)
	return filepath.Join(at, string(n)), err
}

func (d *disk) named(c *call) error {
	from, err := place(c.args[0], c.args[1])
	if err != nil {
		return err
	}
	if !d.inside(from) {
		return nil
	}
	switch c.name {
	case "mkdirat":
		d.rename(renaming{to: from, file: &file{folder: true}})
	case "unlinkat":
		if aside(from) || d.names[from] == nil && strings.HasSuffix(from, ".sock") {
			delete(d.names, from)
			return nil
		}
		if d.names[from] == nil {
			return errors.New("it removes what is not there")
		}
		d.rename(renaming{from: from, file: d.names[from]})
	default:
		to, err := place(c.args[2], c.args[3])
		if err != nil {
			return err
		}
		if d.names[from] == nil || !d.inside(to) {
			return errors.New("it renames what is not there, or moves it away")
		}
		if c.name == "linkat" {
			d.rename(renaming{to: to, file: d.names[from]})
			return nil
		}
		d.rename(renaming{from: from, to: to, file: d.names[from]})
	}
	return nil
}

func (d *disk) rename(r renaming) {
	r.apply(d.names)
	d.late = append(d.late, r)
}

func (r *renaming) apply(names map[string]*file) {
	if r.from != "" {
		delete(names, r.from)
	}
	if r.to != "" {
		names[r.to] = r.file
	}
	if r.from == "" || !r.file.folder {
		return
	}
	for path, f := range names { // what is in a folder goes with it
		if rest, ok := strings.CutPrefix(path, r.from+"/"); ok {
			delete(names, path)
			if r.to != "" {
				names[r.to+"/"+rest] = f
			}
		}
	}
}

func (d *disk) synced(s *syncing) {
	f := s.file
	if n := s.changes - f.before; n > 0 { // else another sync has been quicker
		for i := range f.late[:n] {
			f.synced = f.late[i].apply(f.synced)
		}
		f.late, f.before = slices.Delete(f.late, 0, n), s.changes
	}
	if n := s.names - d.before; n > 0 && (!d.strict || f.folder) {
		for i := range d.late[:n] {
			d.late[i].apply(d.early)
		}
		d.late, d.before = slices.Delete(d.late, 0, n), s.names
	}
}

// cut leaves on the platter what a loss of power could: all that was synced,
// and of the rest what dice say.
func (d *disk) cut(dice *rand.Rand) map[string][]byte {
	names := maps.Clone(d.early)
	for i := range d.late[:some(dice, len(d.late))] {
		d.late[i].apply(names)
	}
	out := map[string][]byte{}
	mood := dice.IntN(4)
	for _, path := range slices.Sorted(maps.Keys(names)) {
		switch f := names[path]; {
		case f.folder:
			out[path] = nil
		case aside(path):
		default:
			out[path] = append([]byte{}, f.torn(dice, mood)...)
		}
	}
	return out
}

// some is none, all, or some of n.
func some(dice *rand.Rand, n int) int {
	switch dice.IntN(3) {
	case 0:
		return 0
	case 1:
		return n
	default:
		return dice.IntN(n + 1)
	}
}

// torn is what could be left of a file. mood 0 drops all that was not synced
// and 1 keeps it; else each file has a fate of its own.
func (f *file) torn(dice *rand.Rand, mood int) []byte {
	if len(f.late) == 0 || mood == 0 {
		return f.synced
	}
	if mood == 1 {
		return f.now
	}
	b := bytes.Clone(f.synced)
	switch dice.IntN(4) {
	case 0:
	case 1:
		b = f.now
	case 2: // in order, and the last one torn
		n := some(dice, len(f.late))
		for i := range f.late[:n] {
			b = f.late[i].apply(b)
		}
		if n < len(f.late) && f.late[n].size < 0 {
			c := f.late[n]
			c.data = c.data[:dice.IntN(len(c.data)+1)/512*512]
			b = c.apply(b)
		}
	default: // page by page, in no order
		for i := range f.late {
			if c := f.late[i]; c.size >= 0 {
				b = c.apply(b)
			}
		}
		for at := 0; at < len(f.now); at += page {
			end := min(at+page, len(f.now))
			if dice.IntN(2) == 0 && (end > len(b) || !bytes.Equal(b[at:end], f.now[at:end])) {
				c := change{at: int64(at), data: f.now[at:end], size: -1}
				b = c.apply(b)
			}
		}
	}
	return b
}

// write puts a state of the folder into place of what is there.
func write(root string, state map[string][]byte) error {
	left, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(state)) { // folders come before what is in them
		if b := state[path]; b == nil {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
