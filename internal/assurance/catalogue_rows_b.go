package assurance

// authentication is group 3 of the mission: Authenticate and control access.
func authentication() []Row {
	return []Row{
		{
			ID: "3.1", Control: "AC-01", Guide: "Design authentication early, not in the field",
			Must: "No anonymous or shared-key device mode exists",
			How:  "Try PSK/anonymous/shared claim: no such path",
		},
		{
			ID: "3.2", Control: "AC-01", Guide: "Effective authentication of devices",
			Must: "Unique key made on the device, hardware-held where present; mutual TLS; renewal, revocation",
			How:  "Clone a cert to a 2nd device: detected and both held; revoke: session cut < 1 s",
		},
		{
			ID: "3.3", Control: "AC-01", Guide: "Authenticate data, stored and sent",
			Must: "Message origin and order provable; stored records tamper-evident",
			How:  "Edit one stored row: verification fails and names it",
		},
		{
			ID: "3.4", Control: "AC-01", Guide: "Authenticate the system",
			Must: "Service-to-service mutual TLS; device verifies server and refuses a wrong one",
			How:  "Present a wrong-CA/expired server to the agent: it refuses",
		},
		{
			ID: "3.5", Control: "AC-01", Guide: "Only authorised users reach device, settings, data",
			Must: "Owner binding, household roles, transfer, remote sign-out",
			How:  "Ex-owner after transfer: nothing",
		},
		{
			ID: "3.6", Control: "AC-01", Guide: "A failure must not expose neighbours' data",
			Must: "A device credential reaches only that device's own topics, jobs, artefacts",
			How:  "Wildcard subscribe and 10,000 other IDs: 0 readable",
		},
		{
			ID: "3.7", Control: "AC-06", Guide: "No harmful settings changes",
			Must: "Setting change needs authority, is bounded, logged, reversible; risky ones need a second person",
			How:  "Out-of-bounds value refused by server and device",
		},
		{
			ID: "3.8", Control: "DS-06", Guide: "Consider MFA for users",
			Must: "see 1.11, step-up for risky actions",
			How:  "Unlock door/camera view asks again",
		},
		{
			ID: "3.9", Control: "AC-02", Guide: "Test authentication before release and periodically",
			Must: "Scheduled self-attack of own auth; receipt stored",
			How:  "Turn a check off: next run fails and blocks release",
		},
		{
			ID: "3.10", Control: "AC-03", Guide: "Secure remote access to networks and cloud",
			Must: "Support sessions: named, MFA, approved, time-boxed, recorded, outbound-only from device",
			How:  "Device port scan: 0 inbound; session ends at time-out",
		},
		{
			ID: "3.11", Control: "AC-04", Guide: "Segment and protect live from test",
			Must: "Separate CA, keys, stores; test identity invalid in live; live data copied to test only de-identified",
			How:  "Test cert on live: refused; export live->test: masked",
		},
		{
			ID: "3.12", Control: "AC-06", Guide: "Invest in design and testing of access control",
			Must: "Policy simulator + regression tests; who-can-read-X query",
			How:  "Ask \"who can read location of serial S\": exact list",
		},
		{
			ID: "3.13", Control: "AC-05", Guide: "WPA2 or WPA3",
			Must: "Device reports Wi-Fi security; policy refuses open/WEP/WPA/TKIP; fleet report",
			How:  "Agent reports WEP: finding, provisioning profile refuses it",
		},
		{
			ID: "3.14", Control: "AC-06", Guide: "Limit administrative permissions",
			Must: "No standing super-admin; just-in-time, expiring; wildcard grants rejected",
			How:  "Create `*:*` role: refused; count of admins shown",
		},
		{
			ID: "3.15", Control: "AC-07", Guide: "Not every employee or vendor needs customers' data",
			Must: "Purpose-bound reads, each with reason, visible to the data subject",
			How:  "Support agent opens record without ticket: refused; owner sees reads",
		},
		{
			ID: "3.16", Control: "AC-06", Guide: "Who needs access (keep it true)",
			Must: "Periodic access review, leaver cut, unused grants expire",
			How:  "Mark leaver: all tokens dead < 1 s",
		},
	}
}

// data is group 4 of the mission: Secure data management.
func data() []Row {
	return []Row{
		{
			ID: "4.1", Control: "DM-01", Guide: "Whole life cycle: collect, send, store, access, use, delete",
			Must: "One lineage per data element across all six",
			How:  "Ask for a field: where it is, who read it, when it goes",
		},
		{
			ID: "4.2", Control: "DM-01", Guide: "Work across teams and third parties on data needs",
			Must: "Each element has sign-offs (engineering, security, marketing, vendor) with need",
			How:  "Add element without sign-off: not accepted",
		},
		{
			ID: "4.3", Control: "DM-02", Guide: "Limit collection",
			Must: "Server and agent drop what is not declared; sampling/precision caps",
			How:  "GPS sent at 7 decimals, declared 2: stored 2",
		},
		{
			ID: "4.4", Control: "DM-03", Guide: "Keep only for an essential time",
			Must: "Keep-time required per element; \"for ever\" impossible for personal data; expiry runs and is proven",
			How:  "Advance clock: rows gone from store, index, export, backup",
		},
		{
			ID: "4.5", Control: "DM-04", Guide: "Know why you collect",
			Must: "Purpose per element; reads tagged by purpose; never-used fields reported",
			How:  "Unused 30 days: stop-collecting proposal",
		},
		{
			ID: "4.6", Control: "DM-04", Guide: "Think how/why you share",
			Must: "Sharing register; export without declared recipient and purpose fails",
			How:  "Webhook to unlisted host: blocked",
		},
		{
			ID: "4.7", Control: "DM-05", Guide: "Plan what to do when not needed",
			Must: "Disposal method per element",
			How:  "Missing method: schema rejected",
		},
		{
			ID: "4.8", Control: "DM-05", Guide: "Secure deletion at the end",
			Must: "Key-shred + overwrite; deletion receipt; factory reset verified on device",
			How:  "Restore yesterday's backup: deleted subject still unreadable",
		},
		{
			ID: "4.9", Control: "DM-02", Guide: "Do not collect, store or share what you do not need",
			Must: "Minimisation score; marketing cannot read telemetry by default",
			How:  "Query by marketing role: denied",
		},
		{
			ID: "4.10", Control: "CO-02", Guide: "Tell users what data is necessary",
			Must: "Notice generated from the live schema, versioned",
			How:  "Change schema: notice changes, users told before it takes effect",
		},
		{
			ID: "4.11", Control: "DM-06", Guide: "De-identify once collected",
			Must: "Tokenise/aggregate/k-anonymity gate on export",
			How:  "Export with k<threshold: refused",
		},
		{
			ID: "4.12", Control: "DM-07", Guide: "Timely reviews and pen tests on new uses, upgrades, new connections",
			Must: "Change triggers open a review; release waits",
			How:  "Add BLE interface to model: review opened, release blocked",
		},
		{
			ID: "4.13", Control: "DM-08", Guide: "Protect interfaces by risk",
			Must: "Interface list with auth, encryption, rate, schema per interface",
			How:  "Interface with no control: red, unreachable",
		},
		{
			ID: "4.14", Control: "DM-08", Guide: "Each interface secured and monitored",
			Must: "Per-interface metrics, alarms, last-tested date",
			How:  "Silence an interface monitor: stale alarm",
		},
		{
			ID: "4.15", Control: "DM-09", Guide: "Periodically revisit use and protection",
			Must: "Dated review; blocks when overdue",
			How:  "Pass the date: new data uses refused",
		},
		{
			ID: "4.16", Control: "DM-10", Guide: "Segment the network",
			Must: "Tenant, product and lifecycle segments in broker and store; router/VLAN rules (MUD, RFC 8520) generated",
			How:  "Cross-segment publish: denied; import MUD file into a router",
		},
		{
			ID: "4.17", Control: "DM-11", Guide: "Monitor who tries to get in and out",
			Must: "Log of every admitted/refused connect, device egress destinations",
			How:  "Fail a handshake: visible with reason < 5 s",
		},
		{
			ID: "4.18", Control: "DM-11", Guide: "Alert on large transfers",
			Must: "Volume baseline per device/user/API key/export",
			How:  "Bulk read by a valid user: alarm + hold",
		},
		{
			ID: "4.19", Control: "DM-11", Guide: "Alert on inappropriate use/hijack",
			Must: "Behaviour rules + learned baseline on small fleets (< 10 devices)",
			How:  "Replay Mirai-like trace: alarm; benign week: 0 alarms",
		},
	}
}
