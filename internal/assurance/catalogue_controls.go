package assurance

import "github.com/hawser-iot/hawser/internal/check"

// Controls are the 63 recommendations of the guide, in its order. Cross cites where
// other standards ask for the same, as the mission writes it: see Crosswalk.
func Controls() []Control {
	return []Control{
		{
			ID: "DS-01", Section: "design", Says: "Start with security: write down data, uses, users, connected systems", Kinds: []check.Kind{check.Artefact, check.Attestation},
			cross: cross{nist: "Doc · DO/SMP,DSC", en: "5.0-1, 5.6-9", isvs: "1.1.1-1.1.3", cra: "(1), Art13(2)-(3)", psti: "-"},
		},
		{
			ID: "DS-02", Section: "design", Says: "Reassess for each new product/version", Kinds: []check.Kind{check.Artefact},
			cross: cross{nist: "Doc · DO/SMP", en: "5.6-9", isvs: "1.1.3", cra: "Art13(3), II.3", psti: "-"},
		},
		{
			ID: "DS-03", Section: "design", Says: "Defence in depth", Kinds: []check.Kind{check.Artefact, check.Probe},
			cross: cross{nist: "- · DS/EXE,OPS", en: "5.6-7, 5.6-8, 5.7-1", isvs: "1.1.4, 2.2.2, 3.2.8", cra: "2j, 2k", psti: "-"},
		},
		{
			ID: "DS-04", Section: "design", Says: "Walk through everyday use, find soft spots", Kinds: []check.Kind{check.Attestation},
			cross: cross{nist: "Edu · EA/EXP", en: "5.12-1..3", isvs: "1.1.3", cra: "A2(5)", psti: "-"},
		},
		{
			ID: "DS-05", Section: "design", Says: "No shared default passwords; unique, changed at set-up", Kinds: []check.Kind{check.Query, check.Bench},
			cross: cross{nist: "IAC,PC · LA/ACF, DC/AUT", en: "5.1-1, -2, -2A, -4, 5.4-3", isvs: "2.1.8-2.1.10", cra: "2b, 2d", psti: "¶1"},
		},
		{
			ID: "DS-06", Section: "design", Says: "Offer customers multi-factor sign-in", Kinds: []check.Kind{check.Query, check.Probe},
			cross: cross{nist: "IAC · LA/AUN", en: "5.1-3 (near)", isvs: "2.1.3", cra: "2d", psti: "-"},
		},
		{
			ID: "DS-07", Section: "design", Says: "Block after repeated failed attempts", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "IAC · LA/ACF", en: "5.1-5", isvs: "2.1.12", cra: "2d", psti: "-"},
		},
		{
			ID: "DS-08", Section: "design", Says: "Risk assessment drives the programme", Kinds: []check.Kind{check.Artefact, check.Attestation},
			cross: cross{nist: "Doc · DO/SMP", en: "5.6-9 (near)", isvs: "1.1.1, 1.1.3", cra: "(1), Art13(2)-(4)", psti: "-"},
		},
		{
			ID: "DS-09", Section: "design", Says: "Test security in development and before launch", Kinds: []check.Kind{check.Artefact, check.Query},
			cross: cross{nist: "- · DO/CAP", en: "5.6-9", isvs: "1.3.12, 1.2.3", cra: "II.3, 2a", psti: "-"},
		},
		{
			ID: "RP-01", Section: "practice", Says: "Prevent well-known flaws (XSS, CSRF, injection)", Kinds: []check.Kind{check.Probe, check.Artefact},
			cross: cross{nist: "IAC · DS/EXE", en: "5.13-1A, -1B, 5.2-3", isvs: "1.1.4, 1.3.15, 3.2.4", cra: "2a, 2k", psti: "-"},
		},
		{
			ID: "RP-02", Section: "practice", Says: "Device must not be a path inward or a DoS source", Kinds: []check.Kind{check.Query, check.Bench},
			cross: cross{nist: "DP,IAC · DS/COM, LA/XCN", en: "5.6-1, 5.6-5, 5.9-3", isvs: "3.2.2", cra: "2h, 2i", psti: "-"},
		},
		{
			ID: "RP-03", Section: "practice", Says: "Strong encryption in transit and at rest", Kinds: []check.Kind{check.Probe, check.Bench, check.Query},
			cross: cross{nist: "DP · DP/CRY,KEY,STO,STX", en: "5.4-1, 5.5-1,-2,-6,-7, 5.8-1,-2", isvs: "2.3.1, 2.4.1, 2.4.2, 4.1.1, 4.1.2", cra: "2e, 2f", psti: "-"},
		},
		{
			ID: "RP-04", Section: "practice", Says: "MFA on the maker's own systems", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "IAC (back end is a product component)", en: "-", isvs: "2.1.3", cra: "2d", psti: "-"},
		},
		{
			ID: "RP-05", Section: "practice", Says: "Know and follow applicable law", Kinds: []check.Kind{check.Artefact, check.Attestation},
			cross: cross{nist: "Doc · DO/CAP", en: "6-1..6-3B", isvs: "-", cra: "Art13, 28", psti: "s.9"},
		},
		{
			ID: "RP-06", Section: "practice", Says: "Follow trusted vulnerability feeds", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "IQR · IQ/BUG", en: "5.2-3", isvs: "1.2.1, 3.2.4", cra: "II.1, II.2", psti: "-"},
		},
		{
			ID: "AC-01", Section: "access", Says: "Authenticate devices, users, services to data and system", Kinds: []check.Kind{check.Query, check.Probe},
			cross: cross{nist: "AI,IAC · DI/IMS,AID, LA/AUN,AUZ", en: "5.1-3, 5.4-2, 5.4-4, 5.5-4, -5", isvs: "2.1.1-2.1.3, 2.1.10, 4.1.3, 4.2.2, 4.2.3", cra: "2d", psti: "-"},
		},
		{
			ID: "AC-02", Section: "access", Says: "Test authentication before release and periodically", Kinds: []check.Kind{check.Artefact, check.Probe},
			cross: cross{nist: "- · LA/ACF", en: "5.1-3", isvs: "2.1.13", cra: "II.3", psti: "-"},
		},
		{
			ID: "AC-03", Section: "access", Says: "Secure remote access to networks and cloud", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "IAC · LA/IFC,XCN", en: "5.5-5, 5.6-2", isvs: "2.1.4, 3.2.2", cra: "2d, 2j", psti: "-"},
		},
		{
			ID: "AC-04", Section: "access", Says: "Keep live and test apart", Kinds: []check.Kind{check.Query, check.Probe},
			cross: cross{nist: "-", en: "-", isvs: "1.3.12, 1.3.13, 3.4.8", cra: "2b (near)", psti: "-"},
		},
		{
			ID: "AC-05", Section: "access", Says: "WPA2/WPA3", Kinds: []check.Kind{check.Bench},
			cross: cross{nist: "DP · DP/STX, LA/IFC", en: "5.5-1", isvs: "4.4.2-4.4.5", cra: "2e", psti: "-"},
		},
		{
			ID: "AC-06", Section: "access", Says: "Limit administrative permissions", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "IAC · LA/ROL, DC/PRV", en: "5.6-7", isvs: "2.2.2, 2.2.4", cra: "2d, 2j", psti: "-"},
		},
		{
			ID: "AC-07", Section: "access", Says: "Customer data only for those who need it (staff, vendors)", Kinds: []check.Kind{check.Query, check.Attestation},
			cross: cross{nist: "IAC · LA/ROL,AIM", en: "-", isvs: "2.2.1", cra: "2d, 2g", psti: "-"},
		},
		{
			ID: "DM-01", Section: "data", Says: "Data inventory over the whole life cycle, with owners", Kinds: []check.Kind{check.Artefact, check.Query},
			cross: cross{nist: "DP,Doc · DO/DSC", en: "6-1", isvs: "1.1.2", cra: "2g", psti: "-"},
		},
		{
			ID: "DM-02", Section: "data", Says: "Collect only what is needed", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "DP · -", en: "6-4 (+6-7, 6-8 text not read)", isvs: "1.4.4", cra: "2g", psti: "-"},
		},
		{
			ID: "DM-03", Section: "data", Says: "Keep only for an essential period", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "DP · DP/STO, CS/LSR", en: "6-4", isvs: "1.4.6", cra: "2g", psti: "-"},
		},
		{
			ID: "DM-04", Section: "data", Says: "Purpose for each datum; do not share beyond need", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "Doc · -", en: "6-1, 6-4, 6-5", isvs: "-", cra: "2g", psti: "-"},
		},
		{
			ID: "DM-05", Section: "data", Says: "Secure deletion, device and cloud", Kinds: []check.Kind{check.Bench, check.Query},
			cross: cross{nist: "DP · DP/STO, EA/EOL", en: "5.11-1..4", isvs: "2.3.2, 2.3.3", cra: "2m", psti: "-"},
		},
		{
			ID: "DM-06", Section: "data", Says: "De-identify where possible", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "DP · -", en: "6-7", isvs: "-", cra: "2g", psti: "-"},
		},
		{
			ID: "DM-07", Section: "data", Says: "Review/pen-test on each change, use, connection", Kinds: []check.Kind{check.Artefact, check.Query},
			cross: cross{nist: "Doc · DO/MNT", en: "5.6-9, 5.2-3", isvs: "1.1.3", cra: "II.3", psti: "-"},
		},
		{
			ID: "DM-08", Section: "data", Says: "Secure and monitor every interface", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "IAC · LA/IFC, DC/INT, CS/EIM", en: "5.6-1..-5", isvs: "1.1.4, 3.2.2, 3.2.3", cra: "2j, 2l", psti: "-"},
		},
		{
			ID: "DM-09", Section: "data", Says: "Revisit data use and protection periodically", Kinds: []check.Kind{check.Attestation, check.Artefact},
			cross: cross{nist: "Doc", en: "6-1", isvs: "-", cra: "Art13(3)", psti: "-"},
		},
		{
			ID: "DM-10", Section: "data", Says: "Segment the network", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "- · DS/COM, LA/XCN", en: "5.6-1 (near)", isvs: "3.3.1", cra: "2i, 2j", psti: "-"},
		},
		{
			ID: "DM-11", Section: "data", Says: "Watch who gets in and out: bulk transfer, hijack, misuse", Kinds: []check.Kind{check.Query, check.Probe},
			cross: cross{nist: "CSA · CS/EIM,EVR,AEI", en: "5.10-1, 5.7-2", isvs: "1.4.1, 1.4.2, 1.4.5", cra: "2l", psti: "-"},
		},
		{
			ID: "MR-01", Section: "response", Says: "Process to monitor and fix vulnerabilities", Kinds: []check.Kind{check.Query, check.Attestation},
			cross: cross{nist: "IQR · IQ/BUG, EA/VMG", en: "5.2-2, 5.2-3", isvs: "1.2.1, 1.5.1", cra: "II.1, II.2", psti: "-"},
		},
		{
			ID: "MR-02", Section: "response", Says: "Intrusion detection and data-leak prevention running and tested", Kinds: []check.Kind{check.Query, check.Probe},
			cross: cross{nist: "CSA · CS/EIM,EVR", en: "5.10-1", isvs: "1.4.1, 1.5.1", cra: "2l", psti: "-"},
		},
		{
			ID: "MR-03", Section: "response", Says: "Third-party component vulnerabilities", Kinds: []check.Kind{check.Artefact, check.Query},
			cross: cross{nist: "Doc,SU · DO/CAP", en: "5.2-3, 5.3-1", isvs: "1.2.1, 1.2.2, 1.2.8, 1.2.9, 3.2.4", cra: "2a, II.1, Art13(5)-(6)", psti: "-"},
		},
		{
			ID: "MR-04", Section: "response", Says: "Traffic is encrypted and is the right data", Kinds: []check.Kind{check.Bench, check.Probe},
			cross: cross{nist: "DP · DP/STX, DS/COM", en: "5.5-1, 5.8-1, 5.10-1, 6-4", isvs: "4.1.1, 4.1.2, 4.2.1", cra: "2e, 2g, 2l", psti: "-"},
		},
		{
			ID: "MR-05", Section: "response", Says: "Credible warnings: investigate, fix fast", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "IQR · IQ/BUG,QRY", en: "5.2-2, 5.3-8", isvs: "1.1.5", cra: "II.2, Art14", psti: "Act s.10-12"},
		},
		{
			ID: "MR-06", Section: "response", Says: "Automatic security updates", Kinds: []check.Kind{check.Query, check.Bench},
			cross: cross{nist: "SU · SU/UPD,APP", en: "5.3-1..-6B, -8", isvs: "3.4.1, 3.4.2, 1.6.4", cra: "2c, II.7, II.8", psti: "-"},
		},
		{
			ID: "MR-07", Section: "response", Says: "Update process itself secure", Kinds: []check.Kind{check.Bench, check.Probe},
			cross: cross{nist: "SU · SU/UPD", en: "5.3-2,-7,-9,-10, 5.7-1", isvs: "3.4.3-3.4.7, 3.4.10, 3.4.12", cra: "2c, 2f, II.7", psti: "-"},
		},
		{
			ID: "MR-08", Section: "response", Says: "Channel for researchers' reports", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "IQR · IQ/BUG", en: "5.2-1, 5.2-2", isvs: "1.1.5", cra: "II.5, II.6", psti: "¶2"},
		},
		{
			ID: "MR-09", Section: "response", Says: "Consider a bug bounty", Kinds: []check.Kind{check.Attestation, check.Query},
			cross: cross{nist: "IQR · IQ/BUG", en: "5.2-1", isvs: "-", cra: "II.6", psti: "-"},
		},
		{
			ID: "MR-10", Section: "response", Says: "Privacy, security, safety threats before and after launch", Kinds: []check.Kind{check.Artefact, check.Attestation},
			cross: cross{nist: "Doc · DO/SMP", en: "5.6-9, 5.9-1", isvs: "1.1.3", cra: "Art13(2)-(3)", psti: "-"},
		},
		{
			ID: "CU-01", Section: "culture", Says: "Named senior executive", Kinds: []check.Kind{check.Attestation},
			cross: cross{nist: "-", en: "-", isvs: "-", cra: "DoC signatory", psti: "SoC signatory"},
		},
		{
			ID: "CU-02", Section: "culture", Says: "Train staff, by role, periodically", Kinds: []check.Kind{check.Attestation, check.Query},
			cross: cross{nist: "-", en: "-", isvs: "-", cra: "-", psti: "-"},
		},
		{
			ID: "CU-03", Section: "culture", Says: "Train device engineers in security and privacy", Kinds: []check.Kind{check.Attestation, check.Query},
			cross: cross{nist: "-", en: "5.6-9", isvs: "-", cra: "-", psti: "-"},
		},
		{
			ID: "CU-04", Section: "culture", Says: "Reminders; resist phishing of admin credentials", Kinds: []check.Kind{check.Query, check.Attestation},
			cross: cross{nist: "-", en: "-", isvs: "2.1.3", cra: "-", psti: "-"},
		},
		{
			ID: "CU-05", Section: "culture", Says: "Vendors able to keep reasonable security", Kinds: []check.Kind{check.Attestation, check.Artefact},
			cross: cross{nist: "Doc", en: "5.2-3 (near)", isvs: "1.2.2, 1.3.4", cra: "Art13(5)", psti: "-"},
		},
		{
			ID: "CU-06", Section: "culture", Says: "Security standards in vendor contracts", Kinds: []check.Kind{check.Attestation},
			cross: cross{nist: "-", en: "6-1", isvs: "-", cra: "Art13(5)", psti: "-"},
		},
		{
			ID: "CU-07", Section: "culture", Says: "Verify vendors continuously (incl. no re-identification)", Kinds: []check.Kind{check.Query, check.Attestation},
			cross: cross{nist: "-", en: "5.2-3", isvs: "1.2.2", cra: "Art13(5)-(6)", psti: "-"},
		},
		{
			ID: "CU-08", Section: "culture", Says: "Keep policies current", Kinds: []check.Kind{check.Attestation},
			cross: cross{nist: "-", en: "-", isvs: "-", cra: "Art13(7)", psti: "-"},
		},
		{
			ID: "CO-01", Section: "communication", Says: "Plain words, distinct product names, findable pages", Kinds: []check.Kind{check.Artefact, check.Attestation},
			cross: cross{nist: "Edu,Diss · EA/CSC", en: "5.3-16, 5.12-2, -3", isvs: "1.6.1", cra: "A2", psti: "clarity tests"},
		},
		{
			ID: "CO-02", Section: "communication", Says: "Say what data, how, why, how secured", Kinds: []check.Kind{check.Artefact, check.Probe},
			cross: cross{nist: "Doc · DO/CAP", en: "6-1, 6-5, 5.8-3", isvs: "-", cra: "A2", psti: "-"},
		},
		{
			ID: "CO-03", Section: "communication", Says: "Easy contact", Kinds: []check.Kind{check.Probe},
			cross: cross{nist: "IQR · IQ/QRY", en: "5.2-1", isvs: "1.1.5", cra: "A2(2)", psti: "¶2"},
		},
		{
			ID: "CO-04", Section: "communication", Says: "Tell functionality and support before purchase", Kinds: []check.Kind{check.Probe, check.Artefact},
			cross: cross{nist: "Diss,Edu · ID/CRI, EA/EXP", en: "5.3-13, 5.8-3", isvs: "1.6.1", cra: "A2(7), Art13(19)[R]", psti: "¶3"},
		},
		{
			ID: "CO-05", Section: "communication", Says: "Support period, update method, honest end date", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "Diss · ID/CRI, DO/DSC", en: "5.3-13, 5.3-14", isvs: "1.6.1-1.6.3", cra: "Art13(8)-(9)", psti: "¶3"},
		},
		{
			ID: "CO-06", Section: "communication", Says: "Sign-up for security notices, also without a screen", Kinds: []check.Kind{check.Probe, check.Query},
			cross: cross{nist: "Diss · ID/CRI", en: "5.3-11", isvs: "1.1.6", cra: "II.8", psti: "-"},
		},
		{
			ID: "CO-07", Section: "communication", Says: "Security notices apart from marketing", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "Diss · ID/VNT", en: "-", isvs: "-", cra: "-", psti: "-"},
		},
		{
			ID: "CO-08", Section: "communication", Says: "Notify promptly about issues and fixes", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "Diss · ID/VNT", en: "5.3-11, 5.3-12", isvs: "1.1.6, 1.6.2", cra: "II.4, II.8, Art14(8)", psti: "-"},
		},
		{
			ID: "CO-09", Section: "communication", Says: "Plan for patches that are not installed", Kinds: []check.Kind{check.Query, check.Attestation},
			cross: cross{nist: "SU,Diss · ID/VNT, SU/APP", en: "5.3-5, -8, -11, -15A/B", isvs: "3.4.7, 1.5.1", cra: "II.7, II.8", psti: "-"},
		},
		{
			ID: "CL-01", Section: "claims", Says: "Objective product claims have proof", Kinds: []check.Kind{check.Query, check.Artefact},
			cross: cross{nist: "Doc", en: "5.0-1", isvs: "-", cra: "DoC", psti: "SoC"},
		},
		{
			ID: "CL-02", Section: "claims", Says: "Privacy promises kept", Kinds: []check.Kind{check.Query},
			cross: cross{nist: "Doc", en: "6-1, 6-2", isvs: "-", cra: "2g", psti: "-"},
		},
		{
			ID: "CL-03", Section: "claims", Says: "Transparent billing", Kinds: []check.Kind{check.Attestation},
			cross: cross{nist: "-", en: "-", isvs: "-", cra: "-", psti: "-"},
		},
	}
}
