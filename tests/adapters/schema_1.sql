-- The embedded store. Table names are those of the Supabase schema (spec/storage.md).
-- Money is integer micro-USDC, times are unix seconds, sealed columns hold `v1.<key id>.<…>`.

CREATE TABLE profiles (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE COLLATE NOCASE
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
    is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    pt_system_prompt TEXT NOT NULL,
    pt_parameters TEXT NOT NULL DEFAULT '[]',
    pt_model TEXT NOT NULL,
    pt_max_tokens INTEGER NOT NULL CHECK (pt_max_tokens BETWEEN 1 AND 8192),
    pt_allows_user_message INTEGER NOT NULL DEFAULT 0 CHECK (pt_allows_user_message IN (0, 1))
) STRICT;

-- Deleting a template frees its slug and keeps its row: sales point at it.
CREATE UNIQUE INDEX x402_resources_slug ON x402_resources (registered_by, slug) WHERE is_active;

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
    payer TEXT,
    network TEXT,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    valid_before INTEGER,
    "transaction" TEXT,
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

CREATE TABLE x402_answers (
    execution_id TEXT PRIMARY KEY REFERENCES x402_executions (id),
    sealed_answer TEXT NOT NULL
) STRICT;
