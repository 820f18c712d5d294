package server

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// TestServiceKilled kills the server again and again while a device sends and a
// service reads: every acknowledged reading comes to the service, with what its
// last cursor leads to alone.
func TestServiceKilled(t *testing.T) {
	t.Parallel()
	const kills = 4
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, readersDeclaration())
	u := l.enrol(t, "A1")
	app := l.service(t, "app-backend")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	var https, door atomic.Value
	https.Store("")
	door.Store("")
	stop, quiet := make(chan struct{}), make(chan struct{}) // of the service; of the device
	var mu sync.Mutex
	acked, seen := map[string]bool{}, map[string]int{}
	var work sync.WaitGroup
	work.Go(func() { // the device
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: l.tls(u)}, Timeout: 5 * time.Second}
		for i := 0; ; i++ {
			select {
			case <-quiet:
				return
			default:
			}
			note := fmt.Sprintf("n%d.", i)
			for range 20 { // until it is acknowledged, or the next one
				resp, err := hc.Post("https://"+https.Load().(string)+"/device/v1/telemetry/climate", jsonType, strings.NewReader(`{"note":"`+note+`","secret":777}`))
				if err == nil {
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						mu.Lock()
						acked[note] = true
						mu.Unlock()
						break
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	work.Go(func() { // the service
		cursor := ""
		for {
			select {
			case <-stop:
				return
			default:
			}
			q := "?wait=1"
			if cursor != "" {
				q += "&cursor=" + cursor
			}
			resp, err := app.hc.Get("https://" + door.Load().(string) + "/service/v1/stream/test-sensor" + q)
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				continue // half a page is no page: its cursor is at its end
			}
			if strings.Contains(string(b), "secret") || strings.Contains(string(b), ":777") {
				t.Errorf("a field that is not its own: %s", b)
			}
			mu.Lock()
			for line := range strings.Lines(string(b)) {
				var x readers.Line
				if err := json.Unmarshal([]byte(line), &x); err != nil {
					t.Errorf("line %q: %v", line, err)
				}
				switch x.Type {
				case "cursor":
					cursor = x.Cursor
				case "gap":
					t.Errorf("a gap: %s", line)
				case "reading":
					var v struct{ Note string }
					_ = json.Unmarshal(x.Values, &v)
					seen[v.Note]++
				}
			}
			mu.Unlock()
		}
	})
	where := func(a Addresses) {
		https.Store(a.HTTPS)
		waitFor(t, 20*time.Second, "the services' door", func() bool {
			var s api.Service
			if l.client.Call(t.Context(), "GET", "/v1/services/app-backend", nil, &s) != nil || s.Address == "" {
				return false
			}
			door.Store(s.Address)
			return true
		})
	}
	for range kills {
		cmd, a := doomed(t, home)
		where(a)
		time.Sleep(time.Duration(700+rand.IntN(900)) * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	l = start(t, home)
	where(l.addr)
	time.Sleep(time.Second)
	missing := func() (n int, one string) {
		mu.Lock()
		defer mu.Unlock()
		for note := range acked {
			if seen[note] == 0 {
				n, one = n+1, note
			}
		}
		return n, one
	}
	close(quiet)
	var n int
	var one string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if n, one = missing(); n == 0 {
			break
		}
	}
	close(stop)
	work.Wait()
	if n > 0 {
		t.Errorf("%d readings were acknowledged and never came, one of them %s", n, one)
	}
	if len(acked) < 100 {
		t.Errorf("only %d readings were acknowledged", len(acked))
	}
	repeated := 0
	for _, n := range seen {
		if n > 1 {
			repeated++
		}
	}
	t.Logf("%d acknowledged, %d came, %d of them more than once", len(acked), len(seen), repeated)
}
