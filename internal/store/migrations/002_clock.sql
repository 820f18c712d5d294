-- One row: the latest time at which the clock of this machine was believed.
CREATE TABLE clock (
	one     INTEGER PRIMARY KEY CHECK (one = 1), -- [plain] always 1
	seen_us INTEGER NOT NULL                     -- [plain] Unix microseconds
);
