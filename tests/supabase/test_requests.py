"""What each kind of call asks of the database: a request over a network each, so few and named."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.conftest import RAIN, Shop
from tests.supabase.front import Front
from x402jobs.domain.coords import Coords
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
        self.shop.services.resources.publish(self.shop.ada, self._free())
        self.front.forget()
        return self.shop.client.post("/@ada/gift", json=RAIN)

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

    def unready(self) -> TestResponse:
        return self.shop.client.get("/readyz")

    def _free(self) -> Any:
        from x402jobs.domain.template_draft import TemplateDraft

        return TemplateDraft(
            slug="gift", name="Gift", price=0, system_prompt="Be kind.",
            parameters=[{"name": "topic"}],
        )  # fmt: skip


@pytest.fixture
def calls(shop: Shop, rig) -> Calls:
    calls = Calls(shop, rig.front, {"Authorization": f"Bearer {rig.token(shop.ada)}"})
    calls.shop.client.get("/auth/me", headers=calls.headers)  # the keys of tokens are kept by now
    rig.front.forget()
    return calls


PRICED = {
    "quote": (402, ["x402_listing"]),
    "paid": (
        200,
        [
            "x402_listing",  # template, prompt, key, payout address, what the payment has bought
            "x402_claim",
            "x402_swap",  # settling
            "x402_swap",  # settled
            "x402_swap",  # completed, with the sealed answer
        ],
    ),
}


@pytest.mark.parametrize("call", ["quote", "paid", "replayed", "free", "owner_test", "task"])
def test_probe(calls: Calls, call: str) -> None:
    reply = getattr(calls, call)()
    body = reply.get_data(as_text=True)
    print(call, reply.status_code, calls.front.asked, body[-150:])
