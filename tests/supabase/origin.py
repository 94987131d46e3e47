"""A project that the origin service has been at home in, with what matters to us of its tables."""

ADA = "ada00000-0000-4000-8000-000000000000"
BOB = "b0b00000-0000-4000-8000-000000000000"

AUTH = f"""
    create schema auth;
    create table auth.users (id uuid primary key, email text);
    create function auth.uid() returns uuid language sql stable as
        $$ select (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid $$;
    grant usage on schema auth to anon, authenticated, service_role;
    insert into auth.users values ('{ADA}', 'ada@shop.example'), ('{BOB}', 'bob@shop.example');
"""
"""What Supabase Auth brings, which any project has."""

ORIGIN = f"""
    create table public.profiles (
        id uuid primary key references auth.users on delete cascade,
        username text unique,
        display_name text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
    );
    alter table public.profiles enable row level security;
    create policy "Profiles are shown to everyone" on public.profiles for select using (true);
    create policy "Users add their profile" on public.profiles for insert
        with check (auth.uid() = id);
    create policy "Users change their profile" on public.profiles for update
        using (auth.uid() = id);

    create table public.x402_servers (
        id uuid primary key default gen_random_uuid(),
        origin_url text not null unique,
        name text not null,
        registered_by uuid references auth.users on delete set null,
        is_hosted boolean not null default false,
        created_at timestamptz not null default now()
    );
    alter table public.x402_servers enable row level security;

    create table public.x402_resources (
        id uuid primary key default gen_random_uuid(),
        server_id uuid references public.x402_servers on delete set null,
        registered_by uuid references auth.users on delete set null,
        slug text,
        resource_url text not null,
        normalized_url text not null,
        network text not null check (network in (
            'solana', 'base', 'ethereum', 'polygon', 'base-sepolia', 'ethereum-sepolia',
            'solana-devnet'
        )),
        name text not null,
        description text,
        pay_to text not null,
        max_amount_required text,
        price_usdc numeric(10, 6) default 0.01,
        resource_type text not null default 'external' check (resource_type in (
            'external', 'proxy', 'prompt', 'static', 'prompt_template', 'openrouter_instant'
        )),
        is_active boolean default true,
        call_count integer default 0,
        pt_system_prompt text,
        pt_parameters jsonb default '[]',
        pt_model varchar(100) default 'claude-sonnet-4-20250514',
        pt_max_tokens integer default 4096
            check (pt_max_tokens is null or pt_max_tokens between 1 and 8192),
        pt_allows_user_message boolean default false,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        unique (normalized_url, network)
    );
    create unique index x402_resources_slug on public.x402_resources (server_id, slug)
        where slug is not null and is_active;
    alter table public.x402_resources enable row level security;

    create table public.x402_user_claude_configs (
        user_id uuid primary key references auth.users on delete cascade,
        api_key_encrypted text not null,
        is_enabled boolean default true,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
    );
    alter table public.x402_user_claude_configs enable row level security;
    create policy "Users manage their Claude config" on public.x402_user_claude_configs
        for all using (auth.uid() = user_id);

    -- One that is none of ours, and stays as it is.
    create table public.x402_transactions (id uuid primary key default gen_random_uuid());
    alter table public.x402_transactions enable row level security;
    create policy "Transactions are shown to everyone" on public.x402_transactions
        for select using (true);
    insert into public.x402_transactions default values;

    insert into public.profiles (id, username) values ('{ADA}', 'ada'), ('{BOB}', 'bob');
    insert into public.x402_user_claude_configs values
        ('{ADA}', '00:11'), ('{BOB}', '22:33');
    insert into public.x402_servers (origin_url, name, registered_by, is_hosted)
        values ('https://shop.example/@ada', 'ada', '{ADA}', true);
    insert into public.x402_resources (
        server_id, registered_by, slug, resource_url, normalized_url, network, name, pay_to,
        resource_type, pt_system_prompt
    ) select id, '{ADA}', 'haiku', 'https://shop.example/@ada/haiku', 'shop.example/@ada/haiku',
        'base', 'Haiku', '0xada', 'prompt_template', 'Three lines.' from public.x402_servers;
"""
