-- From the first schema to the second: a name may be missing, templates have a network and times.

CREATE TABLE profiles_2 (
    id TEXT PRIMARY KEY,
    username TEXT UNIQUE COLLATE NOCASE
) STRICT;
INSERT INTO profiles_2 SELECT id, username FROM profiles;
DROP TABLE profiles;
ALTER TABLE profiles_2 RENAME TO profiles;

CREATE TABLE x402_resources_2 (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL DEFAULT 1,
    registered_by TEXT NOT NULL REFERENCES profiles (id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    price_usdc INTEGER NOT NULL CHECK (price_usdc >= 0),
    network TEXT NOT NULL,
    is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    pt_system_prompt TEXT NOT NULL,
    pt_parameters TEXT NOT NULL DEFAULT '[]',
    pt_model TEXT NOT NULL,
    pt_max_tokens INTEGER NOT NULL CHECK (pt_max_tokens BETWEEN 1 AND 8192),
    pt_allows_user_message INTEGER NOT NULL DEFAULT 0 CHECK (pt_allows_user_message IN (0, 1)),
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    deleted_at REAL,
    CHECK (deleted_at IS NULL OR NOT is_active)
) STRICT;
INSERT INTO x402_resources_2
SELECT
    id, version, registered_by, slug, name, description, price_usdc, 'eip155:31337', is_active,
    pt_system_prompt, pt_parameters, pt_model, pt_max_tokens, pt_allows_user_message,
    unixepoch(), unixepoch(), CASE WHEN is_active THEN NULL ELSE unixepoch() END
FROM x402_resources;
DROP TABLE x402_resources;
ALTER TABLE x402_resources_2 RENAME TO x402_resources;
CREATE UNIQUE INDEX x402_resources_slug ON x402_resources (registered_by, slug)
    WHERE deleted_at IS NULL;

ALTER TABLE x402_executions ADD COLUMN caller_id TEXT;
ALTER TABLE x402_executions ADD COLUMN log_index INTEGER;
ALTER TABLE x402_executions ADD COLUMN refund_transaction TEXT;
CREATE UNIQUE INDEX x402_executions_transfer
    ON x402_executions (network, "transaction", log_index) WHERE log_index IS NOT NULL;
CREATE INDEX x402_executions_open ON x402_executions (worker)
    WHERE state IN ('claimed', 'settling', 'settled');
CREATE INDEX x402_executions_sales ON x402_executions (template_id, created_at);
CREATE INDEX x402_executions_calls ON x402_executions (caller_id, created_at)
    WHERE caller_id IS NOT NULL;

CREATE TABLE x402_workers (
    id TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
) STRICT;
