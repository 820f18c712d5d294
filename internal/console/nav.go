package console

// entry is one line of the list at the side.
type entry struct {
	Text, URL, Permission string
	Group                 bool // the first of a new group
}

// entries are the pages that one comes to from everywhere.
func entries() []entry {
	return []entry{
		{"Is it true today?", "/", "check.list", false},
		{"Waivers", "/waivers", "check.list", false},
		{"Evidence", "/evidence", "check.list", false},
		{"Ledger", "/ledger", "ledger.read", false},
		{"Products", "/products", "declaration.list", true},
		{"Reviews", "/reviews", "declaration.list", false},
		{"Devices", "/devices", "device.list", false},
		{"Refusals", "/refusals", "server.status", false},
		{"People", "/people", "people.list", true},
	}
}
