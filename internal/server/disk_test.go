//go:build linux

package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// smallDisk mounts a small file system, or skips by name where that is not
// permitted.
func smallDisk(t *testing.T, megabytes int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small disk can be mounted by root only")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%dm,mode=0700", megabytes)); err != nil {
		t.Skipf("this machine does not let a file system be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes until free megabytes are left.
func fill(t *testing.T, dir string, free int64) (file string) {
	t.Helper()
	file = filepath.Join(dir, "somebody-elses-file")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if int64(st.Bavail)*int64(st.Bsize) <= free<<20 {
			return file
		}
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return file
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk: with a full disk nothing is acknowledged, the server says so
// to the device, to machines that watch and in doctor, and goes on by itself
// when there is room again. What was acknowledged is there, once; what was not
// may be sent again (design, section 5, Messages).
func TestFullDisk(t *testing.T) {
	for name, left := range map[string]int64{"nearly full": 40, "full to the last byte": 0} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, 160)
			home := newHome(t, core.Test, "data: "+disk+"/data\nsocket: hawser.sock\n")
			l := start(t, home)
			l.publish(t, testDeclaration)
			u := l.enrol(t, "A1")
			seq, acked := 0, map[int]bool{}
			send := func(c *mqttClient) bool {
				seq++
				code, err := c.try("telemetry/climate", fmt.Sprintf(`{"temp":20,"boot":1,"seq":%d}`, seq))
				if err == nil && code == 0 {
					acked[seq] = true
					return true
				}
				if code != 0 {
					t.Errorf("seq %d: the server's own trouble was told as a refusal: 0x%02x", seq, code)
				}
				return false
			}
			c := dialMQTT(t, l, u)
			for range 50 {
				if !send(c) {
					t.Fatal("not acknowledged with room on the disk")
				}
			}
			other := fill(t, disk, left)
			told := make(chan struct{})
			go func() {
				defer close(told)
				for range 20 { // the free space is looked at now and then
					if !send(c) {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			}()
			<-told
			select {
			case <-c.gone:
			case <-time.After(5 * time.Second):
				t.Error("the device was not told to go and come back")
			}
			waitFor(t, 10*time.Second, "doctor says that nothing is acknowledged", func() bool {
				f, err := Doctor(t.Context(), home)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range f {
					if x.Severity == "error" && x.Area == "journal" && strings.Contains(x.Text, "not acknowledged") && x.Do != "" {
						return true
					}
				}
				return false
			})
			if err := os.Remove(other); err != nil {
				t.Fatal(err)
			}
			waitFor(t, 20*time.Second, "messages are taken again", func() bool {
				again, err := tryMQTT(t.Context(), l, u)
				if err != nil {
					time.Sleep(300 * time.Millisecond)
					return false
				}
				return send(again)
			})
			waitFor(t, 15*time.Second, "doctor has nothing against the journal", func() bool { return l.finding(t, "journal") == "" })
			waitFor(t, 20*time.Second, "the projector is well", func() bool { return l.finding(t, "projector") == "" })
			lines, err := l.readAll(t, "A1")
			if err != nil {
				t.Fatal(err)
			}
			got := map[int]int{}
			for _, x := range lines {
				if x.Seq == nil {
					t.Fatalf("no seq: %+v", x)
				}
				got[int(*x.Seq)]++
			}
			for n := range acked {
				if got[n] != 1 {
					t.Errorf("seq %d was acknowledged and is there %d times", n, got[n])
				}
			}
			if len(acked) < 51 {
				t.Errorf("only %d acknowledged", len(acked))
			}
			var check api.RowsCheck
			l.call(t, "POST", "/v1/verify", nil, &check)
			if len(check.Faults) != 0 {
				t.Errorf("rows: %v", check.Faults)
			}
		})
	}
}

// TestRestoreOntoMount: a folder that is a mounted file system cannot be put in
// place by a rename; the refusal comes before anything is copied.
func TestRestoreOntoMount(t *testing.T) {
	disk := smallDisk(t, 8)
	b := newBackedUp(t)
	home := emptyHome(t, b.home)
	conf := filepath.Join(home, "config.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	to := func(data string) error {
		t.Helper()
		if err := os.WriteFile(conf, append(text, "data: "+data+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(home)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Restore(t.Context(), c, RestoreOptions{From: b.backup})
		return err
	}
	if err := to(disk); core.ReasonOf(err) != "data-is-mount" {
		t.Errorf("onto a mount: %v", err)
	}
	if err := to(filepath.Join(disk, "data")); err != nil {
		t.Errorf("into it: %v", err)
	}
}
