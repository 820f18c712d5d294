package api

import (
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// told is what people are told of a route, besides pattern and permission.
type told struct {
	says    string
	request any    // a value of the body's type; nil: no body
	answer  any    // a value of the answer's type; nil: media says all
	media   string // of the answer; "": application/json
	long    bool   // it may take long, and says how far it is
	query   []asked
}

type asked struct {
	name, kind, says string
	required         bool
}

// Disabled names a person who was disabled.
type Disabled struct {
	Disabled string `json:"disabled"`
}

// ErasedPerson names a person of whom nothing is left but the pseudonym.
type ErasedPerson struct {
	Erased string `json:"erased"`
}

// operations describes every route by its pattern.
func operations() map[string]told {
	const text, tar = "text/plain", "application/x-tar"
	return map[string]told{
		"GET /v1/openapi.json":   {says: "This document.", media: "application/json"},
		"GET /v1/status":         {says: "How the server is, and what needs attention.", answer: Status{}},
		"GET /v1/counts":         {says: "What became of all messages.", answer: Counts{}},
		"POST /v1/backup":        {says: "Write a backup into a new folder on the server's machine.", request: BackupRequest{}, answer: Backup{}, long: true},
		"POST /v1/clock/confirm": {says: "Say that the server's clock is right after it jumped.", request: ClockRequest{}, answer: Clock{}},

		"GET /v1/declarations":                {says: "The declaration in force of every product.", answer: []Declaration{}},
		"POST /v1/declarations":               {says: "Publish a version of a product's declaration.", request: PublishRequest{}, answer: Declaration{}},
		"GET /v1/declarations/{product}/door": {says: "What firmware of a product needs to reach this installation; nothing of it is secret.", answer: Door{}},

		"GET /v1/reviews":                     {says: "Versions that widen a declaration, and who decided, newest first.", answer: []Review{}},
		"POST /v1/reviews/{review}/take-back": {says: "Take back a version that waits for its review.", answer: TakenBack{}},

		"GET /v1/devices":                          {says: "Up to 500 devices by id.", answer: []Device{}, query: []asked{{"after", "string", "the id after which the page begins", false}}},
		"POST /v1/devices":                         {says: "Register a unit and get its enrolment code, shown this once.", request: AddDeviceRequest{}, answer: DeviceAdded{}},
		"GET /v1/devices/{device}":                 {says: "One device: state, counts, refusals, where it comes from.", answer: Device{}},
		"GET /v1/devices/{device}/children":        {says: "The children that a hub speaks for, and those that it proposes.", answer: Children{}},
		"POST /v1/devices/{device}/children":       {says: "Register a child under a hub, of a product that the hub's declaration names.", request: ChildRequest{}, answer: Device{}},
		"POST /v1/devices/{device}/children/adopt": {says: "Give a hub a child that it proposed, or one that has no hub.", request: ChildRequest{}, answer: Device{}},
		"POST /v1/devices/{device}/move":           {says: "Give a child to another hub.", request: MoveRequest{}, answer: Device{}},
		"POST /v1/devices/{device}/remove":         {says: "Take a child from its hub. Its readings stay as long as they are kept.", request: ReasonRequest{}, answer: Device{}},
		"POST /v1/devices/{device}/code":           {says: "Make a new enrolment code for a unit that lost its key.", answer: DeviceAdded{}},
		"POST /v1/devices/{device}/revoke":         {says: "Refuse a device from now on.", request: WhyRequest{}, answer: Receipt{}},
		"POST /v1/devices/{device}/release":        {says: "Let a device out of quarantine.", request: WhyRequest{}, answer: Receipt{}},
		"POST /v1/devices/{device}/reopen":         {says: "Open a new ownership of a device whose owner was erased.", answer: Receipt{}},
		"POST /v1/devices/{device}/certificate":    {says: "Certify that a unit's credentials are its own: recorded, proven, to be verified offline.", media: "application/json"},
		"POST /v1/devices/{device}/read":           {says: "Open a read session, recorded first; one reading a line, the last line has `done` or `problem`.", request: ReadRequest{}, answer: ReadLine{}, media: linesType},
		"POST /v1/devices/{device}/erase":          {says: "Erase the owner of a device for good.", request: ReasonRequest{}, answer: Receipt{}},
		"POST /v1/devices/{device}/hold":           {says: "Keep the readings of a device's owner aside, against expiry and erasure.", request: ReasonRequest{}, answer: Receipt{}},
		"GET /v1/holds":                            {says: "All legal holds.", answer: []Hold{}},
		"POST /v1/holds/{hold}/release":            {says: "Release a legal hold.", request: ReasonRequest{}, answer: Receipt{}},

		"GET /v1/ledger/entries": {says: "Up to 500 entries of the ledger.", answer: Entries{}, query: []asked{
			{"from", "integer", "the place of the first entry; 0 for the first of all", true}, {"kind", "string", "only what happened of this kind", false},
		}},
		"GET /v1/ledger/export":     {says: "The whole ledger, with what its entries are verified by.", media: linesType},
		"GET /v1/ledger/checkpoint": {says: "The last signed checkpoint, a C2SP note.", media: text},
		"POST /v1/verify":           {says: "Compare the stored readings with the batch roots in the ledger.", answer: RowsCheck{}, long: true},

		"GET /v1/checks":                                                 {says: "How every row and control stands now.", answer: assurance.State{}},
		"POST /v1/checks/run":                                            {says: "Take a look with the checks of a row, with one, or with all.", request: RunRequest{}, answer: assurance.State{}, long: true},
		"POST /v1/checks/selftest":                                       {says: "Try every violation on a twin.", answer: []check.Proof{}, long: true},
		"POST /v1/evidence":                                              {says: "Everything that is proved, as a tar stream to be signed where the evidence key is.", request: EvidenceRequest{}, media: tar},
		"POST /v1/devices/{device}/commands":                             {says: "Tell a unit to do something that its declaration lets the role tell it, within the declared bounds. It waits until the unit takes it or its time is over.", request: CommandRequest{}, answer: Command{}},
		"GET /v1/devices/{device}/commands":                              {says: "The last commands to a unit under its present owner, newest first, without their values.", answer: []Command{}},
		"GET /v1/devices/{device}/commands/{command}":                    {says: "One command, and what the unit said of it.", answer: Command{}},
		"GET /v1/devices/{device}/settings":                              {says: "How a unit is to be set under its present owner, and what it says of it. Values that are not public are the owner's, and are not in it.", answer: DeviceSettings{}},
		"POST /v1/devices/{device}/settings":                             {says: "Set what the declaration lets the role set, within the declared bounds. The unit is sent the whole of its settings until it says that it has them.", request: SettingsRequest{}, answer: DeviceSettings{}},
		"POST /v1/devices/{device}/settings/back":                        {says: "Take back the newest version of the settings, or one and all after it, while what was before is kept.", request: SettingsBack{}, answer: DeviceSettings{}},
		"POST /v1/devices/{device}/commands/{command}/cancel":            {says: "End a command that its unit has not taken yet.", answer: Command{}},
		"GET /v1/services":                                               {says: "The maker's own services that read, by name.", answer: []Service{}},
		"POST /v1/services":                                              {says: "Register a service that a declaration in force names. It connects when it has a certificate.", request: AddServiceRequest{}, answer: Service{}},
		"GET /v1/services/{service}":                                     {says: "One service: what it may read, how far it has come, what it was refused.", answer: Service{}},
		"POST /v1/services/{service}/certificate":                        {says: "Issue a service's certificate from its request.", request: CertifyServiceRequest{}, answer: ServiceCertificate{}},
		"POST /v1/services/{service}/webhook":                            {says: "Have a service's pages posted to an address, signed; an empty address ends that.", request: ServiceWebhookRequest{}, answer: ServiceWebhook{}},
		"POST /v1/services/{service}/revoke":                             {says: "Cut a service off: its streams end, its certificates open nothing any more.", request: RevokeServiceRequest{}, answer: RevokedService{}},
		"GET /v1/authority":                                              {says: "What signs devices' certificates, and until when.", answer: Authority{}},
		"POST /v1/authority/take":                                        {says: "Go on with the intermediates that `hawser authority renew` put into the authority's folder, without a restart.", answer: Authority{}},
		"GET /v1/factory":                                                {says: "Production lines, the lists that were taken from them, and factories' authorities.", answer: Factory{}},
		"POST /v1/factory/lines":                                         {says: "Take the signed lists of a production line, of one declared product, until a day and up to a number of units.", request: AddFactoryLineRequest{}, answer: Factory{}},
		"POST /v1/factory/lines/{line}/end":                              {says: "End a line: its lists are refused, and units of its lists that have not enrolled never will with their listed key.", request: EndFactoryRequest{}, answer: Factory{}},
		"POST /v1/factory/lists":                                         {says: "Register the units of a line's signed list, all of them or none.", request: TakeFactoryListRequest{}, answer: FactoryList{}},
		"POST /v1/factory/authorities":                                   {says: "Take birth certificates of a factory's authority, of one declared product, until a day and up to a number of units.", request: AddFactoryCARequest{}, answer: Factory{}},
		"POST /v1/factory/authorities/{authority}/end":                   {says: "End an authority: its birth certificates open nothing any more.", request: EndFactoryRequest{}, answer: Factory{}},
		"GET /v1/products/{product}/legacy":                              {says: "The door for old devices of a product: until when, and who still uses it.", answer: Legacy{}},
		"POST /v1/products/{product}/legacy/tokens":                      {says: "Register devices in the field that come with a token of their own, all of them or none.", request: AddTokensRequest{}, answer: TokensAdded{}},
		"POST /v1/products/{product}/legacy/authorities":                 {says: "Take certificates of an authority of your own for old devices of a product, each once it is registered.", request: AddLegacyAuthorityRequest{}, answer: Legacy{}},
		"POST /v1/products/{product}/legacy/authorities/{authority}/end": {says: "End an authority of your own: its certificates open nothing any more.", request: WithdrawLegacyRequest{}, answer: Legacy{}},
		"POST /v1/products/{product}/legacy/certificates":                {says: "Register old devices by their certificates of an authority of your own, all of them or none.", request: AddLegacyCertificatesRequest{}, answer: LegacyCertificatesAdded{}},
		"POST /v1/devices/{device}/legacy/withdraw":                      {says: "End a unit's credential at the door for old devices; the unit itself stays.", request: WithdrawLegacyRequest{}, answer: Legacy{}},
		"GET /v1/samples":                                                {says: "All samples that assessors drew or began, newest first, without their populations.", answer: []sampling.Sampling{}},
		"POST /v1/samples":                                               {says: "Begin a sample: what can be drawn goes to the ledger before the nonce is known.", request: SampleRequest{}, answer: Sample{}},
		"GET /v1/samples/{sample}":                                       {says: "One sample, and what was drawn.", answer: Sample{}},
		"POST /v1/samples/{sample}/draw":                                 {says: "Draw a sample with the assessor's nonce, once and for all.", request: DrawRequest{}, answer: Sample{}},
		"GET /v1/ledger/key":                                             {says: "The public key of the ledger, for who pins it.", answer: LedgerKey{}},
		"GET /v1/claims":                                                 {says: "The public promises of the products, and how they stand.", answer: []assurance.ClaimState{}},
		"GET /v1/waivers":                                                {says: "All waivers that were asked for, newest first.", answer: []assurance.Waiver{}},
		"POST /v1/waivers/{waiver}/end":                                  {says: "Take a waiver back.", answer: assurance.Waiver{}},
		"GET /v1/people":                                                 {says: "The maker's people, without their names.", answer: []Person{}},
		"POST /v1/people/founder":                                        {says: "Make the set-up link of one of the two founders, shown this once.", answer: Link{}},
		"POST /v1/people/refound":                                        {says: "End both founders, because neither can sign in any more; two new ones can join then.", request: ReasonRequest{}, answer: Refounded{}},
		"POST /v1/people/assessor":                                       {says: "Make the set-up link of an assessor, who sees what is proved in one period; shown this once.", request: AssessorRequest{}, answer: Link{}},
		"POST /v1/people/{person}/disable":                               {says: "End a person's access for good.", request: ReasonRequest{}, answer: Disabled{}},
		"POST /v1/people/{person}/roles":                                 {says: "Take roles of a person away; from here none are given.", request: RolesRequest{}, answer: PersonRoles{}},
		"POST /v1/people/{person}/erase":                                 {says: "Erase a person who was disabled: the key is destroyed, the pseudonym stays.", request: ReasonRequest{}, answer: ErasedPerson{}},
	}
}
