-- One legal hold: rows kept aside, sealed under the hold's own key. The schema
-- dies as a whole when the hold is released.
CREATE SCHEMA {h};

-- How far each epoch is copied.
CREATE TABLE {h}.epochs (
	id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- [plain] number used in rows
	keep_s   bigint NOT NULL, -- [plain] keep-time of the epoch in seconds
	start_s  bigint NOT NULL, -- [plain] first instant of the epoch, Unix seconds
	length_s bigint NOT NULL, -- [plain] length of the epoch in seconds
	upto     bigint NOT NULL, -- [plain] number up to which the subject's filed rows are all copied
	UNIQUE (keep_s, start_s)
);

CREATE TABLE {h}.rows (
	epoch  bigint NOT NULL, -- [plain] see epochs
	part   bytea NOT NULL,  -- [plain] names the part: gateway, its counter, group
	sealed bytea NOT NULL,  -- [sealed; eraser=key] the whole reading, under the hold's own key
	PRIMARY KEY (epoch, part)
);
ALTER TABLE {h}.rows ALTER COLUMN sealed SET STORAGE EXTERNAL;
