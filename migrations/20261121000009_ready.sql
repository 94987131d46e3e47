-- What a server asks of its database every few seconds: is it there, how far is it migrated, does it take writes?
-- May be applied again.

-- Every later migration makes this function anew, with its own version in it.
-- (Volatile, so that PostgREST does not open a transaction that is read-only of itself.)
create or replace function public.x402_ready() returns text
language sql volatile set search_path = '' as $$
    select pg_catalog.json_build_object(
        'schema', '20261121000009',
        'writable', pg_catalog.current_setting('transaction_read_only') = 'off'
    )::text
$$;

select public.x402_lock_up();
