package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// traced are the system calls that change files, or say which are open.
const traced = "openat,open,creat,close,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,syncfs," +
	"rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,dup,dup2,dup3,mmap,copy_file_range,sendfile,splice"

// tracer is the command line in front of the server's: strace(1) with times,
// paths of descriptors, and all bytes in hexadecimal. -D keeps the server our
// own child.
func tracer(out string) []string {
	return []string{"strace", "-D", "-f", "-ttt", "-y", "-xx", "-s", "33554432", "-e", "trace=" + traced, "-e", "signal=none", "-o", out}
}

// call is one system call. It began before line began was written, and had
// ended when line ended was.
type call struct {
	name         string
	args         []string
	result       string // what follows "= "
	began, ended int    // lines of the trace
	at           int64  // Unix microseconds of its end
}

// readTrace reads what strace wrote. Calls are in the order of their ends; torn
// are those that were under way when the server was killed, in the order in
// which they began: each may have had its effect, and may not.
func readTrace(name string) (out, torn []call, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	type begun struct {
		text string
		line int
	}
	open := map[string]begun{} // by thread
	in := bufio.NewReaderSize(f, 1<<20)
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			for _, b := range open {
				c, err := parseCall(b.text + ") = ?")
				if err != nil {
					continue // it died before all of its arguments were read, so without an effect
				}
				c.modern()
				c.began = b.line
				torn = append(torn, c)
			}
			slices.SortFunc(torn, func(a, b call) int { return cmp.Compare(a.began, b.began) })
			return out, torn, nil // a last line without its end is of a thread that was killed
		}
		thread, rest, ok1 := strings.Cut(strings.TrimRight(line, "\n"), " ")
		stamp, text, ok2 := strings.Cut(strings.TrimLeft(rest, " "), " ")
		at, err := micros(stamp)
		if !ok1 || !ok2 || err != nil {
			return nil, nil, fmt.Errorf("line %d of the trace: %.80q", n+1, line)
		}
		began := n
		switch {
		case strings.HasPrefix(text, "+++"), strings.HasPrefix(text, "---"):
			continue
		case strings.HasSuffix(text, "<unfinished ...>"):
			open[thread] = begun{strings.TrimSuffix(text, "<unfinished ...>"), n}
			continue
		case strings.HasSuffix(text, "<detached ...>"): // it was killed meanwhile; "???(" is a call that was not even known yet
			open[thread] = begun{strings.TrimSuffix(text, "<detached ...>"), n}
			continue
		case strings.HasPrefix(text, "<... "):
			_, after, ok := strings.Cut(text, " resumed>")
			b, there := open[thread]
			if !ok || !there {
				return nil, nil, fmt.Errorf("line %d of the trace resumes what was not begun: %.80q", n+1, line)
			}
			text, began = b.text+after, b.line
			delete(open, thread)
		}
		c, err := parseCall(text)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d of the trace: %w", n+1, err)
		}
		c.modern()
		c.began, c.ended, c.at = began, n, at
		if strings.HasPrefix(c.result, "?") {
			torn = append(torn, c)
			continue
		}
		out = append(out, c)
	}
}

// modern turns the older form of a call on a path into the one that names a
// folder too.
func (c *call) modern() {
	const here = "AT_FDCWD"
	switch c.name {
	case "open", "unlink", "mkdir":
		c.name, c.args = c.name+"at", append([]string{here}, c.args...)
	case "rmdir":
		c.name, c.args = "unlinkat", append([]string{here}, c.args...)
	case "rename", "link":
		c.name, c.args = c.name+"at", []string{here, c.args[0], here, c.args[1]}
	}
}

func micros(s string) (int64, error) {
	whole, part, ok := strings.Cut(s, ".")
	if !ok || len(part) != 6 {
		return 0, fmt.Errorf("time %q", s)
	}
	a, err := strconv.ParseInt(whole, 10, 64)
	b, err2 := strconv.ParseInt(part, 10, 64)
	if err2 != nil {
		err = err2
	}
	return a*1e6 + b, err
}

// parseCall reads name(args) = result.
func parseCall(text string) (c call, err error) {
	name, rest, ok := strings.Cut(text, "(")
	if !ok {
		return c, fmt.Errorf("no call: %.80q", text)
	}
	c.name = name
	depth, quoted, from := 0, false, 0
	for i := 0; i < len(rest); i++ {
		switch b := rest[i]; {
		case b == '"':
			quoted = !quoted // bytes are \xNN: no quote is escaped
		case quoted:
		case b == '<' && i > 0 && rest[i-1] >= '0' && rest[i-1] <= '9', b == '<' && strings.HasSuffix(rest[:i], "AT_FDCWD"):
			end := strings.IndexByte(rest[i:], '>')
			if end < 0 {
				return c, fmt.Errorf("no end of a path: %.80q", text)
			}
			i += end
		case b == '[' || b == '{' || b == '(':
			depth++
		case depth > 0 && (b == ']' || b == '}' || b == ')'):
			depth--
		case b == ',' && depth == 0:
			c.args = append(c.args, strings.TrimSpace(rest[from:i]))
			from = i + 1
		case b == ')':
			c.args = append(c.args, strings.TrimSpace(rest[from:i]))
			_, c.result, ok = strings.Cut(rest[i:], "= ")
			if !ok {
				return c, fmt.Errorf("no result: %.80q", text)
			}
			return c, nil
		}
	}
	return c, fmt.Errorf("no end: %.80q", text)
}

// failed reports whether the call did nothing.
func (c *call) failed() bool {
	return strings.HasPrefix(c.result, "-1")
}

// count is the result as a number.
func (c *call) count() (int, error) {
	n, _, _ := strings.Cut(c.result, " ")
	n, _, _ = strings.Cut(n, "<")
	return strconv.Atoi(n)
}

var hexByte = regexp.MustCompile(`\\x[0-9a-f]{2}`)

// unhex is text with its \xNN as bytes.
func unhex(s string) []byte {
	if !strings.Contains(s, `\x`) {
		return []byte(s)
	}
	return hexByte.ReplaceAllFunc([]byte(s), func(b []byte) []byte {
		n, _ := strconv.ParseUint(string(b[2:]), 16, 8) // the expression lets nothing else through
		return []byte{byte(n)}
	})
}

// quotedBytes is a string argument.
func quotedBytes(arg string) ([]byte, error) {
	if len(arg) < 2 || arg[0] != '"' || arg[len(arg)-1] != '"' {
		return nil, fmt.Errorf("%.40q is no whole string", arg)
	}
	return unhex(arg[1 : len(arg)-1]), nil
}

// vector is the bytes of an array of iovec.
func vector(arg string) (out []byte, err error) {
	const key = "iov_base="
	for {
		i := strings.Index(arg, key)
		if i < 0 {
			return out, nil
		}
		arg = arg[i+len(key):]
		end := strings.Index(arg[1:], `"`)
		if end < 0 {
			return nil, fmt.Errorf("no end of a vector: %.40q", arg)
		}
		b, err := quotedBytes(arg[:end+2])
		if err != nil {
			return nil, err
		}
		out, arg = append(out, b...), arg[end+2:]
	}
}

// descriptor is the number and path of an argument like 7</a/b>.
func descriptor(arg string) (fd int, path string, err error) {
	n, rest, ok := strings.Cut(arg, "<")
	if !ok {
		return 0, "", nil // a socket, a pipe, or none
	}
	path, tail, ok := strings.Cut(rest, ">")
	if !ok {
		return 0, "", fmt.Errorf("descriptor %.80q", arg)
	}
	p := string(unhex(path))
	if strings.HasSuffix(tail, "(deleted)") {
		p += "(deleted)"
	}
	if n == "AT_FDCWD" {
		return -1, p, nil
	}
	fd, err = strconv.Atoi(n)
	return fd, p, err
}
