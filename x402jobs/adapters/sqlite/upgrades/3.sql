-- From the second schema to the third: tasks.

CREATE TABLE x402_executions_3 (
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
INSERT INTO x402_executions_3 (
    id, kind, state, attempt, worker, claim_key, template_id, template_version, tile, digest, caller_id,
    payer, network, amount, valid_before, "transaction", log_index, refund_transaction, reruns, model, usage,
    stop_reason, code, created_at, verified_at, opened_at, settled_at, ended_at, sealed_payment
) SELECT
    id, kind, state, attempt, worker, claim_key, template_id, template_version, NULL, digest, caller_id,
    payer, network, amount, valid_before, "transaction", log_index, refund_transaction, reruns, model, usage,
    stop_reason, code, created_at, verified_at, opened_at, settled_at, ended_at, sealed_payment
FROM x402_executions;
DROP TABLE x402_executions;
ALTER TABLE x402_executions_3 RENAME TO x402_executions;
-- Nobody runs the same tile twice at once.
CREATE UNIQUE INDEX x402_executions_task ON x402_executions (caller_id, tile)
    WHERE kind = 'task' AND state = 'claimed';

-- One transfer pays for one execution.
CREATE UNIQUE INDEX x402_executions_transfer
    ON x402_executions (network, "transaction", log_index) WHERE log_index IS NOT NULL;
CREATE INDEX x402_executions_open ON x402_executions (worker)
    WHERE state IN ('claimed', 'settling', 'settled');
CREATE INDEX x402_executions_sales ON x402_executions (template_id, created_at);
CREATE INDEX x402_executions_calls ON x402_executions (caller_id, created_at)
    WHERE caller_id IS NOT NULL;

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
