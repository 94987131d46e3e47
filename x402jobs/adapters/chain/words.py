"""What a node says, read strictly: whatever does not fit is not believed."""

import re
from dataclasses import dataclass
from typing import Any

_QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_BYTES = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class Malformed(Exception):
    """Not what was asked for."""


@dataclass(frozen=True)
class Block:
    """A block's place; `time` in unix seconds."""

    number: int
    hash: str
    time: int

    @classmethod
    def read(cls, said: Any) -> "Block":
        return cls(quantity(said, "number"), _word(said, "hash"), quantity(said, "timestamp"))


@dataclass(frozen=True)
class Log:
    """One event of a contract. Hex is lower-case."""

    address: str
    topics: tuple[str, ...]
    data: str
    index: int
    transaction: str
    block: int
    block_hash: str

    @classmethod
    def read(cls, said: Any) -> "Log":
        """Raises Malformed, for a log that a reorganisation has removed too."""
        if not isinstance(said, dict) or said.get("removed", False) is not False:
            raise Malformed
        return cls(
            address=_text(_member(said, "address"), _ADDRESS),
            topics=tuple(_text(topic, _WORD) for topic in _members(said, "topics")),
            data=_text(_member(said, "data"), _BYTES),
            index=quantity(said, "logIndex"),
            transaction=_word(said, "transactionHash"),
            block=quantity(said, "blockNumber"),
            block_hash=_word(said, "blockHash"),
        )


@dataclass(frozen=True)
class Receipt:
    """What a transaction has done: nothing, when it has not `succeeded`."""

    transaction: str
    block: int
    block_hash: str
    succeeded: bool
    logs: tuple[Log, ...]

    @classmethod
    def read(cls, said: Any) -> "Receipt":
        status = quantity(said, "status")
        if status > 1:
            raise Malformed
        return cls(
            transaction=_word(said, "transactionHash"),
            block=quantity(said, "blockNumber"),
            block_hash=_word(said, "blockHash"),
            succeeded=status == 1,
            logs=tuple(Log.read(each) for each in _members(said, "logs")),
        )


def truth(said: Any) -> bool:
    """A contract's bool: one word that is 0 or 1. No contract at all answers with no word."""
    number = int(_text(said, _WORD), 16)
    if number > 1:
        raise Malformed
    return number == 1


def number(said: Any) -> int:
    """A quantity of 64 bits."""
    return int(_text(said, _QUANTITY), 16)


def quantity(said: Any, name: str) -> int:
    """The same, of an object's member."""
    return number(_member(said, name))


def logs(said: Any) -> tuple[Log, ...]:
    """A list of logs."""
    if not isinstance(said, list):
        raise Malformed
    return tuple(Log.read(each) for each in said)


def _word(said: Any, name: str) -> str:
    return _text(_member(said, name), _WORD)


def _members(said: Any, name: str) -> list[Any]:
    found = _member(said, name)
    if not isinstance(found, list):
        raise Malformed
    return found


def _member(said: Any, name: str) -> Any:
    if not isinstance(said, dict):
        raise Malformed
    return said.get(name)


def _text(said: Any, shape: re.Pattern[str]) -> str:
    if not isinstance(said, str) or shape.fullmatch(said) is None:
        raise Malformed
    return said.lower()
