package assurance

// monitoring is group 5 of the mission: Monitor and address risks.
func monitoring() []Row {
	return []Row{
		{
			ID: "5.1", Control: "MR-05", Guide: "Use outside expertise; listen",
			Must: "One inbox for researcher, customer, feed, vendor, support signals",
			How:  "Send one by each route: all become cases",
		},
		{
			ID: "5.2", Control: "MR-05", Guide: "Do not ignore credible warnings",
			Must: "Case clocks; cannot close without disposition and approver",
			How:  "Leave a case: escalates to the executive",
		},
		{
			ID: "5.3", Control: "MR-01", Guide: "Process to monitor and address vulnerabilities",
			Must: "Case states, VEX, fix release, closure by installed share",
			How:  "Trace CVE -> versions -> serials -> fixed %",
		},
		{
			ID: "5.4", Control: "MR-02", Guide: "Intrusion detection",
			Must: "Working detection with self-test (canary attack each day)",
			How:  "Kill detector: alarm within minutes",
		},
		{
			ID: "5.5", Control: "MR-02", Guide: "Data-leak prevention",
			Must: "Content rules on egress, exports, logs; honey records",
			How:  "Log a card/secret: masked + alarm",
		},
		{
			ID: "5.6", Control: "DM-07", Guide: "Security tests kept up",
			Must: "Schedule, results, trend",
			How:  "Overdue test blocks",
		},
		{
			ID: "5.7", Control: "MR-03", Guide: "Third-party components",
			Must: "SBOM per firmware digest, required; matched daily offline; affected serials named",
			How:  "New advisory file: list of serials in < 60 s",
		},
		{
			ID: "5.8", Control: "MR-01", Guide: "Ongoing, not one-and-done",
			Must: "Every control has a heartbeat; stale = fail",
			How:  "Stop any collector: dashboard not green",
		},
		{
			ID: "5.9", Control: "MR-04", Guide: "Expected and unexpected behaviours",
			Must: "Declared profile vs seen; negative tests",
			How:  "Undeclared DNS/port/topic: finding",
		},
		{
			ID: "5.10", Control: "MR-04", Guide: "Check that sent data is encrypted",
			Must: "Verify negotiated TLS and payload on the wire from a passive tap and on every session",
			How:  "Agent sends cleartext on side port: finding with packet proof",
		},
		{
			ID: "5.11", Control: "MR-04", Guide: "...and that it is the data that should be sent",
			Must: "Field-by-field compare to the declaration, incl. third-party destinations",
			How:  "Add SSID to payload: dropped + finding",
		},
		{
			ID: "5.12", Control: "MR-05", Guide: "Investigate and fix fast",
			Must: "Time to triage/fix measured against severity target",
			How:  "Public metric page from recorded events",
		},
		{
			ID: "5.13", Control: "CO-08", Guide: "Confirmed: reach customers at once",
			Must: "Confirm -> notices to owners of affected serials only, deadline, delivery proof",
			How:  "Confirm a case in a 1,000-unit fleet: right owners only, < 5 min",
		},
		{
			ID: "5.14", Control: "MR-06", Guide: "Automatic security patches",
			Must: "On by default; owner may set window, not silently disable; staged, halts, rolls back",
			How:  "Ship a failing update: stops at stage 1, devices roll back",
		},
		{
			ID: "5.15", Control: "MR-06", Guide: "Users unaware of updates",
			Must: "Status visible per device without login hunt; in-band hint",
			How:  "Open the unit's public page: version, status",
		},
		{
			ID: "5.16", Control: "CO-05", Guide: "Fewer unsupported devices in use",
			Must: "Fleet share on unsupported versions, campaign",
			How:  "Report by model and age",
		},
		{
			ID: "5.17", Control: "MR-07", Guide: "Update process reasonably secure",
			Must: "Threshold-signed metadata, expiry, anti-rollback, verified on device; server breach cannot push",
			How:  "Attack set (old, mixed, frozen, truncated, wrong model, stolen server): 0 installs",
		},
		{
			ID: "5.18", Control: "MR-10", Guide: "Threats to privacy, security and safety, before and after launch",
			Must: "Hazard field; safety-critical stop/recall path",
			How:  "Flag safety: faster clock, stop-use notice",
		},
		{
			ID: "5.19", Control: "MR-08", Guide: "Process to receive and address reports",
			Must: "security.txt (RFC 9116), form, PGP/age, ack clock, safe harbour, CSAF 2.0 out",
			How:  "GET /.well-known/security.txt valid and unexpired; file a report: acked",
		},
		{
			ID: "5.20", Control: "MR-09", Guide: "Consider a bug bounty",
			Must: "Scope, reward table, payout record, duplicates",
			How:  "Public page; case shows reward decision",
		},
	}
}

// culture is group 6 of the mission: Culture.
func culture() []Row {
	return []Row{
		{
			ID: "6.1", Control: "CU-05", Guide: "Share your security attitude with vendors",
			Must: "Vendor portal with requirements and status",
			How:  "Vendor sees own duties",
		},
		{
			ID: "6.2", Control: "CU-01", Guide: "Name a senior executive",
			Must: "Exactly one accountable person; only they accept high risk; shown publicly",
			How:  "Remove them: launches stop",
		},
		{
			ID: "6.3", Control: "CU-06", Guide: "Downstream protection by contract and oversight",
			Must: "Vendor may hold keys/data only with live contract + check",
			How:  "Expire contract: vendor's key stops working",
		},
		{
			ID: "6.4", Control: "CU-08", Guide: "Clear expectations for employees",
			Must: "Signed policy versions; access depends on it",
			How:  "New policy unsigned: access narrowed",
		},
		{
			ID: "6.5", Control: "CU-02", Guide: "Train periodically, latest threats",
			Must: "Course versions, due dates, refreshed from current cases",
			How:  "Overdue trainee loses risky permissions",
		},
		{
			ID: "6.6", Control: "CU-02", Guide: "Effective for the less technical",
			Must: "Plain tracks, measured comprehension",
			How:  "Scores per track",
		},
		{
			ID: "6.7", Control: "CU-02", Guide: "Differ by role",
			Must: "Role -> track map enforced",
			How:  "Engineer on marketing track: not compliant",
		},
		{
			ID: "6.8", Control: "CU-03", Guide: "Regular training of device engineers",
			Must: "Needed to sign firmware",
			How:  "Untrained signer: signature refused",
		},
		{
			ID: "6.9", Control: "CU-04", Guide: "Frequent reminders",
			Must: "Scheduled nudges with receipt",
			How:  "Log of sends/reads",
		},
		{
			ID: "6.10", Control: "CU-04", Guide: "Resist phishing; engineers must not give out admin passwords",
			Must: "No admin password exists: hardware keys, two-person grants",
			How:  "Phished password alone: useless (drill)",
		},
		{
			ID: "6.11", Control: "CU-06", Guide: "Agree third-party practices",
			Must: "Requirement set chosen per vendor class",
			How:  "Vendor without set: no access",
		},
		{
			ID: "6.12", Control: "CU-05", Guide: "Vendors able to keep security",
			Must: "Due diligence before first access",
			How:  "Skip it: integration disabled",
		},
		{
			ID: "6.13", Control: "CU-06", Guide: "Standards in contracts (e.g. encryption)",
			Must: "Clause library, mapped to technical enforcement",
			How:  "TLS 1.0 vendor endpoint: refused by egress",
		},
		{
			ID: "6.14", Control: "CU-07", Guide: "Verify on an ongoing basis",
			Must: "Machine checks (TLS, SBOM, reports) + dated evidence",
			How:  "Vendor fails: alarm, suspend",
		},
		{
			ID: "6.15", Control: "CU-07", Guide: "Monitor promises (e.g. no re-identification)",
			Must: "Marked records in each shared set; watch for return",
			How:  "Plant and \"leak\" one: attributed to the recipient",
		},
		{
			ID: "6.16", Control: "CU-08", Guide: "Update policies regularly",
			Must: "Review dates, diffs",
			How:  "Overdue visible",
		},
	}
}
