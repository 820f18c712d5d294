package server

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestMosquittoSubscriber: stock subscribers with a device's certificate.
// mosquitto_rr, which sends and listens on one connection, hears why its message
// was refused, without the content. mosquitto_sub may listen to its own device's
// topics in both forms and to nobody else's (CC 3.6).
func TestMosquittoSubscriber(t *testing.T) {
	t.Parallel()
	rr, sub := need(t, "mosquitto_rr", "Debian (mosquitto-clients)"), need(t, "mosquitto_sub", "Debian (mosquitto-clients)")
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	l.enrol(t, "neighbour")
	for _, version := range []string{"5", "311"} {
		id := "sub-" + version
		u := l.enrol(t, core.DeviceID(id))
		run := func(program string, more ...string) (string, error) {
			args := append([]string{
				"-V", version, "-h", "localhost", "-p", port(t, l.addr.Devices), "--cafile", u.rootsFile, "--cert", u.certFile,
				"--key", u.keyFile, "-q", "1",
			}, more...)
			out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
			return string(out), err
		}
		heard, err := run(rr, "-W", "30", "-t", "telemetry/climate", "-e", "refused", "-m", `{"temp":"canary-3c91"}`)
		line := heard[strings.IndexByte(heard+"{", '{'):] // -V 5 warns of the refused PUBLISH first
		var notice struct{ Reason, Text, Stream string }
		if jerr := json.Unmarshal([]byte(line), &notice); err != nil || jerr != nil || notice.Reason != "nothing-left" || notice.Stream != "climate" || notice.Text == "" {
			t.Errorf("-V %s: mosquitto_rr: %v, %v, %q", version, err, jerr, heard)
		}
		if strings.Contains(heard, "canary") {
			t.Errorf("-V %s: what was refused is repeated: %s", version, heard)
		}
		for topic, may := range map[string]bool{
			"refused": true, "devices/" + id + "/refused": true, "command/#": true,
			"devices/neighbour/refused": false, "devices/#": false, "#": false, "$SYS/#": false, "telemetry/climate": false,
		} {
			out, err := run(sub, "-t", topic, "-E") // ends when the subscription is granted
			if granted := err == nil && !strings.Contains(out, "denied"); granted != may {
				t.Errorf("-V %s: mosquitto_sub -t %s: %v, %q; granted %t, want %t", version, topic, err, out, granted, may)
			}
		}
	}
}
