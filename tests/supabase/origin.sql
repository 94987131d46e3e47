-- A project on which the origin service lives: accounts, and its tables as far as they matter to us.

create schema auth;
create table auth.users (id uuid primary key, email text unique);

create function public.touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;

create table public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    username text unique,
    display_name text,
    avatar_url text,
    bio text,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    deleted_at timestamptz
);
create index idx_profiles_username on public.profiles (username);
create trigger profiles_touch before update on public.profiles
    for each row execute function public.touch();
alter table public.profiles enable row level security;
create policy "profiles are public" on public.profiles for select using (true);
create policy "own profile" on public.profiles for update using (id::text = current_setting('request.sub', true));

create table public.x402_servers (
    id uuid primary key default gen_random_uuid(),
    origin_url text not null unique,
    name text not null,
    slug text,
    description text,
    registered_by uuid references auth.users (id) on delete set null,
    verified_owner_id uuid references auth.users (id) on delete set null,
    is_hosted boolean default false,
    resource_count integer default 0,
    total_calls integer default 0,
    discovered_via text check (discovered_via in ('manual', 'bazaar', 'onchain')),
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create unique index idx_servers_slug on public.x402_servers (slug) where slug is not null;
create index idx_servers_registered_by on public.x402_servers (registered_by);
alter table public.x402_servers enable row level security;

create table public.x402_resources (
    id uuid primary key default gen_random_uuid(),
    server_id uuid references public.x402_servers (id) on delete set null,
    slug text,
    resource_url text not null,
    normalized_url text not null,
    network text not null,
    name text not null,
    description text,
    category text,
    avatar_url text,
    mime_type text,
    pay_to text not null,
    max_amount_required text,
    price_usdc numeric(10, 6) default 0.01,
    platform_fee_percent numeric(5, 4) default 0.10,
    resource_type text not null default 'external',
    registered_by uuid references auth.users (id) on delete set null,
    verified_owner_id uuid references auth.users (id) on delete set null,
    is_active boolean default true,
    is_verified boolean default false,
    call_count integer default 0,
    total_earned_usdc numeric(20, 6) default 0,
    supports_refunds boolean default false,
    pt_system_prompt text,
    pt_parameters jsonb default '[]',
    pt_model varchar(100) default 'claude-sonnet-4-20250514',
    pt_max_tokens integer default 4096,
    pt_allows_user_message boolean default false,
    proxy_origin_url text,
    static_content text,
    display_path text,
    search_vector tsvector,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    constraint x402_resources_network_check check (network in (
        'solana', 'base', 'ethereum', 'polygon', 'base-sepolia', 'ethereum-sepolia', 'solana-devnet'
    )),
    constraint x402_resources_type_check check (resource_type in (
        'external', 'proxy', 'prompt', 'static', 'prompt_template', 'openrouter_instant'
    )),
    constraint x402_resources_pt_max_tokens_check check (
        pt_max_tokens is null or (pt_max_tokens >= 1 and pt_max_tokens <= 8192)
    ),
    unique (normalized_url, network)
);
create unique index idx_resources_server_slug on public.x402_resources (server_id, slug)
    where slug is not null and is_active;
alter table public.x402_resources enable row level security;

create function public.describe_resource() returns trigger language plpgsql as $$
begin
    new.display_path := (select s.slug from public.x402_servers s where s.id = new.server_id) || '/' || new.slug;
    new.search_vector := setweight(to_tsvector('english', coalesce(new.name, '')), 'A')
        || setweight(to_tsvector('english', coalesce(new.description, '')), 'B');
    return new;
end $$;
create trigger resources_described before insert or update on public.x402_resources
    for each row execute function public.describe_resource();

create function public.count_resources() returns trigger language plpgsql as $$
begin
    update public.x402_servers set resource_count = resource_count + 1 where id = new.server_id;
    return null;
end $$;
create trigger resources_counted after insert on public.x402_resources
    for each row execute function public.count_resources();

create view public.public_x402_resources with (security_invoker = true) as
select id, server_id, slug, name, description, network, price_usdc, pt_parameters, pt_model
from public.x402_resources where is_active;

create table public.x402_user_claude_configs (
    user_id uuid primary key references auth.users (id) on delete cascade,
    api_key_encrypted text not null,
    is_enabled boolean default true,
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create index idx_claude_enabled on public.x402_user_claude_configs (user_id, is_enabled);
create trigger claude_configs_touch before update on public.x402_user_claude_configs
    for each row execute function public.touch();
alter table public.x402_user_claude_configs enable row level security;
create policy "own key" on public.x402_user_claude_configs
    using (user_id::text = current_setting('request.sub', true));
create policy "service" on public.x402_user_claude_configs to service_role using (true);

create table public.x402_prompt_template_usage_logs (
    id uuid primary key default gen_random_uuid(),
    template_id uuid not null references public.x402_resources (id) on delete cascade,
    caller_id uuid not null references auth.users (id) on delete cascade,
    status text check (status in ('success', 'failed')),
    amount_paid numeric(10, 6),
    created_at timestamptz default now()
);
alter table public.x402_prompt_template_usage_logs enable row level security;

-- Who lives there. `orla` sells, `paul` has left, `quin` was deleted altogether, `Vera` has a capital letter.

insert into auth.users (id, email) values
    ('0a000000-0000-4000-8000-000000000001', 'orla@example.org'),
    ('0a000000-0000-4000-8000-000000000002', 'paul@example.org'),
    ('0a000000-0000-4000-8000-000000000003', 'quin@example.org'),
    ('0a000000-0000-4000-8000-000000000004', 'vera@example.org');
insert into public.profiles (id, username, display_name, deleted_at) values
    ('0a000000-0000-4000-8000-000000000001', 'orla', 'Orla', null),
    ('0a000000-0000-4000-8000-000000000002', 'paul', 'Paul', '2026-05-01'),
    ('0a000000-0000-4000-8000-000000000003', 'quin', 'Quin', null),
    ('0a000000-0000-4000-8000-000000000004', 'Vera', 'Vera', null);

insert into public.x402_servers (id, origin_url, name, slug, registered_by, is_hosted, discovered_via, created_at) values
    ('0b000000-0000-4000-8000-000000000001', 'https://x402.jobs/@orla', 'orla', 'orla',
        '0a000000-0000-4000-8000-000000000001', true, null, '2026-02-01'),
    ('0b000000-0000-4000-8000-000000000002', 'https://x402.jobs/@orla/second', 'orla again', 'orla-again',
        '0a000000-0000-4000-8000-000000000001', true, null, '2026-03-01'),
    ('0b000000-0000-4000-8000-000000000003', 'https://elsewhere.example', 'found', null,
        '0a000000-0000-4000-8000-000000000001', false, 'bazaar', '2026-01-01'),
    ('0b000000-0000-4000-8000-000000000004', 'https://x402.jobs/@paul', 'paul', 'paul',
        '0a000000-0000-4000-8000-000000000002', true, null, '2026-02-01'),
    ('0b000000-0000-4000-8000-000000000005', 'https://x402.jobs/@quin', 'quin', 'quin',
        '0a000000-0000-4000-8000-000000000003', true, null, '2026-02-01');

insert into public.x402_resources (
    id, server_id, registered_by, slug, resource_url, normalized_url, network, name, description, pay_to,
    max_amount_required, price_usdc, resource_type, is_active, pt_system_prompt, pt_parameters, updated_at
)
select
    ('0c000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid,
    ('0b000000-0000-4000-8000-' || lpad(server::text, 12, '0'))::uuid,
    (select registered_by from public.x402_servers
        where id = ('0b000000-0000-4000-8000-' || lpad(server::text, 12, '0'))::uuid),
    slug, 'https://api.x402.jobs/' || number, 'api.x402.jobs/' || number, 'base', name, null,
    '0x00000000000000000000000000000000000AdA00', '29000', 0.029, resource_type, is_active,
    case when resource_type = 'prompt_template' then 'You are ' || name || '. Topic: {topic}{/topic}.' end,
    case when resource_type = 'prompt_template'
        then '[{"name": "topic", "description": "What about", "required": true, "default": ""}]'::jsonb end,
    '2026-04-01'
from (values
    (1, 1, 'poet', 'the poet', 'prompt_template', true),
    (2, 1, 'retired', 'a retired poet', 'prompt_template', false),
    (3, 1, 'relay', 'a relay', 'proxy', true),
    (4, 1, 'notes', 'static notes', 'static', true),
    (5, 1, 'parrot', 'another model', 'openrouter_instant', true),
    (6, 2, 'poet', 'the newer server''s poet', 'prompt_template', true),
    (7, 2, 'stranded', 'on the newer server alone', 'prompt_template', true),
    (8, 3, null, 'somebody''s api', 'external', true),
    (9, 3, 'unhosted', 'on no hosted server', 'prompt_template', true),
    (10, 4, 'essay', 'who has left', 'prompt_template', true),
    (11, 5, 'orphan', 'who was deleted', 'prompt_template', true),
    (12, 1, 'bare', 'with nothing said', 'prompt_template', true),
    (13, 1, 'odd', 'without a price that is one', 'prompt_template', true),
    (14, 1, 'unsure', 'neither on nor off', 'prompt_template', null),
    (15, 1, 'reworded', 'to be edited', 'prompt_template', true)
) as given (number, server, slug, name, resource_type, is_active)
order by number;
update public.x402_resources set
    price_usdc = null, pt_model = null, pt_max_tokens = null, pt_allows_user_message = null, pt_parameters = null,
    pt_system_prompt = 'You are terse.'
where slug = 'bare';
update public.x402_resources set price_usdc = 'NaN' where slug = 'odd';
update public.x402_resources set static_content = 'paid for' where slug = 'notes';
update public.x402_resources set proxy_origin_url = 'https://relay.example' where slug = 'relay';

insert into public.x402_prompt_template_usage_logs (template_id, caller_id, status, amount_paid) values
    ('0c000000-0000-4000-8000-000000000001', '0a000000-0000-4000-8000-000000000004', 'success', 0.029);

delete from auth.users where id = '0a000000-0000-4000-8000-000000000003';
