-- What of the ledger waits for somebody: settlements not decided, and debts. May be applied again.

-- Few rows, and looked at every half a minute by every worker.
create index if not exists x402_executions_matters on public.x402_executions (state, created_at)
    where state in ('settling', 'refund_due');

create or replace function public.x402_open_matters() returns text
language sql stable set search_path = '' as $$
    select jsonb_build_object(
        'settling', count(*) filter (where e.state = 'settling'),
        'refund_due', count(*) filter (where e.state = 'refund_due'),
        'oldest_settling_seconds', greatest(
            0, coalesce(public.x402_now() - min(e.created_at) filter (where e.state = 'settling'), 0)
        )
    )::text
    from public.x402_executions e where e.state in ('settling', 'refund_due')
$$;

-- As every migration that comes after it says it.
create or replace function public.x402_ready() returns text
language sql volatile set search_path = '' as $$
    select pg_catalog.json_build_object(
        'schema', '20261121000010',
        'writable', pg_catalog.current_setting('transaction_read_only') = 'off'
    )::text
$$;

select public.x402_lock_up();
