-- Sessions, API keys, and the pepper their digests are made with. What is found may be over.
--
-- Whoever is given something has an account from then on. Where an account cannot be, because the id is none or
-- its user has been deleted, nothing is stored, and 'no_account' is said.

-- The sealed pepper of a name: the given one, when there was none. Two statements: the second one sees what
-- somebody else has written while the first one waited for them.
create or replace function public.x402_pepper(pepper_name text, sealed text) returns text
language sql volatile set search_path = '' as $$
    insert into public.x402_peppers (name, sealed_pepper) values (pepper_name, sealed) on conflict do nothing;
    select pg_catalog.to_jsonb(p.sealed_pepper)::text from public.x402_peppers p where p.name = pepper_name
$$;

create or replace function public.x402_add_session(session text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_sessions;
begin
    if public.x402_uuid(session::jsonb ->> 'user_id') is null then
        return '"no_account"';
    end if;
    fresh := pg_catalog.jsonb_populate_record(null::public.x402_sessions, session::jsonb);
    perform public.x402_know(fresh.user_id);
    delete from public.x402_sessions s where s.expires_at <= fresh.renewed_at;
    insert into public.x402_sessions values (fresh.*) on conflict (digest) do nothing;
    if not found and not (again and exists (
        select from public.x402_sessions s where s.digest = fresh.digest and s.user_id = fresh.user_id
    )) then
        raise unique_violation using message = 'the digest is another session''s';
    end if;
    return '"added"';
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_session(session_digest text) returns text
language sql stable set search_path = '' as $$
    select pg_catalog.to_jsonb(s)::text from public.x402_sessions s where s.digest = session_digest
$$;

create or replace function public.x402_renew_session(
    session_digest text, renewed double precision, expires double precision
) returns text
language sql volatile set search_path = '' as $$
    update public.x402_sessions s set renewed_at = renewed, expires_at = expires where s.digest = session_digest;
    select 'null'
$$;

create or replace function public.x402_end_session(session_digest text) returns text
language sql volatile set search_path = '' as $$
    delete from public.x402_sessions s where s.digest = session_digest;
    select 'null'
$$;

create or replace function public.x402_add_api_key(key text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_api_keys;
begin
    if public.x402_uuid(key::jsonb ->> 'user_id') is null then
        return '"no_account"';
    end if;
    fresh := pg_catalog.jsonb_populate_record(null::public.x402_api_keys, key::jsonb);
    perform public.x402_know(fresh.user_id);
    insert into public.x402_api_keys values (fresh.*) on conflict (id) do nothing;
    if not found and not (again and exists (
        select from public.x402_api_keys k
        where k.id = fresh.id and k.user_id = fresh.user_id and k.digest = fresh.digest
    )) then
        raise unique_violation using message = 'the id is another key''s';
    end if;
    return '"added"';
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_api_key(key_id text) returns text
language sql stable set search_path = '' as $$
    select pg_catalog.to_jsonb(k)::text from public.x402_api_keys k where k.id = key_id
$$;

-- The account's keys, newest first; the count and the rows are of one moment.
create or replace function public.x402_api_keys(owner_id text, page_limit bigint, page_offset bigint) returns text
language sql stable set search_path = '' as $$
    with found as (
        select k.* from public.x402_api_keys k where k.user_id = public.x402_uuid(owner_id)
    ), shown as (
        select f.* from found f order by f.created_at desc, f.id collate "C" limit page_limit offset page_offset
    )
    select pg_catalog.jsonb_build_object(
        'total', (select count(*) from found),
        'items', coalesce(
            (select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) order by s.created_at desc, s.id collate "C")
            from shown s),
            '[]'
        )
    )::text
$$;

create or replace function public.x402_delete_api_key(owner_id text, key_id text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
begin
    delete from public.x402_api_keys k where k.id = key_id and k.user_id = public.x402_uuid(owner_id);
    return pg_catalog.to_jsonb(
        found or (again and not exists (select from public.x402_api_keys k where k.id = key_id))
    )::text;
end $$;

create or replace function public.x402_note_api_key_used(key_id text, used_at double precision) returns text
language sql volatile set search_path = '' as $$
    update public.x402_api_keys k set last_used_at = used_at where k.id = key_id;
    select 'null'
$$;

create or replace function public.x402_internal_key(owner_id text, key_purpose text) returns text
language sql stable set search_path = '' as $$
    select pg_catalog.to_jsonb(k)::text from public.x402_internal_api_keys k
    where k.user_id = public.x402_uuid(owner_id) and k.purpose = key_purpose
$$;

create or replace function public.x402_internal_key_of(key_digest text) returns text
language sql stable set search_path = '' as $$
    select pg_catalog.to_jsonb(k)::text from public.x402_internal_api_keys k where k.digest = key_digest
$$;

-- The key that stands there afterwards. May be repeated: what has taken the row already takes it no second time.
create or replace function public.x402_put_internal_key(key text, replaced text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.x402_internal_api_keys;
begin
    if public.x402_uuid(key::jsonb ->> 'user_id') is null then
        return '"no_account"';
    end if;
    fresh := pg_catalog.jsonb_populate_record(null::public.x402_internal_api_keys, key::jsonb);
    perform public.x402_know(fresh.user_id);
    insert into public.x402_internal_api_keys as k values (fresh.*)
    on conflict (user_id, purpose) do update set
        id = excluded.id, digest = excluded.digest, sealed_key = excluded.sealed_key,
        created_at = excluded.created_at, last_used_at = excluded.last_used_at,
        expires_at = excluded.expires_at
    where k.id = replaced;
    return (
        select pg_catalog.to_jsonb(k)::text from public.x402_internal_api_keys k
        where k.user_id = fresh.user_id and k.purpose = fresh.purpose
    );
exception when foreign_key_violation then
    return '"no_account"';
end $$;

create or replace function public.x402_note_internal_key_used(key_id text, used_at double precision) returns text
language sql volatile set search_path = '' as $$
    update public.x402_internal_api_keys k set last_used_at = used_at where k.id = key_id;
    select 'null'
$$;
