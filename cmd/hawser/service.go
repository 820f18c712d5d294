package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

func serviceCommands() []*command {
	return []*command{
		{
			name: "service add", args: "NAME", nargs: [2]int{1, 1},
			short: "register one of your own services that read",
			long: `Registers a service that a declaration in force names under services and among the
readers of fields: an app's back end, a cloud. It can connect when it has a certificate:
see hawser service certificate. It is told what must go, and has the time given here to
answer each such order with a signed receipt. An unregistered one cannot connect.`,
			example: "hawser service add app-backend --answer-within 48h",
			flags:   func(e *env) { e.str("answer-within", "24h", "the `time` to answer an order") },
			run: func(ctx context.Context, e *env) error {
				within, err := time.ParseDuration(*e.opt["answer-within"])
				if err != nil {
					return core.E(core.Invalid, "answer-within", "the time to answer is no duration", "write it as in 24h")
				}
				c, err := e.client()
				if err != nil {
					return err
				}
				var s api.Service
				if err := c.Call(ctx, "POST", "/v1/services", api.AddServiceRequest{Service: e.args[0], AnswerSeconds: int64(within / time.Second)}, &s); err != nil {
					return err
				}
				return e.print(s, func(w io.Writer) {
					showService(w, &s)
					fmt.Fprintf(w, "\nIts certificate: make a key and a request on the service's own machine,\n"+
						"  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \\\n"+
						"    -keyout %[1]s.key -subj /CN=%[1]s -out %[1]s.csr\nand run here:\n  hawser service certificate %[1]s --csr %[1]s.csr --out FOLDER\n", s.Service)
				})
			},
		},
		{
			name: "service certificate", args: "NAME --csr FILE --out FOLDER", nargs: [2]int{1, 1},
			short: "issue a service's certificate from its request",
			long: `Issues the certificate of a registered service from a request (PKCS#10, PEM) that was made
with its own key, which never leaves it. Writes the certificate with its chain, and the root
that the service verifies this installation with. It is good for 30 days; the service renews
it over its own connection before that (docs/readers.md).`,
			example: "hawser service certificate app-backend --csr app-backend.csr --out app-backend",
			flags: func(e *env) {
				e.str("csr", "", "the request's `file`")
				e.str("out", "", "the `folder` to write into")
			},
			run: func(ctx context.Context, e *env) error {
				csr, err := os.ReadFile(*e.opt["csr"])
				if err != nil {
					return core.E(core.Invalid, "csr-file", "the request cannot be read: "+err.Error(), "give the file with --csr")
				}
				out := *e.opt["out"]
				if out == "" {
					return core.E(core.Invalid, "out", "no folder is named", "give one with --out")
				}
				c, err := e.client()
				if err != nil {
					return err
				}
				var x api.ServiceCertificate
				if err := c.Call(ctx, "POST", servicePath(e.args[0])+"/certificate", api.CertifyServiceRequest{CSR: string(csr)}, &x); err != nil {
					return err
				}
				if err := os.MkdirAll(out, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("make folder %s: %w", out, err)
				}
				for name, text := range map[string]string{e.args[0] + ".pem": x.Certificate, "root.pem": x.Root} {
					if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
						return fmt.Errorf("write %s: %w", name, err)
					}
				}
				return e.print(x, func(w io.Writer) {
					fmt.Fprintf(w, "%s and root.pem are in %s; good until %s\nthe services' door is at %s\n", e.args[0]+".pem", out, x.NotAfter.Format(time.RFC3339), x.Address)
				})
			},
		},
		{
			name: "service list", nargs: [2]int{0, 0},
			short:   "the services that read, and what each may",
			long:    "Lists the register of services: state, fields, of how many subjects each has readings, and when it last asked on.",
			example: "hawser service list",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var all []api.Service
				if err := c.Call(ctx, "GET", "/v1/services", nil, &all); err != nil {
					return err
				}
				return e.print(all, func(w io.Writer) {
					if len(all) == 0 {
						fmt.Fprintln(w, "none yet; `hawser service add` registers one that a declaration names")
						return
					}
					var rows [][]string
					for i := range all {
						s := &all[i]
						for _, p := range s.Products {
							rows = append(rows, []string{s.Service, s.State, string(p.Product), strings.Join(p.Fields, " "), fmt.Sprint(p.Subjects), ago(p.Seen)})
						}
						if len(s.Products) == 0 {
							rows = append(rows, []string{s.Service, s.State, "-", "-", "-", "-"})
						}
					}
					table(w, []string{"SERVICE", "STATE", "PRODUCT", "FIELDS", "SUBJECTS", "ASKED ON"}, rows)
				})
			},
		},
		{
			name: "service show", args: "NAME", nargs: [2]int{1, 1},
			short:   "one service: certificate, streams, refusals",
			long:    "Shows a service: until when its certificate is good, which fields of which products it may read, how far it has come, and what it was refused since the server started.",
			example: "hawser service show app-backend",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var s api.Service
				if err := c.Call(ctx, "GET", servicePath(e.args[0]), nil, &s); err != nil {
					return err
				}
				return e.print(s, func(w io.Writer) { showService(w, &s) })
			},
		},
		{
			name: "service webhook", args: "NAME [URL]", nargs: [2]int{1, 2},
			short: "post a service's pages to an address of its own",
			long: `Has the pages of a service's streams posted to an https address, as the lines that it would
get by asking, each post signed with a secret that is printed here (HMAC-SHA-256; see
docs/readers.md). A post that is not answered with 2xx is made again later. Without an
address nothing is posted any more. Orders are answered over the service's own connection.`,
			example: "hawser service webhook app-backend https://app.northwind.example/hawser",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var req api.ServiceWebhookRequest
				if len(e.args) > 1 {
					req.URL = e.args[1]
				}
				var x api.ServiceWebhook
				if err := c.Call(ctx, "POST", servicePath(e.args[0])+"/webhook", req, &x); err != nil {
					return err
				}
				return e.print(x, func(w io.Writer) {
					if x.URL == "" {
						fmt.Fprintf(w, "nothing is posted to %s any more\n", x.Service)
						return
					}
					fmt.Fprintf(w, "pages of %s are posted to %s\nsecret %s\n", x.Service, x.URL, x.Secret)
				})
			},
		},
		{
			name: "service revoke", args: "NAME --cause WORD", nargs: [2]int{1, 1},
			short: "cut a service off, at once",
			long: `Ends a service: its streams are cut, its certificates open nothing any more and stand on the
revocation list. Orders that it did not answer stay due. hawser service add brings it back,
with a new certificate.`,
			example: "hawser service revoke app-backend --cause compromised",
			flags: func(e *env) {
				e.str("cause", "", "compromised, replaced or no-longer-needed: a `word` that stands in the ledger")
			},
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var out api.RevokedService
				if err := c.Call(ctx, "POST", servicePath(e.args[0])+"/revoke", api.RevokeServiceRequest{Cause: *e.opt["cause"]}, &out); err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is revoked; its streams are cut\n", e.args[0]) })
			},
		},
	}
}

func servicePath(name string) string { return "/v1/services/" + url.PathEscape(name) }

// ago is when something was, for a table.
func ago(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format(time.RFC3339)
}

func showService(w io.Writer, s *api.Service) {
	fmt.Fprintf(w, "%s: %s, registered %s\n", s.Service, s.State, s.Added.Format(time.RFC3339))
	fmt.Fprintf(w, "  answers orders within %s\n", time.Duration(s.AnswerSeconds)*time.Second)
	if s.CertificateUntil != nil {
		fmt.Fprintf(w, "  certificate good until %s\n", s.CertificateUntil.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "  door %s\n", s.Address)
	for _, p := range s.Products {
		fields := strings.Join(p.Fields, ", ")
		if fields == "" {
			fields = "nothing any more"
		}
		fmt.Fprintf(w, "  %s: reads %s; has readings of %d subjects; asked on: %s\n", p.Product, fields, p.Subjects, ago(p.Seen))
	}
	for _, p := range s.Products {
		if why := p.Why; why != "" {
			fmt.Fprintf(w, "  that it erases is %s for %s: %s\n", p.Erases, p.Product, why)
		} else if p.Erases == "proved" {
			fmt.Fprintf(w, "  that it erases is proved for %s\n", p.Product)
		}
	}
	for _, o := range s.Open {
		fmt.Fprintf(w, "  order %s to %s, of %s, to be answered by %s\n", o.Order, o.Do, o.Product, o.By.Format(time.RFC3339))
	}
	for _, r := range s.Refusals {
		fmt.Fprintf(w, "  refused %s: %s, from %s\n", r.Time.Format(time.RFC3339), r.Reason, r.Source)
	}
}
