"""A payer's wallet: one key in a file, spent through the official x402 client."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from eth_account import Account
from x402 import x402ClientSync
from x402.client import SpendControlAsset, SpendControls
from x402.http.clients.requests import x402_requests
from x402.http.utils import encode_payment_signature_header
from x402.mechanisms.evm.exact import ExactEvmClientScheme
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas import PaymentRequired

from x402jobs.adapters.private_file import private_file
from x402jobs.domain.money import MICRO
from x402jobs.domain.networks import NETWORKS, Network
from x402jobs.domain.secret import Secret

ONE_DOLLAR = Decimal(1)
"""What official clients pay at most for one call unless told otherwise."""


@dataclass(frozen=True)
class Wallet:
    """A private key, as hex with 0x, and the lower-case address that it speaks for."""

    address: str
    key: Secret

    @classmethod
    def open(cls, path: Path) -> "Wallet":
        """The wallet in this file, made for its owner alone when there is none.

        Raises ValueError naming the file, never its content, when that is not a key.
        """
        key = private_file(path, f"0x{secrets.token_hex(32)}\n").strip()
        try:
            return cls(Account.from_key(key).address.lower(), Secret(key))
        except Exception:  # each of eth_account's layers has its own; some quote the key
            raise ValueError(f"{path} does not hold a private key in hex") from None


def paying_session(
    wallet: Wallet, max_usd: Decimal, networks: Iterable[Network] = NETWORKS.values()
) -> requests.Session:
    """A session that answers a 402 by paying, once, and sending the request again.

    Official clients have spend controls. By default they refuse, before signing, every token that
    the SDK does not list for the network, which any test token is, and everything over $1 a
    payment. Here the tokens of `networks` are allowed beside the SDK's own, and `max_usd` dollars a
    payment is the cap for all of them; a sixth decimal place is the last that counts. Whoever is
    refused gets the SDK's PaymentError, and nothing has been signed.

    Use `stream=True` to read an answer as it arrives.
    """
    return x402_requests(_client(wallet, max_usd, networks))


def sign(
    wallet: Wallet,
    payment_required: Mapping[str, Any],
    max_usd: Decimal = ONE_DOLLAR,
    networks: Iterable[Network] = NETWORKS.values(),
) -> str:
    """A PAYMENT-SIGNATURE header that pays this quote: the document of PAYMENT-REQUIRED.

    Each call signs anew. To present one payment twice, send the same header twice. The spend
    controls are those of `paying_session`; the SDK's NoMatchingRequirementsError says no.
    """
    document = PaymentRequired.model_validate(payment_required)
    client = _client(wallet, max_usd, networks)
    return encode_payment_signature_header(client.create_payment_payload(document))


def _client(wallet: Wallet, max_usd: Decimal, networks: Iterable[Network]) -> x402ClientSync:
    cap = str(int(max_usd * MICRO))
    own: list[SpendControlAsset] = [
        {"network": network.id, "asset": network.token, "max_amount_per_payment": cap}
        for network in networks
    ]
    controls: SpendControls = {"max_amount_per_payment": f"{max_usd:f}", "allowed_assets": own}
    account = Account.from_key(wallet.key.reveal())
    scheme = ExactEvmClientScheme(EthAccountSigner(account))
    return x402ClientSync().register("eip155:*", scheme).set_spend_controls(controls)
