package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// comparers are the functions with which a credential is compared, or hashed
// to be compared, by import path. A path that ends in /... is every package
// below it, and its names are those of methods.
var comparers = map[string][]string{
	"crypto/subtle":               {"ConstantTimeCompare"},
	"crypto/hmac":                 {"Equal"},
	"crypto/pbkdf2":               {"Key"},
	"golang.org/x/crypto/argon2":  {"IDKey", "Key"},
	"golang.org/x/crypto/scrypt":  {"Key"},
	"golang.org/x/crypto/pbkdf2":  {"Key"},
	"golang.org/x/crypto/bcrypt":  {"CompareHashAndPassword"},
	"github.com/pquerna/otp/totp": {"Validate", "ValidateCustom"},
	"github.com/pquerna/otp/hotp": {"Validate", "ValidateCustom"},
	"github.com/go-webauthn/webauthn/...": {
		"ValidateLogin", "ValidateDiscoverableLogin", "ValidatePasskeyLogin", "FinishLogin", "FinishDiscoverableLogin", "FinishPasskeyLogin",
	},
}

// ungated are functions that use a comparer and check nobody's credential.
// Each is defended here.
var ungated = map[string]string{
	"internal/kms.newWrapKey":       "makes the key that unwraps a root; it runs at start, and whoever has the file can try without us",
	"internal/access.hasher.make":   "hashes a new password; nothing is compared",
	"internal/access.Service.knows": "a cookie of 256 bits that says who waits for whom, never who gets in",
	"internal/console.tokens.ok":    "ties a form to its session (CC 2.3); the session was looked at before",
	"internal/gateway/link.tlsOf":   "a public key whose private one TLS 1.3 proved before; there is nothing to guess",
}

// verifiers are the packages in which whatever is called verify… takes a
// ticket, however it compares: by a look into the database, for one.
var verifiers = []string{"internal/access", "internal/identity"}

const gatePath = module + "/internal/gate"

// ungatedIn finds what compares a credential without a ticket in one file, as
// "package.function: what is wrong". used is told which names were found.
func ungatedIn(fset *token.FileSet, f file, used func(name string)) (faults []string) {
	if f.test || f.pkg == "internal/gate" || isApart(f.pkg) {
		return nil
	}
	names, methods, gateName := comparersOf(f)
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		name := f.pkg + ".(outside of functions)"
		var uses token.Pos
		ticket := false
		if ok {
			name = f.pkg + "." + receiver(fn) + fn.Name.Name
			var params []string
			params, ticket = tickets(fn.Type, gateName)
			uses = firstUse(fn, params)
		}
		fault := func(pos token.Pos, what string) {
			used(name)
			if ungated[name] == "" {
				faults = append(faults, name+" at "+fset.Position(pos).String()+" "+what)
			}
		}
		if ok && slices.Contains(verifiers, f.pkg) && strings.HasPrefix(fn.Name.Name, "verify") && !ticket {
			fault(fn.Pos(), "verifies without a *gate.Ticket")
		}
		ast.Inspect(d, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			what := ""
			if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(names[id.Name], sel.Sel.Name) {
				what = id.Name + "." + sel.Sel.Name
			} else if slices.Contains(methods, sel.Sel.Name) {
				what = sel.Sel.Name
			}
			switch {
			case what == "":
			case !ticket:
				fault(sel.Pos(), "calls "+what+" without a *gate.Ticket")
			case uses == token.NoPos || uses > sel.Pos():
				fault(sel.Pos(), "calls "+what+" before it uses its ticket")
			}
			return true
		})
	}
	return faults
}

// comparersOf gives what the comparers are called in a file: functions by the
// name of their package, methods, and the name of our gate.
func comparersOf(f file) (names map[string][]string, methods []string, gateName string) {
	names = map[string][]string{}
	for _, im := range f.ast.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if im.Name != nil {
			name = im.Name.Name
		}
		if p == gatePath {
			gateName = name
		}
		for c, fns := range comparers {
			if below, all := strings.CutSuffix(c, "/..."); all && strings.HasPrefix(p, below) {
				methods = append(methods, fns...)
			} else if p == c {
				names[name] = append(names[name], fns...)
				if name == "." {
					methods = append(methods, fns...)
				}
			}
		}
	}
	return names, methods, gateName
}

func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	e := fn.Recv.List[0].Type
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name + "."
	}
	return ""
}

// tickets are the parameters of a function that are tickets of our gate.
func tickets(t *ast.FuncType, gateName string) (names []string, found bool) {
	for _, p := range t.Params.List {
		star, ok := p.Type.(*ast.StarExpr)
		if !ok {
			continue
		}
		sel, ok := star.X.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Ticket" {
			continue
		}
		if id, ok := sel.X.(*ast.Ident); ok && gateName != "" && id.Name == gateName {
			found = true
			for _, n := range p.Names {
				names = append(names, n.Name)
			}
		}
	}
	return names, found
}

// firstUse is where a function first uses one of its tickets.
func firstUse(fn *ast.FuncDecl, params []string) (at token.Pos) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || at != token.NoPos {
			return at == token.NoPos
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Use" {
			if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(params, id.Name) {
				at = call.Pos()
			}
		}
		return true
	})
	return at
}

// TestEveryVerifierTakesATicket: nothing outside the gate compares a
// credential without a ticket that only the gate mints (CC 1.13, 1.14;
// decision 006). What it cannot see is a comparison with == or bytes.Equal:
// read for that.
func TestEveryVerifierTakesATicket(t *testing.T) {
	fset, files := parse(t)
	seen, packages, gated := map[string]bool{}, map[string]bool{}, 0
	for _, f := range files {
		packages[f.pkg] = true
		for _, fault := range ungatedIn(fset, f, func(name string) { seen[name] = true }) {
			t.Error(fault + ": let it take a ticket and use it first, or defend it in `ungated`")
		}
		if f.test || f.pkg == "internal/gate" {
			continue
		}
		_, _, gateName := comparersOf(f)
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if params, found := tickets(fn.Type, gateName); found && firstUse(fn, params) != token.NoPos {
					gated++
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ungated)) {
		pkg, _, _ := strings.Cut(name, ".")
		if packages[pkg] && !seen[name] {
			t.Errorf("%s is defended and compares nothing: take it off the list", name)
		}
	}
	if gated == 0 {
		t.Error("no verifier was found: the rule looks in the wrong place")
	}
}

// TestTicketRuleCatches plants each fault.
func TestTicketRuleCatches(t *testing.T) {
	const good = `package access

import (
	"context"
	"crypto/subtle"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/hawser-iot/hawser/internal/gate"
	"golang.org/x/crypto/argon2"
)

func (s *Service) verifyPassword(ctx context.Context, t *gate.Ticket, account, typed string) bool {
	if t.Use(gate.Password, account) != nil {
		return false
	}
	return subtle.ConstantTimeCompare(argon2.IDKey([]byte(typed), s.salt, 1, 1, 1, 32), s.hash) == 1
}

func (s *Service) verifyPasskey(t *gate.Ticket, w *webauthn.WebAuthn) error {
	if err := t.Use(gate.Passkey, ""); err != nil {
		return err
	}
	_, err := w.ValidateLogin(nil, webauthn.SessionData{}, nil)
	return err
}

func newSalt() []byte { return nil }
`
	check := func(src, pkg string) []string {
		t.Helper()
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, "planted.go", src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		return ungatedIn(fset, file{name: "planted.go", pkg: pkg, ast: parsed}, func(string) {})
	}
	if faults := check(good, "internal/access"); len(faults) != 0 {
		t.Fatalf("good code: %v", faults)
	}
	replace := func(pairs ...string) string {
		t.Helper()
		out := good
		for i := 0; i < len(pairs); i += 2 {
			next := strings.ReplaceAll(out, pairs[i], pairs[i+1])
			if next == out {
				t.Fatalf("%q is not in the good code", pairs[i])
			}
			out = next
		}
		return out
	}
	for name, c := range map[string]struct{ src, want string }{
		"no ticket":             {replace("ctx context.Context, t *gate.Ticket, ", "t ticketLike, "), "verifies without"},
		"a ticket of another":   {replace(`"github.com/hawser-iot/hawser/internal/gate"`, `"example.com/gate"`), "without a *gate.Ticket"},
		"a ticket by value":     {replace("t *gate.Ticket, account", "t gate.Ticket, account"), "without a *gate.Ticket"},
		"never used":            {replace("t.Use(gate.Password, account) != nil", "account == typed"), "before it uses"},
		"used too late":         {replace("if t.Use(gate.Password, account) != nil {", "if subtle.ConstantTimeCompare(nil, nil) == 1 && t.Use(gate.Password, account) != nil {"), "before it uses"},
		"renamed import":        {replace(`"crypto/subtle"`, `x "crypto/subtle"`, "subtle.", "x.", "newSalt() []byte { return nil }", "same(a []byte) bool { return x.ConstantTimeCompare(a, a) == 1 }"), "x.ConstantTimeCompare without"},
		"a function value":      {good + "\nvar same = subtle.ConstantTimeCompare\n", "outside of functions"},
		"a helper":              {good + "\nfunc same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }\n", "access.same"},
		"a method":              {good + "\nfunc (s *Service) quick(w *webauthn.WebAuthn) { _, _ = w.ValidateLogin(nil, webauthn.SessionData{}, nil) }\n", "calls ValidateLogin without"},
		"a look by another way": {good + "\nfunc (s *Service) verifyLink(token string) bool { return s.links[token] }\n", "verifyLink"},
	} {
		if faults := check(c.src, "internal/access"); !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, c.want) }) {
			t.Errorf("%s: faults %q, want %q", name, faults, c.want)
		}
	}
	if faults := check(replace("t *gate.Ticket, w", "w"), "internal/update"); len(faults) == 0 {
		t.Error("another package may compare without a ticket")
	}
}
