"""The product's side of a paid call: a creator with one template, and payments signed ahead."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

from benchmarks.order import Order
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.settings import Settings
from x402jobs.stores import catalogue
from x402jobs.wiring import build_services, development_ledger

PATH = "/@ada/words"
GIFT = "/@ada/gift"
PRICE = 100
"""Micro-dollars; the wallet begins with 100 dollars."""
PAY_TO = "0x00000000000000000000000000000000000AdA00"


@dataclass
class Shop:
    """Creator `ada`, her templates, and a caller's wallet, in one data directory."""

    data: Path
    wallet: Wallet
    signed: int = 0
    """Payments so far. Each is presented once, and money must have moved as often."""

    @classmethod
    def open(
        cls,
        directory: Path,
        kilobytes: Sequence[int] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> "Shop":
        """Fill the shelf, through the product's own services: `words` for a price, `gift` for
        nothing, and `words-N`, whose prompt has N kilobytes, for each of those. Over the embedded
        store, unless the environment names another.
        """
        settings = Settings.from_env({**environment, "X402JOBS_DATA": str(directory / "data")})
        services = build_services(settings)
        try:
            ada = catalogue(settings).add_user("ada")
            services.integrations.save_claude_config(ada, Secret("sk-ant-benchmark"))
            services.integrations.save_pay_to(ada, PAY_TO)
            services.resources.publish(ada, _template("words"))
            services.resources.publish(ada, _template("gift", price=0))
            for size in kilobytes:
                services.resources.publish(ada, _template(f"words-{size}", size))
        finally:
            services.close()
        return cls(settings.data, Wallet.open(directory / "wallet.key"))

    def requests(
        self, port: int, orders: Sequence[Order], path: str = PATH
    ) -> list[tuple[Order, bytes]]:
        """A paid request for each order. Sign shortly before use: a payment lives two minutes."""
        quote = self.quote(port, path)
        self.signed += len(orders)
        return [
            (order, post(path, order, f"PAYMENT-SIGNATURE: {sign(self.wallet, quote)}\r\n"))
            for order in orders
        ]

    def transfers(self) -> int:
        """How often money has moved."""
        ledger = development_ledger(self.data)
        try:
            return len(ledger.transfers())
        finally:
            ledger.close()

    def quote(self, port: int, path: str = PATH) -> dict[str, object]:
        """What the shop asks for an answer."""
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path)
            header = connection.getresponse().getheader("PAYMENT-REQUIRED") or ""
            quote: dict[str, object] = json.loads(base64.b64decode(header, validate=True))
            return quote
        finally:
            connection.close()


def _template(slug: str, kilobytes: int = 0, price: int = PRICE) -> TemplateDraft:
    """A template whose prompt is the order, and before it so many kilobytes of two-byte letters:
    the shelf takes 100,000 characters.
    """
    return TemplateDraft(
        slug=slug,
        name="Words",
        price=price,
        system_prompt="é" * (512 * kilobytes) + "{order}{/order}",
        parameters=[{"name": "order"}],
    )


def post(path: str, order: Order, headers: str = "", **fields: object) -> bytes:
    """A whole request, ready for the socket. Without `fields` its body names the order alone."""
    body = json.dumps(fields or {"order": str(order)}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode() + body
