-- One row: what this installation is. The environment never changes.
CREATE TABLE installation (
	one         INTEGER PRIMARY KEY CHECK (one = 1), -- [plain] always 1
	id          TEXT NOT NULL,                       -- [plain] random id of the installation
	environment TEXT NOT NULL,                       -- [plain] test or live
	created_us  INTEGER NOT NULL                     -- [plain] Unix microseconds
);
