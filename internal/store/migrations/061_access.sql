-- The maker's people: who they are, how each signs in, which sessions they
-- have. What a person is called stands sealed in one place; everything else
-- names people by their staff id, which the ledger has, too.

CREATE TABLE person (
	id           TEXT PRIMARY KEY,  -- [pseudonym; eraser=kept] staff id
	subject      BLOB UNIQUE,       -- [pseudonym; eraser=person] under whose key the sealed values are; NULL: erased
	state        TEXT NOT NULL,     -- [plain] invited, active, disabled
	roles        TEXT NOT NULL,     -- [plain] with commas
	approver     INTEGER NOT NULL,  -- [plain] 1: may approve, from approver_us on
	approver_us  BIGINT,            -- [plain] Unix microseconds; NULL: not an approver, or not joined
	founder      INTEGER NOT NULL,  -- [plain] 1: one of the two who joined by the local socket
	details      BLOB,              -- [sealed; eraser=key] name and mail address; NULL until joined
	lookup       BLOB UNIQUE,       -- [pseudonym; eraser=person] keyed hash of the mail address; NULL: none
	password     BLOB,              -- [hash] argon2id of the password, encoded; NULL: none
	totp         BLOB,              -- [sealed; eraser=key] secret of one-time codes; NULL: none
	totp_step    BIGINT NOT NULL,   -- [plain] last time step of them that was used
	invited_us   BIGINT NOT NULL,   -- [plain] Unix microseconds
	inviter_kind TEXT NOT NULL,     -- [plain] who invited
	inviter_id   TEXT NOT NULL,     -- [pseudonym; eraser=kept] who invited: a staff id
	joined_us    BIGINT,            -- [plain] NULL: not yet
	disabled_us  BIGINT             -- [plain] NULL: not
);

-- The public part of passkeys.
CREATE TABLE passkey (
	id          BLOB PRIMARY KEY,   -- [pseudonym; eraser=person] credential id, chosen by the authenticator
	person      TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=person] whose
	public      BLOB NOT NULL,      -- [pseudonym; eraser=person] COSE key
	count       BIGINT NOT NULL,    -- [plain] signature counter at the last use
	flags       INTEGER NOT NULL,   -- [plain] authenticator flags at the last use
	aaguid      BLOB,               -- [plain] make of the authenticator
	transports  TEXT NOT NULL,      -- [plain] with commas
	label       BLOB NOT NULL,      -- [sealed; eraser=key] what the person calls it
	added_us    BIGINT NOT NULL,    -- [plain] Unix microseconds
	used_us     BIGINT,             -- [plain] NULL: never
	disabled_us BIGINT              -- [plain] NULL: not; switched off when a copy was used
);
CREATE INDEX passkey_person ON passkey (person, added_us);

-- Set-up links. A row stays after its use, so that a second use is known.
CREATE TABLE setup_link (
	token    BLOB PRIMARY KEY,      -- [hash] of the secret in the link
	person   TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=kept] who joins by it
	made_us  BIGINT NOT NULL,       -- [plain] Unix microseconds
	until_us BIGINT NOT NULL,       -- [plain] Unix microseconds
	used_us  BIGINT,                -- [plain] NULL: not
	replays  INTEGER NOT NULL       -- [plain] how often it was opened after its use, up to a few
);
CREATE INDEX setup_link_person ON setup_link (person, made_us);

CREATE TABLE recovery_code (
	code    BLOB PRIMARY KEY,       -- [hash] of the code
	person  TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=person] whose
	made_us BIGINT NOT NULL,        -- [plain] Unix microseconds
	used_us BIGINT                  -- [plain] NULL: not
);
CREATE INDEX recovery_code_person ON recovery_code (person);

CREATE TABLE person_session (
	token       BLOB PRIMARY KEY,   -- [hash] of the cookie
	person      TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=person] whose
	started_us  BIGINT NOT NULL,    -- [plain] Unix microseconds
	seen_us     BIGINT NOT NULL,    -- [plain] last request, to the minute
	ends_us     BIGINT NOT NULL,    -- [plain] at the latest
	passkey_us  BIGINT,             -- [plain] last use of a passkey; NULL: none
	verified_us BIGINT NOT NULL,    -- [plain] last full sign-in or use of a passkey
	means       TEXT NOT NULL,      -- [plain] what was shown, with commas
	browser     BLOB NOT NULL       -- [sealed; eraser=key] program and network address
);
CREATE INDEX person_session_person ON person_session (person, started_us);
CREATE INDEX person_session_end ON person_session (ends_us);

-- What people are told when they are here next.
CREATE TABLE person_notice (
	id      INTEGER PRIMARY KEY AUTOINCREMENT, -- [plain] order
	person  TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=person] who is told
	kind    TEXT NOT NULL,          -- [plain] a word
	about   TEXT NOT NULL,          -- [pseudonym; eraser=kept] staff id of whom it is about; empty: of oneself
	at_us   BIGINT NOT NULL,        -- [plain] Unix microseconds
	seen_us BIGINT                  -- [plain] NULL: not yet
);
CREATE INDEX person_notice_person ON person_notice (person, id);

-- Refused sign-ins of people that exist, until their hour is over and the
-- ledger knows.
CREATE TABLE person_refusal (
	person TEXT NOT NULL REFERENCES person (id), -- [pseudonym; eraser=person] whose account
	hour_s BIGINT NOT NULL,         -- [plain] beginning of the hour, Unix seconds
	n      BIGINT NOT NULL,         -- [plain] how many
	PRIMARY KEY (person, hour_s)
);
