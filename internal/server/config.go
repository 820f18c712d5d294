package server

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// The comments of Config are its manual: `hawser config describe` and
// docs/config.md are made from this very file.
//
//go:embed config.go
var configSource string

// maxConfigBytes bounds the configuration file.
const maxConfigBytes = 64 << 10

// Config is the file config.yaml in the home folder. Every key has a safe
// default: an empty file, or none, starts a server without people, without
// cleartext and without any door but those for devices, enrolment,
// checkpoints and health. The console opens with the first founder's link.
// Paths that are not absolute count from the home
// folder. Secrets are paths of files, never values.
type Config struct {
	// Data is the folder of everything that may be backed up and shown to a
	// thief: databases, sealed readings, journal. Default: data. Example: /var/lib/hawser/data
	Data string `yaml:"data"`
	// Store is where the control database and the readings are: a PostgreSQL
	// database, version 15 or later, by its name, which never holds a password.
	// Unless the socket is a local one, its TLS must verify whom it talks to. The
	// journal has keys of its own; `hawser migrate` moves what there is. Default: none, which is SQLite files in Data. Example: postgres://hawser@db.northwind.example/hawser?sslmode=verify-full
	Store string `yaml:"store"`
	// StorePasswordFile is a file of mode 0600 with the password for Store, and
	// nothing else. Default: none; PostgreSQL knows us by the local user (peer) or
	// by a certificate that Store names. Example: /etc/hawser/db.password
	StorePasswordFile string `yaml:"store_password_file"`
	// Turns says that several servers have this installation and take turns: one
	// serves, the others wait and take over when it ends, is killed, or has not
	// seen the database for some seconds. Each has a data folder and a socket of
	// its own; store, journal_servers, keyring, roots, ca, ledger_key, gate_key and
	// checkpoint must be the same for all, on storage that all of them reach and that
	// locks files. Default: false. Example: true
	Turns bool `yaml:"turns"`
	// Link is where the other servers that take turns reach this one, while it is
	// the one that serves: host:port, of an address that only they reach. With it,
	// servers that wait are gateways meanwhile: each opens its devices' door and
	// takes readings in, under keys that it has on loan for a minute. Who is there
	// proves that it has gate_key. Default: none; who waits does nothing else. Example: 10.0.0.11:8890
	Link string `yaml:"link"`
	// CA is the folder of the working certificate authority: the certificates,
	// and the keys of the two intermediates. Default: keys/ca. Example: /etc/hawser/ca
	CA string `yaml:"ca"`
	// Roots is the folder of the root keys under which the keyring is wrapped.
	// It belongs on another medium than Data, and in no backup. Default: keys/roots. Example: /mnt/roots
	Roots string `yaml:"roots"`
	// RootsOpenBao is the address of an OpenBao whose transit engine keeps the
	// root keys in place of the folder `roots`. It is built by OpenBao's
	// documentation and was never tried on a real one: doctor says "unproven".
	// Choose it before `hawser init`. Default: none. Example: https://bao.northwind.example:8200
	RootsOpenBao string `yaml:"roots_openbao"`
	// RootsOpenBaoMount is where its transit engine is mounted. Default: transit. Example: hawser-transit
	RootsOpenBaoMount string `yaml:"roots_openbao_mount"`
	// RootsOpenBaoKeys begins the names of our keys there, which end with the
	// generation. Each installation needs a name of its own. Default: hawser. Example: hawser-eu
	RootsOpenBaoKeys string `yaml:"roots_openbao_keys"`
	// RootsOpenBaoToken is a file of mode 0600 with the token, and nothing else;
	// it is read for every request. Default: none. Example: /run/hawser/openbao.token
	RootsOpenBaoToken string `yaml:"roots_openbao_token"`
	// RootsOpenBaoCA is a PEM file with the certificates of whoever signed that of
	// the OpenBao. Default: what the operating system trusts. Example: /etc/hawser/bao-ca.pem
	RootsOpenBaoCA string `yaml:"roots_openbao_ca"`
	// TokenModule is the PKCS#11 library of a token or HSM that keeps keys and never
	// gives them out. The program must be built with it (`make hawser-pkcs11`).
	// Choose it before `hawser init`. Default: none. Example: /usr/lib/softhsm/libsofthsm2.so
	TokenModule string `yaml:"token_module"`
	// TokenLabel is the label of the token. Default: none. Example: hawser
	TokenLabel string `yaml:"token_label"`
	// TokenPIN is a file of mode 0600 with the PIN of the token's user, and
	// nothing else. Default: none. Example: /etc/hawser/token.pin
	TokenPIN string `yaml:"token_pin"`
	// TokenKeys begins the names of our keys there. Each installation needs a name
	// of its own. Default: hawser. Example: hawser-eu
	TokenKeys string `yaml:"token_keys"`
	// TokenHolds says which keys are in the token: roots, those under which the
	// keyring is wrapped, in place of the folder `roots`; authority, those of the
	// two intermediates of the certificate authority. Its root is for neither: it
	// belongs on no machine that runs. Default: none. Example: [roots, authority]
	TokenHolds []string `yaml:"token_holds"`
	// Keyring lists the files that each hold a whole copy of the keyring; at
	// least two. No backup may hold one. Default: [keys/keyring-a/keyring, keys/keyring-b/keyring]. Example: [/etc/hawser/keyring, /mnt/second/keyring]
	Keyring []string `yaml:"keyring"`
	// LedgerKey is the file of the key that signs the ledger's checkpoints.
	// Default: keys/ledger.key. Example: /etc/hawser/ledger.key
	LedgerKey string `yaml:"ledger_key"`
	// GateKey is the file of the key under which wrong tries are counted and
	// known devices remembered. Without it both begin anew, with a new key.
	// Default: keys/gate.key. Example: /etc/hawser/gate.key
	GateKey string `yaml:"gate_key"`
	// Checkpoint is the file, outside Data, where the last signed checkpoint of
	// the ledger is kept; a server refuses to sign what contradicts it. Default: keys/checkpoint. Example: /mnt/second/checkpoint
	Checkpoint string `yaml:"checkpoint"`
	// EvidenceSigners is a file of the public keys that evidence is signed with,
	// as ssh-keygen reads it. The private one is made by `hawser evidence key`
	// and belongs on another machine. Default: keys/evidence.signers. Example: /etc/hawser/evidence.signers
	EvidenceSigners string `yaml:"evidence_signers"`
	// Devices is the address of the MQTT door, mutual TLS only. Default: :8883. Example: 192.0.2.10:8883
	Devices string `yaml:"devices"`
	// HTTPS is the address of the HTTPS door: enrolment (EST), the ledger's
	// checkpoint, health, security.txt. Default: :8443. Example: 192.0.2.10:8443
	HTTPS string `yaml:"https"`
	// Balancers lists the address ranges of the TCP balancers in front of this
	// server. From there, and from nowhere else, connections come to
	// balanced_devices and balanced_https, each with a PROXY header of version 2
	// that says whose it is. Default: none. Example: [192.0.2.16/28]
	Balancers []string `yaml:"balancers"`
	// BalancedDevices is a second address of the devices' door, for balancers.
	// Default: none. Example: 192.0.2.10:9883
	BalancedDevices string `yaml:"balanced_devices"`
	// BalancedHTTPS is a second address of the HTTPS door, for balancers.
	// Default: none. Example: 192.0.2.10:9443
	BalancedHTTPS string `yaml:"balanced_https"`
	// Console is the address of the HTTPS door for people. It stays shut until
	// `hawser people founder` makes the first link. Default: 127.0.0.1:8444. Example: 192.0.2.10:443
	Console string `yaml:"console"`
	// Services is the address of the HTTPS door for the maker's own services
	// that read, mutual TLS only. It stays shut until `hawser service add`
	// registers the first. Default: 127.0.0.1:8445. Example: 192.0.2.10:8445
	Services string `yaml:"services"`
	// WebhookRoots is a PEM file of the authorities that services' webhooks are
	// verified with. Default: none; the system's. Example: /etc/hawser/webhook-roots.pem
	WebhookRoots string `yaml:"webhook_roots"`
	// InsecurePrivateWebhooks lets webhooks lead to addresses of private
	// networks and of this machine. Default: false. Example: true
	InsecurePrivateWebhooks bool `yaml:"insecure_private_webhooks"`
	// ConsoleOrigin is what people type to come to the console. Passkeys belong
	// to it: who changes it later makes them useless. Default: https://, the
	// first of `names`, and the port of `console`. Example: https://hawser.northwind.example
	ConsoleOrigin string `yaml:"console_origin"`
	// ConsoleCertificate is a PEM file with the certificate chain that browsers
	// are shown. Default: none; the server's own authority issues one, and
	// browsers must be told to trust its root. Example: /etc/hawser/console.pem
	ConsoleCertificate string `yaml:"console_certificate"`
	// ConsoleKey is the PEM file with the key of that certificate. Default: none. Example: /etc/hawser/console.key
	ConsoleKey string `yaml:"console_key"`
	// Maker is what the maker is called: at the head of the console's pages, and
	// by people's authenticators. Nobody's password may rest on it. Default: none. Example: Northwind Home
	Maker string `yaml:"maker"`
	// BreachedPasswords is a file of breached passwords as it is published for
	// download: SHA-1 in hexadecimal, one a line, sorted. New passwords are looked
	// up in it, where it lies. Without it the built-in list of easy ones is in
	// charge alone. Default: none. Example: /srv/lists/pwned-passwords-sha1-ordered-by-hash.txt
	BreachedPasswords string `yaml:"breached_passwords"`
	// SecurityContact lists where researchers report to, most wanted first, for
	// /.well-known/security.txt at the HTTPS door: mailto:, https: or tel:.
	// Default: the `security` contacts of the declarations in force. Example: [mailto:security@northwind.example]
	SecurityContact []string `yaml:"security_contact"`
	// PublicHTTPS is the address under which others reach the HTTPS door: what
	// /.well-known/security.txt says of where it lies. Default: https://, the
	// first of `names`, and the port of `https`. Example: https://iot.northwind.example
	PublicHTTPS string `yaml:"public_https"`
	// Names are the host names and addresses in the server's certificate:
	// what devices dial. Default: [localhost, 127.0.0.1, "::1"]. Example: [iot.northwind.example]
	Names []string `yaml:"names"`
	// Socket is the local socket through which the command line talks to the
	// running server; the operating system says who is asking. Default: data/hawser.sock. Example: /run/hawser/hawser.sock
	Socket string `yaml:"socket"`
	// JournalMaxBytes is how much the journal may hold, in bytes, before the
	// server stops acknowledging. Default: 8589934592. Example: 1073741824
	JournalMaxBytes int64 `yaml:"journal_max_bytes"`
	// JournalServers lists NATS servers (JetStream, 2.12 or later) that keep the
	// journal in place of this process: a cluster of three, so that one may be
	// lost. An acknowledgement then means that most of them have the message.
	// Default: none, the journal lies in data. Example: [tls://nats-1.northwind.example:4222, tls://nats-2.northwind.example:4222, tls://nats-3.northwind.example:4222]
	JournalServers []string `yaml:"journal_servers"`
	// JournalCA is a PEM file with the certificates of whoever signed those of
	// the NATS servers. Default: what the operating system trusts. Example: /etc/hawser/nats-ca.pem
	JournalCA string `yaml:"journal_ca"`
	// JournalCertificate is a PEM file with our certificate for the NATS servers,
	// and journal_key has its key. Default: none. Example: /etc/hawser/nats.pem
	JournalCertificate string `yaml:"journal_certificate"`
	// JournalKey is a PEM file, mode 0600, with the key of journal_certificate.
	// Default: none. Example: /etc/hawser/nats.key
	JournalKey string `yaml:"journal_key"`
	// JournalCredentials is a file of mode 0600 with NATS credentials (a JWT and
	// its key), for servers that ask for them. Default: none. Example: /etc/hawser/nats.creds
	JournalCredentials string `yaml:"journal_credentials"`
	// JournalStream is the name of the stream. Each installation needs one of its
	// own. Default: HAWSER. Example: HAWSER-EU
	JournalStream string `yaml:"journal_stream"`
	// JournalReplicas is on how many of the NATS servers the journal lies: 3 or
	// 5, or 1 where none may be lost. Default: 3. Example: 5
	JournalReplicas int `yaml:"journal_replicas"`
	// HandshakeTimeout is how long a TLS handshake and the CONNECT after it may
	// take. Default: 10s. Example: 20s
	HandshakeTimeout Duration `yaml:"handshake_timeout"`
	// MaxConnections bounds the devices connected at once; 0 is what the
	// operating system's limit of open files leaves. Default: 0. Example: 100000
	MaxConnections int `yaml:"max_connections"`
	// DeviceMessagesPerSecond is the pace at which one device is read from,
	// whatever its declaration allows: a faster one waits, and loses nothing.
	// Default: 1000. Example: 5000
	DeviceMessagesPerSecond int `yaml:"device_messages_per_second"`
	// ProductMessagesPerSecond is the pace at which all devices of one product
	// together are read from, so that one product gone wild does not slow the
	// others down: its devices wait, and lose nothing. The default is about
	// what two processors store of messages with one or two groups, and serves
	// a million devices that send once a minute; raise it on a larger machine.
	// Default: 20000. Example: 100000
	ProductMessagesPerSecond int `yaml:"product_messages_per_second"`
	// Log is the form of the log on standard error: text or json. Default: text. Example: json
	Log string `yaml:"log"`

	home string
}

// Duration is a time.Duration written as in "10s" or "2h".
type Duration time.Duration

// UnmarshalYAML reads the text form.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a duration; write it as in 10s or 2h", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

func defaults(home string) Config {
	return Config{
		Data: "data", CA: "keys/ca", Roots: "keys/roots",
		Keyring:   []string{"keys/keyring-a/keyring", "keys/keyring-b/keyring"},
		LedgerKey: "keys/ledger.key", GateKey: "keys/gate.key", Checkpoint: "keys/checkpoint", EvidenceSigners: "keys/evidence.signers",
		Devices: ":8883", HTTPS: ":8443", Console: "127.0.0.1:8444", Services: "127.0.0.1:8445", Names: []string{"localhost", "127.0.0.1", "::1"},
		Socket: "data/hawser.sock", JournalMaxBytes: 8 << 30, JournalStream: "HAWSER", JournalReplicas: 3, RootsOpenBaoMount: "transit", RootsOpenBaoKeys: "hawser", TokenKeys: "hawser",
		HandshakeTimeout: Duration(10 * time.Second), DeviceMessagesPerSecond: 1000,
		ProductMessagesPerSecond: 20_000, Log: "text", home: home,
	}
}

// LoadConfig reads config.yaml in the home folder, or the defaults where there
// is none, and checks it. `hawser config check` and `hawser serve` run this
// same code. Every fault names line and key.
func LoadConfig(home string) (*Config, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return nil, fmt.Errorf("find home folder %s: %w", home, err)
	}
	name := filepath.Join(abs, "config.yaml")
	src, err := readBounded(name, maxConfigBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return ParseConfig(abs, src)
}

func readBounded(name string, limit int64) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if st.Size() > limit {
		return nil, core.E(core.TooLarge, "config-size", fmt.Sprintf("%s has %d bytes", name, st.Size()),
			fmt.Sprintf("a configuration has at most %d bytes", limit))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return b, nil
}

// ParseConfig reads a configuration over the defaults for a home folder.
func ParseConfig(home string, src []byte) (*Config, error) {
	c := defaults(home)
	d := yaml.NewDecoder(bytes.NewReader(src))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) { // EOF: nothing in it
		return nil, core.E(core.Invalid, "config-syntax", "config.yaml: "+err.Error(), "`hawser config describe` lists every key with an example")
	}
	c.home = home
	for _, p := range []*string{&c.Data, &c.CA, &c.Roots, &c.LedgerKey, &c.GateKey, &c.Checkpoint, &c.Socket, &c.ConsoleCertificate, &c.ConsoleKey, &c.EvidenceSigners, &c.BreachedPasswords, &c.WebhookRoots, &c.StorePasswordFile, &c.JournalCA, &c.JournalCertificate, &c.JournalKey, &c.JournalCredentials, &c.RootsOpenBaoToken, &c.RootsOpenBaoCA, &c.TokenModule, &c.TokenPIN} {
		*p = c.at(*p)
	}
	for i := range c.Keyring {
		c.Keyring[i] = c.at(c.Keyring[i])
	}
	return &c, c.check()
}

func (c *Config) at(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.home, p)
}

// postgres is the PostgreSQL database to use; its zero value is none.
func (c *Config) postgres() store.PGOptions {
	if c.Store == "" {
		return store.PGOptions{}
	}
	return store.PGOptions{DSN: c.Store, PasswordFile: c.StorePasswordFile}
}

// Home is the folder that relative paths count from.
func (c *Config) Home() string { return c.home }

func (c *Config) check() error {
	bad := func(key, what, hint string) error {
		return core.E(core.Invalid, "config-"+key, "config.yaml: "+key+": "+what, hint)
	}
	for key, v := range map[string]string{
		"data": c.Data, "ca": c.CA, "roots": c.Roots, "ledger_key": c.LedgerKey, "gate_key": c.GateKey,
		"checkpoint": c.Checkpoint, "socket": c.Socket,
	} {
		if v == "" {
			return bad(key, "is empty", "name a path, or leave the key out for its default")
		}
	}
	if c.Store != "" {
		if err := store.CheckPG(c.postgres()); err != nil {
			return bad("store", err.Error(), hintOf(err))
		}
	}
	if within(c.Data, c.StorePasswordFile) && c.StorePasswordFile != "" {
		return bad("store_password_file", c.StorePasswordFile+" lies inside data", "keep it outside data: a backup of data must not open anything")
	}
	if len(c.Keyring) < 2 {
		return bad("keyring", fmt.Sprintf("%d copies", len(c.Keyring)), "list at least two files, best on two media: one disk's end must not erase everybody")
	}
	seen := map[string]bool{}
	for _, k := range c.Keyring {
		if k == "" || seen[k] {
			return bad("keyring", "a copy is empty or named twice", "list two different files")
		}
		seen[k] = true
		if within(c.Data, k) {
			return bad("keyring", k+" lies inside data", "keep the keyring outside data: a backup of data must not open anything")
		}
	}
	for key, p := range map[string]string{"roots": c.Roots, "checkpoint": c.Checkpoint, "ca": c.CA, "ledger_key": c.LedgerKey, "gate_key": c.GateKey} {
		if within(c.Data, p) {
			return bad(key, p+" lies inside data", "keep it outside data: a backup of data must neither open nor sign anything")
		}
	}
	for key, a := range map[string]string{"devices": c.Devices, "https": c.HTTPS, "console": c.Console, "services": c.Services} {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return bad(key, fmt.Sprintf("%q is no address", a), "write host:port, or :port for every address of this machine")
		}
	}
	if err := c.checkTurns(); err != nil {
		return err
	}
	if err := c.checkBalancers(); err != nil {
		return err
	}
	if u, err := url.Parse(c.ConsoleOrigin); err != nil || c.ConsoleOrigin != "" && (u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "") {
		return bad("console_origin", fmt.Sprintf("%q is no origin", c.ConsoleOrigin), "write https://HOST or https://HOST:PORT, and nothing after it")
	}
	if u, err := url.Parse(c.PublicHTTPS); err != nil || c.PublicHTTPS != "" && (u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "") {
		return bad("public_https", fmt.Sprintf("%q is no origin", c.PublicHTTPS), "write https://HOST or https://HOST:PORT, and nothing after it")
	}
	for _, contact := range c.SecurityContact {
		if !goodContact(contact) {
			return bad("security_contact", fmt.Sprintf("%q is no contact", contact), "write mailto:ADDRESS, https://… or tel:+NUMBER")
		}
	}
	if why := badMaker(c.Maker); why != "" {
		return bad("maker", why, "write the name as customers know it, on one line of at most 60 characters")
	}
	if len(c.Names) == 0 {
		return bad("names", "is empty", "name at least the host that devices dial")
	}
	if err := c.checkJournal(); err != nil {
		return err
	}
	if within(c.Data, c.RootsOpenBaoToken) && c.RootsOpenBaoToken != "" {
		return bad("roots_openbao_token", c.RootsOpenBaoToken+" lies inside data", "keep it outside data: a backup of data must not open anything")
	}
	if key, what, hint := c.checkToken(); key != "" {
		return bad(key, what, hint)
	}
	if d := time.Duration(c.HandshakeTimeout); d < time.Second || d > 5*time.Minute {
		return bad("handshake_timeout", d.String(), "choose between 1s and 5m")
	}
	if c.MaxConnections < 0 {
		return bad("max_connections", "is negative", "0 takes what the operating system allows")
	}
	if c.DeviceMessagesPerSecond < 1 || c.DeviceMessagesPerSecond > 1_000_000 {
		return bad("device_messages_per_second", fmt.Sprint(c.DeviceMessagesPerSecond), "choose between 1 and 1000000")
	}
	if c.ProductMessagesPerSecond < 1 || c.ProductMessagesPerSecond > 10_000_000 {
		return bad("product_messages_per_second", fmt.Sprint(c.ProductMessagesPerSecond), "choose between 1 and 10000000")
	}
	if c.Log != "text" && c.Log != "json" {
		return bad("log", fmt.Sprintf("%q", c.Log), "choose text or json")
	}
	return nil
}

// goodContact reports whether c is a URI that security.txt may give (RFC 9116
// §2.5.3), on one line.
func goodContact(c string) bool {
	u, err := url.Parse(c)
	if err != nil || len(c) > 200 || strings.ContainsFunc(c, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return false
	}
	switch u.Scheme {
	case "mailto":
		return strings.Contains(u.Opaque, "@")
	case "https":
		return u.Host != ""
	case "tel":
		return strings.HasPrefix(u.Opaque, "+")
	}
	return false
}

// badMaker says what is wrong with a maker's name, if anything.
func badMaker(name string) string {
	switch {
	case len([]rune(name)) > 60 || !utf8.ValidString(name):
		return "is too long, or not text"
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.TrimSpace(name) != name:
		return "has characters that cannot be seen"
	}
	return ""
}

// within reports whether path lies in dir or is dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
