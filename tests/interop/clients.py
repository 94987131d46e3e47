"""Other people's paying clients, each given the same order.

What happens to an order comes as it happens, in lines: one that has the `status` and the `receipt`
of a reply, with the `signatures` that were made until then; then an `event` each, or the one
`body`. A client that will not pay says why in `refused`.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx_sse
import requests
import sseclient
from eth_account import Account
from x402 import PaymentCreatedContext, x402Client, x402ClientSync
from x402.client import SpendControls
from x402.http.clients.httpx import PaymentError as HttpxPaymentError
from x402.http.clients.httpx import x402HttpxClient
from x402.http.clients.requests import PaymentError as RequestsPaymentError
from x402.http.clients.requests import x402_requests
from x402.http.utils import decode_payment_response_header, encode_payment_signature_header
from x402.mechanisms.evm.exact import ExactEvmClientScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from tests.conftest import RAIN
from tests.interop.packages import HERE, node
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import Network

Line = dict[str, Any]
Lines = Generator[Line, None, None]
PAYMENT, RECEIPT = "PAYMENT-SIGNATURE", "PAYMENT-RESPONSE"


@dataclass(frozen=True)
class Order:
    """What to buy, and what its buyer has set up.

    `allowed` are networks whose token the client is told to accept, `most` the micro-dollars it may
    spend on a call; without them it keeps its own defaults. With `again` it presents the payment
    that it has made a second time.
    """

    url: str
    wallet: Wallet
    allowed: tuple[Network, ...] = ()
    most: int | None = None
    again: bool = False


Buy = Callable[[Order], Lines]


class _Signer(EthAccountSigner):
    """Counts: what a client refuses, it must not have signed."""

    def __init__(self, wallet: Wallet) -> None:
        super().__init__(Account.from_key(wallet.key.reveal()))
        self.signatures = 0

    def sign_typed_data(self, *arguments: Any, **named: Any) -> bytes:
        self.signatures += 1
        return super().sign_typed_data(*arguments, **named)


def _controls(order: Order) -> SpendControls:
    """Nothing set is the SDK's own defaults."""
    if not order.allowed:
        return {}
    assert order.most is not None
    cap = str(order.most)
    return {
        "allowed_assets": [
            {"network": each.id, "asset": each.token, "max_amount_per_payment": cap}
            for each in order.allowed
        ]
    }


def over_requests(order: Order) -> Lines:
    """The x402 package over requests, its stream read by sseclient-py."""
    signer = _Signer(order.wallet)
    client = x402ClientSync().register("eip155:*", ExactEvmClientScheme(signer))
    with x402_requests(client.set_spend_controls(_controls(order))) as session:
        session.trust_env = False

        def ask(headers: dict[str, str]) -> requests.Response:
            return session.post(order.url, json=RAIN, headers=headers, stream=True, timeout=20)

        def hear(reply: requests.Response) -> Iterator[Line]:
            yield _head(reply.status_code, reply.headers.get(RECEIPT), signer)
            if reply.headers["Content-Type"].startswith("application/json"):
                yield {"body": reply.json()}
            else:
                for event in sseclient.SSEClient(reply).events():
                    yield {"event": json.loads(event.data)}

        try:
            reply = ask({})
        except RequestsPaymentError as error:
            yield {"refused": str(error), "signatures": signer.signatures}
            return
        with reply:
            yield from hear(reply)
        if order.again:
            with ask({PAYMENT: reply.request.headers[PAYMENT]}) as reply:
                yield from hear(reply)


def over_httpx(order: Order) -> Lines:
    """The x402 package over httpx, which it has for asynchronous programs alone."""
    with asyncio.Runner() as runner:
        lines = _over_httpx(order)
        with suppress(StopAsyncIteration):
            while True:
                yield runner.run(anext(lines))


async def _over_httpx(order: Order) -> AsyncIterator[Line]:
    signer = _Signer(order.wallet)
    client = x402Client().register("eip155:*", ExactEvmClientScheme(signer))
    made: list[str] = []

    def keep(payment: PaymentCreatedContext) -> None:
        """The way to a payment: the reply's request is the one without it."""
        made.append(encode_payment_signature_header(payment.payment_payload))

    client.set_spend_controls(_controls(order)).on_after_payment_creation(keep)
    async with x402HttpxClient(client, trust_env=False, timeout=20) as http:
        for time in range(2 if order.again else 1):
            headers = {PAYMENT: made[0]} if time else {}
            try:
                async with http.stream("POST", order.url, json=RAIN, headers=headers) as reply:
                    yield _head(reply.status_code, reply.headers.get(RECEIPT), signer)
                    if reply.headers["Content-Type"].startswith("application/json"):
                        yield {"body": json.loads(await reply.aread())}
                        continue
                    async for event in httpx_sse.EventSource(reply).aiter_sse():
                        yield {"event": event.json()}
            except HttpxPaymentError as error:
                yield {"refused": str(error), "signatures": signer.signatures}
                return


def _head(status: int, receipt: str | None, signer: _Signer) -> Line:
    paid = receipt and decode_payment_response_header(receipt).model_dump(
        by_alias=True, exclude_none=True
    )
    return {"status": status, "receipt": paid, "signatures": signer.signatures}


def program(script: str) -> Buy:
    """A client in Node, which does not run where the packages are missing."""

    def buy(order: Order) -> Lines:
        wanted = {
            "url": order.url,
            "values": RAIN,
            "key": order.wallet.key.reveal(),
            "allowed": [
                {"network": each.id, "asset": each.token, "most": str(order.most)}
                for each in order.allowed
            ],
            "most": order.most,
            "again": order.again,
        }
        with running(script, wanted) as lines:
            yield from lines

    return buy


@contextmanager
def running(script: str, order: Mapping[str, Any]) -> Iterator[Iterator[Line]]:
    """What one of our scripts tells, as it tells it. It has to end well."""
    process = subprocess.Popen(
        [node(), str(HERE / script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # the wheel's node is a program that starts another
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        with process.stdin as orders:
            orders.write(json.dumps(order).encode())
        yield (json.loads(line) for line in process.stdout)
        assert process.wait() == 0, process.stderr.read().decode()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
