-- Who may look, and who may ask. The server alone, which comes as service_role: everything in these tables is a
-- secret, money, or somebody's own, and the doors that show a part of it are the server's. May be applied again.

-- Shuts the doors of these tables, of every view and every function whose name begins with x402_. A later migration
-- that adds a table, a view or a function ends with
--
--     select public.x402_lock_up('the_new_table');
--
-- (without a name where it adds no table): what a migration makes, Supabase opens to everybody.
create or replace function public.x402_lock_up(variadic tables text[] default '{}') returns void
language plpgsql volatile set search_path = '' as $$
declare
    each_table text;
    each_one text;
begin
    foreach each_table in array tables loop
        execute format('alter table public.%I enable row level security', each_table);
        -- No policy is what lets nobody in; service_role asks none.
        for each_one in
            select polname from pg_catalog.pg_policy
            where polrelid = pg_catalog.to_regclass(format('public.%I', each_table))
        loop
            execute format('drop policy %I on public.%I', each_one, each_table);
        end loop;
        execute format('revoke all on table public.%I from public, anon, authenticated', each_table);
        execute format('grant select, insert, update, delete on table public.%I to service_role', each_table);
    end loop;
    for each_one in
        select oid::regclass::text from pg_catalog.pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('v', 'm') and starts_with(relname, 'x402_')
    loop
        execute format('revoke all on table %s from public, anon, authenticated', each_one);
        execute format('grant select on table %s to service_role', each_one);
    end loop;
    for each_one in
        select oid::regprocedure::text from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace and starts_with(proname, 'x402_') and proname <> 'x402_lock_up'
    loop
        execute format('revoke all on routine %s from public, anon, authenticated', each_one);
        execute format('grant execute on routine %s to service_role', each_one);
    end loop;
end $$;
-- Whoever owns the tables may lock them, and nobody can ask it from outside.
revoke all on function public.x402_lock_up(text[]) from public, anon, authenticated, service_role;

grant usage on schema public to service_role;

-- The origin let its users read their own sealed Claude key here. Now nobody does: who wants another key sets one.
select public.x402_lock_up(
    'x402_servers', 'x402_resources', 'x402_user_claude_configs',
    'x402_payout_addresses', 'x402_executions', 'x402_workers', 'x402_answers', 'tiles',
    'x402_peppers', 'x402_sessions', 'x402_api_keys', 'x402_internal_api_keys'
);

-- Profiles that somebody else's policies show, as the origin's do, go on being shown.
do $$
begin
    if exists (select from pg_catalog.pg_policy where polrelid = 'public.profiles'::regclass) then
        alter table public.profiles enable row level security;
        grant select, insert, update, delete on table public.profiles to service_role;
    else
        perform public.x402_lock_up('profiles');
    end if;
end $$;
