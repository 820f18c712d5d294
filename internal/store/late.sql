-- The late lane: rows that wait for their epoch file. A row is deleted when
-- its file has it for sure.

CREATE TABLE journals (
	id      INTEGER PRIMARY KEY, -- [plain] number used in rows
	journal TEXT NOT NULL UNIQUE -- [plain] incarnation of a journal
) STRICT;

CREATE TABLE late (
	id      INTEGER PRIMARY KEY AUTOINCREMENT, -- [plain] order of arrival; never used again
	keep_s  INTEGER NOT NULL, -- [plain] the epoch: keep-time in seconds
	start_s INTEGER NOT NULL, -- [plain] the epoch: first instant, Unix seconds
	subject BLOB NOT NULL,    -- [pseudonym; eraser=kept] whom the row is about
	journal INTEGER NOT NULL, -- [plain] where it came from, see journals
	seq     INTEGER NOT NULL, -- [plain] batch of that journal
	idx     INTEGER NOT NULL, -- [plain] record of that batch
	grp     INTEGER NOT NULL, -- [plain] group of the part
	first   INTEGER NOT NULL, -- [plain] 1: the first part of its reading, by which the reading is counted
	record  BLOB NOT NULL,    -- [sealed; eraser=key] the reading with this one part, as the journal had it
	UNIQUE (journal, seq, idx, grp, keep_s, start_s)
) STRICT;
CREATE INDEX late_epoch ON late (keep_s, start_s, id);
CREATE INDEX late_subject ON late (subject, keep_s, start_s);

CREATE TABLE waiting (
	keep_s   INTEGER NOT NULL, -- [plain] the epoch: keep-time in seconds
	start_s  INTEGER NOT NULL, -- [plain] the epoch: first instant, Unix seconds
	length_s INTEGER NOT NULL, -- [plain] the epoch: length in seconds
	rows     INTEGER NOT NULL, -- [plain] how many of its rows are here
	since_us INTEGER NOT NULL, -- [plain] when the oldest of them came in, Unix microseconds
	PRIMARY KEY (keep_s, start_s)
) STRICT;
