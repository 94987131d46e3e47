-- The embedded store. Table names are those of the Supabase schema (spec/storage.md).
-- Money is integer micro-USDC, times are unix seconds, sealed columns hold `v1.<key id>.<…>`.

CREATE TABLE profiles (
    id TEXT PRIMARY KEY,
    -- Null until its owner has chosen one.
    username TEXT UNIQUE COLLATE NOCASE
) STRICT;

CREATE TABLE x402_user_claude_configs (
    user_id TEXT PRIMARY KEY REFERENCES profiles (id),
    api_key_encrypted TEXT NOT NULL,
    is_enabled INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1))
) STRICT;

CREATE TABLE x402_payout_addresses (
    user_id TEXT PRIMARY KEY REFERENCES profiles (id),
    base_address TEXT NOT NULL
) STRICT;

CREATE TABLE x402_resources (
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

-- Deleting a template frees its slug and keeps its row: sales point at it. A paused one keeps both.
CREATE UNIQUE INDEX x402_resources_slug ON x402_resources (registered_by, slug)
    WHERE deleted_at IS NULL;

CREATE TABLE x402_executions (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('paid', 'free', 'owner_test', 'task')),
    state TEXT NOT NULL CHECK (state IN (
        'claimed', 'settling', 'settled', 'completed', 'refund_due', 'refunded', 'released'
    )),
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    claim_key TEXT UNIQUE,
    template_id TEXT NOT NULL REFERENCES x402_resources (id),
    template_version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    -- The account that was signed in, if any; a payer needs none.
    caller_id TEXT,
    payer TEXT,
    network TEXT,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    valid_before INTEGER,
    "transaction" TEXT,
    -- Where in the transaction the transfer is, when a chain has told.
    log_index INTEGER,
    -- Where a debt was paid out, as its operator has told.
    refund_transaction TEXT,
    reruns INTEGER NOT NULL DEFAULT 0 CHECK (reruns BETWEEN 0 AND 3),
    model TEXT,
    usage TEXT,
    stop_reason TEXT,
    code TEXT,
    created_at REAL NOT NULL,
    verified_at REAL,
    opened_at REAL,
    settled_at REAL,
    ended_at REAL,
    -- What recovery needs to ask again; erased at the ending.
    sealed_payment TEXT,
    CHECK (kind <> 'paid' OR (
        claim_key IS NOT NULL AND payer IS NOT NULL AND network IS NOT NULL AND amount > 0
    )),
    CHECK (state NOT IN ('settled', 'refund_due', 'refunded') OR "transaction" IS NOT NULL),
    CHECK (kind <> 'paid' OR state <> 'completed' OR "transaction" IS NOT NULL)
) STRICT;

-- One transfer pays for one execution.
CREATE UNIQUE INDEX x402_executions_transfer
    ON x402_executions (network, "transaction", log_index) WHERE log_index IS NOT NULL;
CREATE INDEX x402_executions_open ON x402_executions (worker)
    WHERE state IN ('claimed', 'settling', 'settled');
CREATE INDEX x402_executions_sales ON x402_executions (template_id, created_at);
CREATE INDEX x402_executions_calls ON x402_executions (caller_id, created_at)
    WHERE caller_id IS NOT NULL;

-- Who is at work. A worker unseen for 15 s is gone, and its rows are anybody's.
CREATE TABLE x402_workers (
    id TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
) STRICT;

CREATE TABLE x402_answers (
    execution_id TEXT PRIMARY KEY REFERENCES x402_executions (id),
    sealed_answer TEXT NOT NULL
) STRICT;
