package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	pgOldest      = 150000           // server_version_num of PostgreSQL 15
	pgConnect     = 5 * time.Second  // to connect and to be let in
	pgStatement   = 60 * time.Second // one statement, at most
	pgLockWait    = 10 * time.Second // for a lock, as with the embedded engine
	pgIdleInTx    = 2 * time.Minute  // a transaction in which nothing happens any more
	pgPasswordMax = 4 << 10          // bytes of a password file
)

// PGOptions say which PostgreSQL database to use. The zero value is none.
type PGOptions struct {
	DSN          string // postgres://user@host/database, without a password
	PasswordFile string // holds the password, mode 0600; "" for peer or certificate
	App          string // application_name that the database shows; "" is hawser
	MaxConns     int32  // 0 is 8
	// Patience is how long one statement may take, 0 for a minute. What takes
	// longer is ended, here and at the server.
	Patience time.Duration
	// Mark, if given, is of the store that the connections work for (Store.For):
	// none comes about any more once another server has taken the database.
	Mark string
	// Sight, if given, is for how long a store goes on without an answer of the
	// database that it is ours: it is lost then (Store.Lost).
	Sight time.Duration
	// Lines, if given, are what its connections are counted among.
	Lines *Lines
}

func (o PGOptions) patience() time.Duration {
	if o.Patience <= 0 {
		return pgStatement
	}
	return o.Patience
}

// OpenPG opens a pool of connections to a PostgreSQL database, version 15 or
// later, and looks at each connection before it is used: TLS unless the socket
// is local, UTF-8, a primary that makes commits durable. It fails with
// core.Invalid when the settings or the database will not do, and with
// core.Unavail when the database does not answer.
func OpenPG(ctx context.Context, o PGOptions) (*pgxpool.Pool, error) {
	c, err := pgConfig(o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, 2*pgConnect)
	defer stop()
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open PostgreSQL: %w", pgTrouble(err))
	}
	return pool, nil
}

func pgConfig(o PGOptions) (*pgxpool.Config, error) {
	bad := func(err error, message, hint string) error {
		return &core.Error{Kind: core.Invalid, Reason: "postgres-settings", Message: message, Hint: hint, Err: err}
	}
	if !strings.HasPrefix(o.DSN, "postgres://") && !strings.HasPrefix(o.DSN, "postgresql://") {
		return nil, bad(nil, "the store is not named as postgres://…", "write postgres://user@host/database")
	}
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		// The error of the parser may quote what stands there.
		return nil, bad(nil, "the name of the PostgreSQL database cannot be read", "write postgres://user@host/database?sslmode=verify-full&sslrootcert=FILE")
	}
	if strings.Contains(o.DSN, "password=") || passwordInURL(o.DSN) {
		return nil, bad(nil, "a password stands in the name of the PostgreSQL database", "put it into a file of its own, mode 0600, and name the file")
	}
	cc := c.ConnConfig
	if cc.Password, err = pgPassword(o.PasswordFile); err != nil {
		return nil, bad(err, "the password of the PostgreSQL database cannot be read", "name a file of mode 0600 that holds it and nothing else")
	}
	local := filepath.IsAbs(cc.Host)
	for _, f := range cc.Fallbacks {
		// One way in, and that is the safe one: a fallback is another host, or
		// the same one without TLS.
		if f.Host != cc.Host || f.Port != cc.Port || !local && f.TLSConfig == nil {
			return nil, bad(nil, "the connection to PostgreSQL could fall back to another host or to none of TLS", "name one host and sslmode=verify-full")
		}
	}
	if !local && (cc.TLSConfig == nil || cc.TLSConfig.InsecureSkipVerify) {
		return nil, bad(nil, "the connection to PostgreSQL would not verify whom it talks to", "add sslmode=verify-full and sslrootcert=FILE, or use a local socket: postgres:///database?host=/run/postgresql")
	}
	if cc.Database == "" {
		return nil, bad(nil, "no PostgreSQL database is named", "write postgres://user@host/database")
	}
	cc.ConnectTimeout = pgConnect
	cc.DialFunc = patientDial(cc.DialFunc, o.patience()+pgConnect, o.Lines)
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	set := map[string]string{
		"application_name": o.App, "client_encoding": "UTF8", "timezone": "UTC", "search_path": "public",
		"statement_timeout": ms(o.patience()), "lock_timeout": ms(min(pgLockWait, o.patience())), "idle_in_transaction_session_timeout": ms(max(pgIdleInTx, o.patience())),
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
	}
	if o.App == "" {
		set["application_name"] = "hawser"
	}
	for k, v := range set {
		cc.RuntimeParams[k] = v
	}
	c.MaxConns, c.MinConns = 8, 0
	if o.MaxConns > 0 {
		c.MaxConns = o.MaxConns
	}
	c.MaxConnIdleTime, c.HealthCheckPeriod = 5*time.Minute, 30*time.Second
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := pgLook(ctx, conn); err != nil || o.Mark == "" {
			return err
		}
		var ours bool
		if err := conn.QueryRow(ctx, `SELECT encode(mark, 'hex') = $1 FROM store_holder WHERE one = 1`, o.Mark).Scan(&ours); err != nil {
			return err
		}
		if !ours {
			return errTaken()
		}
		return nil
	}
	return c, nil
}

// passwordInURL reports whether user:password@ stands in a URL, whatever else
// is wrong with it.
func passwordInURL(dsn string) bool {
	_, rest, _ := strings.Cut(dsn, "://")
	authority, _, _ := strings.Cut(rest, "/")
	user, _, found := strings.Cut(authority, "@")
	return found && strings.Contains(user, ":")
}

func pgPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 || st.Size() > pgPasswordMax {
		return "", fmt.Errorf("%s: mode %04o, %d bytes", file, st.Mode().Perm(), st.Size())
	}
	b := make([]byte, st.Size())
	n, err := f.Read(b)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b[:n]), "\r\n"), nil
}

// pgLook refuses a connection to a database that would not keep what we ask.
func pgLook(ctx context.Context, c *pgx.Conn) error {
	var version int
	var encoding, commits, syncs, pages string
	var follows bool
	err := c.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('synchronous_commit'),
		current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()`).Scan(&version, &encoding, &commits, &syncs, &pages, &follows)
	if err != nil {
		return err
	}
	bad := func(kind core.Kind, message, hint string) error {
		return core.E(kind, "postgres-settings", message, hint)
	}
	switch {
	case version < pgOldest:
		return bad(core.Invalid, fmt.Sprintf("PostgreSQL is version %d.%d", version/10000, version%10000), "15 is the oldest that will do")
	case encoding != "UTF8":
		return bad(core.Invalid, "the PostgreSQL database has the encoding "+encoding, "make it with ENCODING 'UTF8' TEMPLATE template0")
	case commits == "off":
		return bad(core.Invalid, "PostgreSQL would acknowledge commits before they are on disk", "set synchronous_commit = on")
	case syncs != "on" || pages != "on":
		return bad(core.Invalid, "PostgreSQL would lose commits in a power cut", "set fsync = on and full_page_writes = on")
	case follows:
		return bad(core.Unavail, "this PostgreSQL server is a standby, which takes no writes", "name the primary")
	}
	// A later change of the server's configuration cannot weaken this session.
	_, err = c.Exec(ctx, `SELECT set_config('synchronous_commit', $1, false)`, commits)
	return err
}

// pgTrouble gives errors of the database that may pass the kind that says so.
// Others stay as they are.
func pgTrouble(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ours := errors.AsType[*core.Error](err); ours {
		return err
	}
	trouble := func(reason, message, hint string) error {
		return &core.Error{Kind: core.Unavail, Reason: reason, Message: message, Hint: hint, Err: err}
	}
	code := pgCode(err)
	switch {
	case code == "53100": // disk_full
		return trouble("database-full", "the disk of the PostgreSQL server is full", "make room there; nothing acknowledged is lost")
	case code == "25006": // read_only_sql_transaction
		return trouble("database-read-only", "the PostgreSQL database takes no writes", "look at default_transaction_read_only, and whether it is the primary")
	case code == "57014" || code == "55P03": // query_canceled, lock_not_available
		return trouble("database-slow", "the PostgreSQL database did not answer in time", "look at its load and its locks")
	case code == "53300": // too_many_connections
		return trouble("database-busy", "the PostgreSQL server takes no more connections", "raise max_connections there, or end other clients")
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), code == "25P03", code == "58030", strings.HasPrefix(code, "53"):
		return trouble("database-gone", "the PostgreSQL database is not there", "look at its server; Hawser goes on when it is back")
	case strings.HasPrefix(code, "28"), code == "3D000", code == "42501": // not let in, no such database, no right
		return &core.Error{Kind: core.Invalid, Reason: "postgres-settings", Err: err, Message: "PostgreSQL does not let Hawser in", Hint: "look at user, database, password file and pg_hba.conf"}
	case code != "":
		return err
	case pgLost(err):
		return trouble("database-gone", "the PostgreSQL database is not there", "look at its server; Hawser goes on when it is back")
	}
	return err
}

// CheckPG says what is wrong with options, without asking the database.
func CheckPG(o PGOptions) error {
	_, err := pgConfig(o)
	return err
}

// InstalledOnPG reports whether a database holds an installation.
func InstalledOnPG(ctx context.Context, o PGOptions) (there bool, err error) {
	pool, err := OpenPG(ctx, o)
	if err != nil {
		return false, err
	}
	defer pool.Close()
	err = pool.QueryRow(ctx, `SELECT to_regclass('public.installation') IS NOT NULL`).Scan(&there)
	if err == nil && there {
		err = pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM installation)`).Scan(&there)
	}
	if err != nil {
		return false, pgTrouble(fmt.Errorf("look for an installation: %w", err))
	}
	return there, nil
}
