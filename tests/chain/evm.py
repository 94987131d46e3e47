"""A chain of our own: py-evm in this process, with Circle's token on it."""

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_tester import EthereumTester, PyEVMBackend
from eth_utils import to_checksum_address
from web3 import EthereumTesterProvider, Web3
from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import ExactEvmFacilitatorScheme

from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization

# py-evm raises the process's limit, for calls 1024 deep. What tests meet is to be the product's.
sys.setrecursionlimit(1000)

CONTRACTS = Path(__file__).parent / "contracts"
RICH = 1_000_000_000_000
"""What `mint` gives unless told otherwise, in micro-dollars."""
GAS = 400_000


@dataclass(frozen=True)
class Payer:
    """A key and the lower-case address it speaks for."""

    address: str
    key: str


@dataclass(frozen=True)
class Signed:
    """An authorization and its signature: what whoever has them can send to the chain."""

    authorization: Authorization
    signature: bytes

    @property
    def arguments(self) -> tuple[Any, ...]:
        signed = self.authorization
        return (
            to_checksum_address(signed.payer),
            to_checksum_address(signed.to),
            signed.value,
            signed.valid_after,
            signed.valid_before,
            signed.nonce,
            self.signature,
        )


class Evm:
    """The chain. One thread at a time: py-evm has no locks."""

    def __init__(self) -> None:
        self.tester = EthereumTester(PyEVMBackend())
        self.web3 = Web3(EthereumTesterProvider(self.tester))
        self.owner, self.stranger = self.web3.eth.accounts[:2]
        library = self._deploy(_artefact("SignatureChecker"))
        artefact = _artefact("FiatTokenV2_2")
        self.address = self._deploy(artefact, library)
        self.token = self.web3.eth.contract(self.address, abi=artefact["abi"])
        self.network = Network(
            id=f"eip155:{self.web3.eth.chain_id}",
            chain_id=self.web3.eth.chain_id,
            token=self.address,
            token_name="USD Coin",
            token_version="2",
        )
        # As Circle does it, version by version; the owner plays every part.
        self.send("initialize", "USD Coin", "USDC", "USD", 6, *[self.owner] * 4)
        self.send("initializeV2", "USD Coin")
        self.send("initializeV2_1", to_checksum_address("0x" + "99" * 20))
        self.send("initializeV2_2", [], "USDC")
        self.send("configureMinter", self.owner, 2**60)

    # Asking

    @property
    def number(self) -> int:
        """The newest block's number."""
        return int(self.web3.eth.block_number)

    @property
    def time(self) -> int:
        """The newest block's time, in unix seconds."""
        return int(self.tester.get_block_by_number("latest")["timestamp"])

    def balance(self, address: str) -> int:
        """In micro-dollars."""
        return int(self.token.functions.balanceOf(to_checksum_address(address)).call())

    def receipt(self, transaction: str) -> dict[str, Any]:
        """The receipt, in eth-tester's own form."""
        return dict(self.tester.get_transaction_receipt(transaction))

    # Acting

    def send(self, name: str, *arguments: Any, by: str | None = None) -> str:
        """Call the token from an account of the chain's own. Returns the transaction's hash.

        Not tried out before: a call that reverts is mined as one that failed.
        """
        call = self.token.functions[name](*arguments)
        sender = by or self.owner
        return str(call.transact({"from": sender, "gas": GAS}).to_0x_hex())

    def payer(self, funds: int = RICH) -> Payer:
        """Somebody new, with money."""
        account = Account.create()
        payer = Payer(account.address.lower(), account.key.to_0x_hex())
        if funds:
            self.mint(payer.address, funds)
        return payer

    def mint(self, address: str, funds: int = RICH) -> None:
        self.send("mint", to_checksum_address(address), funds)

    def sign(
        self,
        payer: Payer,
        to: str,
        value: int,
        *,
        kind: str = "TransferWithAuthorization",
        network: Network | None = None,
        **window: Any,
    ) -> Signed:
        """An authorization for some hours of the chain's time, unless told otherwise.

        For this chain's token, or for another's: signing needs no chain.
        """
        about = {"valid_after": 0, "valid_before": self.time + 10_000} | window
        about.setdefault("nonce", "0x" + secrets.token_hex(32))
        signed = Authorization(payer=payer.address, to=to.lower(), value=value, **about)
        message = signed.as_json() | {
            "value": signed.value,
            "validAfter": signed.valid_after,
            "validBefore": signed.valid_before,
        }
        return Signed(signed, _signature(payer, kind, message, network or self.network))

    def submit(self, signed: Signed, by: str | None = None) -> str:
        """Send the authorization to the token, as anybody may. Returns the transaction's hash."""
        return self.send("transferWithAuthorization", *signed.arguments, by=by)

    def cancel(self, payer: Payer, nonce: str) -> str:
        """Take an authorization back."""
        message = {"authorizer": payer.address, "nonce": nonce}
        signature = _signature(payer, "CancelAuthorization", message, self.network)
        return self.send(
            "cancelAuthorization", to_checksum_address(payer.address), nonce, signature
        )

    def submit_together(self, *many: Signed) -> str:
        """Send them through a contract, all in one transaction."""
        calls = [
            bytes.fromhex(
                self.token.encode_abi("transferWithAuthorization", args=signed.arguments)[2:]
            )
            for signed in many
        ]
        batch = self._deploy({"abi": [], "bytecode": "0x" + _batch(self.address, calls).hex()})
        sent = self.web3.eth.send_transaction(
            {"from": self.owner, "to": batch, "data": b"".join(calls), "gas": GAS * len(many)}
        )
        return str(sent.to_0x_hex())

    def hold(self) -> None:
        """Mine nothing until `mine`: what is sent meanwhile, once by each, shares a block."""
        self.tester.disable_auto_mine_transactions()

    def mine(self, blocks: int = 1) -> None:
        """Mine so many blocks, and from now on one for every transaction."""
        self.tester.mine_blocks(blocks)
        self.tester.auto_mine_transactions = True  # its method would mine one block more

    def let_pass(self, until: int) -> None:
        """Have the chain's clock pass this time, in unix seconds."""
        self.tester.time_travel(until + 1)
        self.tester.mine_block()

    # Settling

    def signer(self) -> FacilitatorWeb3Signer:
        """The SDK's signer for a facilitator, with gas money, on this chain."""
        account = Account.create()
        signer = FacilitatorWeb3Signer(account.key.to_0x_hex(), "http://127.0.0.1:9", 10)
        signer._w3 = self.web3  # it takes a URL alone
        self.web3.eth.send_transaction(
            {"from": self.owner, "to": account.address, "value": 10**21, "gas": 21_000}
        )
        return signer

    def facilitator(self, signer: FacilitatorWeb3Signer | None = None) -> x402FacilitatorSync:
        """A facilitator in this process, made of the SDK, that settles here."""
        scheme = ExactEvmFacilitatorScheme(signer or self.signer())
        return x402FacilitatorSync().register([self.network.id], scheme)

    def _deploy(self, artefact: dict[str, Any], library: str = "") -> str:
        contract = self.web3.eth.contract(abi=artefact["abi"], bytecode=_linked(artefact, library))
        sent = contract.constructor().transact({"from": self.owner})
        return str(self.web3.eth.get_transaction_receipt(sent)["contractAddress"])


def _signature(payer: Payer, kind: str, message: dict[str, Any], network: Network) -> bytes:
    words = {"nonce": "bytes32"} | dict.fromkeys(("value", "validAfter", "validBefore"), "uint256")
    fields = [{"name": name, "type": words.get(name, "address")} for name in message]
    domain = {
        "name": network.token_name,
        "version": network.token_version,
        "chainId": network.chain_id,
        "verifyingContract": network.token,
    }
    return bytes(Account.sign_typed_data(payer.key, domain, {kind: fields}, message).signature)


def _artefact(name: str) -> dict[str, Any]:
    return dict(json.loads((CONTRACTS / f"{name}.json").read_text()))


def _linked(artefact: dict[str, Any], library: str) -> str:
    code = bytearray(artefact["bytecode"][2:].encode())
    for files in artefact.get("linkReferences", {}).values():
        for place in (each for places in files.values() for each in places):
            at = place["start"] * 2
            code[at : at + 40] = library[2:].lower().encode()
    return "0x" + code.decode()


def _batch(token: str, calls: list[bytes]) -> bytes:
    """A contract that cuts what it is sent into these lengths and calls the token with each.

    By hand: there is no compiler here. It reverts when a call does.
    """
    each = 43
    fail = (each * len(calls) + 1).to_bytes(2, "big")
    code, offset = bytearray(), 0
    for call in calls:
        size, at = len(call).to_bytes(2, "big"), offset.to_bytes(2, "big")
        code += b"\x61" + size + b"\x61" + at + b"\x5f\x37"  # CALLDATACOPY(0, at, size)
        code += b"\x5f\x5f\x61" + size + b"\x5f\x5f"  # no answer kept; size bytes from 0; no value
        code += b"\x73" + bytes.fromhex(token[2:]) + b"\x5a\xf1"  # CALL with all the gas
        code += b"\x15\x61" + fail + b"\x57"  # JUMPI to the end when it says no
        offset += len(call)
    code += b"\x00\x5b\x5f\x5f\xfd"  # STOP; JUMPDEST, REVERT(0, 0)
    assert len(code) == each * len(calls) + 5
    return b"\x61" + len(code).to_bytes(2, "big") + b"\x80\x60\x0a\x5f\x39\x5f\xf3" + code
