-- Assessors: people of another house, who see for a while what is proved in one
-- period. NULL in both: not one of them.
ALTER TABLE person ADD COLUMN period_from_us BIGINT; -- [plain] Unix microseconds
ALTER TABLE person ADD COLUMN period_until_us BIGINT; -- [plain] Unix microseconds; the account ends then

-- Each time that both founders were ended from the machine itself, because
-- neither could sign in any more, and who of the people after them looked at it.
CREATE TABLE refounding (
	number    BIGINT PRIMARY KEY,   -- [plain] from 1 without gaps
	at_us     BIGINT NOT NULL,      -- [plain] Unix microseconds
	by_kind   TEXT NOT NULL,        -- [plain] who did it
	by_id     TEXT NOT NULL,        -- [pseudonym; eraser=kept] a user of the operating system
	first_us  BIGINT,               -- [plain] when the first one looked; NULL: nobody yet
	first     TEXT NOT NULL,        -- [pseudonym; eraser=kept] staff id; empty: nobody yet
	second_us BIGINT,               -- [plain] NULL: nobody yet
	second    TEXT NOT NULL         -- [pseudonym; eraser=kept] staff id; empty: nobody yet
);
