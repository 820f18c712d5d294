-- One epoch file: the sealed rows of one keep-class and epoch. The file dies
-- as a whole with its epoch's key, so nothing in it is ever deleted.

-- One row: whose file this is and how far it has come.
CREATE TABLE epoch (
	one         INTEGER PRIMARY KEY CHECK (one = 1), -- [plain] always 1
	layout      INTEGER NOT NULL, -- [plain] of this file; another one than the program's is not read
	keep_s      INTEGER NOT NULL, -- [plain] keep-time of its readings, in seconds
	start_s     INTEGER NOT NULL, -- [plain] first instant of the epoch, Unix seconds
	length_s    INTEGER NOT NULL, -- [plain] length of the epoch in seconds
	batches     INTEGER NOT NULL, -- [plain] number of the last batch
	rows        INTEGER NOT NULL, -- [plain] number of the last row
	wrong_clock INTEGER NOT NULL, -- [plain] how many of them are filed by time of receipt
	chain       BLOB NOT NULL,    -- [plain] chain over the roots of all batches
	journal     INTEGER NOT NULL, -- [plain] watermark: which journal, see journals; 0 before the first
	seq         INTEGER NOT NULL, -- [plain] watermark: last batch of it whose rows are in
	late        INTEGER NOT NULL  -- [plain] watermark: last row of the late lane that is in
) STRICT;

-- Dictionaries, so that a row needs few bytes.
CREATE TABLE subjects (
	id      INTEGER PRIMARY KEY, -- [plain] number used in rows
	subject BLOB NOT NULL UNIQUE -- [pseudonym; eraser=kept] whom rows are about
) STRICT;
CREATE TABLE lanes (
	id       INTEGER PRIMARY KEY, -- [plain] number used in rows
	stream   TEXT NOT NULL,    -- [plain] name of the stream
	grp      INTEGER NOT NULL, -- [plain] index of the group in the declaration
	numbered INTEGER NOT NULL, -- [plain] 1: boot and seq are the device's; 0: they are the place in the journal
	UNIQUE (stream, grp, numbered)
) STRICT;
CREATE TABLE contexts (
	id      INTEGER PRIMARY KEY, -- [plain] number used in rows
	product TEXT NOT NULL, -- [plain] product id
	policy  BLOB NOT NULL, -- [plain] hash of the declaration that judged the reading
	gateway BLOB NOT NULL, -- [plain] instance of the gateway that took it
	UNIQUE (product, policy, gateway)
) STRICT;
CREATE TABLE journals (
	id      INTEGER PRIMARY KEY, -- [plain] number used in rows and in the watermark
	journal TEXT NOT NULL UNIQUE -- [plain] incarnation of a journal
) STRICT;

-- One row for each part of a reading.
CREATE TABLE rows (
	id      INTEGER PRIMARY KEY, -- [plain] number in the file, without gaps
	subject INTEGER NOT NULL, -- [pseudonym; eraser=kept] see subjects
	lane    INTEGER NOT NULL, -- [plain] stream and group, see lanes
	boot    INTEGER NOT NULL, -- [plain] boot count of the device; not numbered: the journal, see journals
	seq     INTEGER NOT NULL, -- [plain] number of the reading; not numbered: batch * 2^20 + index
	t       INTEGER NOT NULL, -- [plain] time of the reading, milliseconds since the start of the epoch
	head    BLOB NOT NULL,    -- [plain] context, flags, counter of the gateway, lag of the receipt: varints
	sealed  BLOB NOT NULL     -- [sealed; eraser=key] the values
) STRICT;
-- It keeps readings single and finds those of one subject.
CREATE UNIQUE INDEX rows_key ON rows (subject, lane, boot, seq);

-- One row for each commit: what the ledger's digests are made of.
CREATE TABLE batches (
	id    INTEGER PRIMARY KEY, -- [plain] number of the batch, without gaps
	first INTEGER NOT NULL, -- [plain] number of its first row
	count INTEGER NOT NULL, -- [plain] how many rows
	root  BLOB NOT NULL,    -- [plain] Merkle root of the rows (RFC 6962)
	sums  BLOB NOT NULL     -- [plain] the first 8 bytes of each row's leaf
) STRICT;
