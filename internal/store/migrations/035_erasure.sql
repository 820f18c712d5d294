-- Erasures: one row for each subject that was erased or is being erased. The
-- row stays and says how the erasure went. It names nobody: what led from the
-- subject to a unit was `ownership`, and the serial number of the certificate
-- in each reading, which is sealed with the values.
CREATE TABLE erasure (
	subject      BLOB PRIMARY KEY, -- [pseudonym; eraser=kept] who was erased
	product      TEXT NOT NULL,    -- [plain] product id
	actor_kind   TEXT NOT NULL,    -- [plain] who asked for it
	actor_id     TEXT NOT NULL,    -- [pseudonym; eraser=kept] who asked for it: a staff id
	requested_us BIGINT NOT NULL,  -- [plain] when it was asked for, Unix microseconds
	state        TEXT NOT NULL,    -- [plain] asked, shredded or done
	root_before  BIGINT NOT NULL,  -- [plain] generation of the root that went
	root_after   BIGINT NOT NULL,  -- [plain] generation of the root that came; 0: not yet
	destroys     TEXT NOT NULL,    -- [plain] proven or best-effort; empty: not yet
	detail       TEXT NOT NULL,    -- [plain] how the root was destroyed
	held         TEXT NOT NULL,    -- [plain] legal holds that kept a copy aside, with commas
	erasers      TEXT NOT NULL,    -- [plain] erasers that have run, with commas
	ended_us     BIGINT            -- [plain] when it was done, Unix microseconds; NULL: not yet
);
CREATE INDEX erasure_open ON erasure (requested_us) WHERE state <> 'done';

-- Legal holds. A row goes when its hold is released.
CREATE TABLE legal_hold (
	id         TEXT PRIMARY KEY,     -- [plain] random id of the hold, and the name of its file
	hold_key   BLOB NOT NULL UNIQUE, -- [pseudonym; eraser=kept] random name of the hold's own key in the keyring
	subject    BLOB NOT NULL,        -- [pseudonym; eraser=kept] whose readings are held
	product    TEXT NOT NULL,        -- [plain] product id
	actor_kind TEXT NOT NULL,        -- [plain] who placed it, or releases it
	actor_id   TEXT NOT NULL,        -- [pseudonym; eraser=kept] who placed it, or releases it: a staff id
	placed_us  BIGINT NOT NULL,      -- [plain] Unix microseconds
	state      TEXT NOT NULL,        -- [plain] placing, held or releasing
	note       BLOB                  -- [sealed; eraser=key] device and reason, under the hold's own key; NULL while it is placed
);
CREATE INDEX legal_hold_subject ON legal_hold (subject);
