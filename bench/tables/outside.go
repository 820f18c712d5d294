package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// show runs the load generator and prints what it says.
func (b *bench) show(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.load, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	fmt.Printf("    %s", out)
	return nil
}

// idleConnections holds connections that say nothing.
func (b *bench) idleConnections(ctx context.Context) error {
	began := time.Now()
	h, certs, err := b.home(ctx, "idle", oneGroup, b.idle)
	if err != nil {
		return err
	}
	defer func() { _ = h.Stop() }() // measured already
	fmt.Printf("    installation with %d enrolled devices ready after %.0f s\n", b.idle, time.Since(began).Seconds())
	return b.show(ctx, "idle", "-addr", h.Devices(), "-certs", certs, "-pid", strconv.Itoa(h.PID()), "-n", strconv.Itoa(b.idle), "-settle", "15s", "-hold", "5s")
}

// handshakes connects anew again and again, certificate checked and device
// identified each time. There are so many devices because one that comes back
// every few milliseconds is told to wait.
func (b *bench) handshakes(ctx context.Context) error {
	h, certs, err := b.home(ctx, "idle", oneGroup, b.idle)
	if err != nil {
		return err
	}
	defer func() { _ = h.Stop() }() // measured already
	for range 3 {
		if err := b.show(ctx, "handshakes", "-addr", h.Devices(), "-certs", certs, "-pid", strconv.Itoa(h.PID()), "-n", strconv.Itoa(b.idle), "-duration", "5s"); err != nil {
			return err
		}
	}
	return nil
}

// bytesStored sends readings and divides what they take on disk, once the
// server has stopped in good order, by their number.
func (b *bench) bytesStored(ctx context.Context) error {
	fmt.Println("| sealed groups | readings | rows | bytes in epoch files per reading | bytes in the control database per reading |\n|--:|--:|--:|--:|--:|")
	for _, g := range []groups{oneGroup, threeGroups} {
		dir, err := os.MkdirTemp(b.dir, "bytes")
		if err != nil {
			return err
		}
		one := *b
		one.homes = dir
		h, certs, err := one.home(ctx, "bytes", g, 20)
		if err != nil {
			return err
		}
		control := filepath.Join(h.Dir, "data", "control.db*")
		before, err := size(control)
		if err != nil {
			return errors.Join(err, h.Stop())
		}
		cmd := exec.CommandContext(ctx, b.load, "run", "-json", "-addr", h.Devices(), "-certs", certs, "-n", "20", "-window", "16", "-warm", "0s", "-duration", "8s", "-payload", payload(1))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.Join(fmt.Errorf("%w\n%s", err, out), h.Stop())
		}
		if err := h.Settle(ctx); err != nil {
			return errors.Join(err, h.Stop())
		}
		rows, err := h.Metric(ctx, "projector_rows_total")
		if err != nil {
			return errors.Join(err, h.Stop())
		}
		if err := h.Stop(); err != nil {
			return err
		}
		files, err := size(filepath.Join(h.Dir, "data", "telemetry", "*"))
		if err != nil {
			return err
		}
		after, err := size(control)
		if err != nil {
			return err
		}
		n := rows / float64(g)
		fmt.Printf("| %d | %.0f | %.0f | %.0f | %.2f |\n", g, n, rows, float64(files)/n, float64(after-before)/n)
	}
	return nil
}

// size is what the files that match take, folders with all that is in them.
func size(pattern string) (n int64, err error) {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, filepath.WalkDir(name, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				n += info.Size()
			}
			return err
		}))
	}
	return n, err
}

// clockTick is USER_HZ, which Linux fixes at 100 for everything that user
// space sees (proc(5)).
const clockTick = 10 * time.Millisecond

// processTime is the user and system time that process pid has used.
func processTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in field 2 may hold spaces; fields are counted after its ')'.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	var ticks int64
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
