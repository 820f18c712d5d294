package telemetry

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A refusal that an MQTT 3.1.1 client waits for is on disk before its
// completion comes; those of others are gathered. None has anything of the
// payload or of an undeclared stream's name.
func TestRefusalsAreRecorded(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"mode":"off"`), done, 0), Refuse, ReasonNotJSON)
	done.none(t)
	if err := d.in.Refuse(src, []byte("climate"), ReasonNotJSON, done, 5); err != nil {
		t.Fatal(err)
	}
	done.wait(t)
	if f := d.refusal(t); f.Reason != ReasonNotJSON || f.Stream != "climate" || f.Count != 1 || f.Received != testNow.UnixMilli() {
		t.Errorf("recorded %+v", f)
	}

	d.want(t, d.in.Message(src, []byte("secret-stream"), []byte(`{}`), done, 0), Refuse, ReasonUnknownStream)
	if err := d.in.Refuse(src, []byte("secret-stream"), ReasonUnknownStream, done, 5); err != nil {
		t.Fatal(err)
	}
	done.wait(t)
	if f := d.refusal(t); f.Reason != ReasonUnknownStream || f.Stream != "" {
		t.Errorf("recorded %+v", f)
	}

	// A hundred in one second: the first is recorded at once, the others
	// together.
	for range 100 {
		d.want(t, d.in.Message(src, []byte("climate"), []byte(`[]`), done, 0), Refuse, ReasonNotObject)
		if err := d.in.Refuse(src, []byte("climate"), ReasonNotObject, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 { // the gateway's own
		if err := d.in.Refuse(src, []byte("climate"), ReasonRate, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	d.now.Add(1000)
	if err := d.in.Refuse(src, []byte("climate"), ReasonRate, nil, 0); err != nil {
		t.Fatal(err)
	}
	got, records := map[Reason]uint32{}, 0
	for got[ReasonNotObject] < 100 || got[ReasonRate] < 11 {
		f := d.refusal(t)
		got[f.Reason] += f.Count
		records++
	}
	if got[ReasonNotObject] != 100 || got[ReasonRate] != 11 || records > 4 {
		t.Errorf("recorded %v in %d records", got, records)
	}
	c := d.in.Counters()
	if c.Refused[ReasonNotJSON] != 1 || c.Refused[ReasonUnknownStream] != 1 || c.Refused[ReasonNotObject] != 100 || c.Refused[ReasonRate] != 11 {
		t.Errorf("counted %v", c.Refused)
	}
	done.none(t)
}

// CC 1.2: what is refused is nowhere on disk, in no form. The same search finds
// it where it was put in clear.
func TestRefusedPayloadIsNowhereOnDisk(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	const canary = "canary-7f3a"
	for _, payload := range []string{
		`{"label":"canary-7f3a"`,                   // not JSON
		`{"` + canary + `":1}`,                     // nothing left
		`{"mode":"` + canary + `"}`,                // bad value
		`["` + canary + `"]`,                       // no object
		`{"mode":"off","mode":"` + canary + `"}`,   // doubled
		`{"x":[[[[[[[[["` + canary + `"]]]]]]]]]}`, // too deep
	} {
		if v := d.in.Message(src, []byte("climate"), []byte(payload), done, 0); v.Action != Refuse {
			t.Fatalf("%s: %+v", payload, v)
		} else if err := d.in.Refuse(src, []byte("climate"), v.Reason, done, 0); err != nil {
			t.Fatal(err)
		}
		done.wait(t)
	}
	d.want(t, d.in.Message(src, []byte(canary), []byte(`{}`), done, 0), Refuse, ReasonUnknownStream)
	if err := d.in.Refuse(src, []byte(canary), ReasonUnknownStream, done, 0); err != nil {
		t.Fatal(err)
	}
	done.wait(t)
	// Accepted, it is there, but sealed; dropped beside it, it is not.
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"label":"canary-7f3a","`+canary+`":"`+canary+`"}`), done, 0), Pending, "")
	done.wait(t)
	if files := search(t, d.dir, canary); len(files) != 0 {
		t.Errorf("%s lies in clear in %v", canary, files)
	}
	if err := d.journal.Submit([]byte(canary), done, 0); err != nil {
		t.Fatal(err)
	}
	done.wait(t)
	if files := search(t, d.dir, canary); len(files) == 0 {
		t.Error("the search does not find what was written in clear: it proves nothing")
	}
}

// search lists the files below dir that hold what.
func search(tb testing.TB, dir, what string) (found []string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(b, []byte(what)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}
