package server

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

var rewrite = flag.Bool("update", false, "write generated pages anew")

func TestEmptyConfigIsSafe(t *testing.T) {
	c, err := ParseConfig("/home/h", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/home/h/data" || len(c.Keyring) != 2 || c.Devices != ":8883" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestConfigFaults(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"unknown key", "data: d\ncleartext: true\n", "cleartext"},
		{"line is named", "data: d\n\nnope: 1\n", "3"},
		{"keyring in data", "keyring: [data/k, keys/k]\n", "lies inside data"},
		{"roots in data", "roots: data/roots\n", "lies inside data"},
		{"checkpoint in data", "checkpoint: data/c\n", "lies inside data"},
		{"one copy", "keyring: [a]\n", "at least two"},
		{"same copy", "keyring: [a, a]\n", "two different"},
		{"no address", "devices: nowhere\n", "host:port"},
		{"tiny journal", "journal_max_bytes: 5\n", "16777216"},
		{"bad duration", "handshake_timeout: soon\n", "duration"},
		{"endless handshake", "handshake_timeout: 24h\n", "5m"},
		{"link alone", "link: 10.0.0.11:8890\n", "turns"},
		{"link anywhere", "link: \":8890\"\n", "that only your servers reach"},
		{"link to all", "link: 0.0.0.0:8890\n", "that only your servers reach"},
		{"no pace", "device_messages_per_second: 0\n", "between 1 and"},
		{"no pace of a product", "product_messages_per_second: 0\n", "between 1 and"},
		{"log", "log: xml\n", "text or json"},
		{"no names", "names: []\n", "dial"},
		{"twice", "log: text\nlog: json\n", "log"},
		{"not yaml", "a: [", "config.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConfig("/home/h", []byte(c.src))
			if err == nil {
				t.Fatal("accepted")
			}
			text := err.Error() + " " + hintOf(err)
			if !strings.Contains(text, c.want) {
				t.Errorf("got %q, want it to say %q", text, c.want)
			}
		})
	}
}

func TestConfigTooLarge(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(dir); core.ReasonOf(err) != "config-size" {
		t.Errorf("got %v", err)
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	keys, err := DescribeConfig()
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]Key{}
	for _, k := range keys {
		described[k.Name] = k
	}
	// Keys that stand for nothing alone, with the examples of those they need.
	token := []string{"token_module", "token_label", "token_pin", "token_holds"}
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(token), func(s string) bool { return s == name })
	}
	together := map[string][]string{
		"turns": {"store", "journal_servers"}, "link": {"turns", "store", "journal_servers"}, "balancers": {"balanced_devices"}, "balanced_devices": {"balancers"}, "balanced_https": {"balancers"},
		"token_module": without("token_module"), "token_holds": without("token_holds"),
	}
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		name := typ.Field(i).Tag.Get("yaml")
		if name == "" {
			continue
		}
		k := described[name]
		if len(k.Meaning) < 20 || k.Default == "" || k.Example == "" {
			t.Errorf("%s: meaning, default or example is missing: %+v", name, k)
		}
		src := name + ": " + k.Example + "\n"
		for _, other := range together[name] {
			src += other + ": " + described[other].Example + "\n"
		}
		if _, err := ParseConfig("/h", []byte(src)); err != nil {
			t.Errorf("%s: its example does not work: %v", name, err)
		}
	}
}

func TestConfigReference(t *testing.T) {
	got, err := ConfigReference()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../docs/config.md", got)
}

// golden compares with a file of the repository, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is out of date: run `make docs`", name)
	}
}
