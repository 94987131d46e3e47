"""An answer as it arrives: its events, and its receipt in words."""

import base64
import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from io import IncrementalNewlineDecoder
from typing import Any

from x402jobs.domain.money import as_usdc


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event, wherever the bytes were divided.

    Comments and the fields this service does not use are passed over. An event whose blank line
    has not arrived has not ended, and is not one.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    lines_of = IncrementalNewlineDecoder(decoder, translate=True)
    begun, data = "", []
    for chunk in chunks:
        *lines, begun = (begun + lines_of.decode(chunk)).split("\n")
        for line in lines:
            field, _, value = line.partition(":")
            if field == "data":
                data.append(value.removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data = []


def parse(data: str | bytes) -> dict[str, Any]:
    """The JSON object that somebody sent; an empty one for anything else."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def receipt_of(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """The receipt in the header of a paid answer, in the form that events carry."""
    try:
        said = parse(base64.b64decode(headers.get("PAYMENT-RESPONSE", "")))
        if said.get("success") is not True:
            return None
        paid = as_usdc(int(said["amount"]))
    except (ValueError, KeyError, TypeError):
        return None
    extra = said.get("extra")
    return {
        **{name: said.get(name) for name in ("transaction", "network", "payer")},
        "paidUsdc": paid,
        **(extra if isinstance(extra, dict) else {}),
    }


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """What was paid, where, by whom; play money says that it is."""
    play = " of development money" if receipt.get("development") else ""
    return [
        f"paid         {receipt.get('paidUsdc')} USDC{play}",
        f"network      {receipt.get('network')}",
        f"transaction  {receipt.get('transaction')}",
        f"payer        {receipt.get('payer')}",
    ]
