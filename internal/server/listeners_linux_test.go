package server

import (
	"strings"
	"testing"
)

// TestSocketTables reads lines of the kernel's tables.
func TestSocketTables(t *testing.T) {
	for line, want := range map[string]ownSocket{
		"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b.sock":                                            {"unix", "/run/a b.sock", "12345"},
		"0000000000000000: 00000003 00000000 00000000 0001 03 12345 /run/a.sock":                                              {}, // connected
		"0000000000000000: 00000002 00000000 00010000 0001 01 12345":                                                          {}, // nameless
		"  12: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0000000000000000 0": {"udp", "127.0.0.1:5353", "777"},
		"  12: 0100007F:14E9 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 777 2 0000000000000000 0": {}, // connected
	} {
		f := strings.Fields(line)
		got, ok := datagrams(f)
		if !ok {
			got, ok = local(f)
		}
		if ok != (want != ownSocket{}) || ok && got != want {
			t.Errorf("%q: %+v %v, want %+v", line, got, ok, want)
		}
	}
}

func FuzzSocketTables(f *testing.F) {
	f.Add("0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a.sock")
	f.Add("  12: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0000000000000000 0")
	f.Fuzz(func(_ *testing.T, line string) {
		datagrams(strings.Fields(line))
		local(strings.Fields(line))
	})
}
