-- Wrong tries, as the gate counts them. Nobody can be found in these tables
-- without the gate's key, which lies outside the data folder.

-- One row for each account, network, pair of both, and known device that has
-- tries which are not forgiven yet. Times are the gate's own, which never go
-- back.
CREATE TABLE gate_counter (
	scope    TEXT NOT NULL,     -- [plain] which table of counters
	key      BLOB NOT NULL,     -- [hash] half an HMAC of whom it counts
	wrong    INTEGER NOT NULL,  -- [plain] tries that count
	refused  INTEGER NOT NULL,  -- [plain] tries that were not looked at
	since_us BIGINT,            -- [plain] the first of them
	last_us  INTEGER,           -- [plain] the last of them
	until_us BIGINT,            -- [plain] when all of them are forgiven
	told_us  INTEGER,           -- [plain] when the owner was told; NULL: never
	noted_us BIGINT,            -- [plain] when the ledger was told; NULL: never
	nets     BLOB,              -- [hash] which networks tried, as 256 bits of a sketch
	PRIMARY KEY (scope, key)
);

-- The gate's time beside the machine's, written with every count.
CREATE TABLE gate_clock (
	one        INTEGER PRIMARY KEY CHECK (one = 1), -- [plain] there is one row
	gate_us    BIGINT NOT NULL,                     -- [plain] the gate's time
	machine_us BIGINT NOT NULL,                     -- [plain] the machine's at that moment
	key_check  BLOB NOT NULL                        -- [hash] tells whether the counters are of this key
);
