-- One partition: the sealed rows of one keep-class and epoch, in a schema of
-- its own. It dies as a whole with its epoch's key, so nothing in it is ever
-- deleted. Tables and columns are those of an epoch file.
CREATE SCHEMA {e};

-- One row: whose partition this is and how far it has come.
CREATE TABLE {e}.epoch (
	one         integer PRIMARY KEY CHECK (one = 1), -- [plain] always 1
	layout      integer NOT NULL, -- [plain] of this partition; another one than the program's is not read
	keep_s      bigint NOT NULL, -- [plain] keep-time of its readings, in seconds
	start_s     bigint NOT NULL, -- [plain] first instant of the epoch, Unix seconds
	length_s    bigint NOT NULL, -- [plain] length of the epoch in seconds
	batches     bigint NOT NULL, -- [plain] number of the last batch
	rows        bigint NOT NULL, -- [plain] number of the last row
	wrong_clock bigint NOT NULL, -- [plain] how many of them are filed by time of receipt
	chain       bytea NOT NULL,  -- [plain] chain over the roots of all batches
	journal     bigint NOT NULL, -- [plain] watermark: which journal, see journals; 0 before the first
	seq         bigint NOT NULL, -- [plain] watermark: last batch of it whose rows are in
	late        bigint NOT NULL  -- [plain] watermark: last row of the late lane that is in
) WITH (fillfactor = 10);

-- Dictionaries, so that a row needs few bytes.
CREATE TABLE {e}.subjects (
	id      integer PRIMARY KEY,  -- [plain] number used in rows
	subject bytea NOT NULL UNIQUE -- [pseudonym; eraser=kept] whom rows are about
);
CREATE TABLE {e}.lanes (
	id       integer PRIMARY KEY, -- [plain] number used in rows
	stream   text NOT NULL,    -- [plain] name of the stream
	grp      integer NOT NULL, -- [plain] index of the group in the declaration
	numbered integer NOT NULL, -- [plain] 1: boot and seq are the device's; 0: they are the place in the journal
	UNIQUE (stream, grp, numbered)
);
CREATE TABLE {e}.contexts (
	id      bigint PRIMARY KEY, -- [plain] number used in rows
	product text NOT NULL,  -- [plain] product id
	policy  bytea NOT NULL, -- [plain] hash of the declaration that judged the reading
	gateway bytea NOT NULL, -- [plain] instance of the gateway that took it
	UNIQUE (product, policy, gateway)
);
CREATE TABLE {e}.journals (
	id      bigint PRIMARY KEY,  -- [plain] number used in rows and in the watermark
	journal text NOT NULL UNIQUE -- [plain] incarnation of a journal
);

-- One row for each part of a reading. What is sealed does not compress.
CREATE TABLE {e}.rows (
	id      bigint PRIMARY KEY, -- [plain] number in the partition, without gaps
	subject integer NOT NULL, -- [pseudonym; eraser=kept] see subjects
	lane    integer NOT NULL, -- [plain] stream and group, see lanes
	boot    bigint NOT NULL,  -- [plain] boot count of the device; not numbered: the journal, see journals
	seq     bigint NOT NULL,  -- [plain] number of the reading; not numbered: batch * 2^20 + index
	t       bigint NOT NULL,  -- [plain] time of the reading, milliseconds since the start of the epoch
	head    bytea NOT NULL,   -- [plain] context, flags, counter of the gateway, lag of the receipt: varints
	sealed  bytea NOT NULL    -- [sealed; eraser=key] the values
) WITH (autovacuum_vacuum_insert_threshold = -1);
ALTER TABLE {e}.rows ALTER COLUMN sealed SET STORAGE EXTERNAL;
-- It keeps readings single and finds those of one subject.
CREATE UNIQUE INDEX rows_key ON {e}.rows (subject, lane, boot, seq);

-- One row for each commit: what the ledger's digests are made of.
CREATE TABLE {e}.batches (
	id    bigint PRIMARY KEY, -- [plain] number of the batch, without gaps
	first bigint NOT NULL, -- [plain] number of its first row
	count bigint NOT NULL, -- [plain] how many rows
	root  bytea NOT NULL,  -- [plain] Merkle root of the rows (RFC 6962)
	sums  bytea NOT NULL   -- [plain] the first 8 bytes of each row's leaf
);
ALTER TABLE {e}.batches ALTER COLUMN sums SET STORAGE EXTERNAL;
