-- The operator's view: what must never be in the ledger, what is in it, and every sealed value. May be applied again at
-- any time.
--
-- Whose template an execution ran is x402_templates' to say, which comes with the catalogue: plpgsql looks a name up
-- when it is used, and so these may be there first.

-- How many executions there are, and by invariant (x402jobs/domain/invariants.py) the ids of the rows that break it.
--
-- One statement, and so all of it as of one moment. None of this trusts a constraint: a restored or repaired database
-- may have lost it.
create or replace function public.x402_findings(opening_seconds double precision, run_seconds double precision)
returns text
-- PostgREST gives the whole request this long; the database's own limit would be a few seconds.
language sql stable set search_path = '' set statement_timeout = '60s' as $$
    with moment as materialized (
        select public.x402_now() as now
    ), broken (rule, id) as (
        select 'words_known', e.id from public.x402_executions e
        where e.kind not in ('paid', 'free', 'owner_test', 'task') or e.state not in (
            'claimed', 'settling', 'settled', 'completed', 'refund_due', 'refunded', 'released'
        )

        -- Keys and hashes are hex: what differs by letter case alone is the same.
        union all
        select 'one_row_per_claim', e.id from (
            select id, count(*) over (partition by lower(claim_key)) as sharing
            from public.x402_executions where claim_key is not null
        ) e where e.sharing > 1

        -- Without a chain there is no log index, and then a transaction alone names the transfer.
        union all
        select 'one_row_per_transfer', e.id from (
            select id, count(*) over (partition by lower(network), lower(transaction), log_index) as sharing
            from public.x402_executions where transaction is not null
        ) e where e.sharing > 1

        union all
        select 'paid_has_claim', e.id from public.x402_executions e
        where e.kind = 'paid' and (e.claim_key is null or e.payer is null or e.network is null)

        union all
        select 'paid_has_transfer', e.id from public.x402_executions e
        where e.kind = 'paid' and e.state in ('settled', 'completed', 'refund_due', 'refunded')
            and (e.transaction is null or e.amount is null or e.amount <= 0 or e.settled_at is null)

        union all
        select 'unpaid_moves_nothing', e.id from public.x402_executions e
        where e.kind <> 'paid' and (
            e.claim_key is not null or e.transaction is not null or e.amount <> 0
            or (e.state not in ('completed', 'released') and not (e.kind = 'task' and e.state = 'claimed'))
        )

        union all
        select 'task_has_tile', e.id from public.x402_executions e
        where (e.kind = 'task') <> (e.tile is not null) or (e.kind = 'task' and e.caller_id is null)

        union all
        select 'one_run_per_tile', e.id from (
            select id, count(*) over (partition by caller_id, tile) as sharing
            from public.x402_executions where kind = 'task' and state = 'claimed'
        ) e where e.sharing > 1

        union all
        select 'claimed_ends', e.id from public.x402_executions e, moment
        where e.state = 'claimed'
            and e.created_at < moment.now - 120 - case e.kind when 'task' then run_seconds else opening_seconds end
            and not exists (
                select from public.x402_workers w where w.id = e.worker and w.seen_at >= moment.now - 15
            )

        union all
        select 'settling_ends', e.id from public.x402_executions e, moment
        where e.state = 'settling' and coalesce(e.valid_before, 0) < moment.now - 120

        -- A re-run has kept the time it was settled at, and begins when it is asked for.
        union all
        select 'settled_ends', e.id from public.x402_executions e, moment
        where e.state = 'settled' and greatest(e.created_at, e.settled_at) < moment.now - run_seconds - 120

        union all
        select 'settling_has_payment', e.id from public.x402_executions e
        where e.state = 'settling' and e.sealed_payment is null

        union all
        select 'payment_erased', e.id from public.x402_executions e
        where e.state not in ('settling', 'settled') and e.sealed_payment is not null

        union all
        select 'answer_kept', e.id from public.x402_executions e, moment
        where e.kind in ('paid', 'task') and e.state = 'completed'
            and coalesce(e.ended_at, e.created_at) >= moment.now - 86400
            and not exists (select from public.x402_answers a where a.execution_id = e.id)

        union all
        select 'answer_was_bought', a.execution_id from public.x402_answers a
        where not exists (
            select from public.x402_executions e
            where e.id = a.execution_id and e.kind in ('paid', 'task') and e.state = 'completed'
        )

        union all
        select 'completed_is_whole', e.id from public.x402_executions e
        where e.state = 'completed'
            and (e.model is null or e.usage is null or e.stop_reason is null or e.ended_at is null)

        union all
        select 'reruns_in_range', e.id from public.x402_executions e where e.reruns not between 0 and 3

        union all
        select 'attempts_count_reruns', e.id from public.x402_executions e
        where e.attempt < 1 + greatest(e.reruns, 0)

        union all
        select 'released_unpaid', e.id from public.x402_executions e
        where e.kind = 'paid' and e.state = 'released' and e.transaction is not null

        union all
        select 'refund_noted', e.id from public.x402_executions e
        where (e.state = 'refunded') <> (e.refund_transaction is not null)

        -- As texts, which a column of another type has too. The origin lets a price be null, and what it sells otherwise
        -- is not ours to judge.
        union all
        select 'money_is_integer', e.id from public.x402_executions e
        where coalesce(e.amount::text, '') !~ '^[0-9]+$'

        union all
        select 'money_is_integer', r.id::text from public.x402_resources r
        where r.resource_type = 'prompt_template'
            and r.price_usdc::text !~ '^[0-9]+(\.[0-9]{1,6}0*)?$'

        union all
        select 'template_exists', e.id from public.x402_executions e
        where e.kind <> 'task' and not exists (select from public.x402_resources r where r.id = e.template_id)
    )
    select jsonb_build_object(
        'executions', (select count(*) from public.x402_executions),
        'broken', (
            select coalesce(jsonb_object_agg(b.rule, b.ids), '{}')
            from (select rule, jsonb_agg(id order by id) as ids from broken group by rule) b
        )
    )::text
$$;

-- Every paid row of a network that is in a state we know, oldest first.
create or replace function public.x402_paid_on(on_network text) returns text
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(public.x402_shown(e) order by e.created_at, e.id), '[]')::text
    from public.x402_executions e
    where e.kind = 'paid' and e.network = on_network and e.state in (
        'claimed', 'settling', 'settled', 'completed', 'refund_due', 'refunded', 'released'
    )
$$;

-- The payout addresses of all creators.
create or replace function public.x402_payouts() returns text
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(lower(base_address)), '[]')::text from public.x402_payout_addresses
$$;

-- The newest executions: all, or those in a state, or of a creator's slug, which several templates may have had.
create or replace function public.x402_entries(in_state text, of_username text, of_slug text, at_most integer)
returns text
language plpgsql stable set search_path = '' as $$
begin
    return (
        with found as (
            select e.id, e.created_at, t.username, t.slug from public.x402_executions e
            left join public.x402_templates t on t.id = e.template_id
            where (in_state is null or e.state = in_state)
                and (of_slug is null or (lower(t.username collate "C") = lower(of_username collate "C") and t.slug = of_slug))
        ), shown as (
            select * from found order by created_at desc, id limit at_most
        )
        select jsonb_build_object(
            'total', (select count(*) from found),
            'items', (
                select coalesce(jsonb_agg(
                    jsonb_build_object('execution', public.x402_shown(e), 'username', s.username, 'slug', s.slug)
                    order by s.created_at desc, s.id
                ), '[]')
                from shown s join public.x402_executions e on e.id = s.id
            )
        )::text
    );
end $$;

create or replace function public.x402_entry(of_execution text) returns text
language plpgsql stable set search_path = '' as $$
begin
    return (
        select jsonb_build_object('execution', public.x402_shown(e), 'username', t.username, 'slug', t.slug)::text
        from public.x402_executions e
        left join public.x402_templates t on t.id = e.template_id
        where e.id = of_execution
    );
end $$;

-- Whether there is a template of this creator's and slug, a deleted one included.
create or replace function public.x402_has_template(of_username text, of_slug text) returns text
language plpgsql stable set search_path = '' as $$
begin
    return exists (
        select from public.x402_templates t where lower(t.username collate "C") = lower(of_username collate "C") and t.slug = of_slug
    );
end $$;

-- Every sealed column there is: how its rows are told apart, what stands for a row's id in a question, and whose value
-- it is. Only what stands here comes into a statement below; any other name is refused.
--
-- A prompt is bound to whoever sells it, which the catalogue knows; one that nobody can sell, to whoever it is said to
-- be of, so that it is looked at too.
create or replace function public.x402_sealed_column(
    in_table text, in_column text, out row_name text, out row_id text, out owner text
)
language plpgsql immutable set search_path = '' as $$
begin
    select s.row_name, s.row_id, s.owner into row_name, row_id, owner
    from (values
        ('x402_user_claude_configs', 'api_key_encrypted', 'user_id', 'public.x402_uuid(%s)', 'user_id::text'),
        ('x402_resources', 'pt_system_prompt', 'id', 'public.x402_uuid(%s)', 'coalesce((
            select t.owner from public.x402_templates t where t.id = x402_resources.id
        ), registered_by)::text'),
        ('x402_executions', 'sealed_payment', 'id', '%s', 'id'),
        ('x402_answers', 'sealed_answer', 'execution_id', '%s', 'execution_id'),
        ('x402_internal_api_keys', 'sealed_key', 'id', '%s', 'id'),
        ('x402_peppers', 'sealed_pepper', 'name', '%s', 'name')
    ) as s (in_table, in_column, row_name, row_id, owner)
    where s.in_table = x402_sealed_column.in_table and s.in_column = x402_sealed_column.in_column;
    if not found then
        raise exception 'no sealed column' using errcode = 'invalid_parameter_value';
    end if;
end $$;

-- The next sealed values in the order of their rows' ids.
create or replace function public.x402_sealed_page(in_table text, in_column text, behind text, at_most integer)
returns text
language plpgsql stable set search_path = '' as $$
declare
    place record := public.x402_sealed_column(in_table, in_column);
    page text;
begin
    execute format(
        $sql$
        select coalesce(jsonb_agg(jsonb_build_object('row', s.row_id, 'owner', s.owner, 'sealed', s.sealed)
            order by s.row_id), '[]')::text
        from (
            select %2$I as row_id, coalesce(%3$s, '') as owner, %4$I as sealed from public.%1$I
            where %4$I is not null and ($1 = '' or %2$I > %5$s) order by %2$I limit $2
        ) s
        $sql$,
        in_table, place.row_name, place.owner, in_column, format(place.row_id, '$1')
    ) into page using behind, at_most;
    return page;
end $$;

-- How many rows hold their new text: those that still held the text it was made from.
--
-- `fresh` is a JSON list of {row, before, after}.
create or replace function public.x402_sealed_replace(in_table text, in_column text, fresh text, again boolean)
returns text
language plpgsql volatile set search_path = '' as $$
declare
    place record := public.x402_sealed_column(in_table, in_column);
    replaced integer;
begin
    if exists (select from jsonb_to_recordset(fresh::jsonb) as f (after text) where f.after is null) then
        raise exception 'nothing in the place of a sealed value' using errcode = 'null_value_not_allowed';
    end if;
    execute format(
        $sql$
        update public.%1$I s set %2$I = f.after
        from jsonb_to_recordset($1::jsonb) as f ("row" text, before text, after text)
        where s.%3$I = %4$s and s.%2$I = f.before
        $sql$,
        in_table, in_column, place.row_name, format(place.row_id, 'f."row"')
    ) using fresh;
    get diagnostics replaced = row_count;
    -- A statement of its own: the earlier try may have been at work until the update above had waited for it.
    if again then
        execute format(
            $sql$
            select count(*) from public.%1$I s
            join jsonb_to_recordset($1::jsonb) as f ("row" text, after text) on s.%3$I = %4$s
            where s.%2$I = f.after
            $sql$,
            in_table, in_column, place.row_name, format(place.row_id, 'f."row"')
        ) into replaced using fresh;
    end if;
    return replaced::text;
end $$;
