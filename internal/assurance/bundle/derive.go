package bundle

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
)

// derive works out every file that follows from the given ones and from whose
// signature it is to bear.
func (e *evidence) derive(p PublicKey) (files, error) {
	out := files{nameSigners: []byte(p.AllowedSigner() + "\n")}
	for name, v := range map[string]any{
		nameVerdicts: &e.state, nameClaims: e.claims, nameResults: e.results(), nameComponents: e.components(),
	} {
		b, err := encode(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		out[name] = b
	}
	c, err := catalogueOnce()
	if err != nil {
		return nil, err
	}
	out[nameCrosswalk] = c.crosswalk
	for name, write := range map[string]func(PublicKey) ([]byte, error){nameReadme: e.readme, namePage: e.page} {
		b, err := write(p)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		out[name] = b
	}
	return out, nil
}

// began is when the period began: when the round before its first one closed,
// or, when there is none, when the first one did.
func (e *evidence) began() time.Time {
	for i := range e.records {
		if e.records[i].number == e.First {
			return e.records[max(i-1, 0)].closed.UTC()
		}
	}
	return e.state.At
}

//go:embed readme.tmpl
var readmeText string

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func (e *evidence) readme(p PublicKey) ([]byte, error) {
	t, err := template.New(nameReadme).Funcs(template.FuncMap{"line": func(s string) string { return inert(line(s)) }, "time": stamp}).Parse(readmeText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, e.facts(p))
	return b.Bytes(), err
}

// facts is what the pages say of the bundle as a whole.
type facts struct {
	Origin, Program, Fingerprint, LogKey string
	Namespace, Principal                 string
	At, Began                            time.Time
	First, Last                          uint64
	Rounds, Observations, Trials         int
	Entries                              uint64
	Headline                             assurance.Headline
	HeadlineLine                         string
	Sampled                              bool
	Commands                             []string
}

func (e *evidence) facts(p PublicKey) facts {
	return facts{
		Origin: e.Origin, Program: e.state.Program, Fingerprint: p.Fingerprint(), LogKey: e.log.Key, Namespace: Namespace, Principal: Principal,
		At: e.state.At, Began: e.began(), First: e.First, Last: e.Last, Rounds: int(e.Last-e.First) + 1, Observations: e.fold.observations, Trials: e.fold.trials,
		Entries: e.head.Size, Headline: e.state.Headline, HeadlineLine: e.state.Headline.String(), Sampled: len(e.samplings) > 0,
		Commands: commands(),
	}
}

// commands verify a bundle in whose folder they are typed: the first two with
// stock tools. SIGNERS and CHECKPOINT come from elsewhere.
func commands() []string {
	return []string{
		"sha256sum --check --strict --quiet " + nameSums,
		strings.Join([]string{"ssh-keygen -Y verify -f SIGNERS -I", Principal, "-n", Namespace, "-s", nameSig, "<", nameSums}, " "),
		"hawser evidence verify . --signers SIGNERS --checkpoint CHECKPOINT",
	}
}
