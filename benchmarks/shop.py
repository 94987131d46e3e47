"""The product's side of a paid call: a creator with one template, and payments signed ahead."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.order import Order
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.settings import Settings
from x402jobs.stores import catalogue
from x402jobs.wiring import build_services, development_ledger

PATH = "/@ada/words"
PRICE = 100
"""Micro-dollars; the wallet begins with 100 dollars."""
PAY_TO = "0x00000000000000000000000000000000000AdA00"


@dataclass(frozen=True)
class Shop:
    """Creator `ada`, her template `words`, and a caller's wallet, in one data directory."""

    data: Path
    wallet: Wallet

    @classmethod
    def open(cls, directory: Path) -> "Shop":
        """Fill the shelf, through the product's own services."""
        settings = replace(Settings(), data=directory / "data")
        services = build_services(settings)
        try:
            ada = catalogue(settings).add_user("ada")
            services.integrations.save_claude_config(ada, Secret("sk-ant-benchmark"))
            services.integrations.save_pay_to(ada, PAY_TO)
            services.resources.publish(
                ada,
                TemplateDraft(
                    slug="words",
                    name="Words",
                    price=PRICE,
                    system_prompt="{order}{/order}",
                    parameters=[{"name": "order"}],
                ),
            )
        finally:
            services.close()
        return cls(settings.data, Wallet.open(directory / "wallet.key"))

    def requests(self, port: int, orders: Sequence[Order]) -> list[tuple[Order, bytes]]:
        """A paid request for each order. Sign shortly before use: a payment lives two minutes."""
        quote = self.quote(port)
        return [
            (order, post(PATH, order, f"PAYMENT-SIGNATURE: {sign(self.wallet, quote)}\r\n"))
            for order in orders
        ]

    def transfers(self) -> int:
        """How often money has moved."""
        ledger = development_ledger(self.data)
        try:
            return len(ledger.transfers())
        finally:
            ledger.close()

    def quote(self, port: int) -> dict[str, object]:
        """What the shop asks for an answer."""
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", PATH)
            header = connection.getresponse().getheader("PAYMENT-REQUIRED") or ""
            quote: dict[str, object] = json.loads(base64.b64decode(header, validate=True))
            return quote
        finally:
            connection.close()


def post(path: str, order: Order, headers: str = "") -> bytes:
    """A whole request, ready for the socket."""
    body = json.dumps({"order": str(order)}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode() + body
