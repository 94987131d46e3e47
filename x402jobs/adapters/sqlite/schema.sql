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
    -- A task has a tile instead, by its coordinates.
    template_id TEXT REFERENCES x402_resources (id),
    template_version INTEGER,
    tile TEXT,
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
    CHECK (kind <> 'paid' OR state <> 'completed' OR "transaction" IS NOT NULL),
    CHECK ((kind = 'task') = (tile IS NOT NULL) AND (kind <> 'task' OR caller_id IS NOT NULL)),
    CHECK (kind = 'task' OR (template_id IS NOT NULL AND template_version IS NOT NULL))
) STRICT;

-- Nobody runs the same tile twice at once.
CREATE UNIQUE INDEX x402_executions_task ON x402_executions (caller_id, tile)
    WHERE kind = 'task' AND state = 'claimed';

-- One transfer pays for one execution.
CREATE UNIQUE INDEX x402_executions_transfer
    ON x402_executions (network, "transaction", log_index) WHERE log_index IS NOT NULL;
CREATE INDEX x402_executions_open ON x402_executions (worker)
    WHERE state IN ('claimed', 'settling', 'settled');
-- What waits for somebody: few rows, and looked at every half a minute.
CREATE INDEX x402_executions_matters ON x402_executions (state, created_at)
    WHERE state IN ('settling', 'refund_due');
CREATE INDEX x402_executions_sales ON x402_executions (template_id, created_at);
CREATE INDEX x402_executions_calls ON x402_executions (caller_id, created_at)
    WHERE caller_id IS NOT NULL;
-- Claims that came to nothing, which are thrown away after a day.
CREATE INDEX x402_executions_unsold ON x402_executions (ended_at)
    WHERE kind = 'paid' AND state = 'released' AND opened_at IS NULL;

-- Who is at work. A worker unseen for 15 s is gone, and its rows are anybody's.
CREATE TABLE x402_workers (
    id TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
) STRICT;

CREATE TABLE x402_answers (
    execution_id TEXT PRIMARY KEY REFERENCES x402_executions (id),
    sealed_answer TEXT NOT NULL
) STRICT;

-- A path is one character a step, so that text order is depth first and a subtree is a range: 0 for
-- the plan, 1 to 6 for subtasks, a to f for the context children -1 to -6. A plan is one step
-- deeper than the deepest tile.
CREATE TABLE tiles (
    user_id TEXT NOT NULL,
    group_id INTEGER NOT NULL CHECK (group_id >= 0),
    path TEXT NOT NULL CHECK (length(path) <= 101 AND path NOT GLOB '*[^0-6a-f]*'),
    title TEXT NOT NULL,
    visibility TEXT NOT NULL CHECK (visibility IN ('private', 'public')),
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    preview TEXT NOT NULL,
    -- The steps and how far they are, as JSON.
    hexplan TEXT,
    -- Last, because it is long: what is behind it would cost reading all of it.
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, group_id, path),
    CHECK ((substr(path, -1) = '0') = (hexplan IS NOT NULL)),
    CHECK (hexplan IS NULL OR visibility = 'private')
) STRICT;

-- Who may call. What a caller shows rests nowhere: only its HMAC does, made with the sealed pepper.
CREATE TABLE x402_peppers (
    name TEXT PRIMARY KEY,
    sealed_pepper TEXT NOT NULL
) STRICT;

CREATE TABLE x402_sessions (
    digest TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES profiles (id),
    renewed_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX x402_sessions_expiry ON x402_sessions (expires_at);

CREATE TABLE x402_api_keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES profiles (id),
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at REAL NOT NULL,
    last_used_at REAL,
    expires_at REAL
) STRICT;
CREATE INDEX x402_api_keys_owner ON x402_api_keys (user_id, created_at);

-- One for each account and purpose; a new one takes its row.
CREATE TABLE x402_internal_api_keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES profiles (id),
    purpose TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    sealed_key TEXT NOT NULL,
    created_at REAL NOT NULL,
    last_used_at REAL,
    expires_at REAL,
    UNIQUE (user_id, purpose)
) STRICT;
