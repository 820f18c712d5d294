package bundle

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

const oscalSchema = "../../../../shared/data/standards/oscal_complete_schema-1.2.2.json"

// oscalBundle has checks of every kind, in every outcome, with nasty words.
func oscalBundle(t *testing.T) (files, *evidence) {
	t.Helper()
	w, k := newWorld(60), newKey(t)
	w.checks[0].Says = "  two\nlines\tand space "
	w.checks[1].Missing, w.checks[1].Violations = "no camera  on the bench\n", nil
	w.live(2)
	w.now = w.now.Add(30e9)
	empty, errored := w.observe(2), w.observe(3)
	empty.Passing, empty.Population, empty.Outcome, empty.Source = 0, 0, check.Empty, ""
	errored.Outcome, errored.Error = check.Error, "no\nroute"
	w.close([]check.Observation{empty, errored}, nil)
	o := w.options()
	// No command, no share, no Wi-Fi: some rows do not apply.
	f := w.sealed(t, o, k)
	var bad faults
	e := open(f, &bad)
	if len(bad.list) > 0 {
		t.Fatal(bad.list)
	}
	return f, e
}

// TestOSCAL validates both files against NIST's schema, by two validators that
// share nothing.
func TestOSCAL(t *testing.T) {
	f, _ := oscalBundle(t)
	if _, err := os.Stat(oscalSchema); err != nil {
		t.Skip("NIST's schema of OSCAL 1.2.2 is missing: ", oscalSchema)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(oscalSchema)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{nameResults, nameComponents} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(f[name]))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The validator itself must be able to say no.
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.Replace(f[nameResults], []byte(`"not-satisfied"`), []byte(`"maybe"`), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err == nil {
		t.Error("a state that OSCAL does not have is taken")
	}
	t.Run("ajv", func(t *testing.T) { ajv(t, f) })
}

func ajv(t *testing.T, f files) {
	tools, err := filepath.Abs("../../../tools/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(tools, ".bin", "node")
	if _, err := os.Stat(node); err != nil {
		if node, err = exec.LookPath("node"); err != nil {
			t.Skip("node is missing")
		}
	}
	for _, p := range []string{filepath.Join(tools, "ajv"), filepath.Join(tools, "ajv-formats")} {
		if _, err := os.Stat(p); err != nil {
			t.Skip("npm ci in tools/ was not run: ", p)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{nameResults, nameComponents} {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), f[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := bytes.Replace(f[nameResults], []byte(`"not-satisfied"`), []byte(`"maybe"`), 1)
	if err := os.WriteFile(filepath.Join(dir, "bad.json"), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	schema, err := filepath.Abs(oscalSchema)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const [, tools, schema, ...files] = process.argv;
const fs = require("fs");
const Ajv = require(tools + "/ajv").default;
const ajv = new Ajv({allErrors: true, strict: false});
require(tools + "/ajv-formats")(ajv);
const validate = ajv.compile(JSON.parse(fs.readFileSync(schema)));
for (const f of files) {
	const ok = validate(JSON.parse(fs.readFileSync(f)));
	console.log(f.split("/").pop(), ok ? "valid" : "not valid " + ajv.errorsText(validate.errors).slice(0, 600));
}`
	out, err := exec.Command(node, "-e", script, tools, schema,
		filepath.Join(dir, "assessment-results.json"), filepath.Join(dir, "component-definition.json"), filepath.Join(dir, "bad.json")).CombinedOutput()
	if err != nil {
		t.Fatalf("ajv: %v\n%s", err, out)
	}
	want := []string{"assessment-results.json valid", "component-definition.json valid", "bad.json not valid"}
	for i, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if i >= len(want) || !strings.HasPrefix(l, want[i]) {
			t.Errorf("ajv: %s", l)
		}
	}
}

// TestOSCALSays compares what OSCAL says with the verdicts: only met is
// satisfied, what does not apply is left out, and every reference leads
// somewhere.
func TestOSCALSays(t *testing.T) {
	f, e := oscalBundle(t)
	var x oResultsFile
	if err := json.Unmarshal(f[nameResults], &x); err != nil {
		t.Fatal(err)
	}
	res := x.Results.Results[0]
	found := map[string]string{}
	for _, y := range res.Findings {
		found[y.Target.ID] = y.Target.Status.State
	}
	excluded := map[string]bool{}
	for _, y := range res.Reviewed.Selections[0].Exclude {
		excluded[y.ID] = true
	}
	moot := 0
	for _, c := range e.state.Controls {
		want := "not-satisfied"
		if c.Verdict == assurance.Met {
			want = "satisfied"
		}
		if na := c.Verdict == assurance.NotApplicable; na != excluded[string(c.Control.ID)] {
			t.Errorf("%s is %s, left out: %v", c.Control.ID, c.Verdict, excluded[string(c.Control.ID)])
		} else if na {
			continue
		}
		if got := found[string(c.Control.ID)]; got != want {
			t.Errorf("%s is %s, OSCAL says %q", c.Control.ID, c.Verdict, got)
		}
		for _, r := range c.Rows {
			got, ok := found[rowToken(r.Row.ID)]
			if r.Verdict == assurance.NotApplicable {
				moot++
				if ok {
					t.Errorf("row %s does not apply, OSCAL says %q", r.Row.ID, got)
				}
			} else if (got == "satisfied") != (r.Verdict == assurance.Met) {
				t.Errorf("row %s is %s, OSCAL says %q", r.Row.ID, r.Verdict, got)
			}
		}
	}
	if moot == 0 {
		t.Error("every row applies: the test shows nothing")
	}
	methods := map[string]bool{}
	known := map[string]bool{}
	for _, o := range res.Observations {
		methods[o.Methods[0]] = true
		if known[o.UUID] {
			t.Errorf("%s stands twice", o.UUID)
		}
		known[o.UUID] = true
	}
	if !methods["TEST"] || !methods["EXAMINE"] || !methods["INTERVIEW"] {
		t.Errorf("methods %v, want all three", methods)
	}
	for _, y := range res.Findings {
		for _, r := range y.Related {
			if !known[r.UUID] {
				t.Errorf("%s rests on an observation that is not there", y.Target.ID)
			}
		}
	}
	id := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for u := range known {
		if !id.MatchString(u) {
			t.Errorf("%s is no UUID of version 5", u)
		}
	}
	var def oComponentsFile
	if err := json.Unmarshal(f[nameComponents], &def); err != nil {
		t.Fatal(err)
	}
	if n := len(def.Definition.Components[0].Implementations[0].Requirements); n != 63 {
		t.Errorf("it implements %d recommendations, not 63", n)
	}
}
