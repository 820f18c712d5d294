-- One row: who may write here. A server that starts puts its own mark; one
-- whose mark was replaced writes nothing any more.
CREATE TABLE store_holder (
	one      INTEGER PRIMARY KEY CHECK (one = 1), -- [plain] always 1
	mark     BLOB NOT NULL,                       -- [plain] random, new at every start on PostgreSQL; empty before
	moved_to TEXT NOT NULL,                       -- [plain] where everything was moved; empty: it is here
	moved_us BIGINT                               -- [plain] when that was done, Unix microseconds; NULL: not
);
INSERT INTO store_holder (one, mark, moved_to) VALUES (1, '', '');
