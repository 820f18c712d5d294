package assurance

// framing is group 0 of the mission: Framing (what "reasonable" depends on).
func framing() []Row {
	return []Row{
		{
			ID: "0.1", Control: "DS-08", Guide: "Reasonable depends on function/purpose, data type and amount, who it is shared with, level and likelihood of risk",
			Must: "Hold these 4 factors per product and derive the required control level from them",
			How:  "Publish a release for a product lacking one factor: refused, naming it; raise data class to \"health\": required controls grow",
		},
	}
}

// design is group 1 of the mission: Design security.
func design() []Row {
	return []Row{
		{
			ID: "1.1", Control: "DS-01", Guide: "Security from the start, not after",
			Must: "Refuse first device enrolment until threat model, data inventory and interface list exist for the product",
			How:  "Enrol on an empty product: 409 with the missing list",
		},
		{
			ID: "1.2", Control: "DS-01", Guide: "Think through data collected early",
			Must: "Typed data inventory (field, class, purpose, keep-time) is the ingest schema",
			How:  "Send an undeclared field: not stored, counted, visible",
		},
		{
			ID: "1.3", Control: "DS-04", Guide: "How people will use the product; walk through day-to-day use, find soft spots",
			Must: "Scripted journeys (set-up, pair, share, resale, reset, offline, decommission) stored as runnable tests with abuse cases",
			How:  "Run the journey suite; each step has a pass/fail receipt",
		},
		{
			ID: "1.4", Control: "DS-08", Guide: "Features that ensure security",
			Must: "Every risk links to >=1 control that has live evidence",
			How:  "Delete the evidence source: control turns red, risk reopens",
		},
		{
			ID: "1.5", Control: "DS-02", Guide: "What worked for the first device may be inadequate",
			Must: "New product/hardware revision copies no approval; assessments expire",
			How:  "Clone a product: approvals come back \"unreviewed\"; move clock past expiry: release blocked",
		},
		{
			ID: "1.6", Control: "DS-01", Guide: "Consider the ecosystem: what connects, uses or shares data",
			Must: "Register of peers (apps, hubs, clouds); an unregistered peer cannot connect or read",
			How:  "Connect an unlisted integration: denied, logged",
		},
		{
			ID: "1.7", Control: "DS-01", Guide: "Security throughout production",
			Must: "Gates at design, build, manufacture, launch, support; factory identity injection audited per serial",
			How:  "Ask for a serial's birth record: station, operator, time, key origin",
		},
		{
			ID: "1.8", Control: "DS-03", Guide: "Defence in depth, several levels",
			Must: "Any one layer removed does not open data: identity, topic authorisation, schema, rate, behaviour, encryption",
			How:  "Layer knock-out test: steal a valid cert, still cannot read a neighbour, exceed rate or send odd data unnoticed",
		},
		{
			ID: "1.9", Control: "DS-05", Guide: "No default passwords; unique per unit",
			Must: "No credential shared between installs, products or units; none in images",
			How:  "Start two installs, run a known-defaults list on both: 0 hits; compare 1,000 set-up codes: all distinct, >=64 bit",
		},
		{
			ID: "1.10", Control: "DS-05", Guide: "Make consumers change the password at set-up",
			Must: "Fresh unit/account can do nothing but set its own secret",
			How:  "Any API with the initial code: 403 until changed",
		},
		{
			ID: "1.11", Control: "DS-06", Guide: "Offer multifactor",
			Must: "TOTP and WebAuthn for owners; recovery codes; enforceable per product",
			How:  "Enrol a passkey, log in without it: refused",
		},
		{
			ID: "1.12", Control: "RP-03", Guide: "Strong encryption against guessing",
			Must: "Secrets people choose held only under a memory-hard hash, machine-made ones (>= 128 bit) only as a hash; log-in over TLS only",
			How:  "Cleartext log-in port refuses; database dump holds no recoverable secret",
		},
		{
			ID: "1.13", Control: "DS-07", Guide: "Block after unsuccessful attempts",
			Must: "Lock/delay by account, address, device and claim code; survives restart; owner told",
			How:  "11th wrong try refused even with the right password; restart server, still locked",
		},
		{
			ID: "1.14", Control: "DS-07", Guide: "Resist automatic guessing programs",
			Must: "Spraying and breached-password defence; equal reply for unknown user",
			How:  "1 try x 10,000 accounts from one address: throttled; timing and text equal for absent users",
		},
		{
			ID: "1.15", Control: "DS-08", Guide: "Take a risk-based approach",
			Must: "Risk register scored by purpose, nature, functionality",
			How:  "Sort by magnitude x severity; each has owner, treatment, date",
		},
		{
			ID: "1.16", Control: "DS-08", Guide: "Assessment drives the programme",
			Must: "Overdue/untreated high risk blocks release; acceptance needs the named executive",
			How:  "Try to release: blocked; non-executive accept: refused",
		},
		{
			ID: "1.17", Control: "DS-08", Guide: "Develop, implement, maintain the programme",
			Must: "Versioned; periodic review due dates",
			How:  "Diff two versions; history cannot be edited",
		},
		{
			ID: "1.18", Control: "DS-08", Guide: "Use recognised frameworks (NIST CSRC)",
			Must: "Control map to CSF/8259/EN 303 645/CRA, one evidence set",
			How:  "Export OSCAL or CSV for two frameworks from one state",
		},
		{
			ID: "1.19", Control: "DS-09", Guide: "Test throughout development",
			Must: "CI posts signed test results bound to the build digest",
			How:  "Upload result for another digest: does not count",
		},
		{
			ID: "1.20", Control: "DS-09", Guide: "Test again before launch",
			Must: "Launch gate: full suite passed for exactly this digest, recently",
			How:  "Change one byte of firmware: launch refused",
		},
	}
}

// practice is group 2 of the mission: Recognised practices.
func practice() []Row {
	return []Row{
		{
			ID: "2.1", Control: "RP-05", Guide: "Use industry practice and lessons of law enforcement",
			Must: "Control catalogue cites the practice or case each control answers",
			How:  "Each control page names source and evidence",
		},
		{
			ID: "2.2", Control: "RP-01", Guide: "Well-known preventable flaws: XSS",
			Must: "Own UI has strict CSP, no inline script; device-supplied text never executes",
			How:  "Device name `<script>`: inert in every view; CSP header scan A-grade",
		},
		{
			ID: "2.3", Control: "RP-01", Guide: "CSRF",
			Must: "SameSite + token + Origin check on each state change",
			How:  "Cross-origin POST: 403",
		},
		{
			ID: "2.4", Control: "RP-01", Guide: "Other known flaws (OWASP IoT Top 10)",
			Must: "Device exposure scan: listening ports, telnet, debug, weak TLS, default creds",
			How:  "Agent opens telnet: finding within one report interval",
		},
		{
			ID: "2.5", Control: "RP-06", Guide: "Stay up to date on vulnerabilities; feeds (NVD etc.)",
			Must: "Ingest OSV/NVD/KEV/EPSS with freshness alarm; works from an offline mirror",
			How:  "Stop the feed: control goes stale and alarms",
		},
		{
			ID: "2.6", Control: "RP-02", Guide: "Devices must not be unnoticed pathways into networks",
			Must: "Per-model allowed destinations/ports; lateral-scan detection; quarantine",
			How:  "Agent dials a private address off-list: alarm + quarantine",
		},
		{
			ID: "2.7", Control: "RP-02", Guide: "Devices must not serve DoS",
			Must: "Outbound packet/byte/destination limits by model",
			How:  "Flood from a device: alarm in one interval, contained",
		},
		{
			ID: "2.8", Control: "RP-03", Guide: "Strong encryption in transit, suited to the data",
			Must: "TLS 1.3 (1.2 AEAD only if declared); no cleartext listener can be configured in production",
			How:  "Port scan + handshake matrix; MQTT 1883 closed",
		},
		{
			ID: "2.9", Control: "RP-03", Guide: "Strong encryption at rest",
			Must: "Database, backups, artefacts encrypted; keys apart from data; rotation",
			How:  "Copy the data folder: no plaintext canary found; rotate key, all still reads",
		},
		{
			ID: "2.10", Control: "RP-03", Guide: "Encrypt sensitive data; make it harder",
			Must: "Field-level keys for classes above threshold",
			How:  "Operator without the class sees ciphertext/tokens",
		},
		{
			ID: "2.11", Control: "RP-04", Guide: "MFA on your own systems",
			Must: "Staff MFA mandatory, cannot be switched off in production",
			How:  "Staff log-in with password only: refused; API toggles absent",
		},
		{
			ID: "2.12", Control: "RP-05", Guide: "Understand and comply with rules that apply",
			Must: "Applicability engine: answers -> duties (FTC Act, COPPA, HBNR, HIPAA, FD&C, state, CRA, PSTI)",
			How:  "Set \"for children under 13\": COPPA duties appear with dates",
		},
		{
			ID: "2.13", Control: "RP-05", Guide: "Children",
			Must: "Parental consent record before ingest; short retention; no behavioural sharing",
			How:  "Ingest for an under-13 profile without consent: refused",
		},
		{
			ID: "2.14", Control: "RP-05", Guide: "Health breach rules",
			Must: "Breach clock and notice list by state and count",
			How:  "Open a breach: deadlines and recipients computed",
		},
		{
			ID: "2.15", Control: "DS-05", Guide: "California/Oregon IoT laws",
			Must: "Prove unique preset or forced change per unit",
			How:  "Certificate of 1.9/1.10 for any serial",
		},
		{
			ID: "2.16", Control: "RP-05", Guide: "NISTIR 8259 / 8259A",
			Must: "Six capabilities evidenced per model: identity, configuration, data protection, interface access, update, state awareness",
			How:  "Per-model 8259A report with live evidence links",
		},
		{
			ID: "2.17", Control: "RP-05", Guide: "OWASP IoT Top 10 / ISVS",
			Must: "Same, per requirement ID and level",
			How:  "Export ISVS sheet with pass/fail/receipt",
		},
	}
}
