package declaration

import (
	"regexp"
	"strings"
)

// The keys of a declaration. Meaning, unit, default and example stand beside
// the form, so that reference, editor and check say the same.

func textOf(least, most int, want string) *shape {
	return &shape{form: textForm, least: least, most: most, want: want}
}

func patternOf(rule, pattern, want string) *shape {
	return &shape{form: patternForm, rule: rule, pattern: pattern, re: regexp.MustCompile(pattern), want: want}
}

func spanOf(rule string) *shape {
	return patternOf(rule, spanPattern, "a span such as 30d")
}

func dateOf(rule string) *shape {
	return patternOf(rule, datePattern, "a date such as 2032-12-31")
}

func wordOf(rule string, words []string, no ...refused) *shape {
	return &shape{form: wordForm, rule: rule, words: words, refused: no, want: "one of " + strings.Join(words, ", ")}
}

func wholeOf(rule string, lo, hi float64) *shape {
	return &shape{form: integerForm, rule: rule, lo: lo, hi: hi}
}

func listOf(rule string, least, most int, item *shape) *shape {
	return &shape{form: listForm, rule: rule, least: least, most: most, item: item, unique: item.form != objectForm && item.form != numberForm}
}

func tableOf(least, most int, names string, item *shape) *shape {
	want := "1 to 63 lower-case letters, digits, `_` and `-`, a letter first"
	if names == fieldPattern {
		want = "1 to 63 letters, digits, `_`, `-` and `.`, a letter first"
	}
	return &shape{form: tableForm, least: least, most: most, names: names, item: item, nameWant: want, re: regexp.MustCompile(names)}
}

func boolean() *shape { return &shape{form: booleanForm} }

func declarationShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "declaration", Required: true, rule: ruleLanguage, Example: "declaration: 1", Meaning: "Version of the declaration language. Always 1.", shape: wholeOf(ruleLanguage, 1, 1)},
		{Name: "product", Required: true, rule: ruleProduct, Example: "product: aria-thermostat", Meaning: "Id of the product, for ever.", shape: patternOf(ruleProduct, productPattern, "lower-case letters, digits and hyphens, a letter first")},
		{Name: "name", Required: true, Example: "name: Aria Thermostat", Meaning: "The product's name as people know it.", shape: textOf(1, 80, "the product's name, 1 to 80 characters")},
		{Name: "version", Required: true, rule: ruleVersion, Example: "version: 3", Meaning: "Number of this declaration; grows with every published change.", shape: wholeOf(ruleVersion, 1, 1e9)},
		{Name: "risk", Required: true, rule: ruleRisk, Example: "risk: {purpose: comfort, harm: low, exposure: home}", Meaning: "What, besides its data and shares, says how strictly the product is to be guarded.", shape: riskShape()},
		{Name: "audience", Required: true, rule: ruleAudience, Example: "audience: general", Meaning: "For whom the product is made: general (grown-ups), mixed (children among others) or child (under 13).", shape: wordOf(ruleAudience, audienceWords())},
		{Name: "health", Default: "false", Example: "health: true", Meaning: "The law's duties for health data apply. Required when a field has the class health.", shape: boolean()},
		{Name: "identity", Example: "identity: {life: 30d, may_sleep: until-end-of-support}", Meaning: "How long a device's certificate lives, and how long a device may be away.", shape: identityShape()},
		{Name: "data", Required: true, Example: "data: {…}", Meaning: "The fields that the product collects, by the name that they have in messages. What does not stand here is dropped.", shape: fieldsShape()},
		{Name: "streams", Required: true, rule: ruleRate, Example: "streams: {climate: {every: 60s, burst: 10, max_bytes: 512}}", Meaning: "The flows of messages, by name: a device publishes them on `telemetry/NAME`, one reading a message, in JSON, CBOR or SenML.", shape: tableOf(1, MaxStreams, namePattern, streamShape())},
		{Name: "services", Example: "services: {app-backend: {what: Shows the room in the app, purposes: [service.control]}}", Meaning: "The maker's own apps and clouds that read fields, by name.", shape: tableOf(0, 32, namePattern, serviceShape())},
		{Name: "commands", Example: "commands: {set_target: {params: {celsius: {type: number, unit: Cel, range: [5, 30]}}, by: [owner], risky: false}}", Meaning: "What a device can be told to do, by name.", shape: tableOf(0, 64, namePattern, commandShape())},
		{Name: "settings", Example: "settings: {night_setback: {type: number, unit: Cel, range: [10, 20], default: 16, class: personal, keep: 30d, by: [owner], risky: false}}", Meaning: "What can be set on a device and stays until it is set anew, by name. No credentials.", shape: tableOf(0, MaxSettings, fieldPattern, settingShape())},
		{Name: "interfaces", Required: true, rule: ruleInterface, Example: "interfaces: [{name: gateway, protocol: mqtts, direction: out, auth: device-certificate}]", Meaning: "Every way into and out of the product, wired, by radio or over the network.", shape: listOf(ruleInterface, 1, 64, interfaceShape())},
		{Name: "network", Required: true, Example: "network: {talks_to: [{service: gateway}], wifi: [wpa2, wpa3]}", Meaning: "What the product connects to, and how.", shape: networkShape()},
		{Name: "updates", Required: true, rule: ruleUpdates, Example: "updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}", Meaning: "How security updates reach the product.", shape: updatesShape()},
		{Name: "support", Required: true, rule: ruleSupport, Example: `support: {security_updates_until: 2032-12-31, afterwards: "Heats by its dial; no app, no history."}`, Meaning: "How long security updates come. The date never moves earlier.", shape: supportShape()},
		{Name: "shares", Example: "shares: {weatherco: {fields: [room_temperature], purpose: research.weather, transform: [hour], contract_until: 2027-06-30, reidentify: never}}", Meaning: "Slices of the data that other companies get, by the company's short name. Nothing else leaves.", shape: tableOf(0, 32, namePattern, shareShape())},
		{Name: "contacts", Required: true, rule: ruleContact, Example: "contacts: {security: security@example.com, help: help@example.com}", Meaning: "Where researchers and customers turn to.", shape: contactsShape()},
		{Name: "claims", Example: `claims: [{say: "Encrypted on its way and at rest.", rests_on: [RP-03]}]`, Meaning: "Public promises, each tied to the controls that it stands on.", shape: listOf("", 0, 64, claimShape())},
		{Name: "hub", rule: ruleHub, Example: "hub: {children: [door-contact, bulb], max: 64}", Meaning: "Devices of this product speak for others that have no certificate: their children. Left out: they speak for themselves alone.", shape: hubShape()},
		{Name: "legacy", Example: "legacy: {auth: own-ca, until: 2027-12-31, max_devices: 500}", Meaning: "A door, with an end, for devices in the field that cannot have a certificate of this installation yet. Over TLS, with a secret per device. Each of them counts as failing row 3.2.", shape: legacyShape()},
	}}
}

func riskShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "purpose", Required: true, rule: ruleRisk, Example: "purpose: comfort", Meaning: "What the product is for.", shape: wordOf(ruleRisk, []string{"comfort", "convenience", "communication", "energy", "entertainment", "health", "industry", "mobility", "safety", "security", "toy"})},
		{Name: "harm", Required: true, rule: ruleRisk, Example: "harm: low", Meaning: "How bad it is for people when it is misused or fails.", shape: wordOf(ruleRisk, harmWords())},
		{Name: "exposure", Required: true, rule: ruleRisk, Example: "exposure: home", Meaning: "Where it stands: who can come near it.", shape: wordOf(ruleRisk, []string{"home", "body", "vehicle", "workplace", "industry", "public"})},
	}}
}

func identityShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "life", Default: "90d", Unit: "span, 7d to 400d", Example: "life: 30d", Meaning: "How long a device's certificate is good. It is renewed long before its end; long lives show as a finding.", shape: spanOf(ruleIdentity)},
		{Name: "may_sleep", Default: "until-end-of-support", Unit: "span, to 10y", Example: "may_sleep: 2y", Meaning: "How long after the end of its certificate a device that slept may still come back with a new key.", shape: patternOf(ruleIdentity, sleepPattern, "until-end-of-support, or a span such as 2y")},
	}}
}

func streamShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "every", Required: true, rule: ruleRate, Unit: "span, 1ms to 366d", Example: "every: 60s", Meaning: "In the long run a device may send one message in this time.", shape: spanOf(ruleRate)},
		{Name: "burst", Required: true, rule: ruleRate, Unit: "messages, 1 to 10000", Example: "burst: 10", Meaning: "So many messages may come at once.", shape: wholeOf(ruleRate, 1, 10000)},
		{Name: "max_bytes", Required: true, rule: ruleStreamMax, Unit: "bytes, 16 to 65536", Example: "max_bytes: 512", Meaning: "The largest message.", shape: wholeOf(ruleStreamMax, 16, 65536)},
		{Name: "on_bad", Default: "field", Example: "on_bad: message", Meaning: "When a declared field is bad: drop the field and keep the rest, or refuse the message.", shape: wordOf("", onBadWords())},
	}}
}

func serviceShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "what", Required: true, rule: ruleService, Example: `what: "Shows the room in the app."`, Meaning: "What the service does for the owner, in plain words.", shape: textOf(1, 200, "what it does, 1 to 200 characters")},
		{Name: "purposes", Required: true, rule: ruleService, Example: "purposes: [service.control]", Meaning: "For what it reads. It may read only fields that have one of these purposes.", shape: purposesShape()},
	}}
}

func purposesShape() *shape {
	return listOf(rulePurpose, 1, 16, patternOf(rulePurpose, purposePattern, "a family and a word such as service.control"))
}

func commandShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "params", Example: "params: {celsius: {type: number, unit: Cel, range: [5, 30]}}", Meaning: "The values that the command takes, by name. Server and device refuse others.", shape: tableOf(0, 32, fieldPattern, paramShape())},
		{Name: "by", Required: true, rule: ruleCommandBy, Example: "by: [owner]", Meaning: "Who may give it: roles and services.", shape: listOf(ruleCommandBy, 1, 16, patternOf(ruleCommandBy, byPattern(), "a role or service that may give commands"))},
		{Name: "risky", Required: true, Example: "risky: false", Meaning: "Whether it can do harm (unlock, open, heat): then it asks for a second factor or person.", shape: boolean()},
	}}
}

func interfaceShape() *shape {
	clear := func(word, instead string) refused {
		return refused{word, ruleCleartext, word + " is cleartext", "take " + instead}
	}
	return &shape{
		form: objectForm,
		keys: []Key{
			{Name: "name", Required: true, rule: ruleInterface, Example: "name: setup", Meaning: "A name of its own.", shape: patternOf(ruleInterface, namePattern, "lower-case letters, digits, `_` and `-`, a letter first")},
			{Name: "protocol", Required: true, rule: ruleInterface, Example: "protocol: https", Meaning: "What is spoken on it.", shape: wordOf(
				ruleInterface,
				[]string{"mqtts", "https", "wss", "coaps", "tls", "dtls", "ssh", "dns", "dhcp", "mdns", "ntp", "nts", "ble", "zigbee", "thread", "zwave", "matter", "lorawan", "cellular", "nfc", "usb", "serial"},
				clear("mqtt", "mqtts"), clear("http", "https"), clear("coap", "coaps"), clear("ws", "wss"), clear("ftp", "https"), clear("tftp", "https"), clear("telnet", "ssh"), clear("rtsp", "https"), clear("snmp", "https"), clear("modbus", "tls"), clear("syslog", "tls"),
			)},
			{Name: "direction", Required: true, rule: ruleInterface, Example: "direction: in", Meaning: "Who begins: in (somebody reaches the device) or out (the device reaches somebody).", shape: wordOf(ruleInterface, []string{"in", "out"})},
			{Name: "port", Unit: "1 to 65535", Example: "port: 443", Meaning: "The port it listens on; required for a way in over the network.", shape: wholeOf(ruleInterface, 1, 65535)},
			{Name: "on", Example: "on: lan", Meaning: "From where a way in can be reached.", shape: wordOf(
				ruleInterface, []string{"lan", "radio", "touch", "cable", "inside"},
				refused{"internet", ruleInbound, "a way in is open to the internet", "put it on: lan, or let the device connect out"},
				refused{"wan", ruleInbound, "a way in is open to the internet", "put it on: lan, or let the device connect out"},
			)},
			{Name: "auth", Required: true, rule: ruleAuth, Example: "auth: owner-code", Meaning: "How the other side proves who it is.", shape: wordOf(
				ruleAuth,
				[]string{"device-certificate", "server-certificate", "mutual-tls", "owner-code", "owner-account", "staff-account", "pairing-code", "button", "link-key", "none"},
				refused{"password", ruleAuth, "a fixed password is no authentication", "take owner-code: a secret per unit that the owner changes at set-up"},
				refused{"default-password", ruleAuth, "a default password is no authentication", "take owner-code: a secret per unit that the owner changes at set-up"},
				refused{"psk", ruleAuth, "a shared key is no authentication", "take device-certificate, or pairing-code"},
			)},
			{Name: "open", Example: "open: until-claimed", Meaning: "When a way in can be reached.", shape: wordOf(ruleInterface, []string{"always", "until-claimed", "on-request", "while-button"})},
		},
		when: []when{
			{key: "direction", is: []string{"in"}, needs: []need{{"on", ruleInterface}, {"open", ruleInterface}}},
			{key: "direction", is: []string{"out"}, bars: []need{{"on", ruleInterface}, {"open", ruleInterface}}},
		},
	}
}

func networkShape() *shape {
	weak := func(word string) refused {
		return refused{word, ruleWiFi, word + " is broken", "take wpa2 or wpa3"}
	}
	destination := &shape{form: objectForm, keys: []Key{
		{Name: "service", Required: true, rule: ruleTalksTo, Example: "service: ntp", Meaning: "What it is. `gateway` is this installation.", shape: patternOf(ruleTalksTo, namePattern, "a word such as gateway, ntp or maps")},
		{Name: "host", Example: "host: ntp.example.com", Meaning: "DNS name; required for all but the gateway.", shape: patternOf(ruleTalksTo, hostPattern, "a DNS name")},
		{Name: "port", Unit: "1 to 65535", Default: "the usual one of the service", Example: "port: 123", Meaning: "Port.", shape: wholeOf(ruleTalksTo, 1, 65535)},
	}}
	return &shape{form: objectForm, keys: []Key{
		{Name: "talks_to", Required: true, rule: ruleTalksTo, Example: "talks_to: [{service: gateway}]", Meaning: "Everything that the product connects to. Anything else is a finding.", shape: listOf(ruleTalksTo, 1, 64, destination)},
		{Name: "wifi", Default: "[] (no Wi-Fi)", Example: "wifi: [wpa2, wpa3]", Meaning: "The kinds of Wi-Fi security that it joins.", shape: listOf(ruleWiFi, 0, 2, wordOf(ruleWiFi, []string{"wpa2", "wpa3"}, weak("open"), weak("wep"), weak("wpa"), weak("tkip")))},
		{Name: "tls", Default: `"1.3"`, Example: `tls: "1.2"`, Meaning: "The oldest TLS version that it speaks. 1.2 is offered while a live product says so, and shows as a finding.", shape: wordOf(ruleTLS, []string{"1.3", "1.2"})},
	}}
}

func updatesShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "automatic", Required: true, rule: ruleUpdates, Example: "automatic: true", Meaning: "Whether security updates install themselves.", shape: boolean()},
		{Name: "why_manual", Example: `why_manual: "Stops a production line while it restarts."`, Meaning: "Why not, when they do not; it is published.", shape: textOf(20, 400, "the reason, 20 to 400 characters")},
		{Name: "check_every", Required: true, rule: ruleUpdates, Unit: "span, 15m to 30d", Example: "check_every: 6h", Meaning: "How often a device asks for updates.", shape: spanOf(ruleUpdates)},
		{Name: "window", Default: "any time", Unit: "local time", Example: `window: "02:00-05:00"`, Meaning: "When an update may restart the device.", shape: patternOf(ruleUpdates, windowPattern, `two clock times such as "02:00-05:00"`)},
		{Name: "deadline", Required: true, rule: ruleUpdates, Example: "deadline: {critical: 3d, high: 14d}", Meaning: "From the day a fix is known to be needed to the day every device is offered it.", shape: &shape{form: objectForm, keys: []Key{
			{Name: "critical", Required: true, rule: ruleUpdates, Unit: "span, to 30d", Example: "critical: 3d", Meaning: "For critical severity.", shape: spanOf(ruleUpdates)},
			{Name: "high", Required: true, rule: ruleUpdates, Unit: "span, to 90d", Example: "high: 14d", Meaning: "For high severity.", shape: spanOf(ruleUpdates)},
		}}},
	}}
}

func supportShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "security_updates_until", Required: true, rule: ruleSupport, Unit: "day, included (UTC)", Example: "security_updates_until: 2032-12-31", Meaning: "The last day of security updates.", shape: dateOf(ruleSupport)},
		{Name: "afterwards", Required: true, rule: ruleSupport, Example: `afterwards: "Heats by its dial; no app, no history."`, Meaning: "What still works after that day, in plain words.", shape: textOf(10, 400, "what still works, 10 to 400 characters")},
	}}
}

func shareShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "fields", Required: true, rule: ruleShareField, Example: "fields: [room_temperature]", Meaning: "The fields in the slice. Each lists `share:NAME` among its readers.", shape: listOf(ruleShareField, 1, MaxFields, patternOf(ruleShareField, fieldPattern, "the name of a field"))},
		{Name: "purpose", Required: true, rule: ruleShareWhy, Example: "purpose: research.weather", Meaning: "What the other company may do with it; one of the purposes of every field in it.", shape: patternOf(rulePurpose, sharePurpose, "a family and a word such as research.weather")},
		{Name: "transform", Default: "[]", Example: "transform: [geo_grid(10km), hour]", Meaning: "What makes it coarser before it leaves, in this order: geo_grid(SIZE), hour, day, week, month, round(STEP), pseudonym (another one for each company), k(N) (only counts of at least N). May be left out only for public fields.", shape: listOf(ruleTransform, 0, 8, patternOf(ruleTransform, transformRegexp, "a transform such as hour, geo_grid(10km), round(0.5) or k(20)"))},
		{Name: "contract_until", Required: true, rule: ruleShareEnd, Unit: "day, included (UTC)", Example: "contract_until: 2027-06-30", Meaning: "The last day of the contract; the share stops then.", shape: dateOf(ruleShareEnd)},
		{Name: "reidentify", Required: true, rule: ruleReidentify, Example: "reidentify: never", Meaning: "The promise not to find out whom a reading is about. There is no other value.", shape: wordOf(ruleReidentify, []string{"never"})},
	}}
}

func contactsShape() *shape {
	address := func() *shape {
		return patternOf(ruleContact, contactPattern, "a mail address or an https address")
	}
	return &shape{form: objectForm, keys: []Key{
		{Name: "security", Required: true, rule: ruleContact, Example: "security: security@example.com", Meaning: "Where a found hole is reported.", shape: address()},
		{Name: "help", Required: true, rule: ruleContact, Example: "help: https://example.com/help", Meaning: "Where customers get help.", shape: address()},
	}}
}

func claimShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "say", Required: true, rule: ruleClaim, Example: `say: "Encrypted on its way and at rest."`, Meaning: "The promise, word for word.", shape: textOf(1, 200, "the promise, 1 to 200 characters")},
		{Name: "rests_on", Required: true, rule: ruleClaim, Example: "rests_on: [RP-03, MR-04]", Meaning: "The controls that make it true. While one of them is not met, the claim shows as unproven.", shape: listOf(ruleClaim, 1, 16, patternOf(ruleClaim, controlPattern, "the id of a control, such as RP-03"))},
	}}
}

func hubShape() *shape {
	return &shape{form: objectForm, keys: []Key{
		{Name: "children", Required: true, rule: ruleHub, Example: "children: [door-contact, bulb]", Meaning: "The products of which it may have children, each with a declaration of its own. What a child sends is judged by that one, at its rates.", shape: listOf(ruleHub, 1, MaxChildProducts, patternOf(ruleHub, productPattern, "the id of a product: lower-case letters, digits and hyphens, a letter first"))},
		{Name: "max", Required: true, rule: ruleHub, Unit: "children, 1 to 256", Example: "max: 64", Meaning: "How many children one hub may have at a time.", shape: wholeOf(ruleHub, 1, MaxChildren)},
	}}
}

func legacyShape() *shape {
	shared := func(word string) refused {
		return refused{word, ruleLegacy, word + " is shared by many devices", "take own-ca (certificates of your own CA) or device-token (a secret per device)"}
	}
	return &shape{form: objectForm, keys: []Key{
		{Name: "auth", Required: true, rule: ruleLegacy, Example: "auth: own-ca", Meaning: "How such a device proves itself: a certificate of the maker's own CA, or a token of its own.", shape: wordOf(ruleLegacy, []string{"own-ca", "device-token"}, shared("password"), shared("psk"), shared("shared-token"), shared("none"))},
		{Name: "until", Required: true, rule: ruleLegacy, Unit: "day, included (UTC)", Example: "until: 2027-12-31", Meaning: "The day on which the door closes.", shape: dateOf(ruleLegacy)},
		{Name: "max_devices", Required: true, rule: ruleLegacy, Unit: "devices, 1 to 10,000,000", Example: "max_devices: 500", Meaning: "How many devices may use it.", shape: wholeOf(ruleLegacy, 1, 1e7)},
	}}
}
