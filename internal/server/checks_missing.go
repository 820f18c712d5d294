package server

import "github.com/hawser-iot/hawser/internal/check"

// missingChecks are the parts of rows that nothing looks at yet, each with the
// reason. They keep their rows unproven where another check already looks at
// the rest.
func missingChecks() []check.Check {
	gap := func(id, row, says, why string) check.Check {
		return check.Check{ID: id, Version: 1, Rows: []string{row}, Kind: check.Query, Says: says, Missing: why}
	}
	return []check.Check{
		gap("risk.controls", "1.4", "Every risk is linked to a control with live evidence.", "there is no risk register yet"),
		gap("threat.model", "1.1", "A threat model stands before the first device of a product.", "there is no threat model yet: of what must stand first, a declaration has the inventory of data, the list of interfaces and the factors of the risk"),
		gap("production.gates", "1.7", "A product passes a gate at design, build, manufacture, launch and support, each kept as evidence.", "there are no releases of firmware yet, so there is no gate at build; of the others a declaration and a birth record stand before a device"),
		gap("layers.behaviour", "1.8", "A device that does what it may, but not as it usually does, is noticed.", "nothing watches how devices behave yet"),
		gap("owners.factors", "1.11", "An owner may use a passkey or one-time codes, has recovery codes, and a product may ask for it.", "owners have no accounts yet; of the maker's people it is looked at"),
		gap("claims.guessing", "1.13", "Guessing at a claim code is slowed down by code and by device.", "owners cannot claim a device yet: there is no claim code to guess"),
		gap("devices.hardware-key", "3.2", "A device that has a place for keys in hardware holds its key there; a copy of a certificate that is good now is noticed, too.", "no device shows where its key lies yet, and two that use one good certificate take the session from each other unnoticed unless they do it again and again"),
		gap("environment.copies", "3.11", "What is copied from a live installation to a test one is de-identified.", "nothing exports readings to another installation yet"),
		gap("egress.seen", "4.17", "Whom devices talk to, besides this server, is seen.", "nothing sees yet what devices say to others"),
		gap("tap.wire", "5.10", "A passive tap sees that what devices send on other ports is encrypted.", "there is no tap yet; only what reaches this server's own doors is looked at"),
	}
}
