package telemetry

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// The examples that docs/payloads.md and the README show are readings, and the
// same one in each form.
func TestDocsShowReadings(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	for file, want := range map[string]string{
		"../../docs/payloads.md": `0{"room_temperature":21.5} 1{"mode":"off"}`,
		"../../README.md":        `0{"room_temperature":21.5}`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(line, "|")
			if len(cells) < 4 || !strings.HasPrefix(cells[1], " JSON") && !strings.HasPrefix(cells[1], " CBOR") && !strings.HasPrefix(cells[1], " SenML") {
				continue
			}
			parts := strings.Split(cells[len(cells)-2], "`")
			if len(parts) != 3 {
				t.Fatalf("%s: no example in %s", file, line)
			}
			payload := []byte(parts[1])
			if !strings.ContainsAny(parts[1], "{[") {
				if payload, err = hex.DecodeString(strings.ReplaceAll(parts[1], " ", "")); err != nil {
					t.Fatal(err)
				}
			}
			seen++
			var j Judged
			why := sp.Judge(&j, payload, testNow.AddDate(0, 0, 1))
			if why != "" || partsText(&j) != want || j.Bad+j.Undeclared != 0 || strings.Contains(line, "1795341603") && (j.T != 1795341603000 || j.WrongClock) {
				t.Errorf("%s: %s\n%q %s", file, line, why, summary(&j))
			}
		}
		if seen != 4 {
			t.Errorf("%s shows %d forms, want 4", file, seen)
		}
	}
}
