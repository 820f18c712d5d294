package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/witness"
)

// story is the order in which the examples are typed. `observe` wants a broker,
// `migrate` a PostgreSQL server (TestMigrateExample),
// `demo` and `serve` go on until they are stopped: they are run elsewhere.
var story = []string{
	"config describe", "config check", "version", "declaration check", "declaration diff", "declaration schema",
	"declaration list", "declaration publish", "review list", "review take-back", "device list", "device add", "device kit", "ENROL", "device code", "status", "doctor", "device show", "counts", "command give", "command list", "command show", "command cancel", "setting set", "setting show", "setting back",
	"check list", "check run", "check claims", "check selftest", "waiver list", "waiver end",
	"people founder", "people list", "JOIN", "people roles", "people assessor", "people disable", "people erase", "people refound", "evidence key", "sample begin", "sample draw", "sample show", "sample list", "evidence export", "evidence verify", "evidence sign", "ledger key", "witness", "probe", "device certify", "device verify", "read", "service add", "service certificate", "service list", "service show", "service webhook", "service revoke", "factory line", "factory authority", "factory list", "factory show", "factory end", "LEGACY", "legacy token", "legacy authority", "legacy certificate", "legacy list", "legacy withdraw", "legacy end", "authority renew", "authority show", "hold place", "hold list", "hold release", "device release", "clock confirm", "ledger export", "ledger verify",
	"HUBS", "child add", "child list", "child adopt", "child move", "child remove", "backup", "erase", "ledger show", "device reopen", "device revoke", "demo search", "STOP", "ledger new-origin", "restore",
}

// words splits a command line as a shell does, and leaves out where its output
// goes.
func words(line string) []string {
	line, _, _ = strings.Cut(line, " > ")
	var out []string
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// TestExamplesWork types the example of every command as it stands, in an
// installation of its own, once for people and once for programs. Only places
// and what differs every time are put in: folders, today's date, a hold's name.
func TestExamplesWork(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent; not in -short")
	}
	agent := house.Program(t, "hawser-agent")
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"people", "programs"} {
		t.Run(form, func(t *testing.T) { typeAll(t, agent, examples, form == "programs") })
	}
	for _, c := range commands() {
		if !slices.Contains(append(story, "demo", "serve", "init", "observe", "simulate", "migrate"), c.name) {
			t.Errorf("nobody types the example of %s", c.name)
		}
	}
}

func typeAll(t *testing.T, agent, examples string, programs bool) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HAWSER_HOME", "")
	if err := os.Symlink(examples, "examples"); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	aria, err := os.ReadFile("examples/aria-thermostat.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write("aria-v2.yaml", string(aria))
	write("aria-v3.yaml", strings.Replace(strings.Replace(string(aria), "version: 3", "version: 4", 1), "keep: 30d", "keep: 60d", 1))

	hold, person, review, sample, told, ledgerKey, door, outside := "", "", "", "", "", "KEY", "https://localhost:8443", ""
	run := func(name string, args ...string) string {
		t.Helper()
		code, out, errs := try(t, args...)
		if code != exitOK || out == "" {
			t.Fatalf("hawser %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		if !slices.Contains(args, "--json") {
			return out
		}
		values := strings.SplitAfter(strings.TrimSpace(out), "\n")
		if name != "read" { // which prints one for each reading
			values = []string{out}
		}
		for _, v := range values {
			if !json.Valid([]byte(v)) || strings.TrimSpace(v) == "null" || regexp.MustCompile(`: null,?\n`).MatchString(v) {
				t.Errorf("hawser %s prints what is no JSON, or null where a list is: %s", strings.Join(args, " "), v)
			}
		}
		return out
	}
	// example is the command line of a command, at this place and time.
	example := func(name string) []string {
		t.Helper()
		for _, c := range commands() {
			if c.name != name {
				continue
			}
			line := strings.NewReplacer("/srv/hawser-restored", dir+"/restored", "/srv/hawser", dir+"/hawser", "/etc/hawser", dir+"/hawser",
				"/mnt/backups/", dir+"/", "/media/usb/ca-root", dir+"/hawser/keys/ca-root", "h-4f2a", hold, "pabcdefghijkl", person, "rabcdefghijklmnop", review, "cabcdefghijklmnop", told, "sabcdefghijklmnop", sample, "https://localhost:8443", door, "https://maker.example --devices maker.example:8883", outside, "--log-key KEY", "--log-key "+ledgerKey, "root.pem", dir+"/hawser/keys/ca/root.pem", "2027-06-30", time.Now().UTC().AddDate(0, 6, 0).Format(time.DateOnly), "2026-12-31", time.Now().UTC().AddDate(0, 1, 0).Format(time.DateOnly), "2026-11-01", time.Now().UTC().AddDate(0, -1, 0).Format(time.DateOnly),
				"clock confirm 2026-11-22", "clock confirm "+time.Now().UTC().Format(time.DateOnly)).Replace(c.example)
			args := words(line)[1:]
			if programs && !slices.Contains(args, "--json") {
				args = append(args, "--json")
			}
			return args
		}
		t.Fatalf("there is no command %q", name)
		return nil
	}

	run("init", example("init")...)
	write("hawser/config.yaml", "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nservices: 127.0.0.1:0\n")
	write("restored/config.yaml", strings.ReplaceAll("ca: K/ca\nroots: K/roots\nkeyring: [K/keyring-a/keyring, K/keyring-b/keyring]\nledger_key: K/ledger.key\ncheckpoint: K/checkpoint\n", "K", dir+"/hawser/keys"))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		ended <- runWith(ctx, &log, words("serve --home "+dir+"/hawser")...)
	}()
	defer func() { stop() }()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if code, _, _ := try(t, "status"); code == exitOK {
			break
		}
		if time.Now().After(deadline) {
			stop()
			<-ended
			t.Fatalf("the server does not answer:\n%s", &log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	enrolment, codes := "", regexp.MustCompile(`[0-9A-Z]{5}(-[0-9A-Z]{5})+`)
	for _, name := range story {
		switch name {
		case "ENROL":
			enrol(t, agent, dir, "A1", enrolment, "climate room_temperature=21.4..21.4")
			continue
		case "HUBS":
			for _, file := range []string{"nest-hub.yaml", "leaf-contact.yaml"} {
				run("declaration publish", "declaration", "publish", "examples/"+file)
			}
			for _, hub := range []string{"H1", "H2"} {
				out := run("device add", "device", "add", hub, "--product", "nest-hub")
				enrol(t, agent, dir, hub, codes.FindString(out), "health radio_load=3..3")
			}
			continue
		case "LEGACY": // products with a door for old devices, and what these have
			for product, auth := range map[string]string{"old-lamp": "device-token", "old-camera": "own-ca"} {
				text := strings.NewReplacer("product: aria-thermostat", "product: "+product).Replace(string(aria))
				write(product+".yaml", text+"\nlegacy: {auth: "+auth+", until: "+time.Now().UTC().AddDate(0, 1, 0).Format(time.DateOnly)+", max_devices: 10}\n")
				run("declaration publish", "declaration", "publish", product+".yaml")
			}
			legacyFiles(t, write)
			continue
		case "child adopt": // of what the hub said
			if _, err := store.Behind(t.Context(), dir+"/hawser/data/control.db", `INSERT INTO child_proposal (hub, child, first_us, last_us) VALUES ('H1', 'K2', 1, 1)`); err != nil {
				t.Fatal(err)
			}
		case "STOP":
			stop()
			if code := <-ended; code != exitOK {
				t.Fatalf("serve ended with %d:\n%s", code, &log)
			}
			continue
		case "command show":
			var all []api.Command
			if err := json.Unmarshal([]byte(run("command list", "command", "list", "A1", "--json")), &all); err != nil || len(all) != 1 || all[0].State != "waiting" {
				t.Fatalf("commands: %v, %v", all, err)
			}
			told = all[0].Command
		case "hold release":
			var all []struct{ Hold string }
			if err := json.Unmarshal([]byte(run("hold list", "hold", "list", "--json")), &all); err != nil || len(all) != 1 {
				t.Fatalf("holds: %v, %v", all, err)
			}
			hold = all[0].Hold
		case "review list": // on a live installation a longer keep-time waits
			code, _, errs := try(t, "declaration", "publish", "aria-v3.yaml", "--home", dir+"/hawser")
			if code == exitOK || !strings.Contains(errs, "waits for review") {
				t.Fatalf("a version that widens: exit %d, %s", code, errs)
			}
			var all []api.Review
			if err := json.Unmarshal([]byte(run("review list", "review", "list", "--json", "--home", dir+"/hawser")), &all); err != nil || len(all) != 1 {
				t.Fatalf("reviews: %v, %v", all, err)
			}
			review = all[0].Review
		case "waiver end": // only two people make one, in the console
			if code, _, errs := try(t, example(name)...); code != exitFailed || !strings.Contains(errs, "there is no such waiver") {
				t.Errorf("hawser %s: exit %d, %s", name, code, errs)
			}
			continue
		case "JOIN": // nobody here has a browser: the register says that two founders did
			run("people founder", "people", "founder")
			for _, stmt := range []string{
				`UPDATE person SET state = 'active', joined_us = invited_us, approver_us = invited_us`,
				`INSERT INTO passkey (id, person, public, count, flags, transports, label, added_us)
					SELECT randomblob(16), id, randomblob(77), 0, 5, 'internal', randomblob(40), invited_us FROM person`,
			} {
				if _, err := store.Behind(t.Context(), dir+"/hawser/data/control.db", stmt); err != nil {
					t.Fatal(err)
				}
			}
			continue
		case "people roles", "people disable":
			var all []api.Person
			if err := json.Unmarshal([]byte(run("people list", "people", "list", "--json")), &all); err != nil || len(all) < 2 {
				t.Fatalf("people: %v, %v", all, err)
			}
			person = all[len(all)-1].Person // a founder, and then the assessor
		case "factory line": // what comes from the factory
			factoryFiles(t, write)
		case "service certificate": // its key is made elsewhere
			write("app-backend.csr", serviceRequest(t))
		case "witness": // stands beside the server here, not on another machine
			var k api.LedgerKey
			if err := json.Unmarshal([]byte(run("ledger key", "ledger", "key", "--json", "--home", dir+"/hawser")), &k); err != nil {
				t.Fatal(err)
			}
			var st api.Status
			_, out, _ := try(t, "status", "--json", "--home", dir+"/hawser")
			if err := json.Unmarshal([]byte(out), &st); err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(st.HTTPS)
			_, mqtt, _ := net.SplitHostPort(st.Devices)
			ledgerKey, door = k.Key, "https://localhost:"+port
			outside = door + " --devices localhost:" + mqtt + " --roots " + dir + "/hawser/keys/ca/root.pem"
		case "sample draw": // the one that was begun
			var all []struct{ Sample string }
			if err := json.Unmarshal([]byte(run("sample list", "sample", "list", "--json")), &all); err != nil || len(all) != 1 {
				t.Fatalf("samples: %v, %v", all, err)
			}
			sample = all[0].Sample
		case "evidence export": // shows that the ledger grew out of an older checkpoint
			b, err := os.ReadFile("hawser/keys/checkpoint")
			if err != nil {
				t.Fatal(err)
			}
			write("checkpoint-of-last-month", string(b))
		case "evidence sign": // on another machine, of a draft
			run("evidence export", "evidence", "export", "draft-2026-11", "--home", dir+"/hawser")
		case "ledger new-origin":
			if err := os.Remove("hawser/keys/checkpoint"); err != nil {
				t.Fatal(err)
			}
		}
		out := run(name, example(name)...)
		switch name {
		case "device add":
			enrolment = codes.FindString(out)
		case "sample show":
			if !strings.Contains(out, "A1") {
				t.Errorf("the only unit was not drawn: %s", out)
			}
		case "evidence verify":
			// An assessor's nonce, one after the digest of another sample, and
			// somebody's that drew nothing.
			const nonce = "8f3a77c2095be1d64f10a9b3c85d2e71"
			for drawing, want := range map[string]int{
				nonce: exitOK, nonce + "@" + strings.Repeat("ab", 32): exitFailed, nonce + "@ab": exitFailed, "00f3a77c2095be1d64f10a9b3c85d2e7": exitFailed,
			} {
				if code, out, errs := try(t, append(example(name), "--sample", drawing)...); code != want {
					t.Errorf("verified with the sample %s: exit %d\n%s%s", drawing, code, out, errs)
				}
			}
			// Without a checkpoint from elsewhere, and with a witness that never was.
			if code, _, errs := try(t, "evidence", "verify", "bundle-2026-11", "--signers", "evidence.key.signers"); code != exitSelfConsistent {
				t.Errorf("self-consistent only: exit %d, %s", code, errs)
			}
			stranger, err := witness.CreateKey(filepath.Join(t.TempDir(), "key"), "never.example/asked")
			if err != nil {
				t.Fatal(err)
			}
			if code, _, errs := try(t, append(example(name), "--witness", stranger.Verifier())...); code != exitUnwitnessed {
				t.Errorf("unwitnessed: exit %d, %s", code, errs)
			}
		case "read":
			if !strings.Contains(out, "21.4") {
				t.Errorf("read shows no reading: %s", out)
			}
		}
	}
}

// serviceRequest is what openssl makes on a service's own machine.
func serviceRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "app-backend"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// runWith is run with a log of its own.
func runWith(ctx context.Context, log *bytes.Buffer, args ...string) int {
	return run(ctx, args, stdio{in: strings.NewReader(""), out: log, err: log})
}

// enrol lets a real agent get its certificate and send one reading: the first
// that a newcomer sees, so it must not be one from before there was an owner.
func enrol(t *testing.T, agent, dir, serial, code, sends string) {
	t.Helper()
	_, out, _ := try(t, "status", "--json")
	var s struct {
		Devices string `json:"devices_address"`
		HTTPS   string `json:"https_address"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "code")
	if err := os.WriteFile(file, []byte(code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), agent, "--serial", serial, "--server", s.Devices, "--enrol-server", s.HTTPS,
		"--roots", filepath.Join(dir, "hawser/keys/ca/root.pem"), "--state", filepath.Join(dir, "state-"+serial), "--code-file", file, "--flush-for", "20s",
		"--simulate", sends, "--count", "1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("agent: %v\n%s", err, b)
	}
}

// legacyFiles are the tokens of old lamps, and an old camera's certificate under
// an authority of the maker's.
func legacyFiles(t *testing.T, write func(name, text string)) {
	t.Helper()
	write("old-lamps.csv", "serial\nL1\nL2\n")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "works"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "K77"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range []struct {
		name string
		tmpl *x509.Certificate
		pub  any
	}{{"works-ca.pem", ca, key.Public()}, {"cameras.pem", leaf, leafKey.Public()}} {
		der, err := x509.CreateCertificate(rand.Reader, c.tmpl, ca, c.pub, key)
		if err != nil {
			t.Fatal(err)
		}
		write(c.name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
}
