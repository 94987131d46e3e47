-- The tables of x402jobs. From an empty database this makes them all; where the origin service has its own, they
-- stay as they are and get what they lack. May be applied again at any time.
--
-- Money is micro-USDC (in the origin's tables, numeric USDC), times are unix seconds (in the origin's, timestamptz),
-- sealed columns hold `v1.<key id>.<…>`, or what the origin service wrote.

-- Supabase has these roles; any other Postgres is given them, so that there is one way to lock the doors.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            execute format('create role %I nologin noinherit', wanted);
            if wanted = 'service_role' then
                alter role service_role bypassrls;
            end if;
        end if;
    end loop;
end $$;

-- `tiles` is a word that others use too.
do $$
begin
    if to_regclass('public.tiles') is not null and not exists (
        select from pg_catalog.pg_attribute
        where attrelid = to_regclass('public.tiles') and attname = 'hexplan' and not attisdropped
    ) then
        raise exception using errcode = 'duplicate_table', table = 'tiles',
            message = 'There is a table tiles that is not ours. Give it another name, or us another project.';
    end if;
end $$;

-- The origin's tables, with the columns we use and those it demands.

create table if not exists public.profiles (
    id uuid primary key,
    -- Null until its owner has chosen one. Ours are lower-case.
    username text unique,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
-- Supabase's own examples have a table of this name that lacks some of it.
alter table public.profiles add column if not exists username text unique;
alter table public.profiles add column if not exists created_at timestamptz not null default now();
alter table public.profiles add column if not exists deleted_at timestamptz;
-- A name is part of a shop's address, in any letter case. Where two differ in nothing else already, they stay.
do $$
begin
    create unique index if not exists profiles_username_lower on public.profiles (lower(username collate "C"));
exception when unique_violation then
    raise warning 'Some usernames differ in letter case alone. They stay; see docs/supabase.md.';
    create index if not exists profiles_username_lower on public.profiles (lower(username collate "C"));
end $$;

create table if not exists public.x402_servers (
    id uuid primary key default gen_random_uuid(),
    origin_url text not null unique,
    name text not null,
    registered_by uuid,
    is_hosted boolean not null default false,
    created_at timestamptz not null default now()
);
create index if not exists x402_servers_owner on public.x402_servers (registered_by, created_at);

create table if not exists public.x402_resources (
    id uuid primary key default gen_random_uuid(),
    server_id uuid references public.x402_servers (id) on delete set null,
    registered_by uuid,
    slug text,
    resource_url text not null,
    normalized_url text not null,
    network text not null,
    name text not null,
    description text,
    pay_to text not null,
    max_amount_required text,
    price_usdc numeric(10, 6) default 0.01,
    resource_type text not null default 'external',
    is_active boolean not null default true,
    pt_system_prompt text,
    pt_parameters jsonb default '[]',
    pt_model varchar(100) default 'claude-sonnet-4-20250514',
    pt_max_tokens integer default 4096
        check (pt_max_tokens is null or pt_max_tokens between 1 and 8192),
    pt_allows_user_message boolean default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
-- Where the origin's network column is checked, it must know of our networks too.
do $$
declare
    rule record;
begin
    for rule in
        select conname from pg_catalog.pg_constraint
        where conrelid = 'public.x402_resources'::regclass and contype = 'c'
            and pg_catalog.pg_get_constraintdef(oid) like '%solana-devnet%'
            and pg_catalog.pg_get_constraintdef(oid) not like '%eip155%'
    loop
        execute format('alter table public.x402_resources drop constraint %I', rule.conname);
    end loop;
    if not exists (
        select from pg_catalog.pg_constraint
        where conrelid = 'public.x402_resources'::regclass and conname = 'x402_resources_network'
    ) then
        alter table public.x402_resources add constraint x402_resources_network check (network in (
            'solana', 'base', 'ethereum', 'polygon', 'base-sepolia', 'ethereum-sepolia', 'solana-devnet', 'avalanche'
        ) or network ~ '^eip155:[1-9][0-9]*$');
    end if;
end $$;
alter table public.x402_resources add column if not exists version integer not null default 1;
-- The origin service deletes by switching off. With us what is off is paused, and what is deleted says so.
do $$
begin
    if not exists (
        select from pg_catalog.pg_attribute
        where attrelid = 'public.x402_resources'::regclass and attname = 'deleted_at' and not attisdropped
    ) then
        alter table public.x402_resources add column deleted_at timestamptz;
        update public.x402_resources set deleted_at = coalesce(updated_at, now()) where is_active is not true;
    end if;
    if not exists (
        select from pg_catalog.pg_constraint
        where conrelid = 'public.x402_resources'::regclass and conname = 'x402_resources_deleted'
    ) then
        alter table public.x402_resources add constraint x402_resources_deleted
            check (deleted_at is null or is_active is not true);
    end if;
end $$;
create index if not exists x402_resources_place on public.x402_resources (server_id, slug);
-- Deleting a template frees its slug and keeps its row: sales point at it. A paused one keeps both.
create unique index if not exists x402_resources_kept_slug on public.x402_resources (server_id, slug)
    where slug is not null and deleted_at is null;

create table if not exists public.x402_user_claude_configs (
    user_id uuid primary key references public.profiles (id) on delete cascade,
    api_key_encrypted text not null,
    is_enabled boolean default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Ours alone, from here on.

create table if not exists public.x402_payout_addresses (
    user_id uuid primary key references public.profiles (id) on delete cascade,
    base_address text not null
);

create table if not exists public.x402_executions (
    id text primary key,
    kind text not null check (kind in ('paid', 'free', 'owner_test', 'task')),
    state text not null check (state in (
        'claimed', 'settling', 'settled', 'completed', 'refund_due', 'refunded', 'released'
    )),
    attempt integer not null,
    worker text not null,
    claim_key text unique,
    -- A task has a tile instead, by its coordinates.
    template_id uuid references public.x402_resources (id),
    template_version integer,
    tile text,
    digest text not null,
    -- The account that was signed in, if any; a payer needs none.
    caller_id text,
    payer text,
    network text,
    amount bigint not null check (amount >= 0),
    valid_before bigint,
    transaction text,
    -- Where in the transaction the transfer is, when a chain has told.
    log_index bigint,
    -- Where a debt was paid out, as its operator has told.
    refund_transaction text,
    reruns integer not null default 0 check (reruns between 0 and 3),
    model text,
    usage jsonb,
    stop_reason text,
    code text,
    created_at double precision not null,
    verified_at double precision,
    opened_at double precision,
    settled_at double precision,
    ended_at double precision,
    -- What recovery needs to ask again; erased at the ending.
    sealed_payment text,
    -- Who was given the row and may not have heard of it: a claim by the id it came with, else the worker that has
    -- taken it over. Null from the first step on.
    taken_by text,
    check (kind <> 'paid' or (
        claim_key is not null and payer is not null and network is not null and amount > 0
    )),
    check (state not in ('settled', 'refund_due', 'refunded') or transaction is not null),
    check (kind <> 'paid' or state <> 'completed' or transaction is not null),
    check ((kind = 'task') = (tile is not null) and (kind <> 'task' or caller_id is not null)),
    check (kind = 'task' or (template_id is not null and template_version is not null))
);
-- Nobody runs the same tile twice at once.
create unique index if not exists x402_executions_task on public.x402_executions (caller_id, tile)
    where kind = 'task' and state = 'claimed';
-- One transfer pays for one execution.
create unique index if not exists x402_executions_transfer
    on public.x402_executions (network, transaction, log_index) where log_index is not null;
create index if not exists x402_executions_open on public.x402_executions (worker)
    where state in ('claimed', 'settling', 'settled');
create index if not exists x402_executions_sales on public.x402_executions (template_id, created_at);
create index if not exists x402_executions_calls on public.x402_executions (caller_id, created_at)
    where caller_id is not null;

-- Who is at work. A worker unseen for 15 s is gone, and its rows are anybody's.
create table if not exists public.x402_workers (
    id text primary key,
    seen_at double precision not null
);

create table if not exists public.x402_answers (
    execution_id text primary key references public.x402_executions (id),
    sealed_answer text not null
);

-- A path is one character a step, so that byte order is depth first and a subtree is a range: 0 for the plan, 1 to 6
-- for subtasks, a to f for the context children -1 to -6. A plan is one step deeper than the deepest tile.
create table if not exists public.tiles (
    user_id text not null,
    group_id bigint not null check (group_id >= 0),
    path text collate "C" not null check (length(path) <= 101 and path ~ '^[0-6a-f]*$'),
    title text not null,
    visibility text not null check (visibility in ('private', 'public')),
    created_at double precision not null,
    updated_at double precision not null,
    preview text not null,
    -- The steps and how far they are, as JSON.
    hexplan text,
    content text not null,
    primary key (user_id, group_id, path),
    check ((right(path, 1) = '0') = (hexplan is not null)),
    check (hexplan is null or visibility = 'private')
);

-- Who may call. What a caller shows rests nowhere: only its HMAC does, made with the sealed pepper.
create table if not exists public.x402_peppers (
    name text primary key,
    sealed_pepper text not null
);

create table if not exists public.x402_sessions (
    digest text primary key,
    user_id uuid not null references public.profiles (id) on delete cascade,
    renewed_at double precision not null,
    expires_at double precision not null
);
create index if not exists x402_sessions_expiry on public.x402_sessions (expires_at);

create table if not exists public.x402_api_keys (
    id text primary key,
    user_id uuid not null references public.profiles (id) on delete cascade,
    name text not null,
    digest text not null,
    created_at double precision not null,
    last_used_at double precision,
    expires_at double precision
);
create index if not exists x402_api_keys_owner on public.x402_api_keys (user_id, created_at);

-- One for each account and purpose; a new one takes its row.
create table if not exists public.x402_internal_api_keys (
    id text primary key,
    user_id uuid not null references public.profiles (id) on delete cascade,
    purpose text not null,
    digest text not null unique,
    sealed_key text not null,
    created_at double precision not null,
    last_used_at double precision,
    expires_at double precision,
    unique (user_id, purpose)
);

-- Shut before anything is in them: Supabase opens to everybody what a migration makes. Who may what is said in the last
-- of these files.
alter table public.profiles enable row level security;
alter table public.x402_servers enable row level security;
alter table public.x402_resources enable row level security;
alter table public.x402_user_claude_configs enable row level security;
alter table public.x402_payout_addresses enable row level security;
alter table public.x402_executions enable row level security;
alter table public.x402_workers enable row level security;
alter table public.x402_answers enable row level security;
alter table public.tiles enable row level security;
alter table public.x402_peppers enable row level security;
alter table public.x402_sessions enable row level security;
alter table public.x402_api_keys enable row level security;
alter table public.x402_internal_api_keys enable row level security;

-- What the functions below share.

-- The id in a text; null where it is none, which finds nothing.
create or replace function public.x402_uuid(given text) returns uuid
language sql immutable set search_path = '' as $$
    select case when lower(given) ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then given::uuid end
$$;

-- The database's clock, in unix seconds.
create or replace function public.x402_now() returns double precision
language sql volatile set search_path = '' as $$
    select extract(epoch from pg_catalog.clock_timestamp())::double precision
$$;

-- Whoever stores something, or is given something, has an account, although perhaps no name yet.
create or replace function public.x402_know(user_id uuid) returns void
language sql volatile set search_path = '' as $$
    insert into public.profiles (id) values (user_id) on conflict do nothing
$$;
