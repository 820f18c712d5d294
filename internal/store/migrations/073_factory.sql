-- Units that come from a factory with a key of their own, instead of a code.

-- Lines whose lists are taken. A row stays after its end, so that its name is
-- not given twice.
CREATE TABLE factory_line (
	name      TEXT PRIMARY KEY,         -- [plain] a word
	product   TEXT NOT NULL,            -- [plain] product id
	public    BLOB NOT NULL UNIQUE,     -- [plain] Ed25519 key that signs its lists, 32 bytes
	operator  TEXT NOT NULL,            -- [pseudonym; eraser=kept] staff id of who added it
	added_us  BIGINT NOT NULL,          -- [plain] Unix microseconds
	until_us  BIGINT NOT NULL,          -- [plain] Unix microseconds; no list is taken from then on
	max_units INTEGER NOT NULL,         -- [plain] of all its lists together
	ended_us  BIGINT                    -- [plain] NULL: not; its units that have not enrolled never will
);

-- Lists that were taken, whole or up to where a crash left them.
CREATE TABLE factory_list (
	digest    BLOB PRIMARY KEY,         -- [plain] SHA-256 of the file
	line      TEXT NOT NULL REFERENCES factory_line (name), -- [plain] who signed it
	name      TEXT NOT NULL,            -- [plain] what the line calls it, a word
	units     INTEGER NOT NULL,         -- [plain] how many it has
	operator  TEXT NOT NULL,            -- [pseudonym; eraser=kept] staff id of who imported it
	taken_us  BIGINT NOT NULL,          -- [plain] Unix microseconds
	done      INTEGER NOT NULL,         -- [plain] 1: all of its units are registered
	UNIQUE (line, name)
);

-- Authorities of the maker's whose birth certificates are taken.
CREATE TABLE factory_ca (
	id        BLOB PRIMARY KEY,         -- [plain] SHA-256 of its certificate
	name      TEXT NOT NULL UNIQUE,     -- [plain] a word
	der       BLOB NOT NULL,            -- [plain] its certificate
	product   TEXT NOT NULL,            -- [plain] product id
	place     TEXT NOT NULL,            -- [plain] cn, serialNumber: where a birth certificate names its unit
	operator  TEXT NOT NULL,            -- [pseudonym; eraser=kept] staff id of who added it
	added_us  BIGINT NOT NULL,          -- [plain] Unix microseconds
	until_us  BIGINT NOT NULL,          -- [plain] Unix microseconds; no new unit is registered from then on
	max_units INTEGER NOT NULL,         -- [plain] that it may ever bring
	ended_us  BIGINT                    -- [plain] NULL: not; its birth certificates open nothing any more
);

-- The key that each such unit was born with.
CREATE TABLE factory_unit (
	spki      BLOB PRIMARY KEY,         -- [device; eraser=kept] SHA-256 of the public key
	device    TEXT NOT NULL UNIQUE REFERENCES device (id), -- [device; eraser=kept] whose
	source    BLOB NOT NULL,            -- [plain] digest of its list, or id of its authority
	spent_us  BIGINT                    -- [plain] when the key of a list was used up or withdrawn; NULL: it opens the first enrolment
);
CREATE INDEX factory_unit_source ON factory_unit (source);
