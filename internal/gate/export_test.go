package gate

// NewWith makes a Gate with other limits.
var NewWith = newGate

// TextOf is the cookie of a known device.
func TextOf(k Known) string { return k.text() }

// Proves reports whether a cookie is good for an account.
func (g *Gate) Proves(k Known, account string) bool {
	return g.proves(k, account, g.d.Now())
}
