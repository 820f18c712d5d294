// Command storm measures what reconnects do to those who stay: a real server,
// a crowd of connected devices of which many come back at once, and others,
// whose acknowledgements are timed all the while.
//
// The crowd is a process of its own at the lowest priority, because it stands
// for machines elsewhere: what it computes must not be charged to the server.
// Each device sends its next reading when the last is acknowledged, so that
// what was acknowledged is a count, which is compared with what can be read
// back.
//
// It prints one JSON object and fails when an acknowledged reading is missing
// or the others' p99 grows beyond -factor.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
)

//go:embed storm.yaml
var declared []byte

type options struct {
	hawser, dir, more string
	devices, others   int
	span, calm        time.Duration
	every, rate       time.Duration
	share             float64
	factor            float64
	crowd             string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.hawser, "hawser", "bin/hawser", "the server's program")
	flag.StringVar(&o.more, "config", "", "lines that are added to the server's configuration")
	flag.IntVar(&o.devices, "devices", 8000, "connected devices")
	flag.IntVar(&o.others, "others", 200, "of these, devices that stay and are timed")
	flag.DurationVar(&o.span, "span", 30*time.Minute, "how long the crowd reconnects")
	flag.DurationVar(&o.calm, "calm", time.Minute, "how long it is calm before")
	flag.DurationVar(&o.every, "every", time.Minute, "a part of the crowd reconnects so often")
	flag.Float64Var(&o.share, "share", 0.1, "how large a part")
	flag.DurationVar(&o.rate, "rate", 10*time.Second, "each device of the crowd sends so often; the others ten times as often")
	flag.Float64Var(&o.factor, "factor", 3, "how much the others' p99 may grow")
	flag.StringVar(&o.crowd, "crowd", "", "only for the crowd itself: the file with its devices")
	flag.Parse()
	run := storm
	if o.crowd != "" {
		run = crowd
	}
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

// result is what a storm did.
type result struct {
	Devices    int     `json:"devices"`
	Others     int     `json:"others"`
	Storms     int     `json:"storms"`
	Reconnects int     `json:"reconnects"`
	Failed     int     `json:"failed_attempts"`
	SlowestMS  float64 `json:"slowest_return_ms"` // of a device of the crowd, from its first attempt to its CONNACK
	CalmP50MS  float64 `json:"calm_p50_ms"`
	CalmP99MS  float64 `json:"calm_p99_ms"`
	StormP50MS float64 `json:"storm_p50_ms"`
	StormP99MS float64 `json:"storm_p99_ms"`  // over the whole time of storms
	AtOnceMS   float64 `json:"return_p99_ms"` // in the five seconds after each return
	Ratio      float64 `json:"ratio"`         // return p99 to calm p99
	Acked      int     `json:"acked"`
	Compared   int     `json:"compared"`
	Lost       int     `json:"lost"`
	ServerCPU  float64 `json:"server_cpu_seconds"`
	Seconds    float64 `json:"seconds"`
}

func storm(ctx context.Context, o *options) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "hawser-storm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	if o.hawser, err = filepath.Abs(o.hawser); err != nil {
		return err
	}
	h, err := rig.Make(ctx, o.hawser, filepath.Join(dir, "home"), o.more)
	if err != nil {
		return err
	}
	defer func() { _ = h.Stop() }()
	if err := h.Start(ctx); err != nil {
		return err
	}
	if err := h.Publish(ctx, "storm.yaml", declared); err != nil {
		return err
	}
	ids := make([]core.DeviceID, o.devices)
	for i := range ids {
		ids[i] = core.DeviceID(fmt.Sprintf("storm-%05d", i))
	}
	say("enrolling %d devices", o.devices)
	units, err := h.Enrol(ctx, "storm", ids)
	if err != nil {
		return err
	}
	r := &result{Devices: o.devices, Others: o.others}
	people, err := newFleet(h, units[:o.others])
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "crowd")
	if err := save(file, h, units[o.others:]); err != nil {
		return err
	}
	c, err := begin(ctx, o, file)
	if err != nil {
		return err
	}
	defer c.end()
	run, stop := context.WithCancel(ctx)
	defer stop()
	people.run(run, o.rate/10)
	if _, err := c.say("all"); err != nil {
		return err
	}
	say("everybody is connected")
	people.take() // what was measured until now is not of interest
	if !pause(ctx, o.calm) {
		return ctx.Err()
	}
	calm := people.take()
	r.CalmP50MS, r.CalmP99MS = calm.at(0.5), calm.at(0.99)
	say("calm: p50 %.1f ms, p99 %.1f ms of %d", r.CalmP50MS, r.CalmP99MS, len(calm))
	var all, sharp times
	for until := time.Now().Add(o.span); time.Now().Before(until); {
		next := time.Now().Add(o.every)
		said, err := c.say("part " + strconv.FormatFloat(o.share, 'f', -1, 64))
		if err != nil {
			return err
		}
		r.Storms++
		if !pause(ctx, min(5*time.Second, o.every/2)) {
			return ctx.Err()
		}
		at := people.take()
		sharp, all = append(sharp, at...), append(all, at...)
		if !pause(ctx, time.Until(next)) {
			return ctx.Err()
		}
		all = append(all, people.take()...)
		say("%d returns: %s; the others' p99 then %.1f ms", r.Storms, said, at.at(0.99))
	}
	r.StormP50MS, r.StormP99MS, r.AtOnceMS = all.at(0.5), all.at(0.99), sharp.at(0.99)
	r.Ratio = r.AtOnceMS / r.CalmP99MS
	r.ServerCPU = cpu(h.PID())
	stop()
	people.wait()
	over, err := c.say("end")
	if err != nil {
		return err
	}
	var got tally
	if err := json.Unmarshal([]byte(over), &got); err != nil {
		return err
	}
	r.Reconnects, r.Failed, r.SlowestMS = got.Reconnects, got.Failed, got.SlowestMS
	acked := append(people.acked(), got.Acked...)
	for _, n := range acked {
		r.Acked += n
	}
	if err := compare(ctx, h, ids, acked, r); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	switch {
	case r.Lost > 0:
		return fmt.Errorf("%d acknowledged readings are missing", r.Lost)
	case r.Acked == 0 || r.Compared == 0 || r.Reconnects == 0:
		return errors.New("nothing was acknowledged, compared or came back: this proves nothing")
	case r.Ratio > o.factor:
		return fmt.Errorf("the others' p99 grew to %.1f times", r.Ratio)
	}
	return nil
}

// compare reads a part of the devices back.
func compare(ctx context.Context, h *rig.Home, ids []core.DeviceID, acked []int, r *result) error {
	for n, i := range rand.Perm(len(ids))[:min(len(ids), 120)] {
		lines, err := h.Read(ctx, string(ids[i]), "a storm compares what was acknowledged")
		if err != nil {
			return err
		}
		seen := map[uint64]bool{}
		for _, l := range lines {
			if l.Seq == nil || seen[*l.Seq] {
				return fmt.Errorf("%s: a reading without its number, or twice", ids[i])
			}
			seen[*l.Seq] = true
		}
		for seq := 1; seq <= acked[i]; seq++ {
			if !seen[uint64(seq)] {
				r.Lost++
			}
		}
		r.Compared += acked[i]
		if n%40 == 39 {
			say("read %d devices back", n+1)
		}
	}
	return nil
}

func say(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// cpu is what a process has used, in seconds (proc(5), stat 14 and 15).
func cpu(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0 // this system does not tell
	}
	var skip string
	var user, system float64
	at := 0
	for i := range b {
		if b[i] == ')' {
			at = i + 2
		}
	}
	if _, err := fmt.Sscan(string(b[at:]), &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system); err != nil {
		return 0
	}
	return (user + system) / 100
}

// saved is what the crowd needs to know.
type saved struct {
	Door string
	CA   []byte
	Cert [][][]byte // chains, DER
	Key  [][]byte   // PKCS #8
}

func save(name string, h *rig.Home, units []*rig.Unit) error {
	ca, err := h.CA()
	if err != nil {
		return err
	}
	s := saved{Door: h.Devices(), CA: ca}
	for _, u := range units {
		key, err := pkcs8(u.Cert)
		if err != nil {
			return err
		}
		s.Cert, s.Key = append(s.Cert, u.Cert.Certificate), append(s.Key, key)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(s), f.Close())
}

// process is the crowd from outside: a line each way.
type process struct {
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Reader
}

func begin(ctx context.Context, o *options, file string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", self, "-crowd", file, "-rate", o.rate.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{cmd, bufio.NewWriter(in), bufio.NewReaderSize(out, 1<<20)}, cmd.Start()
}

func (p *process) say(line string) (string, error) {
	if _, err := p.in.WriteString(line + "\n"); err != nil {
		return "", err
	}
	if err := p.in.Flush(); err != nil {
		return "", err
	}
	answer, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the crowd says nothing: %w", err)
	}
	return answer[:len(answer)-1], nil
}

func (p *process) end() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()
}
