-- Where other servers reach the one that holds the mark.
ALTER TABLE store_holder ADD COLUMN link TEXT NOT NULL DEFAULT ''; -- [plain] HOST:PORT; empty: it takes no gateways
