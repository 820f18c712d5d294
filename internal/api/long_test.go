package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestLong: who asks for lines is told how far it is; others get the object
// alone; an error keeps its kind either way; and who goes ends the work.
func TestLong(t *testing.T) {
	gone := make(chan struct{})
	work := func(name string) func(http.ResponseWriter, *http.Request, core.Actor) error {
		return func(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
			return long(w, r, func(progress func(done, total int64)) (any, error) {
				if name == "refused" {
					return nil, core.E(core.Conflict, "no", "not like this", "do it otherwise")
				}
				progress(1, 4)
				progress(2, 4) // too soon after the first
				switch name {
				case "breaks":
					return nil, core.E(core.Conflict, "no", "not like this", "do it otherwise")
				case "secret":
					return nil, errors.New("the password is 123")
				case "endless":
					<-r.Context().Done()
					close(gone)
					return nil, r.Context().Err()
				}
				return Backup{Files: 7}, nil
			})
		}
	}
	var routes []Route
	for _, name := range []string{"good", "refused", "breaks", "secret", "endless"} {
		routes = append(routes, Route{"POST /" + name, "a", work(name)})
	}
	c, _ := served(t, 10*time.Second, routes...)
	var out Backup
	var seen [][2]int64
	tell := func(done, total int64) { seen = append(seen, [2]int64{done, total}) }
	if err := c.Long(t.Context(), "POST", "/good", nil, &out, tell); err != nil || out.Files != 7 || len(seen) != 1 || seen[0] != [2]int64{1, 4} {
		t.Errorf("told: %v, %+v, %v", err, out, seen)
	}
	out = Backup{}
	if err := c.Call(t.Context(), "POST", "/good", nil, &out); err != nil || out.Files != 7 {
		t.Errorf("not told: %v, %+v", err, out)
	}
	for _, name := range []string{"/refused", "/breaks"} {
		for how, err := range map[string]error{
			"told": c.Long(t.Context(), "POST", name, nil, &out, tell), "not told": c.Call(t.Context(), "POST", name, nil, &out),
		} {
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != core.Conflict || e.Message != "not like this" || e.Hint != "do it otherwise" {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
	}
	if err := c.Long(t.Context(), "POST", "/secret", nil, &out, tell); core.KindOf(err) != core.Internal || strings.Contains(err.Error(), "123") {
		t.Errorf("an error of ours: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Long(ctx, "POST", "/endless", nil, &out, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("who went: %v", err)
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Error("the work goes on for nobody")
	}
}
