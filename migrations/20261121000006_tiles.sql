-- Trees of tiles. A path is one character a step: in byte order, which the column's collation keeps, it is depth
-- first, and what is below a place is the range from there to 'g', which comes after every step.
--
-- A tile is seen by its owner; by anybody else only where it is public itself.

-- One writer a tree, until the transaction ends: nobody deletes or hides a tile while somebody else puts one under
-- it. Whoever waited sees with the next statement what was written meanwhile.
create or replace function public.x402_lock_tree(owner_id text, group_number bigint) returns void
language sql volatile set search_path = '' as $$
    select pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('tiles of ' || owner_id || ',' || group_number, 0)
    )
$$;

-- The paths of all tiles above a place.
create or replace function public.x402_paths_above(place text) returns text[]
language sql immutable set search_path = '' as $$
    select array(select "left"(place, depth) from pg_catalog.generate_series(0, pg_catalog.length(place) - 1) depth)
$$;

create or replace function public.x402_tile(owner_id text, group_number bigint, place text, reader_id text)
returns text
language sql stable set search_path = '' as $$
    select pg_catalog.to_jsonb(t)::text from public.tiles t
    where t.user_id = owner_id and t.group_id = group_number and t.path = place
        and (t.user_id = reader_id or t.visibility = 'public')
$$;

-- What the reader sees below a place; the count and the rows are of one moment.
create or replace function public.x402_tiles_under(
    owner_id text, group_number bigint, place text, reader_id text, page_limit bigint, page_offset bigint
) returns text
language sql stable set search_path = '' as $$
    with shown as (
        select t.* from public.tiles t
        where t.user_id = owner_id and t.group_id = group_number
            and t.path > place and t.path < place || 'g'
            and (t.user_id = reader_id or t.visibility = 'public')
        order by t.path limit page_limit offset page_offset
    )
    select pg_catalog.jsonb_build_object(
        'total', (
            select count(*) from public.tiles t
            where t.user_id = owner_id and t.group_id = group_number
                and t.path > place and t.path < place || 'g'
                and (t.user_id = reader_id or t.visibility = 'public')
        ),
        'items', coalesce(
            (select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) order by s.path) from shown s), '[]'
        )
    )::text
$$;

-- All that an account has, group by group.
create or replace function public.x402_tiles_of(owner_id text, page_limit bigint, page_offset bigint) returns text
language sql stable set search_path = '' as $$
    with shown as (
        select t.* from public.tiles t where t.user_id = owner_id
        order by t.group_id, t.path limit page_limit offset page_offset
    )
    select pg_catalog.jsonb_build_object(
        'total', (select count(*) from public.tiles t where t.user_id = owner_id),
        'items', coalesce(
            (select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) order by s.group_id, s.path) from shown s), '[]'
        )
    )::text
$$;

-- What a run of a task is told. `near` are the task, all above it and all next below it. Leaves are looked for only
-- where there are subtasks, and no plan that says what is to be done.
create or replace function public.x402_tile_context(
    owner_id text, group_number bigint, place text, near_paths text[], reader_id text, most_leaves bigint
) returns text
language sql stable set search_path = '' as $$
    with near as (
        select t.* from public.tiles t
        where t.user_id = owner_id and t.group_id = group_number and t.path = any (near_paths)
            and (t.user_id = reader_id or t.visibility = 'public')
    ), leaves as (
        select t.user_id, t.group_id, t.path, t.title, '' as content, '' as preview, t.visibility,
            null as hexplan, t.created_at, t.updated_at
        from public.tiles t
        where t.user_id = owner_id and t.group_id = group_number
            and t.path >= place || '1' and t.path < place || '7'
            and (t.user_id = reader_id or t.visibility = 'public')
            and pg_catalog.ltrim(pg_catalog.substr(t.path, pg_catalog.length(place) + 1), '123456') = ''
            and not exists (
                select from public.tiles c
                where c.user_id = owner_id and c.group_id = group_number
                    and c.path = any (array[
                        t.path || '1', t.path || '2', t.path || '3', t.path || '4', t.path || '5', t.path || '6'
                    ])
                    and (c.user_id = reader_id or c.visibility = 'public')
            )
            and exists (select from near n where n.path = place)
            and not exists (select from near n where n.path = place || '0')
        order by t.path limit most_leaves
    )
    select pg_catalog.jsonb_build_object(
        'near', coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(n)) from near n), '[]'),
        'leaves', coalesce(
            (select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l) order by l.path) from leaves l), '[]'
        )
    )::text
$$;

-- The root that is there afterwards.
create or replace function public.x402_ensure_root(tile text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.tiles := pg_catalog.jsonb_populate_record(null::public.tiles, tile::jsonb);
begin
    perform public.x402_lock_tree(fresh.user_id, fresh.group_id);
    insert into public.tiles values (fresh.*) on conflict do nothing;
    return (
        select pg_catalog.to_jsonb(t)::text from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path
    );
end $$;

create or replace function public.x402_add_tile(tile text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.tiles := pg_catalog.jsonb_populate_record(null::public.tiles, tile::jsonb);
    hidden text;
begin
    perform public.x402_lock_tree(fresh.user_id, fresh.group_id);
    if again and exists (
        select from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path and t = fresh
    ) then
        return '{"said": "added"}';
    end if;
    if fresh.path <> '' and not exists (
        select from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = "left"(fresh.path, -1)
    ) then
        return '{"said": "nothing_above"}';
    end if;
    if fresh.visibility = 'public' then
        hidden := public.x402_private_above(fresh.user_id, fresh.group_id, fresh.path);
        if hidden is not null then
            return pg_catalog.jsonb_build_object('said', 'above_is_private', 'path', hidden)::text;
        end if;
    end if;
    insert into public.tiles values (fresh.*) on conflict do nothing;
    return case when found then '{"said": "added"}' else '{"said": "place_taken"}' end;
end $$;

-- The highest private tile above a place: the others could not be public before it.
create or replace function public.x402_private_above(owner_id text, group_number bigint, place text) returns text
language sql volatile set search_path = '' as $$
    select t.path from public.tiles t
    where t.user_id = owner_id and t.group_id = group_number and t.path = any (public.x402_paths_above(place))
        and t.visibility = 'private'
    order by t.path limit 1
$$;

create or replace function public.x402_replace_tile(tile text, updated_before double precision, again boolean)
returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.tiles := pg_catalog.jsonb_populate_record(null::public.tiles, tile::jsonb);
    there public.tiles;
    shown bigint;
    lowest text;
    hidden text;
begin
    perform public.x402_lock_tree(fresh.user_id, fresh.group_id);
    select t.* into there from public.tiles t
    where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path
    for update;
    if again and (there.title, there.content, there.preview, there.visibility, there.updated_at)
        = (fresh.title, fresh.content, fresh.preview, fresh.visibility, fresh.updated_at) then
        return '{"said": "replaced"}';
    end if;
    if there.updated_at is distinct from updated_before then
        return '{"said": "stale"}';
    end if;
    if fresh.visibility = 'public' and there.visibility = 'private' then
        hidden := public.x402_private_above(fresh.user_id, fresh.group_id, fresh.path);
        if hidden is not null then
            return pg_catalog.jsonb_build_object('said', 'above_is_private', 'path', hidden)::text;
        end if;
    elsif fresh.visibility = 'private' and there.visibility = 'public' then
        select t.path, count(*) over () into lowest, shown from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id
            and t.path > fresh.path and t.path < fresh.path || 'g' and t.visibility = 'public'
        order by pg_catalog.length(t.path) desc, t.path limit 1;
        if found then
            return pg_catalog.jsonb_build_object('said', 'below_is_public', 'path', lowest, 'count', shown)::text;
        end if;
    end if;
    update public.tiles t set title = fresh.title, content = fresh.content, preview = fresh.preview,
        visibility = fresh.visibility, updated_at = fresh.updated_at
    where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path;
    return '{"said": "replaced"}';
end $$;

-- How many tiles and plans went, this time.
create or replace function public.x402_delete_tiles(owner_id text, group_number bigint, place text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    gone bigint;
begin
    perform public.x402_lock_tree(owner_id, group_number);
    delete from public.tiles t
    where t.user_id = owner_id and t.group_id = group_number and t.path >= place and t.path < place || 'g';
    get diagnostics gone = row_count;
    return gone::text;
end $$;

-- The plan that is there afterwards; null where its tile is gone.
create or replace function public.x402_add_plan(plan text) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.tiles := pg_catalog.jsonb_populate_record(null::public.tiles, plan::jsonb);
begin
    perform public.x402_lock_tree(fresh.user_id, fresh.group_id);
    insert into public.tiles select fresh.*
    where exists (
        select from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = "left"(fresh.path, -1)
    )
    on conflict do nothing;
    return (
        select pg_catalog.to_jsonb(t)::text from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path
    );
end $$;

create or replace function public.x402_swap_plan(plan text, hexplan_before text, again boolean) returns text
language plpgsql volatile set search_path = '' as $$
declare
    fresh public.tiles := pg_catalog.jsonb_populate_record(null::public.tiles, plan::jsonb);
begin
    update public.tiles t set hexplan = fresh.hexplan, updated_at = fresh.updated_at
    where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path
        and t.hexplan = hexplan_before;
    return pg_catalog.to_jsonb(found or (again and exists (
        select from public.tiles t
        where t.user_id = fresh.user_id and t.group_id = fresh.group_id and t.path = fresh.path
            and t.hexplan = fresh.hexplan and t.updated_at = fresh.updated_at
    )))::text;
end $$;
