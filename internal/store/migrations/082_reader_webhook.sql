-- Where a service's pages are posted to, if it does not ask for them.
CREATE TABLE reader_webhook (
	reader TEXT NOT NULL PRIMARY KEY, -- [plain] the service
	url    TEXT NOT NULL,             -- [plain] https only
	set_us BIGINT NOT NULL            -- [plain] Unix microseconds
);
