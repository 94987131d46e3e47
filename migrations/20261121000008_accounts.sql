-- When an account goes, what is its own goes with it, and what others have paid for stays. May be applied again.

-- Where Supabase Auth keeps the accounts, a profile is one of them. (The origin's is already.)
do $$
begin
    if to_regclass('auth.users') is null or exists (
        select from pg_catalog.pg_constraint
        where conrelid = 'public.profiles'::regclass and contype = 'f' and confrelid = to_regclass('auth.users')
    ) then
        return;
    end if;
    alter table public.profiles add constraint profiles_account
        foreign key (id) references auth.users (id) on delete cascade not valid;
    if exists (
        select from public.profiles p where not exists (select from auth.users u where u.id = p.id)
    ) then
        raise warning 'Some profiles have no account in auth.users. They stay, and new ones must have one. '
            'When they are gone: alter table public.profiles validate constraint profiles_account';
    else
        alter table public.profiles validate constraint profiles_account;
    end if;
end $$;

-- Sessions, API keys, the Claude key and the payout address go by their foreign keys. Tiles have none, since their
-- owner is a text; templates have none either, because sales point at them: they lose their owner and stay.
create or replace function public.x402_forget_account() returns trigger
language plpgsql set search_path = '' as $$
begin
    delete from public.tiles where user_id = old.id::text;
    update public.x402_resources set registered_by = null
    where registered_by = old.id and resource_type = 'prompt_template';
    return old;
end $$;
create or replace trigger x402_forget_account before delete on public.profiles
    for each row execute function public.x402_forget_account();

-- A template without an owner is deleted, and its prompt, which was the owner's, is gone. (The origin's foreign key
-- takes the owner away by itself.)
create or replace function public.x402_forget_owner() returns trigger
language plpgsql set search_path = '' as $$
begin
    new.is_active := false;
    new.deleted_at := coalesce(new.deleted_at, pg_catalog.now());
    new.pt_system_prompt := null;
    return new;
end $$;
create or replace trigger x402_forget_owner before update of registered_by on public.x402_resources
    for each row when (
        old.registered_by is not null and new.registered_by is null and new.resource_type = 'prompt_template'
    )
    execute function public.x402_forget_owner();

select public.x402_lock_up();
