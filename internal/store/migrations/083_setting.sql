-- How devices are to be set (CC 3.7): a row for each that was ever set. The
-- version outlives the owner, so that none is used twice.
CREATE TABLE device_setting (
	device  TEXT NOT NULL PRIMARY KEY, -- [device; eraser=kept] the unit
	subject BLOB,                      -- [pseudonym; eraser=commands] the owner for whom it was set; NULL: nobody any more
	version BIGINT NOT NULL UNIQUE,    -- [plain] grows with every change of any device
	policy  BLOB NOT NULL,             -- [hash] of the declaration by which it was made
	shape   BLOB NOT NULL,             -- [hash] of the declared settings that it was last held against
	body    BLOB NOT NULL,             -- [plain] names, role, times, JSON; it names people by pseudonym
	content BLOB,                      -- [sealed; eraser=key] its values; NULL: erased
	report  BLOB                       -- [sealed; eraser=key] what the device said last
);
CREATE INDEX device_setting_subject ON device_setting (subject);

-- What settings were before a version, for as long as that may be kept.
CREATE TABLE device_setting_before (
	device   TEXT NOT NULL,   -- [device; eraser=commands] the unit
	version  BIGINT NOT NULL, -- [plain] the version that changed it
	name     TEXT NOT NULL,   -- [plain] of the setting
	subject  BLOB NOT NULL,   -- [pseudonym; eraser=commands] the owner
	before   BIGINT NOT NULL, -- [plain] the version before; 0: none
	names    INTEGER NOT NULL, -- [plain] how many the version changed
	until_us BIGINT NOT NULL, -- [plain] Unix microseconds
	content  BLOB,            -- [sealed; eraser=key] the value; NULL: the default was in force
	PRIMARY KEY (device, version, name)
);
CREATE INDEX device_setting_before_subject ON device_setting_before (subject);
CREATE INDEX device_setting_before_until ON device_setting_before (until_us);
