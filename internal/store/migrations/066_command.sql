-- Commands to devices, until a while after their end (CC 3.7).
CREATE TABLE device_command (
	id         TEXT NOT NULL PRIMARY KEY, -- [plain] random
	device     TEXT NOT NULL,             -- [device; eraser=commands] the unit; its row goes with the owner
	subject    BLOB NOT NULL,             -- [pseudonym; eraser=commands] the owner for whom it was given
	number     BIGINT NOT NULL,           -- [plain] grows with every command
	expires_us BIGINT NOT NULL,           -- [plain] Unix microseconds
	ended_us   BIGINT NOT NULL,           -- [plain] Unix microseconds; 0: it is open
	policy     BLOB NOT NULL,             -- [hash] of the declaration that allowed it
	body       BLOB NOT NULL,             -- [plain] name, role, times and how it ended, JSON; it names people by pseudonym
	content    BLOB NOT NULL,             -- [sealed; eraser=key] its values and the reason
	answer     BLOB                       -- [sealed; eraser=key] what the device said
);
CREATE INDEX device_command_subject ON device_command (subject, number);
CREATE INDEX device_command_number ON device_command (number);
CREATE INDEX device_command_open ON device_command (number) WHERE ended_us = 0;
CREATE INDEX device_command_ended ON device_command (ended_us) WHERE ended_us > 0;

-- What sessions of devices listen to, kept for their return.
CREATE TABLE device_session (
	device    TEXT NOT NULL,    -- [device; eraser=commands] the unit
	client    TEXT NOT NULL,    -- [device; eraser=commands] the name that its client gave the session
	subject   BLOB NOT NULL,    -- [pseudonym; eraser=commands] whose the unit was
	topics    INTEGER NOT NULL, -- [plain] bits of the gateway
	until_us  BIGINT NOT NULL,  -- [plain] Unix microseconds
	PRIMARY KEY (device, client)
);
CREATE INDEX device_session_subject ON device_session (subject);
