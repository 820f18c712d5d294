-- The ledger: an append-only RFC 6962 Merkle log of what happened. Entries and
-- full tiles are written once; only the head of the current origin, its last
-- checkpoint and the tiles at the tree's right edge change.

-- One row per origin. The one with the highest number is the current one; the
-- others ended with a restore and are kept as they were.
CREATE TABLE ledger_origin (
	number     INTEGER PRIMARY KEY,  -- [plain] 1, 2, … in the order in which they began
	name       TEXT NOT NULL UNIQUE, -- [plain] the origin line of its checkpoints
	first      BIGINT NOT NULL,      -- [plain] position of its entry 0
	size       BIGINT NOT NULL,      -- [plain] the committed head: how many entries
	root       BLOB NOT NULL,        -- [plain] the committed head: RFC 6962 root of these entries
	checkpoint BLOB                  -- [plain] the last signed checkpoint of this origin; NULL before the first
);

-- Kinds and products, each pair once, so that an entry names them in a byte.
CREATE TABLE ledger_topic (
	id      INTEGER PRIMARY KEY, -- [plain] number of the pair
	kind    TEXT NOT NULL,       -- [plain] kind of record
	product TEXT NOT NULL,       -- [plain] product id, '' when none
	UNIQUE (kind, product)
);

-- Records that have no index yet. They are written in the transaction of the
-- state that they record; the sequencer moves them to ledger_entry.
CREATE TABLE ledger_pending (
	id      INTEGER PRIMARY KEY, -- [plain] order of insertion
	topic   INTEGER NOT NULL,    -- [plain] kind and product, see ledger_topic
	subject BLOB,                -- [pseudonym; eraser=kept] whom it is about; NULL when nobody
	leaf    BLOB NOT NULL        -- [sealed; eraser=key] the canonical record; what identifies its subject is ciphertext inside
);

-- Records in the tree, for ever. An entry's index is its position less the
-- `first` of its origin; positions are dense over all origins.
CREATE TABLE ledger_entry (
	pos     INTEGER PRIMARY KEY, -- [plain] position over all origins
	topic   INTEGER NOT NULL,    -- [plain] kind and product, see ledger_topic
	subject BLOB,                -- [pseudonym; eraser=kept] whom it is about; NULL when nobody
	leaf    BLOB NOT NULL        -- [sealed; eraser=key] the canonical record, the very bytes that were hashed
);
CREATE INDEX ledger_entry_topic ON ledger_entry (topic, pos);
CREATE INDEX ledger_entry_subject ON ledger_entry (subject, pos) WHERE subject IS NOT NULL;

-- Hashes of the tree, in tiles of up to 256 as in C2SP tlog-tiles. A tile of
-- level l holds the roots of complete subtrees of 256^l entries each.
CREATE TABLE ledger_tile (
	origin INTEGER NOT NULL, -- [plain] number of the origin
	level  INTEGER NOT NULL, -- [plain] level of the tile
	n      BIGINT NOT NULL,  -- [plain] index of the tile within its level
	hashes BLOB NOT NULL,    -- [plain] up to 256 SHA-256 hashes of 32 bytes
	PRIMARY KEY (origin, level, n)
);
