package console

import (
	"fmt"
	"net/http"
	"slices"
)

// Route is one page, or one thing that a form does.
type Route struct {
	Pattern    string // of http.ServeMux, with its method
	Permission string
	Handle     func(http.ResponseWriter, *http.Request, Visitor) error
}

// The two permissions that no role grants.
const (
	Public   = "public"    // anybody; only what public lists
	SignedIn = "signed-in" // whoever is signed in: one's own account
)

// public is every route that needs nobody to be signed in.
func public() []string {
	return []string{
		"GET /static/{name}",
		"GET /sign-in", "POST /sign-in/{step}",
		"GET /set-up/{link}", "POST /set-up/{link}/{step}",
	}
}

// routes is the whole console but the way in.
func (c *Console) routes() []Route {
	return []Route{
		{"GET /static/{name}", Public, c.static},
		{"GET /{$}", "check.list", c.todayPage},
		{"GET /control/{control}", "check.list", c.controlPage},
		{"GET /check/{check}", "check.list", c.checkPage},
		{"GET /products", "declaration.list", c.productsPage},
		{"GET /product/{product}", "declaration.list", c.productPage},
		{"GET /reviews", "declaration.list", c.reviewsPage},
		{"POST /reviews/{review}/vouch", "review.decide", c.vouchForReview},
		{"POST /reviews/{review}/approve", "review.decide", c.approveReview},
		{"POST /reviews/{review}/reject", "review.decide", c.rejectReview},
		{"GET /devices", "device.list", c.devicesPage},
		{"GET /device/{device}", "device.list", c.devicePage},
		{"POST /device/{device}/readings", "data.read", c.readings},
		{"POST /device/{device}/settings", "setting.set", c.setDevice},
		{"POST /device/{device}/settings/back", "setting.set", c.setDeviceBack},
		{"POST /device/{device}/commands", "command.give", c.giveCommand},
		{"POST /device/{device}/commands/{command}/agree", "command.second", c.agreeCommand},
		{"POST /device/{device}/commands/{command}/cancel", "command.give", c.cancelCommand},
		{"GET /refusals", "server.status", c.refusalsPage},
		{"GET /people", "people.list", c.peoplePage},
		{"POST /people", "people.invite", c.invite},
		{"POST /people/assessor", "people.invite", c.inviteAssessor},
		{"POST /people/review", "people.review", c.review},
		{"POST /people/{person}/disable", "people.disable", c.disable},
		{"POST /people/{person}/roles", "people.roles", c.setRoles},
		{"POST /people/{person}/erase", "people.erase", c.erasePerson},
		{"GET /ledger", "ledger.read", c.ledgerPage},
		{"GET /evidence", "check.list", c.evidencePage},
		{"POST /evidence", "evidence.export", c.exportEvidence},
		{"POST /evidence/samples", "evidence.sample", c.beginSample},
		{"GET /evidence/samples/{sample}", "check.list", c.samplePage},
		{"POST /evidence/samples/{sample}/draw", "evidence.sample", c.drawSample},
		{"GET /waivers", "check.list", c.waiversPage},
		{"POST /waivers", "waiver.ask", c.askWaiver},
		{"POST /waivers/{waiver}/approve", "waiver.approve", c.approveWaiver},
		{"POST /waivers/{waiver}/end", "waiver.ask", c.endWaiver},
	}
}

// checkRoutes holds that every route has a permission, and that what is public
// is meant to be.
func checkRoutes(routes []Route) error {
	for _, rt := range routes {
		listed := slices.Contains(public(), rt.Pattern)
		switch {
		case rt.Pattern == "" || rt.Handle == nil || rt.Permission == "":
			return fmt.Errorf("console: route %q has no permission or no handler", rt.Pattern)
		case rt.Permission == Public && !listed:
			return fmt.Errorf("console: route %q is public, and is not listed as such", rt.Pattern)
		case rt.Permission != Public && listed:
			return fmt.Errorf("console: route %q is listed as public, and asks for %s", rt.Pattern, rt.Permission)
		}
	}
	return nil
}

// Permissions are those that the console asks for, sorted: what roles grant.
func (c *Console) Permissions() []string {
	var out []string
	for _, rt := range slices.Concat(c.routes(), c.d.Doors) {
		if rt.Permission != Public && rt.Permission != SignedIn && !slices.Contains(out, rt.Permission) {
			out = append(out, rt.Permission)
		}
	}
	slices.Sort(out)
	return out
}

func (c *Console) static(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	c.assets.serve(w, r)
	return nil
}
