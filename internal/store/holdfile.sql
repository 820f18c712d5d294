-- One legal hold: rows kept aside, sealed under the hold's own key. The file
-- dies as a whole when the hold is released.

-- How far each epoch is copied.
CREATE TABLE epochs (
	id       INTEGER PRIMARY KEY, -- [plain] number used in rows
	keep_s   INTEGER NOT NULL,    -- [plain] keep-time of the epoch in seconds
	start_s  INTEGER NOT NULL,    -- [plain] first instant of the epoch, Unix seconds
	length_s INTEGER NOT NULL,    -- [plain] length of the epoch in seconds
	upto     INTEGER NOT NULL,    -- [plain] number up to which the subject's filed rows are all copied
	UNIQUE (keep_s, start_s)
) STRICT;

CREATE TABLE rows (
	epoch  INTEGER NOT NULL, -- [plain] see epochs
	part   BLOB NOT NULL,    -- [plain] names the part: gateway, its counter, group
	sealed BLOB NOT NULL,    -- [sealed; eraser=key] the whole reading, under the hold's own key
	PRIMARY KEY (epoch, part)
) STRICT;
