-- Profiles, templates, Claude keys and payout addresses, and the one read of a paid call. May be applied again at any
-- time.
--
-- Where something is to be stored for an account that cannot be, because the id is none or its user has been deleted,
-- nothing is stored, and 'no_account' is said.

-- Every prompt template there is, as the service sees it, deleted ones too: the origin's rows of other types are not
-- ours to see. It is found by profiles.username, that account's hosted server (the oldest, should there be two) and the
-- slug, and is sold where it is active and all of these lead to it.
--
-- What the origin lets be null has its default. A price that is none (NaN, or less than nothing) is the default too: so
-- the origin would have sold it.
create or replace view public.x402_templates with (security_invoker = true) as
select
    r.id,
    r.version,
    p.id as owner,
    p.username,
    r.slug,
    r.name,
    coalesce(r.description, '') as description,
    case when r.price_usdc >= 0 and r.price_usdc < 10000 then round(r.price_usdc * 1000000)::bigint else 10000 end
        as price,
    r.network,
    coalesce(r.is_active and r.deleted_at is null, false) as is_active,
    coalesce(
        r.is_active and r.deleted_at is null and r.slug is not null
            and p.username is not null and p.deleted_at is null and s.id = (
                select o.id from public.x402_servers o
                where o.registered_by = p.id and o.is_hosted
                order by o.created_at, o.id limit 1
            ),
        false
    ) as is_sold,
    coalesce(r.pt_system_prompt, '') as prompt,
    coalesce(r.pt_parameters, '[]')::text as parameters,
    coalesce(nullif(r.pt_model, ''), 'claude-sonnet-4-20250514')::text as model,
    coalesce(r.pt_max_tokens, 4096) as max_tokens,
    coalesce(r.pt_allows_user_message, false) as allows_user_message,
    extract(epoch from r.created_at)::double precision as created_at,
    extract(epoch from r.updated_at)::double precision as updated_at,
    extract(epoch from r.deleted_at)::double precision as deleted_at
from public.x402_resources r
left join public.x402_servers s on s.id = r.server_id
left join public.profiles p on p.id = s.registered_by
where r.resource_type = 'prompt_template';

-- The columns of x402_resources that a template's JSON stands for; the view the other way round.
create or replace function public.x402_resource(template text) returns public.x402_resources
language sql stable set search_path = '' as $$
    select jsonb_populate_record(null::public.x402_resources, jsonb_build_object(
        'id', t -> 'id',
        'version', t -> 'version',
        'registered_by', public.x402_uuid(t ->> 'owner_id'),
        'slug', t -> 'slug',
        'name', t -> 'name',
        'description', t -> 'description',
        'price_usdc', (t ->> 'price')::numeric / 1000000,
        'max_amount_required', t ->> 'price',
        'network', t -> 'network',
        'is_active', t -> 'is_active',
        'pt_system_prompt', t -> 'sealed_prompt',
        'pt_parameters', (t ->> 'parameters')::jsonb,
        'pt_model', t -> 'model',
        'pt_max_tokens', t -> 'max_tokens',
        'pt_allows_user_message', t -> 'allows_user_message',
        'created_at', to_timestamp((t ->> 'created_at')::double precision),
        'updated_at', to_timestamp((t ->> 'updated_at')::double precision)
    ))
    from (select template::jsonb) as given (t)
$$;

-- The account of this name, in any letter case. Ours are lower-case; of the origin's, should two differ in nothing
-- else, the lower-case one goes first. What is not ASCII is no letter here, whatever the database's locale.
create or replace function public.x402_named(given text) returns uuid
language sql stable set search_path = '' as $$
    select p.id from public.profiles p
    where lower(p.username collate "C") = lower(given collate "C") and p.deleted_at is null
    order by p.username collate "C" <> lower(p.username collate "C"), p.created_at, p.id limit 1
$$;

-- Everything a call needs to know, as of one moment. In plpgsql, which remembers the plan: making it takes longer than
-- following it.
create or replace function public.x402_listing(of_username text, of_slug text, paid_with text) returns text
language plpgsql stable set search_path = '' as $$
begin
    return (
        -- The one row stands first, so that a known payment is found whatever became of the rest.
        with asked as materialized (
            select public.x402_named(of_username) as creator
        )
        select jsonb_build_object(
            'template', (
                select to_jsonb(t) from public.x402_templates t
                where t.owner = asked.creator and t.slug = of_slug and t.is_sold
            ),
            'sealed_key', (
                select k.api_key_encrypted from public.x402_user_claude_configs k
                where k.user_id = asked.creator and k.is_enabled
            ),
            'pay_to', (select w.base_address from public.x402_payout_addresses w where w.user_id = asked.creator),
            'earlier', public.x402_shown(e),
            'owed', to_jsonb(o),
            'owed_key', (
                select k.api_key_encrypted from public.x402_user_claude_configs k
                where k.user_id = o.owner and k.is_enabled
            )
        )::text
        from asked
        left join public.x402_executions e on e.claim_key = paid_with
        left join public.x402_templates o on o.id = e.template_id and e.state = 'refund_due'
    );
end $$;

-- Accounts and their names.

-- The id of the account of this name, made when there was none; 'taken' where a deleted account still has it.
create or replace function public.x402_add_user(given text) returns text
language plpgsql volatile set search_path = '' as $$
begin
    if public.x402_named(given) is null then
        insert into public.profiles (id, username) values (gen_random_uuid(), lower(given collate "C"))
        on conflict do nothing;
    end if;
    return to_jsonb(coalesce(public.x402_named(given)::text, 'taken'))::text;
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_user_id(of_username text) returns text
language sql stable set search_path = '' as $$
    select to_jsonb(public.x402_named(of_username))::text
$$;

create or replace function public.x402_username(of_user text) returns text
language sql stable set search_path = '' as $$
    select to_jsonb(p.username)::text from public.profiles p where p.id = public.x402_uuid(of_user)
$$;

-- An account that has signed in is known from then on, if not before. 'no_account' for one that is deleted.
create or replace function public.x402_know_user(of_user text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    its_id uuid := public.x402_uuid(of_user);
begin
    if its_id is null then
        return '"no_account"';
    end if;
    perform public.x402_know(its_id);
    if exists (select from public.profiles p where p.id = its_id and p.deleted_at is not null) then
        return '"no_account"';
    end if;
    return '"known"';
exception when foreign_key_violation then
    return '"no_account"';
end $$;

-- The name that a user has afterwards, as an object: a name may be any word.
create or replace function public.x402_give_username(to_user text, given text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    user_id uuid := public.x402_uuid(to_user);
begin
    if user_id is null then
        return '"no_account"';
    end if;
    perform public.x402_know(user_id);
    begin
        -- The origin may have a name in other letters, which no constraint holds against ours.
        update public.profiles p set username = lower(given collate "C")
        where p.id = user_id and p.username is null and not exists (
            select from public.profiles o where lower(o.username collate "C") = lower(given collate "C")
        );
    exception when unique_violation then
        null; -- somebody else was faster
    end;
    return (select jsonb_build_object('username', p.username)::text from public.profiles p where p.id = user_id);
exception when foreign_key_violation then
    return '"no_account"';
end $$;

-- Templates.

-- The owner's templates, paused ones too, newest first; the count and the rows are of one moment.
create or replace function public.x402_templates(of_owner text, at_most bigint, skipped bigint) returns text
language sql stable set search_path = '' as $$
    with found as (
        select t.id, t.created_at from public.x402_templates t
        where t.owner = public.x402_uuid(of_owner) and t.deleted_at is null and t.slug is not null
    ), shown as (
        select f.id from found f order by f.created_at desc, f.id limit at_most offset skipped
    )
    select jsonb_build_object(
        'total', (select count(*) from found),
        'items', (
            select coalesce(jsonb_agg(to_jsonb(t) order by t.created_at desc, t.id), '[]')
            from public.x402_templates t join shown using (id)
        )
    )::text
$$;

-- Everybody's active templates, likewise.
create or replace function public.x402_shelf(at_most bigint, skipped bigint) returns text
language sql stable set search_path = '' as $$
    with found as (
        select t.id, t.created_at from public.x402_templates t where t.is_sold
    ), shown as (
        select f.id from found f order by f.created_at desc, f.id limit at_most offset skipped
    )
    select jsonb_build_object(
        'total', (select count(*) from found),
        'items', (
            select coalesce(jsonb_agg(to_jsonb(t) order by t.created_at desc, t.id), '[]')
            from public.x402_templates t join shown using (id)
        )
    )::text
$$;

create or replace function public.x402_template(of_owner text, template_id text) returns text
language sql stable set search_path = '' as $$
    select to_jsonb(t)::text from public.x402_templates t
    where t.owner = public.x402_uuid(of_owner) and t.id = public.x402_uuid(template_id)
        and t.deleted_at is null and t.slug is not null
$$;

-- Whether the template is or was the owner's.
create or replace function public.x402_has_written(of_owner text, template_id text) returns text
language sql stable set search_path = '' as $$
    select exists (
        select from public.x402_templates t
        where t.owner = public.x402_uuid(of_owner) and t.id = public.x402_uuid(template_id)
    )::text
$$;

-- 'added', or 'taken' where its creator has something else under the same slug.
create or replace function public.x402_add_template(template text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_resources := public.x402_resource(template);
    creator public.profiles;
    server uuid;
begin
    select p.* into creator from public.profiles p where p.id = fresh.registered_by;
    if not found then
        return '"no_account"';
    end if;
    -- Of two that come at once the second one waits here, and then finds the first one's. The addresses that the
    -- origin's tables demand lead nowhere: what is hosted is found by its creator and slug.
    if not exists (select from public.x402_servers s where s.registered_by = creator.id and s.is_hosted) then
        insert into public.x402_servers (origin_url, name, registered_by, is_hosted)
        values ('urn:x402jobs:' || creator.id, coalesce(creator.username, ''), creator.id, true)
        on conflict do nothing;
    end if;
    select s.id into server from public.x402_servers s
    where s.registered_by = creator.id and s.is_hosted
    order by s.created_at, s.id limit 1;
    insert into public.x402_resources (
        id, version, server_id, registered_by, slug, resource_url, normalized_url, network, name, description,
        pay_to, max_amount_required, price_usdc, resource_type, is_active, pt_system_prompt, pt_parameters,
        pt_model, pt_max_tokens, pt_allows_user_message, created_at, updated_at
    ) values (
        fresh.id, fresh.version, server, creator.id, fresh.slug, 'urn:x402jobs:' || fresh.id,
        'urn:x402jobs:' || fresh.id, fresh.network, fresh.name, fresh.description,
        coalesce((select w.base_address from public.x402_payout_addresses w where w.user_id = creator.id), ''),
        fresh.max_amount_required, fresh.price_usdc, 'prompt_template', fresh.is_active, fresh.pt_system_prompt,
        fresh.pt_parameters, fresh.pt_model, fresh.pt_max_tokens, fresh.pt_allows_user_message, fresh.created_at,
        fresh.updated_at
    ) on conflict do nothing;
    -- Ids are random: a row with this one is this one.
    if found or again and exists (select from public.x402_resources r where r.id = fresh.id) then
        return '"added"';
    end if;
    return '"taken"';
exception when foreign_key_violation then
    return '"no_account"';
end $$;

-- 'replaced'; 'stale' where the row's version is another by now; 'taken' where the slug is another's.
create or replace function public.x402_replace_template(version_before integer, template text, again boolean)
returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_resources := public.x402_resource(template);
begin
    update public.x402_resources r set
        version = fresh.version,
        slug = fresh.slug,
        name = fresh.name,
        description = fresh.description,
        price_usdc = fresh.price_usdc,
        max_amount_required = fresh.max_amount_required,
        network = fresh.network,
        is_active = fresh.is_active,
        pt_system_prompt = fresh.pt_system_prompt,
        pt_parameters = fresh.pt_parameters,
        pt_model = fresh.pt_model,
        pt_max_tokens = fresh.pt_max_tokens,
        pt_allows_user_message = fresh.pt_allows_user_message,
        updated_at = fresh.updated_at
    where r.id = fresh.id and r.version = version_before and r.deleted_at is null
        and r.resource_type = 'prompt_template';
    -- A trigger of the origin's may have its own mind about updated_at.
    if found or again and exists (
        select from public.x402_resources r
        where r.id = fresh.id and r.deleted_at is null and (
            r.version, r.slug, r.name, r.description, r.price_usdc, r.network, r.is_active, r.pt_system_prompt,
            r.pt_parameters, r.pt_model, r.pt_max_tokens, r.pt_allows_user_message
        ) = (
            fresh.version, fresh.slug, fresh.name, fresh.description, fresh.price_usdc, fresh.network,
            fresh.is_active, fresh.pt_system_prompt, fresh.pt_parameters, fresh.pt_model, fresh.pt_max_tokens,
            fresh.pt_allows_user_message
        )
    ) then
        return '"replaced"';
    end if;
    return '"stale"';
exception when unique_violation then
    return '"taken"';
end $$;

-- Whether the owner had it until now.
create or replace function public.x402_delete_template(
    of_owner text, template_id text, moment double precision, again boolean
) returns text
language plpgsql volatile set search_path = '' as $$
declare
    its_id uuid;
begin
    select t.id into its_id from public.x402_templates t
    where t.owner = public.x402_uuid(of_owner) and t.id = public.x402_uuid(template_id);
    update public.x402_resources r set is_active = false, deleted_at = to_timestamp(moment)
    where r.id = its_id and r.deleted_at is null;
    return to_jsonb(found or (again and its_id is not null))::text;
end $$;

-- Claude keys and payout addresses.

create or replace function public.x402_claude_config(of_user text) returns text
language sql stable set search_path = '' as $$
    select jsonb_build_object(
        'has_key', k.user_id is not null,
        'is_enabled', coalesce(k.is_enabled, false)
    )::text
    from (select public.x402_uuid(of_user) as user_id) asked
    left join public.x402_user_claude_configs k using (user_id)
$$;

create or replace function public.x402_sealed_claude_key(of_user text) returns text
language sql stable set search_path = '' as $$
    select to_jsonb(k.api_key_encrypted)::text from public.x402_user_claude_configs k
    where k.user_id = public.x402_uuid(of_user) and k.is_enabled
$$;

-- The configuration afterwards. What is null stays as it is; a new key's switch is on.
create or replace function public.x402_put_claude_key(of_user text, sealed_key text, enabled boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    its_user uuid := public.x402_uuid(of_user);
begin
    if sealed_key is null then
        update public.x402_user_claude_configs k
        set is_enabled = coalesce(enabled, k.is_enabled), updated_at = now()
        where k.user_id = its_user;
        return public.x402_claude_config(of_user);
    end if;
    if its_user is null then
        return '"no_account"';
    end if;
    perform public.x402_know(its_user);
    insert into public.x402_user_claude_configs as k (user_id, api_key_encrypted, is_enabled)
    values (its_user, sealed_key, coalesce(enabled, true))
    on conflict (user_id) do update set
        api_key_encrypted = excluded.api_key_encrypted,
        is_enabled = coalesce(enabled, k.is_enabled),
        updated_at = now();
    return public.x402_claude_config(of_user);
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_delete_claude_key(of_user text) returns text
language sql volatile set search_path = '' as $$
    delete from public.x402_user_claude_configs k where k.user_id = public.x402_uuid(of_user);
    select 'null'
$$;

create or replace function public.x402_pay_to(of_user text) returns text
language sql stable set search_path = '' as $$
    select to_jsonb(w.base_address)::text from public.x402_payout_addresses w
    where w.user_id = public.x402_uuid(of_user)
$$;

create or replace function public.x402_put_pay_to(of_user text, address text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    its_user uuid := public.x402_uuid(of_user);
begin
    if its_user is null then
        return '"no_account"';
    end if;
    perform public.x402_know(its_user);
    insert into public.x402_payout_addresses as w (user_id, base_address) values (its_user, address)
    on conflict (user_id) do update set base_address = excluded.base_address;
    return '"put"';
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_delete_pay_to(of_user text) returns text
language sql volatile set search_path = '' as $$
    delete from public.x402_payout_addresses w where w.user_id = public.x402_uuid(of_user);
    select 'null'
$$;
