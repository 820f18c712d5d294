package journal

import (
	"bytes"
	"testing"
)

func makeBatch(records ...[]byte) []byte {
	b := startBatch(nil)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	finishBatch(b, len(records))
	return b
}

func TestBatchRoundTrip(t *testing.T) {
	for _, want := range [][][]byte{
		nil,
		{{}},
		{[]byte("one"), {}, []byte("three"), bytes.Repeat([]byte{0}, 1000)},
	} {
		got, err := splitBatch(nil, makeBatch(want...))
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d records: %v", len(got), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("record %d is %q, want %q", i, got[i], want[i])
			}
		}
	}
}

// Every single changed byte and every cut is found.
func TestDamagedBatchIsRefused(t *testing.T) {
	whole := makeBatch([]byte("one"), []byte("two"))
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if _, err := splitBatch(nil, b); err == nil {
			t.Errorf("accepted with byte %d changed", i)
		}
		if _, err := splitBatch(nil, whole[:i]); err == nil {
			t.Errorf("accepted %d of %d bytes", i, len(whole))
		}
	}
	if _, err := splitBatch(nil, append(bytes.Clone(whole), 0)); err == nil {
		t.Error("accepted a byte too many")
	}
	// A right checksum over wrong lengths.
	for _, body := range [][]byte{{0, 0, 0, 9, 1}, {0, 0, 0, 1, 1, 7}, {0xff, 0xff, 0xff, 0xff}, {0, 0}} {
		b := append(startBatch(nil), body...)
		finishBatch(b, 1)
		if _, err := splitBatch(nil, b); err == nil {
			t.Errorf("accepted body %x", body)
		}
	}
}

func FuzzSplitBatch(f *testing.F) {
	f.Add(makeBatch()[batchHeader:], 0)
	f.Add(makeBatch([]byte("one"), nil)[batchHeader:], 2)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, body []byte, records int) {
		// With the checksum made right, so that the lengths are what is tried.
		b := append(startBatch(nil), body...)
		finishBatch(b, records)
		got, err := splitBatch(nil, b)
		if err != nil {
			return
		}
		if again := makeBatch(got...); !bytes.Equal(again, b) {
			t.Errorf("another form of the same batch:\n%x\n%x", b, again)
		}
	})
}
