"""Somebody whom Supabase Auth knows comes to our doors for the first time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from flask.testing import FlaskClient

from tests.supabase.jwks import Auth, Signer, auth, es256
from tests.supabase.rig import Rig
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.tokens.supabase import SupabaseTokens
from x402jobs.app import create_app
from x402jobs.services.iam import newcomers
from x402jobs.settings import Settings
from x402jobs.wiring import build_services

NEW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@dataclass
class House:
    """The product over a Supabase project, whose sign-in is a neighbour of the project's doors."""

    client: FlaskClient
    project: Auth
    signer: Signer
    rig: Rig

    def bearer(self, user_id: str = NEW) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.project.token(self.signer, user_id)}"}

    def profiles(self) -> list[str]:
        return [str(row["id"]) for row in self.rig.sql("select id from profiles")]


@pytest.fixture
def house(rig: Rig, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    rig.empty()
    over = replace(settings, supabase_url=rig.url, supabase_secret_key=rig.secret_key)
    signer = es256()
    with auth(signer) as project:
        tokens = SupabaseTokens(project.url, None, SystemClock())
        monkeypatch.setattr("x402jobs.stores.tokens", lambda *_: tokens)
        services = build_services(over)
        client = create_app(over, services).test_client(use_cookies=False)
        yield House(client, project, signer, rig)
        services.close()


def test_who_only_looks_has_an_account_from_then_on(house: House) -> None:
    assert house.profiles() == []

    reply = house.client.get("/auth/me", headers=house.bearer())

    assert (reply.status_code, reply.json) == (200, {"id": NEW, "username": None})
    assert house.profiles() == [NEW]


def test_an_account_is_one_however_its_id_is_written(house: House) -> None:
    for user_id in (NEW, NEW.upper()):
        assert house.client.get("/auth/me", headers=house.bearer(user_id)).json["id"] == NEW

    assert house.profiles() == [NEW]


def test_a_bad_token_makes_nobody(house: House) -> None:
    bad = house.project.token(house.signer, NEW, role="anon")

    reply = house.client.get("/auth/me", headers={"Authorization": f"Bearer {bad}"})

    assert (reply.status_code, house.profiles()) == (401, [])


def test_a_newcomer_chooses_a_name(house: House) -> None:
    reply = house.client.put("/user/profile", json={"username": "cleo"}, headers=house.bearer())

    assert (reply.status_code, reply.json) == (200, {"id": NEW, "username": "cleo"})


def test_a_deleted_accounts_token_is_bad_within_ten_minutes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.client.get("/auth/me", headers=house.bearer()).status_code == 200
    house.rig.sql("update profiles set deleted_at = now()")
    monkeypatch.setattr(newcomers, "AGAIN_SECONDS", -1)

    reply = house.client.get("/auth/me", headers=house.bearer())

    assert (reply.status_code, reply.json["code"]) == (401, "UNAUTHENTICATED")
