-- The ledger: who bought what, how far it got, and the sealed answers. May be applied again at any time.
--
-- An execution comes as JSON text, and goes as JSON text. What repeats a lost question says `again`; it then hears what
-- the first one has heard, or would have.

-- An execution as the service sees it. The payment is handed out by a take-over alone.
create or replace function public.x402_shown(execution public.x402_executions) returns jsonb
language sql stable set search_path = '' as $$
    select to_jsonb(execution) - 'sealed_payment' - 'taken_by'
$$;

-- The row an execution's JSON stands for.
create or replace function public.x402_row(execution text) returns public.x402_executions
language sql stable set search_path = '' as $$
    select jsonb_populate_record(null::public.x402_executions, execution::jsonb)
$$;

-- The row as it now stands, or null while somebody else has it. The unique claim key is the lock.
create or replace function public.x402_claim(execution text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_executions := public.x402_row(execution);
    standing public.x402_executions;
begin
    -- A row that is taken up keeps its own id: by this one a repeated claim knows its row again.
    fresh.taken_by := fresh.id;
    insert into public.x402_executions as e values (fresh.*)
    on conflict (claim_key) do update set
        kind = excluded.kind,
        state = excluded.state,
        attempt = e.attempt + 1,
        worker = excluded.worker,
        template_id = excluded.template_id,
        template_version = excluded.template_version,
        tile = excluded.tile,
        digest = excluded.digest,
        caller_id = excluded.caller_id,
        payer = excluded.payer,
        network = excluded.network,
        amount = excluded.amount,
        valid_before = excluded.valid_before,
        transaction = excluded.transaction,
        log_index = excluded.log_index,
        refund_transaction = excluded.refund_transaction,
        model = excluded.model,
        usage = excluded.usage,
        stop_reason = excluded.stop_reason,
        code = excluded.code,
        created_at = excluded.created_at,
        verified_at = excluded.verified_at,
        opened_at = excluded.opened_at,
        settled_at = excluded.settled_at,
        ended_at = excluded.ended_at,
        taken_by = excluded.taken_by
    where e.state = 'released'
    returning e.* into standing;
    if not found and again then
        select e.* into standing from public.x402_executions e
        where e.claim_key = fresh.claim_key and e.state = 'claimed' and e.taken_by = fresh.id;
    end if;
    return case when standing.id is not null then public.x402_shown(standing)::text end;
end $$;

-- 'swapped', 'superseded', or 'transfer_used' where another row has this transfer.
create or replace function public.x402_swap(
    execution text, attempt_before integer, state_before text, payment text, answer text, again boolean
) returns text
language plpgsql volatile set search_path = '' as $$
declare
    stepped public.x402_executions := public.x402_row(execution);
    broken text;
begin
    update public.x402_executions e set
        kind = stepped.kind,
        state = stepped.state,
        attempt = stepped.attempt,
        worker = stepped.worker,
        claim_key = stepped.claim_key,
        template_id = stepped.template_id,
        template_version = stepped.template_version,
        tile = stepped.tile,
        digest = stepped.digest,
        caller_id = stepped.caller_id,
        payer = stepped.payer,
        network = stepped.network,
        amount = stepped.amount,
        valid_before = stepped.valid_before,
        transaction = stepped.transaction,
        log_index = stepped.log_index,
        refund_transaction = stepped.refund_transaction,
        reruns = stepped.reruns,
        model = stepped.model,
        usage = stepped.usage,
        stop_reason = stepped.stop_reason,
        code = stepped.code,
        created_at = stepped.created_at,
        verified_at = stepped.verified_at,
        opened_at = stepped.opened_at,
        settled_at = stepped.settled_at,
        ended_at = stepped.ended_at,
        sealed_payment = case
            when stepped.state in ('settling', 'settled') then coalesce(payment, e.sealed_payment)
        end,
        -- Whoever takes a step has the row in hand.
        taken_by = null
    where e.id = stepped.id and e.attempt = attempt_before and e.state = state_before;
    if found then
        if answer is not null then
            insert into public.x402_answers (execution_id, sealed_answer) values (stepped.id, answer);
        end if;
        return '"swapped"';
    end if;
    if again and exists (
        select from public.x402_executions e
        where e.id = stepped.id and public.x402_shown(e) = public.x402_shown(stepped)
    ) then
        return '"swapped"';
    end if;
    return '"superseded"';
exception when unique_violation then
    get stacked diagnostics broken = constraint_name;
    if broken = 'x402_executions_transfer' then
        return '"transfer_used"';
    end if;
    raise;
end $$;

-- Whether this task has begun: false while its caller's last run of the same tile has not ended.
create or replace function public.x402_begin(execution text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_executions := public.x402_row(execution);
begin
    insert into public.x402_executions values (fresh.*) on conflict do nothing;
    -- The first try may have been at work until now.
    return to_json(
        found or (again and exists (select from public.x402_executions e where e.id = fresh.id))
    )::text;
end $$;

create or replace function public.x402_record(execution text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    ended public.x402_executions := public.x402_row(execution);
begin
    if not (again and exists (
        select from public.x402_executions e
        where e.id = ended.id and public.x402_shown(e) = public.x402_shown(ended)
    )) then
        insert into public.x402_executions values (ended.*);
    end if;
    return 'null';
end $$;

create or replace function public.x402_earlier(paid_with text) returns text
language sql stable set search_path = '' as $$
    select public.x402_shown(e)::text from public.x402_executions e where e.claim_key = paid_with
$$;

create or replace function public.x402_beat(worker text) returns text
language sql volatile set search_path = '' as $$
    insert into public.x402_workers (id, seen_at) values (worker, public.x402_now())
    on conflict (id) do update set seen_at = excluded.seen_at
    returning 'null'
$$;

-- Unfinished rows that are the taker's from now on, each with its sealed payment and one attempt more.
--
-- `given_up` has those that the taker wants to take once more, `heard` what it has been told of before: attempts by id.
-- What was taken in its name and it has not heard of, for the answer was lost or came after it had asked again, is told
-- once more, until it says that it has heard.
create or replace function public.x402_take_over(
    taker text,
    given_up text,
    heard text,
    at_most integer,
    opening_seconds double precision,
    run_seconds double precision
) returns text
language plpgsql volatile set search_path = '' as $$
declare
    moment double precision := public.x402_now();
    unheard integer;
begin
    update public.x402_executions e set taken_by = null
    from jsonb_each_text(heard::jsonb) h
    where e.id = h.key and e.attempt = h.value::integer and e.taken_by = e.worker;

    select count(*) into unheard from public.x402_executions e
    where e.worker = taker and e.taken_by = taker and e.state in ('claimed', 'settling', 'settled');

    with left_behind as materialized (
        select e.id, e.attempt, e.state from public.x402_executions e
        left join public.x402_workers w on w.id = e.worker
        left join jsonb_each_text(given_up::jsonb) g on g.key = e.id
        where e.state in ('claimed', 'settling', 'settled')
            and not (e.worker = taker and coalesce(e.taken_by = taker, false))
            and (
                (e.worker = taker and e.attempt = g.value::integer)
                or coalesce(w.seen_at, e.created_at) < moment - 15
                or (e.state = 'claimed' and e.created_at < moment - case e.kind
                    when 'task' then run_seconds else opening_seconds end)
                or (e.state = 'settled' and greatest(e.created_at, e.settled_at) < moment - run_seconds)
            )
    ), held as (
        -- Of two who come at once each row goes to one. Once it is locked it may be another's, or a step further: attempt and state tell, while
        -- everything that was joined above is as it was before.
        select e.id from public.x402_executions e join left_behind l on l.id = e.id
        where e.attempt = l.attempt and e.state = l.state
        order by e.created_at, e.id
        limit greatest(at_most - unheard, 0)
        for update of e skip locked
    )
    update public.x402_executions e set worker = taker, attempt = e.attempt + 1, taken_by = taker
    from held h where e.id = h.id;

    return (
        select coalesce(jsonb_agg(
            jsonb_build_object('execution', public.x402_shown(e), 'sealed_payment', e.sealed_payment)
            order by e.created_at, e.id
        ), '[]')::text
        from public.x402_executions e
        where e.id in (
            select m.id from public.x402_executions m
            where m.worker = taker and m.taken_by = taker and m.state in ('claimed', 'settling', 'settled')
            order by m.created_at, m.id limit at_most
        )
    );
end $$;

-- How many rows nobody can ask for any more, and are gone.
create or replace function public.x402_purge(moment double precision) returns text
language sql volatile set search_path = '' as $$
    with answers as (
        delete from public.x402_answers a using public.x402_executions e
        where e.id = a.execution_id and e.state = 'completed' and e.ended_at < moment - 86400
        returning 1
    ), claims as (
        delete from public.x402_executions
        where kind = 'paid' and state = 'released' and opened_at is null and ended_at < moment - 86400
        returning 1
    ), workers as (
        delete from public.x402_workers where seen_at < public.x402_now() - 86400
        returning 1
    )
    select (
        (select count(*) from answers) + (select count(*) from claims) + (select count(*) from workers)
    )::text
$$;

-- A count of Claude's; what is none counts as nothing, and breaks no sum.
create or replace function public.x402_tokens(usage jsonb, named text) returns bigint
language sql immutable set search_path = '' as $$
    select case when jsonb_typeof(usage -> named) = 'number' then trunc((usage ->> named)::numeric)::bigint else 0 end
$$;

-- What ended `released` was not sold: a paid one cost nothing, an unpaid one failed.
create or replace function public.x402_sales(templates text[], uncounted text[]) returns text
language sql stable set search_path = '' as $$
    select coalesce(jsonb_object_agg(s.template_id, to_jsonb(s) - 'template_id'), '{}')::text
    from (
        select
            e.template_id,
            count(*) filter (where e.sold) as calls,
            count(*) filter (where e.sold and e.state = 'completed') as completed,
            count(*) filter (where e.sold and e.state in ('refund_due', 'refunded', 'released')) as failed,
            count(*) filter (where e.kind = 'owner_test') as tests,
            coalesce(sum(
                public.x402_tokens(e.usage, 'input_tokens')
                + public.x402_tokens(e.usage, 'cache_creation_input_tokens')
                + public.x402_tokens(e.usage, 'cache_read_input_tokens')
            ), 0) as input_tokens,
            coalesce(sum(public.x402_tokens(e.usage, 'output_tokens')), 0) as output_tokens,
            coalesce(sum(e.amount) filter (where e.state in ('settled', 'completed', 'refund_due')), 0) as revenue,
            coalesce(sum(e.amount) filter (where e.state = 'refund_due'), 0) as refunds_due
        from (
            select x.*, x.kind = 'free' or (x.kind = 'paid' and x.transaction is not null) as sold
            from public.x402_executions x
            where x.template_id in (select public.x402_uuid(each) from unnest(templates) each)
                and coalesce(x.network <> all (uncounted), true)
        ) e
        group by e.template_id
    ) s
$$;

-- One page of the runs of a template, or of those an account has asked for, newest first.
--
-- Anybody can sign what an empty wallet cannot pay: such claims are no news.
create or replace function public.x402_executions_of(template text, caller text, at_most integer, skipped bigint)
returns text
language plpgsql stable set search_path = '' as $$
declare
    its_template uuid := public.x402_uuid(template);
begin
    -- One question for each, that its own index answers.
    if template is not null then
        return (
            with found as (
                select e.id, e.created_at from public.x402_executions e
                where e.template_id = its_template
                    and not (e.kind = 'paid' and e.state = 'released' and e.verified_at is null)
            ), shown as (
                select f.id from found f order by f.created_at desc, f.id limit at_most offset skipped
            )
            select jsonb_build_object(
                'total', (select count(*) from found),
                'items', (
                    select coalesce(jsonb_agg(public.x402_shown(e) order by e.created_at desc, e.id), '[]')
                    from public.x402_executions e join shown using (id)
                )
            )::text
        );
    end if;
    return (
        with found as (
            select e.id, e.created_at from public.x402_executions e
            where e.caller_id = caller
                and not (e.kind = 'paid' and e.state = 'released' and e.verified_at is null)
        ), shown as (
            select f.id from found f order by f.created_at desc, f.id limit at_most offset skipped
        )
        select jsonb_build_object(
            'total', (select count(*) from found),
            'items', (
                select coalesce(jsonb_agg(public.x402_shown(e) order by e.created_at desc, e.id), '[]')
                from public.x402_executions e join shown using (id)
            )
        )::text
    );
end $$;

-- One execution, and the id of its template's creator.
create or replace function public.x402_execution(execution_id text) returns text
language sql stable set search_path = '' as $$
    select jsonb_build_object('execution', public.x402_shown(e), 'creator', r.registered_by)::text
    from public.x402_executions e left join public.x402_resources r on r.id = e.template_id
    where e.id = execution_id
$$;

create or replace function public.x402_sealed_answer(of_execution text) returns text
language sql stable set search_path = '' as $$
    select to_json(a.sealed_answer)::text from public.x402_answers a where a.execution_id = of_execution
$$;
