package declaration

// Rule is one thing that a declaration must hold. The check names it in every
// fault, and docs/declaration.md lists it.
type Rule struct {
	ID   string
	Part string   // the part of the file that it is about
	Asks string   // what must hold
	Why  string   // why
	Fix  string   // what to do when it does not
	Rows []string // rows of the mission that it serves; none: the form of the file
}

// The ids of the rules.
const (
	ruleSize         = "size"
	ruleUTF8         = "utf8"
	ruleCharacter    = "character"
	ruleTab          = "tab"
	ruleDirective    = "directive"
	ruleYAML         = "yaml"
	ruleOneDocument  = "one-document"
	ruleAnchor       = "anchor"
	ruleTag          = "tag"
	ruleDepth        = "depth"
	ruleDuplicateKey = "duplicate-key"
	ruleUnknownKey   = "unknown-key"
	ruleMissingKey   = "missing-key"
	ruleType         = "type"
	ruleWord         = "word"
	ruleNumber       = "number"
	ruleText         = "text"
	ruleName         = "name"
	ruleCount        = "count"
	ruleRepeated     = "repeated"
	ruleDuration     = "duration"
	ruleDate         = "date"
	ruleTooMany      = "too-many-faults"

	ruleLanguage  = "declaration-version"
	ruleProduct   = "product-id"
	ruleVersion   = "version"
	ruleRisk      = "risk-factors"
	ruleAudience  = "audience"
	ruleIdentity  = "identity-life"
	ruleStream    = "stream-known"
	ruleEmpty     = "stream-empty"
	ruleRate      = "stream-rate"
	ruleStreamMax = "stream-size"

	ruleFieldType   = "field-type"
	ruleMedia       = "media"
	ruleUnit        = "field-unit"
	ruleRange       = "field-range"
	ruleValues      = "field-values"
	ruleLength      = "field-length"
	rulePrecision   = "field-precision"
	ruleFieldName   = "field-name"
	ruleClass       = "class"
	rulePurpose     = "purpose"
	rulePurposeMix  = "purpose-mix"
	ruleKeep        = "keep-time"
	ruleKeepChild   = "keep-child"
	ruleEnd         = "end"
	ruleReader      = "reader"
	ruleReaderWhy   = "reader-purpose"
	ruleProtection  = "protection"
	ruleGroups      = "groups"
	ruleHealthDuty  = "health-duties"
	ruleChildSelf   = "child-audience"
	ruleChildMarket = "child-marketing"

	ruleCommandBy     = "command-by"
	ruleSetting       = "setting-default"
	ruleSettingSecret = "setting-secret"
	ruleInterface     = "interface"
	ruleAuth          = "interface-auth"
	ruleCleartext     = "interface-cleartext"
	ruleInbound       = "interface-inbound"
	ruleTalksTo       = "network-destination"
	ruleWiFi          = "wifi"
	ruleTLS           = "tls"
	ruleUpdates       = "updates"
	ruleSupport       = "support"
	ruleService       = "service"
	ruleShareEnd      = "share-end"
	ruleReidentify    = "share-reidentify"
	ruleShareField    = "share-fields"
	ruleShareWhy      = "share-purpose"
	ruleTransform     = "share-transform"
	ruleChildShare    = "share-child"
	ruleContact       = "contact"
	ruleClaim         = "claim"
	ruleClaimWords    = "claim-words"
	ruleHub           = "hub"
	ruleLegacy        = "legacy"

	ruleVersionGrows = "version-grows"
	ruleNotEarlier   = "support-not-earlier"
	ruleWidening     = "widening"
	ruleOver         = "over"
)

// Rules lists every rule, in the order of the file.
func Rules() []Rule {
	return []Rule{
		{ruleSize, "file", "The file has at most 256 KB and 20,000 values.", "A declaration is read by people.", "Split the product or shorten texts.", nil},
		{ruleUTF8, "file", "The file is UTF-8.", "Every tool must read the same text.", "Save it as UTF-8.", nil},
		{ruleCharacter, "file", "No control, invisible or direction-changing characters, also not by escapes.", "A reviewer must see what the file says.", "Remove the character.", []string{"4.2"}},
		{ruleTab, "file", "Lines are indented with spaces.", "YAML forbids tabs there.", "Replace each tab with spaces.", nil},
		{ruleDirective, "file", "No YAML directives.", "They change how the rest is read.", "Remove the line that begins with `%`.", nil},
		{ruleYAML, "file", "The file is YAML 1.2.", "", "Look at indentation, colons, brackets and quotes there and on the line before.", nil},
		{ruleOneDocument, "file", "The file holds exactly one document.", "One file declares one product.", "Remove `---` and what follows; or write the declaration.", nil},
		{ruleAnchor, "file", "No anchors, aliases or merges.", "They hide what a field says from a reviewer, and small files could unfold to huge ones.", "Write the value out.", []string{"4.2"}},
		{ruleTag, "file", "No explicit tags.", "Types come from the keys.", "Remove the tag; quote text that looks like a number.", nil},
		{ruleDepth, "file", "Lists and maps are nested at most 12 deep.", "Nothing here needs more.", "Flatten them.", nil},
		{ruleDuplicateKey, "file", "No key stands twice in one map.", "Readers differ about which one counts.", "Keep one of them.", nil},
		{ruleUnknownKey, "file", "Every key is known.", "A misspelt key would silently not be enforced.", "Take the name that the fault suggests.", nil},
		{ruleMissingKey, "file", "Required keys are there.", "What is not said cannot be enforced, published or proved.", "Add the key.", nil},
		{ruleType, "file", "Every value has the type of its key.", "", "Write what the fault asks for; put text that looks like a number in quotes.", nil},
		{ruleWord, "file", "A value from a fixed list is one of its words.", "", "Take the word that the fault suggests.", nil},
		{ruleNumber, "file", "Numbers are finite, plain decimals within their bounds.", "NaN and infinity compare with nothing, and `010` or `1_000` mean different things to different readers.", "Write a plain decimal number such as 0.5.", nil},
		{ruleText, "file", "Text is one line of the length that its key allows.", "It stands on labels and pages.", "Shorten it; fold long text with `>-`.", nil},
		{ruleName, "file", "Names have the form that their key asks for.", "They become topics, file names and addresses.", "Use lower-case letters, digits and the separators that the fault names.", nil},
		{ruleCount, "file", "Lists and maps have as many items as their key allows.", "Everything is bounded.", "Add or remove items.", nil},
		{ruleRepeated, "file", "No list names a thing twice.", "A repeated name is a slip of the pen for another.", "Remove or mend one of them.", nil},
		{ruleDuration, "file", "A span is one whole number and one unit: ms, s, m, h, d, w or y (y = 365 d).", "Months and mixed units have no fixed length or no single spelling.", "Write 90m instead of 1h30m, 30d instead of a month.", nil},
		{ruleDate, "file", "A date is a day that exists, as YYYY-MM-DD.", "", "Write 2032-12-31.", nil},
		{ruleTooMany, "file", "At most 200 faults are shown.", "More have one cause.", "Mend the first ones.", nil},

		{ruleLanguage, "product", "`declaration` is 1.", "It names the version of this language.", "Write `declaration: 1`.", nil},
		{ruleProduct, "product", "`product` is an id of 1 to 63 lower-case letters, digits and hyphens, a letter first.", "It stands in certificates and addresses.", "Write for example aria-thermostat.", nil},
		{ruleVersion, "product", "`version` is a whole number from 1.", "Readings and ledger entries name the version they were judged by.", "Count up from the version before.", []string{"1.17"}},
		{ruleRisk, "product", "The four factors of risk are stated: purpose, harm and exposure here; data and sharing by the fields and shares.", "What is reasonable depends on them.", "Add the missing factor under `risk`.", []string{"0.1", "1.15"}},
		{ruleAudience, "product", "`audience` says general, mixed or child.", "Duties towards children follow from it.", "Add `audience: general` if no children use the product.", []string{"2.12", "2.13"}},
		{ruleIdentity, "product", "A device certificate lives 7 to 400 days; `may_sleep` is at most 10 years.", "A stolen key must lose its worth, and a sleeping device must find its way back.", "Write a life between 7d and 400d.", []string{"3.2"}},

		{ruleStream, "data", "A field names a stream that is declared.", "The stream bounds rate and size.", "Declare the stream under `streams`, or mend its name.", []string{"1.2", "4.3"}},
		{ruleEmpty, "streams", "A stream has at least one field.", "A stream without fields can carry nothing.", "Add a field that names it, or remove it.", []string{"4.3"}},
		{ruleRate, "streams", "A stream bounds its rate: `every` from 1ms to 366d, `burst` from 1 to 10000.", "A device gone wrong must not flood; the amount of data is a factor of risk.", "Write for example `every: 60s, burst: 10`.", []string{"1.8", "2.7", "4.3"}},
		{ruleStreamMax, "streams", "A stream bounds the size of a message: `max_bytes` from 16 to 65536.", "What is not bounded is collected.", "Write for example `max_bytes: 512`.", []string{"2.7", "4.3"}},

		{ruleFieldType, "data", "A field has a type: number, integer, boolean, string, enum or timestamp.", "Only a typed value can be checked before it is stored.", "Add `type`.", []string{"1.2"}},
		{ruleMedia, "data", "The type `media` is reserved.", "Sealed chunks of sound and pictures come with a later version.", "Not yet: leave the field out.", nil},
		{ruleUnit, "data", "Numbers and integers have a SenML or UCUM unit (`1` for counts); other types have none.", "A number without a unit has no meaning and no checkable range.", "Add `unit`, for example Cel, %, W, 1.", []string{"1.2"}},
		{ruleRange, "data", "Numbers and integers have a range [least, most], least below most.", "Odd values are dropped, and finer or wider collection shows as a change.", "Add `range`, for example [-40, 85].", []string{"1.2", "4.3"}},
		{ruleValues, "data", "An enum lists its 2 to 64 values; other types list none.", "Undeclared values are dropped.", "Add `values: [on, off]`.", []string{"1.2", "4.3"}},
		{ruleLength, "data", "A string has a `max_length` of 1 to 8192 characters; other types have none.", "Free text is where undeclared data hides.", "Add `max_length`.", []string{"1.2", "4.3"}},
		{rulePrecision, "data", "A precision is above 0, at most the width of the range, whole for integers, and only on numbers.", "Readings are rounded to it before they are stored.", "Write for example `precision: 0.1`, or remove it.", []string{"4.3"}},
		{ruleFieldName, "data", "Field names are 1 to 63 letters, digits, `_`, `-` or `.`, a letter first; none is t, boot or seq; no two differ only in case.", "t, boot and seq are every message's own; names that look alike are mistaken for each other.", "Rename the field.", []string{"1.2"}},
		{ruleClass, "data", "A field has a class: public, personal, sensitive, child or health.", "Who may read, how long and how strictly follow from it.", "Add `class`; when in doubt the higher one.", []string{"0.1", "1.2", "2.10"}},
		{rulePurpose, "data", "A field has 1 to 16 purposes, each a family and a word: service, security, safety, support, research, improvement, legal or marketing.", "What has no purpose is not collected.", "Add `purposes: [service.control]`.", []string{"4.5", "4.9"}},
		{rulePurposeMix, "data", "Security and marketing purposes never meet in one field, nor in one keep-time.", "Readings of one keep-time share an epoch key; data taken for safety must not drift into advertising.", "Split the field, or give the marketing field another keep-time.", []string{"4.9", "7.14"}},
		{ruleKeep, "data", "A field has a finite keep-time from 1h to 10y, in whole seconds.", "“For ever” is impossible; expiry destroys the key of each epoch.", "Write for example `keep: 30d`.", []string{"1.2", "4.4"}},
		{ruleKeepChild, "data", "Child data is kept at most 365 days.", "It is kept only as long as reasonably necessary (16 CFR 312.10); the bound is ours.", "Shorten `keep`.", []string{"2.13", "4.4"}},
		{ruleEnd, "data", "A field says what happens when its time is over: `shred`, or `aggregate(k=20, by=day)` with k of at least 10 (20 for sensitive, child and health) and a type that can be counted.", "Disposal is planned before collection.", "Write `when_done: shred`.", []string{"4.7", "4.8", "4.11"}},
		{ruleReader, "data", "A field has 1 to 16 readers; each is a known role, a declared service or a declared share.", "Nobody else can be given the field.", "Take a role (owner, household, support, engineering, security, operations, legal, marketing), or declare the service or share.", []string{"1.6", "3.15", "4.6"}},
		{ruleReaderWhy, "data", "Marketing reads only fields with a marketing purpose; a service reads only fields that have one of its purposes.", "Reads are bound to a purpose.", "Remove the reader, or add the purpose if it is true.", []string{"3.15", "4.5", "4.9"}},
		{ruleProtection, "data", "Sensitive, child and health fields name at least one protection that holds; public fields name none.", "More harmful data gets more than the sealing that all data has.", "Add `protection: [no-staff]` or another one.", []string{"2.10", "2.13", "3.15"}},
		{ruleGroups, "data", "The fields make at most 32 groups of class, readers and keep-time.", "Each group is one ciphertext in every reading.", "Give fields of one kind the same readers and keep-time.", nil},
		{ruleHealthDuty, "data", "A product with health data says `health: true`.", "The duties after a breach follow from it.", "Add `health: true`.", []string{"2.12", "2.14"}},
		{ruleChildSelf, "data", "A product with child data has the audience mixed or child.", "The duties towards children follow from it.", "Set `audience: mixed` or `audience: child`.", []string{"2.12", "2.13"}},
		{ruleChildMarket, "data", "Child data has no marketing purpose.", "No behavioural use of children's data.", "Remove the marketing purpose.", []string{"2.13"}},

		{ruleCommandBy, "commands", "A command or setting names the roles and services that may give or set it; never marketing or a share.", "Settings change only by authority.", "Write for example `by: [owner]`.", []string{"3.5", "3.7"}},
		{ruleSetting, "settings", "A setting has a default of its type, within its bounds.", "A device that nobody set anything on is as it was declared.", "Write for example `default: 16`.", []string{"3.7"}},
		{ruleSettingSecret, "settings", "No setting is called like a credential (password, secret, token, key of an API).", "A credential that is set on a fleet is shared.", "Remove it; a device has a certificate of its own.", []string{"1.9"}},
		{ruleInterface, "interfaces", "An interface says protocol, direction and authentication; a way in says also where it is, when it is open, and its port if it has one. Names are unique.", "What is not listed is a finding when it appears.", "Add what the fault names.", []string{"1.1", "4.13"}},
		{ruleAuth, "interfaces", "Every way in has authentication; a way out without it is only dns, dhcp, mdns or ntp. Fixed passwords do not exist.", "No shared or default credential.", "Take device-certificate, owner-code or another one from the list.", []string{"1.9", "3.1", "4.13"}},
		{ruleCleartext, "interfaces", "No interface speaks a cleartext protocol.", "Readings and commands could be read and changed on the way.", "Take the protocol over TLS: https, mqtts, coaps, wss, ssh.", []string{"2.4", "2.8"}},
		{ruleInbound, "interfaces", "No way in is open to the internet.", "Remote access goes outwards from the device.", "Put it `on: lan`, or let the device connect out.", []string{"2.4", "3.10"}},
		{ruleTalksTo, "network", "Every destination but the gateway has a DNS name, no address and no wildcard, and stands there once; the gateway is one of them.", "The list becomes the allow-list of routers (RFC 8520).", "Write `{service: ntp, host: ntp.example.com}`.", []string{"2.6", "4.16", "5.9"}},
		{ruleWiFi, "network", "Wi-Fi is wpa2 or wpa3.", "Older ones are broken.", "Write `wifi: [wpa2, wpa3]`; leave it out when there is no Wi-Fi.", []string{"3.13"}},
		{ruleTLS, "network", "`tls` is \"1.3\" or \"1.2\" in quotes.", "TLS 1.2 is offered only while a live product declares it, and shows as a finding.", "Leave it out: 1.3 is the default.", []string{"2.8"}},
		{ruleUpdates, "updates", "Updates say whether they are automatic (and why not), how often the device asks (15m to 30d, not longer than the critical deadline), and deadlines: critical at most 30d, high at most 90d and not before critical.", "A patch works only if it is installed.", "Write `{automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}`.", []string{"5.14", "7.11", "7.18"}},
		{ruleSupport, "support", "Support says until which day security updates come and what still works afterwards.", "People read it before they buy.", "Add `security_updates_until` and `afterwards`.", []string{"7.9", "7.10", "7.11", "7.12"}},
		{ruleService, "services", "A service says what it does and for which purposes it reads.", "A reader is somebody with a reason.", "Add `what` and `purposes`.", []string{"1.6", "3.15"}},
		{ruleShareEnd, "shares", "A share has an end: `contract_until`.", "When the contract is over the slice stops.", "Add `contract_until: 2027-06-30`.", []string{"4.6", "6.3"}},
		{ruleReidentify, "shares", "A share promises `reidentify: never`.", "What leaves is about nobody, and must stay so.", "Add `reidentify: never`, and put it into the contract.", []string{"4.11", "6.15"}},
		{ruleShareField, "shares", "A share lists declared fields, and each of them lists the share among its readers, and no other field does.", "Every reader of a field stands at the field.", "Add `share:NAME` to the field's readers, or take the field out of the share.", []string{"4.6"}},
		{ruleShareWhy, "shares", "The purpose of a share is one of the purposes of each of its fields; only marketing fields are shared for marketing.", "Data goes out only for what it was collected for.", "Add the purpose to the field if it is true.", []string{"4.5", "4.6"}},
		{ruleTransform, "shares", "A share of anything but public fields makes it coarser: geo_grid(10km), hour, day, week, month, round(0.5), pseudonym, k(20). `k` is at least 10, and each kind stands once.", "Data is de-identified before it leaves.", "Add `transform: [hour, k(20)]`.", []string{"4.11"}},
		{ruleChildShare, "shares", "Child data is shared only as counts of at least 20: `k(20)`.", "No slice of one child leaves.", "Add `k(20)` to the transform.", []string{"2.13", "4.11"}},
		{ruleContact, "contacts", "`security` and `help` are a mail address or an https address.", "People and researchers must find the way (RFC 9116 §2.5.3).", "Write security@example.com or https://example.com/help.", []string{"5.19", "7.6"}},
		{ruleClaim, "claims", "A claim rests on at least one control of the mission.", "A promise that nothing checks is not made.", "Add `rests_on: [RP-03]`.", []string{"8.1", "8.3"}},
		{ruleClaimWords, "claims", "A claim says nothing that no check can show.", "“Unhackable” is never true.", "Say what is done, such as “Encrypted on its way and at rest”.", []string{"8.1"}},
		{ruleHub, "hub", "A hub says of which products it may have children (1 to 32, not its own) and how many (1 to 256).", "People read what it may bring into a home, and a compromised hub cannot choose what its children are.", "Write `hub: {children: [door-contact], max: 64}`.", []string{"1.2", "3.6"}},
		{ruleLegacy, "legacy", "The door for old devices says how they prove themselves (own-ca or device-token), until when (not after support ends) and for how many.", "It is a debt with a date.", "Write `legacy: {auth: own-ca, until: 2027-12-31, max_devices: 500}`.", []string{"3.1", "3.2"}},

		{ruleVersionGrows, "publish", "A new version has a higher number than the one in force.", "Readings name the version that they were judged by.", "Count `version` up.", []string{"1.17"}},
		{ruleNotEarlier, "publish", "The support date never moves earlier.", "It was promised to those who bought.", "Restore the date, or choose a later one.", []string{"7.10", "7.11"}},
		{ruleWidening, "publish", "On a live installation a version that widens anything opens a review and waits for a second person to approve it. A product's first version widens nothing.", "New uses of data are reviewed before they take effect.", "Have it approved in the console, take the widening out, or try it on a test installation.", []string{"4.10", "4.12"}},
		{ruleOver, "publish", "No share, legacy door or (at first publication) support is already over.", "A version must not promise what has passed.", "Remove it, or set a date to come.", []string{"4.6", "6.3", "7.11"}},
	}
}
