package assurance

// communication is group 7 of the mission: Communicate.
func communication() []Row {
	return []Row{
		{
			ID: "7.1", Control: "CO-01", Guide: "Simple, clear, direct",
			Must: "Readability and jargon gate on customer text",
			How:  "Grade above limit: not sendable",
		},
		{
			ID: "7.2", Control: "CO-01", Guide: "No generic names",
			Must: "Notice names model, serial, version, place bought",
			How:  "Notice shows the owner's own unit",
		},
		{
			ID: "7.3", Control: "CO-01", Guide: "No hard-to-find links",
			Must: "Security page <=1 step, stable URL, QR on unit",
			How:  "Follow QR: lands on unit page",
		},
		{
			ID: "7.4", Control: "CO-02", Guide: "Be transparent: what, how, why, how secured",
			Must: "Generated from 4.10 + live controls",
			How:  "Compare page with wire capture",
		},
		{
			ID: "7.5", Control: "CO-01", Guide: "Different levels of expertise",
			Must: "Short + technical (CSAF) forms of one notice",
			How:  "Both present, same facts",
		},
		{
			ID: "7.6", Control: "CO-03", Guide: "Easy contact",
			Must: "One route, answer clock",
			How:  "Send: case + ack",
		},
		{
			ID: "7.7", Control: "CO-04", Guide: "Pre-purchase disclosure: functions and support",
			Must: "Public, machine-readable label per model before launch",
			How:  "GET label without login",
		},
		{
			ID: "7.8", Control: "CO-04", Guide: "Security controls on by default",
			Must: "Defaults manifest tested on a fresh unit",
			How:  "Fresh unit equals manifest",
		},
		{
			ID: "7.9", Control: "CO-04", Guide: "Support needed for essential functions",
			Must: "Lists cloud-dependent functions and their end",
			How:  "Cut cloud: listed functions match",
		},
		{
			ID: "7.10", Control: "CO-05", Guide: "Truthfully say if protection will lapse",
			Must: "Label states it; cannot be removed later",
			How:  "Old label versions kept",
		},
		{
			ID: "7.11", Control: "CO-05", Guide: "Extent of updates and how made",
			Must: "\"Until\" date + method + cadence, never shortened",
			How:  "Try an earlier date: refused",
		},
		{
			ID: "7.12", Control: "CO-05", Guide: "\"Expiration date\" of security",
			Must: "End-of-support flow: warn 12/6/1 months, what still works, data deletion, hand-over",
			How:  "Move clock: notices go, label flips",
		},
		{
			ID: "7.13", Control: "CO-06", Guide: "Screenless: sign up at sale or after",
			Must: "QR/claim/retailer/registration-card enrolment; channels e-mail, SMS, app, LED/voice",
			How:  "Register at sale without an account",
		},
		{
			ID: "7.14", Control: "CO-07", Guide: "Keep security apart from marketing",
			Must: "Separate consent, sender, list, template; marketing content blocked",
			How:  "Promo in security notice: refused; unsubscribe marketing: security still arrives",
		},
		{
			ID: "7.15", Control: "CO-08", Guide: "Do not wait",
			Must: "Time confirm->notice measured",
			How:  "See 5.13",
		},
		{
			ID: "7.16", Control: "CO-08", Guide: "Say how they learn of fixes and how to apply",
			Must: "Steps per model, languages",
			How:  "Notice carries steps",
		},
		{
			ID: "7.17", Control: "CO-09", Guide: "Some issues need customers to act",
			Must: "Task per unit, tracked, reminders",
			How:  "Undone after N days: reminded by other channel",
		},
		{
			ID: "7.18", Control: "CO-09", Guide: "Patch works only if installed",
			Must: "Installed proof signed by the unit; case open until target %",
			How:  "Case shows installed %, names missing serials",
		},
		{
			ID: "7.19", Control: "CO-09", Guide: "Contingency plan for notifying",
			Must: "Fallback channels, bounced/resold/offline units, drill with numbers",
			How:  "Bounce e-mail: next channel used; yearly drill report",
		},
	}
}

// closing is group 8 of the mission: Closing note.
func closing() []Row {
	return []Row{
		{
			ID: "8.1", Control: "CL-01", Guide: "Proof for objective claims",
			Must: "Claim register: public sentence -> live query; claim goes \"unproven\" when false",
			How:  "Break control: claim page shows it",
		},
		{
			ID: "8.2", Control: "CL-03", Guide: "Transparent billing",
			Must: "Label states paid security/support, renewals",
			How:  "Label field present",
		},
		{
			ID: "8.3", Control: "CL-02", Guide: "Keep privacy promises",
			Must: "Promise -> test (e.g. \"never sold\": no recipient)",
			How:  "Add such recipient: blocked by promise",
		},
		{
			ID: "8.4", Control: "RP-05", Guide: "Keep up with developments; tell regulators where due",
			Must: "Rule-change feed; statutory clocks (CRA 24 h/72 h/14 d, HBNR)",
			How:  "Open exploited-vuln case: clocks run",
		},
	}
}
