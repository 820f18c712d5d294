package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// TestDamagedBehindTheHead: a file whose first pages are well opens; what a
// disk has spoiled behind them is met later, by who reads or files there. It is
// put aside and named all the same, and the rest serves.
func TestDamagedBehindTheHead(t *testing.T) {
	q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
	for name, use := range map[string]func(*EpochFiles) error{
		"met by a reader": func(s *EpochFiles) error {
			return s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { return nil })
		},
		"met by the projector": func(s *EpochFiles) error {
			_, err := s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 300, 9))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "telemetry")
			s := openFiles(t, dir)
			well := testEpoch
			well.Start -= 86400
			for seq := range 5 {
				mustAppend(t, s, testEpoch, rowsOf(testEpoch, 300, seq))
				mustAppend(t, s, well, rowsOf(well, 300, seq))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := s.path(testEpoch)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			const head = 20 * 4096 // schema and dictionaries lie there
			if len(b) < 2*head {
				t.Fatalf("the file has %d bytes only", len(b))
			}
			for i := head; i < len(b); i++ {
				b[i] = 0x5a
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s = openFiles(t, dir)
			if _, _, err := s.Mark(t.Context(), testEpoch, "j"); err != nil {
				t.Fatalf("the file does not open, so this is not what is tested: %v", err)
			}
			err = use(s)
			if broken, ok := telemetry.AsBroken(err); !ok || broken.Epoch != testEpoch || broken.Detail == "" {
				t.Fatalf("got %v; want the damage of %s, named", err, testEpoch)
			}
			if all := s.Broken(); len(all) != 1 {
				t.Errorf("named as damaged: %v", all)
			}
			mustAppend(t, s, well, rowsOf(well, 300, 9))
		})
	}
}
