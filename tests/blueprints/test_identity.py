"""Who somebody is, and the name they choose once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.blueprints.creators import Creator, ada, bob, faulty, newcomer
from tests.conftest import Shop
from x402jobs.stores import local_tokens

DOOR = "/user/profile"


def test_an_account_is_known_by_its_token_before_it_has_a_name(shop: Shop) -> None:
    account = str(uuid.uuid4())
    creator = Creator(shop, local_tokens(shop.settings).issue(account))

    assert creator.get("/auth/me") == {"id": account, "username": None}
    assert shop.query("SELECT * FROM profiles WHERE id = ?", account) == []
    assert creator.put(DOOR, {"username": "cleo"}) == {"id": account, "username": "cleo"}
    assert creator.get("/auth/me") == {"id": account, "username": "cleo"}


def test_whoever_has_stored_a_key_before_their_name_chooses_one_all_the_same(shop: Shop) -> None:
    creator = newcomer(shop)
    creator.put("/integrations/claude/config", {"apiKey": "sk-early"})

    assert creator.put(DOOR, {"username": "cleo"})["username"] == "cleo"
    assert creator.get("/integrations/claude/config")["hasApiKey"] is True


def test_a_name_is_chosen_once(shop: Shop) -> None:
    for username in ("adam", "ada_"):
        reply = ada(shop).ask("PUT", DOOR, {"username": username})
        said = faulty(reply, 409, "CONFLICT", "username")
        assert said["error"] == "You are called ada; a username is chosen once."

    assert ada(shop).get("/auth/me")["username"] == "ada"


def test_saying_ones_own_name_again_is_no_fault(shop: Shop) -> None:
    assert ada(shop).put(DOOR, {"username": "ada"}) == {"id": shop.ada, "username": "ada"}


@pytest.mark.parametrize("stored", ["ada", "Ada", "ADA"])
def test_a_name_is_taken_in_any_letter_case(shop: Shop, stored: str) -> None:
    shop.query("UPDATE profiles SET username = ? WHERE id = ?", stored, shop.ada)
    creator = newcomer(shop)

    said = faulty(creator.ask("PUT", DOOR, {"username": "ada"}), 409, "CONFLICT", "username")

    assert said["error"] == "This username is taken."
    assert creator.get("/auth/me")["username"] is None
    assert creator.put(DOOR, {"username": "adb"})["username"] == "adb"


def test_one_of_many_gets_a_name_that_all_want(shop: Shop) -> None:
    creators = [newcomer(shop) for _ in range(8)]
    together = Barrier(len(creators))

    def want(creator: Creator) -> int:
        together.wait()
        with shop.client.application.test_client() as client:
            reply = client.put(DOOR, json={"username": "wanted"}, headers=creator.headers)
        return reply.status_code

    with ThreadPoolExecutor(len(creators)) as threads:
        statuses = sorted(threads.map(want, creators))

    assert statuses == [200] + [409] * 7
    assert len(shop.query("SELECT * FROM profiles WHERE username = 'wanted'")) == 1


def test_two_accounts_have_two_names(shop: Shop) -> None:
    assert bob(shop).get("/auth/me")["username"] == "bob"
    assert bob(shop).get("/auth/me")["id"] != ada(shop).get("/auth/me")["id"] == shop.ada
