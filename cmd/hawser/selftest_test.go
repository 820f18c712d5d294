package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/house"
)

// TestSelftestIsCutOff: trials run where no route leads out, and say what they
// found themselves in; a twin that could dial somebody says that, too.
func TestSelftestIsCutOff(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux gives a process a network of its own")
	}
	program := house.Program(t, "hawser")
	network := func(env ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, "check", "selftest", "--only", "jobs", "--json")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var x trials
		if err := json.Unmarshal(out, &x); err != nil || len(x.Proofs) == 0 || len(x.Proofs[0].Touched) == 0 {
			t.Fatalf("no proof that touched anything: %v, %s", err, out)
		}
		first := x.Proofs[0].Touched[0]
		return first.What + " " + first.Name
	}
	if got := network(); !strings.Contains(got, "network its own: no route leads out") {
		if out, err := exec.CommandContext(t.Context(), "unshare", "-rn", "true").CombinedOutput(); err != nil {
			t.Skipf("this system gives no process a network of its own (user.max_user_namespaces): %s", out)
		}
		t.Errorf("the trials ran in: %s", got)
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(routes), "\t00000000\t") {
		t.Log("this machine has no route out either: not tried what the machine's network is called")
		return
	}
	if got := network(cutVar + "=no"); !strings.Contains(got, "network the machine's") {
		t.Errorf("in the machine's network the trials say: %s", got)
	}
}
