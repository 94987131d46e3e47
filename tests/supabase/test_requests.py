"""What each kind of call asks of the database: a request over a network each, so few and named."""

from dataclasses import dataclass, replace

import pytest
from werkzeug.test import TestResponse

from tests.conftest import RAIN, Shop
from tests.supabase.front import Front
from x402jobs.domain.coords import Coords
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.domain.tile import Tile
from x402jobs.settings import Settings


@pytest.fixture
def settings(settings: Settings, rig) -> Settings:
    """The same settings, and a Supabase project without a row."""
    rig.empty()
    return replace(settings, supabase_url=rig.url, supabase_secret_key=rig.secret_key)


@dataclass
class Calls:
    """Every kind of call that can be made at the doors."""

    shop: Shop
    front: Front
    headers: dict[str, str]

    def quote(self) -> TestResponse:
        return self.shop.client.post(self.shop.url, json=RAIN)

    def paid(self) -> TestResponse:
        payment = self.shop.payment()
        self.front.forget()
        return self.shop.client.post(self.shop.url, json=RAIN, headers=payment)

    def replayed(self) -> TestResponse:
        payment = self.shop.payment()
        self.shop.client.post(self.shop.url, json=RAIN, headers=payment).get_data()
        self.front.forget()
        return self.shop.client.post(self.shop.url, json=RAIN, headers=payment)

    def free(self) -> TestResponse:
        gift = TemplateDraft(slug="gift", name="Gift", price=0, system_prompt="Be kind.")
        self.shop.services.resources.publish(self.shop.ada, gift)
        self.front.forget()
        return self.shop.client.post("/@ada/gift", json={})

    def owner_test(self) -> TestResponse:
        headers = self.headers | {"X-OWNER-TEST": "true"}
        return self.shop.client.post(self.shop.url, json=RAIN, headers=headers)

    def task(self) -> TestResponse:
        coords = Coords.parse(f"{self.shop.ada},0:1")
        mapping = self.shop.services.mapping
        mapping.get(self.shop.ada, Coords(self.shop.ada))
        mapping.create(self.shop.ada, Tile(coords, "Clean the gutters"))
        self.front.forget()
        door = f"/api/stream/execute-task?taskCoords={coords}"
        return self.shop.client.get(door, headers=self.headers)


@pytest.fixture
def calls(shop: Shop, rig) -> Calls:
    calls = Calls(shop, rig.front, {"Authorization": f"Bearer {rig.token(shop.ada)}"})
    calls.shop.client.get("/auth/me", headers=calls.headers)  # the keys of tokens are kept by now
    rig.front.forget()
    return calls


LISTING = "x402_listing"  # template, prompt, key, payout address, and what the payment has bought
CLAIM = "x402_claim"
SETTLING = SETTLED = ENDED = "x402_swap"  # the last one with the sealed answer
REQUESTS = {
    # call: status, what is asked of the database
    "quote": (402, [LISTING]),
    "paid": (200, [LISTING, CLAIM, SETTLING, SETTLED, ENDED]),
    "replayed": (200, [LISTING, "x402_sealed_answer"]),
    "free": (200, [LISTING, "x402_record"]),
    "owner_test": (200, [LISTING, "x402_record"]),
    "task": (
        200,
        [
            "x402_begin",  # the row of the run, which is its lock too
            "x402_tile_context",
            "x402_add_plan",
            "x402_sealed_claude_key",
            ENDED,
            "x402_swap_plan",
        ],
    ),
}


@pytest.mark.parametrize(("call", "status", "asked"), [(k, *v) for k, v in REQUESTS.items()])
def test_a_call_asks_the_database_this_and_nothing_else(
    calls: Calls, call: str, status: int, asked: list[str]
) -> None:
    reply = getattr(calls, call)()

    assert (reply.status_code, reply.get_data()[-1:] != b"") == (status, True)
    assert calls.front.asked == asked
