package server

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestErasureIsFinishedAtTheStart: an erasure that a crash left open, with its
// device read by a service, is finished before anybody is served (design,
// section 5, Effects outside SQL; CC 4.7).
func TestErasureIsFinishedAtTheStart(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, readersDeclaration())
	u := l.enrol(t, "A1")
	app := l.service(t, "app-backend")
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":20}`).want(t, "a reading", 200, "")
	app.gather(t, "", 1)
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "a test erases"}, nil)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	// As a crash after the keys went leaves it: no eraser has run.
	control := filepath.Join(home, "data", "control.db")
	behind(t, control, `UPDATE erasure SET state = 'shredded', erasers = '', ended_us = NULL`)
	l = start(t, home)
	db, err := sql.Open("sqlite", "file:"+control+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // only read
	var state, erasers string
	if err := db.QueryRowContext(t.Context(), `SELECT state, erasers FROM erasure`).Scan(&state, &erasers); err != nil || state != "done" || !strings.Contains(erasers, "readers") {
		t.Errorf("the erasure is %q, erasers %q: %v", state, erasers, err)
	}
	if got, err := l.readAll(t, "A1"); err == nil && len(got) > 0 {
		t.Errorf("%d readings open", len(got))
	}
}
