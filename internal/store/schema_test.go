package store

import (
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// erasers are what the word after eraser= may be, and what each one does when
// a subject is erased. A new word needs an eraser in the program first.
var erasers = map[string]string{
	"key":       "nothing more: the value is ciphertext, and its subject's key is destroyed",
	"ownership": "deletes the row that links a unit to its owner's subject",
	"counts":    "deletes or makes nobody's the counts of the subject, and deletes the undeclared names that came from its device and the answers to its batches",
	"person":    "unlinks the subject from a person of the staff, and deletes all means, sessions and notices",
	"commands":  "deletes the commands that were given for the subject, how its device is to be set, and what that listens to",
	"readers":   "orders every service that has readings of the subject to erase them, and forgets what they know it by",
	"kept":      "nothing: a pseudonym that nothing links to anybody any more, or a number of the maker's own register",
}

// column is one column of the schema and what its comment says of it.
type column struct {
	table, name, sqlType string
	tag, eraser, meaning string
}

var (
	tableStart  = regexp.MustCompile(`^CREATE TABLE (\w+) \($`)
	tableEnd    = regexp.MustCompile(`^\)( STRICT)?;$`)
	constraint  = regexp.MustCompile(`^(PRIMARY KEY|UNIQUE|FOREIGN KEY|CHECK) ?\(`)
	columnLine  = regexp.MustCompile(`^(\w+) +(\w+)\b.*?-- (.*)$`)
	addedColumn = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN (.*)$`)
	tagComment  = regexp.MustCompile(`^\[(\w+)(?:; eraser=(\w+))?\] (\S.*)$`)
	inParens    = regexp.MustCompile(`\([^()]*\)`)
	harmless    = regexp.MustCompile(`^(CREATE (UNIQUE )?INDEX|CREATE SCHEMA|DROP (INDEX|TABLE)|INSERT INTO|UPDATE|DELETE FROM|ALTER TABLE \w+ (RENAME|DROP|ALTER)) `)
)

// whom are words that stand for a person or a unit: a column so named cannot
// be plain.
var whom = []string{"subject", "subjects", "device", "owner", "person", "sender", "serial", "email", "phone", "address"}

// parseSchema reads SQL line by line and returns its columns and everything
// that breaks the rules. What it cannot read breaks them too: a column that is
// not seen is a column that is not checked.
func parseSchema(src string) (cols []column, faults []string) {
	table, pending := "", false // inside which CREATE TABLE; inside another statement
	for n, raw := range strings.Split(src, "\n") {
		line := strings.TrimSpace(raw)
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("line %d: %s: %s", n+1, fmt.Sprintf(format, args...), line))
		}
		add := func(table, def string) {
			c, why := parseColumn(table, def)
			cols = append(cols, c)
			for _, w := range why {
				fault("%s", w)
			}
		}
		switch {
		case line == "" || strings.HasPrefix(line, "--"):
		case pending:
			pending = !strings.HasSuffix(line, ";")
		case table == "" && tableStart.MatchString(line):
			table = tableStart.FindStringSubmatch(line)[1]
		case table == "" && addedColumn.MatchString(line):
			m := addedColumn.FindStringSubmatch(line)
			add(m[1], strings.Replace(m[2], ";", "", 1))
		case table == "" && harmless.MatchString(line):
			pending = !strings.HasSuffix(line, ";")
		case table == "":
			fault("a statement that the schema test cannot read")
		case tableEnd.MatchString(line):
			table = ""
		case constraint.MatchString(line):
		default:
			add(table, line)
		}
	}
	if table != "" || pending {
		faults = append(faults, "the last statement has no end")
	}
	return cols, faults
}

func parseColumn(table, def string) (c column, faults []string) {
	c = column{table: table, name: strings.Fields(def)[0]}
	m := columnLine.FindStringSubmatch(def)
	if m == nil {
		return c, []string{"not one column with its comment"}
	}
	c.sqlType = m[2]
	code, _, _ := strings.Cut(def, "--")
	code = inParens.ReplaceAllString(inParens.ReplaceAllString(code, ""), "")
	if strings.Contains(strings.TrimSuffix(strings.TrimSpace(code), ","), ",") {
		return c, []string{"two columns on one line"}
	}
	t := tagComment.FindStringSubmatch(m[3])
	if t == nil {
		return c, []string{"the comment is not [tag] meaning"}
	}
	c.tag, c.eraser, c.meaning = t[1], t[2], t[3]
	fault := func(s string) { faults = append(faults, s) }
	switch c.tag {
	case "plain", "hash":
		if c.eraser != "" {
			fault("nothing to erase in it")
		}
		for _, w := range whom {
			if slices.Contains(strings.Split(c.name, "_"), w) {
				fault("a column of this name says whom it is about: it cannot be " + c.tag)
			}
		}
	case "pseudonym", "device", "sealed":
		if _, known := erasers[c.eraser]; !known {
			fault("no such eraser")
		}
	default:
		fault("no such tag")
	}
	if (c.tag == "sealed" || c.tag == "hash") && c.sqlType != "BLOB" {
		fault(c.tag + " values are BLOBs")
	}
	if c.eraser == "key" && c.tag != "sealed" {
		fault("destroying a key erases only what is sealed")
	}
	return c, faults
}

var (
	ofSchema  = regexp.MustCompile(`(\{\w\}|\blate)\.`)
	withLimit = regexp.MustCompile(`(?m)^\) WITH \(.*\);.*$`)
)

// plainSQL is what a file of SQL says without what only PostgreSQL takes: the
// names of schemas, and how a table is kept.
func plainSQL(path, src string) string {
	if !strings.HasPrefix(filepath.Base(path), "pg_") {
		return src
	}
	src = withLimit.ReplaceAllString(ofSchema.ReplaceAllString(src, ""), ");")
	return strings.ReplaceAll(src, "bytea", "BLOB")
}

// schemaFiles are all files with SQL of the store.
func schemaFiles(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".sql") {
			return err
		}
		b, err := os.ReadFile(path)
		out[filepath.ToSlash(path)] = plainSQL(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 3 {
		t.Fatalf("%d files of SQL: looked in the wrong place", len(out))
	}
	return out
}

// TestEveryColumnSaysWhatItHolds holds that personal values are sealed, that
// pseudonyms have an eraser, and that both are said beside the column (design,
// section 5, Subjects).
func TestEveryColumnSaysWhatItHolds(t *testing.T) {
	for name, src := range schemaFiles(t) {
		cols, faults := parseSchema(src)
		for _, f := range faults {
			t.Errorf("%s %s", name, f)
		}
		if len(cols) == 0 && strings.Contains(src, "TABLE") { // an index has none
			t.Errorf("%s has no columns", name)
		}
	}
}

// TestSchemaTestSeesEveryColumn compares what was parsed with the columns that
// the engine really made.
func TestSchemaTestSeesEveryColumn(t *testing.T) {
	files := schemaFiles(t)
	parsed := map[string]bool{"schema_migrations.name": true} // made by migrate: names of files
	for name, src := range files {
		if strings.HasPrefix(name, "migrations/") {
			for _, c := range mustParse(t, src) {
				parsed[c.table+"."+c.name] = true
			}
		}
	}
	compareColumns(t, open(t).r, `SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`, parsed)
	t.Run("postgres", func(t *testing.T) { compareOnPG(t, files, parsed) })
	for name, src := range files {
		if strings.HasPrefix(name, "migrations/") || strings.HasPrefix(name, "pg_") {
			continue
		}
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "x.db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), src); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		parsed := map[string]bool{}
		for _, c := range mustParse(t, src) {
			parsed[c.table+"."+c.name] = true
		}
		compareColumns(t, db, `SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`, parsed)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// compareOnPG is the same on the second engine, with its own files, too.
func compareOnPG(t *testing.T, files map[string]string, parsed map[string]bool) {
	pg := openOnPG(t).pg
	inSchema := func(s string) string {
		return `SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = '` + s + `'`
	}
	compareColumns(t, pg.r, inSchema("public"), parsed)
	schemas := 0
	for name, src := range files {
		if !strings.HasPrefix(name, "pg_") {
			continue
		}
		schemas++
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		schema := regexp.MustCompile(`CREATE SCHEMA ([\w{}]+);`).FindStringSubmatch(string(b))[1]
		made := strings.NewReplacer("{", "probe_", "}", "").Replace(schema)
		if _, err := pg.wpool.Exec(t.Context(), strings.ReplaceAll(string(b), schema, made)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		parsed := map[string]bool{}
		for _, c := range mustParse(t, src) {
			parsed[c.table+"."+c.name] = true
		}
		compareColumns(t, pg.r, inSchema(made), parsed)
	}
	if schemas < 3 {
		t.Errorf("%d files of SQL for PostgreSQL", schemas)
	}
}

func mustParse(t *testing.T, src string) []column {
	t.Helper()
	cols, _ := parseSchema(src) // the faults are the other test's
	return cols
}

func compareColumns(t *testing.T, db *sql.DB, query string, parsed map[string]bool) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	real := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		real[name] = true
		if !parsed[name] {
			t.Errorf("the schema test does not see column %s", name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		if !real[name] {
			t.Errorf("column %s is not in the database", name)
		}
	}
}

// TestTablesAreMadeInSQLFiles holds that no table is made where the schema
// test does not look.
func TestTablesAreMadeInSQLFiles(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile(`(?i)(CREATE\s+(TEMP\w*\s+|VIRTUAL\s+)*TABLE|ADD\s+COLUMN)\s+(IF NOT EXISTS\s+)?(\w+)`)
	seen := false
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made.FindAllStringSubmatch(string(b), -1) {
			if m[4] == "schema_migrations" {
				seen = true
				continue
			}
			t.Errorf("%s makes table %s: put it into a file of SQL", f, m[4])
		}
	}
	if !seen {
		t.Error("not even schema_migrations was found: the search finds nothing")
	}
}

// TestSchemaTestRefuses is the control: a schema with one fault each.
func TestSchemaTestRefuses(t *testing.T) {
	good := "CREATE TABLE t (\n\tid INTEGER PRIMARY KEY CHECK (id IN (1, -2)), -- [plain] number\n\tv BLOB NOT NULL, -- [sealed; eraser=key] what it says\n\tUNIQUE (id, v)\n);\n" +
		"CREATE INDEX t_v ON t (v)\n\tWHERE v IS NOT NULL;\nALTER TABLE t ADD COLUMN w BLOB; -- [hash] of a secret\n"
	cols, faults := parseSchema(good)
	if len(faults) > 0 || len(cols) != 3 || cols[1] != (column{"t", "v", "BLOB", "sealed", "key", "what it says"}) || cols[2].tag != "hash" {
		t.Fatalf("a good schema: columns %+v, faults %v", cols, faults)
	}
	for _, c := range []struct{ from, to, want string }{
		{" -- [plain] number", "", "not one column"},
		{"[plain] number", "number", "not [tag] meaning"},
		{"[plain] number", "[plain]", "not [tag] meaning"},
		{"[plain]", "[public]", "no such tag"},
		{"[plain]", "[plain; eraser=key]", "nothing to erase"},
		{"[plain]", "[pseudonym]", "no such eraser"},
		{"[plain]", "[pseudonym; eraser=hope]", "no such eraser"},
		{"[plain]", "[pseudonym; eraser=key]", "only what is sealed"},
		{"[plain]", "[device; eraser=key]", "only what is sealed"},
		{"; eraser=key]", "]", "no such eraser"},
		{"v BLOB", "v TEXT", "BLOBs"},
		{"w BLOB", "w TEXT", "BLOBs"},
		{"id INTEGER", "subject INTEGER", "whom it is about"},
		{"id INTEGER", "owner_email INTEGER", "whom it is about"},
		{"w BLOB; -- [hash] of a secret", "w BLOB;", "not one column"},
		{"CREATE TABLE t (", "CREATE TABLE t AS SELECT 1;\nCREATE TABLE t (", "cannot read"},
		{"CREATE TABLE t (", "CREATE TABLE IF NOT EXISTS t (", "cannot read"},
		{"CREATE TABLE t (", "CREATE VIRTUAL TABLE x USING fts5(body);\nCREATE TABLE t (", "cannot read"},
		{"id INTEGER PRIMARY KEY", "id INTEGER, secret TEXT", "two columns"},
		{"\tUNIQUE (id, v)\n);", "\tUNIQUE (id, v)\n", "not one column"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		if bad == good {
			t.Fatalf("%q is not in the schema", c.from)
		}
		_, faults := parseSchema(bad)
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, c.want) }) {
			t.Errorf("%q for %q: faults %v, want %q", c.to, c.from, faults, c.want)
		}
	}
}
