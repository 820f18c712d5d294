package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal/natstest"
)

// TestJournalOnNATS moves the journal of an installation from its own process
// to three NATS servers, loses one of them while devices send, and restarts:
// everything is there once, and the way back is refused until it is safe.
func TestJournalOnNATS(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, 3, true)
	home := newHome(t, core.Test, "journal_max_bytes: 67108864\n")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	sent := 0
	send := func(n int) {
		t.Helper()
		p := newPoster(l, u, t)
		for range n {
			sent++
			if r := p.post(t, "climate", jsonType, fmt.Sprintf(`{"temp":%d,"boot":1,"seq":%d}`, sent%50, sent)); r.status != http.StatusOK {
				t.Fatalf("reading %d: %d %s", sent, r.status, r.body)
			}
		}
	}
	send(20)
	l.stored(t, "A1", sent)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(home, "config.yaml")
	here, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	away := string(here) + fmt.Sprintf("journal_servers: [%s]\njournal_ca: %s\njournal_certificate: %s\njournal_key: %s\n", strings.Join(c.Servers, ", "), c.CA, c.Cert, c.Key)
	put := func(conf string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(away)
	l = start(t, home)
	send(20)
	leader := c.Leader("HAWSER")
	if leader < 0 {
		t.Fatal("the journal is not on the NATS servers")
	}
	c.Kill(leader)
	send(20) // waits until there is another
	l.stored(t, "A1", sent)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home) // with two of three
	send(5)
	c.Run(leader)
	c.Wait()
	l.stored(t, "A1", sent)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	put(string(here))
	conf, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), conf, Options{Version: "test"}); core.ReasonOf(err) != "journal-elsewhere" {
		t.Errorf("started without the journal that it has: %v", err)
	}
}
