"""An account is known to the store from its first sight on, whatever store is behind it."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.supabase.rig import Rig
from x402jobs.adapters.supabase import supabase_store
from x402jobs.domain.errors import Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.ports import Store as Ports

from .conftest import Store

NEW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def test_a_new_account_has_no_name_yet_and_may_choose_one(store: Store) -> None:
    store.catalogue.know(NEW)
    assert store.catalogue.username(NEW) is None

    assert store.catalogue.give_username(NEW, "cleo") == "cleo"


def test_an_account_that_is_there_stays_as_it_is(store: Store) -> None:
    store.keys.put_pay_to(store.ada, "0xADA")

    store.catalogue.know(store.ada)

    assert store.catalogue.username(store.ada) == "ada"
    assert store.keys.pay_to(store.ada) == "0xADA"


def test_many_who_see_it_first_at_once_see_one_account(store: Store) -> None:
    workers = [store.worker() for _ in range(4)]

    with ThreadPoolExecutor(20) as threads:
        for seen in [threads.submit(workers[n % 4].catalogue.know, NEW) for n in range(20)]:
            seen.result()

    assert store.catalogue.give_username(NEW, "cleo") == "cleo"


@pytest.fixture
def project(rig: Rig) -> Iterator[Ports]:
    rig.empty()
    store = supabase_store(rig.url, Secret(rig.secret_key))
    yield store
    store.database.close()


def profiles(rig: Rig) -> list[tuple[str, bool]]:
    rows = rig.sql("select id, deleted_at from profiles order by id")
    return [(str(row["id"]), row["deleted_at"] is not None) for row in rows]


def test_a_first_sight_makes_one_profile(rig: Rig, project: Ports) -> None:
    project.catalogue.know(NEW)
    project.catalogue.know(NEW)

    assert profiles(rig) == [(NEW, False)]


def test_a_deleted_account_is_nobody_and_stays_deleted(rig: Rig, project: Ports) -> None:
    project.catalogue.know(NEW)
    rig.sql("update profiles set deleted_at = now()")

    with pytest.raises(Unauthenticated):
        project.catalogue.know(NEW)

    assert profiles(rig) == [(NEW, True)]


@pytest.mark.parametrize("user_id", ["", "ada", f"{NEW}0", "' or 1=1 --"])
def test_what_is_no_accounts_id_is_nobody(rig: Rig, project: Ports, user_id: str) -> None:
    with pytest.raises(Unauthenticated):
        project.catalogue.know(user_id)

    assert profiles(rig) == []


@pytest.fixture
def accounts(rig: Rig, project: Ports) -> Iterator[str]:
    """As in a real project, every profile is one of Auth's accounts. The only one there is."""
    only = str(uuid.uuid4())
    rig.sql("""
        create schema elsewhere;
        create table elsewhere.users (id uuid primary key);
        alter table public.profiles add constraint of_elsewhere
            foreign key (id) references elsewhere.users (id) on delete cascade""")
    try:
        rig.sql("insert into elsewhere.users values (%s)", only)
        yield only
    finally:
        rig.sql("drop schema elsewhere cascade")


def test_an_account_that_auth_has_deleted_is_nobody(
    rig: Rig, project: Ports, accounts: str
) -> None:
    project.catalogue.know(accounts)
    rig.sql("delete from elsewhere.users")

    for gone in (accounts, NEW):
        with pytest.raises(Unauthenticated):
            project.catalogue.know(gone)

    assert profiles(rig) == []
