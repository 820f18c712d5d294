package device

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOrders: a number is taken once, also over a restart; answers wait until
// they are told; a note that cannot be read or written stops everything, rather
// than let something be done twice (CC 3.7).
func TestOrders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "commands")
	open := func() *orders {
		t.Helper()
		o, err := openOrders(path)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	take := func(o *orders, number uint64, want bool) {
		t.Helper()
		if got, err := o.take(number); err != nil || got != want {
			t.Errorf("number %d: %t, %v, want %t", number, got, err, want)
		}
	}
	o := open()
	take(o, 5, true)
	take(o, 5, false)
	take(o, 4, false)
	o = open()
	take(o, 5, false)
	take(o, 6, true)
	for i := range maxReplies + 3 {
		if err := o.answer("command/x/reply/c", []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	o = open()
	all := o.answers()
	if len(all) != maxReplies || all[0].Payload[0] != 3 {
		t.Fatalf("%d answers, the first is %v", len(all), all)
	}
	select {
	case <-o.ready:
	default:
		t.Error("nobody is told of the answers that waited")
	}
	if err := o.told(all[0].ID); err != nil {
		t.Fatal(err)
	}
	if left := open().answers(); len(left) != maxReplies-1 || left[0].ID != all[1].ID {
		t.Errorf("%v", left)
	}
	if err := os.WriteFile(path, []byte(`{"last":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openOrders(path); err == nil {
		t.Error("a torn note is taken for none")
	}
	o.path = filepath.Join(path, "nowhere")
	if ok, err := o.take(7); ok || err == nil {
		t.Errorf("taken and not noted: %t, %v", ok, err)
	}
	o.path = path
	take(o, 7, true)
}
