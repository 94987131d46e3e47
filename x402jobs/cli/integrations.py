"""What a creator connects to a shop: a Claude key, and an address to be paid at."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from x402jobs.cli.shop import EXIT_CODES, Shop, ShownAlone, shop_options, sure, yes_option
from x402jobs.cli.table import pairs

CLAUDE, WALLET = "/integrations/claude/config", "/integrations/wallet/config"
KEY = "ANTHROPIC_API_KEY"


@click.group()
def integrations() -> None:
    """What you connect to the shop: your Claude key, your payout address."""


@integrations.group(cls=ShownAlone, epilog=EXIT_CODES)
def claude() -> None:
    """Your Claude key: sealed in the shop, never shown again. Alone: show."""


@claude.command(name="show")
@shop_options
def show_claude(shop: Shop) -> None:
    """Show whether a key is stored, and whether it is switched on."""
    shop.show(shop.ask("GET", CLAUDE, "hasApiKey"), _claude_words)


@claude.command(name="set")
@click.option("--from-env", is_flag=True, help=f"Take the key from {KEY}.")
@click.option("--verify", is_flag=True, help="Store it only if Claude accepts it.")
@click.argument("typed", nargs=-1, metavar="")
@shop_options
def set_claude(shop: Shop, from_env: bool, verify: bool, typed: tuple[str, ...]) -> None:
    """Store a key: asked for on a terminal, else read from standard input.

    A switch stays as it is; `on` and `off` move it.
    """
    if typed:
        raise click.UsageError(
            "A key is not taken from the command line, where others can read it: give it on "
            f"standard input, or in {KEY} with --from-env. The one just typed may be in your "
            "shell's history."
        )
    shop.sign_in()
    query = {"verify": "true"} if verify else None
    shop.show(
        shop.ask("PUT", CLAUDE, "hasApiKey", {"apiKey": _key(from_env)}, query), _claude_words
    )


@claude.command()
@shop_options
def on(shop: Shop) -> None:
    """Switch the key on: your templates can be called."""
    shop.show(shop.ask("PUT", CLAUDE, "hasApiKey", {"isEnabled": True}), _claude_words)


@claude.command()
@shop_options
def off(shop: Shop) -> None:
    """Switch the key off: nobody can call your templates, nor is asked to pay."""
    shop.show(shop.ask("PUT", CLAUDE, "hasApiKey", {"isEnabled": False}), _claude_words)


@claude.command(name="rm")
@yes_option
@shop_options
def rm_claude(shop: Shop, yes: bool) -> None:
    """Remove the key."""
    sure("Remove the Claude key? Nobody can call your templates without it.", yes)
    shop.show(shop.ask("DELETE", CLAUDE, "hasApiKey"), _claude_words)


@integrations.group(cls=ShownAlone, epilog=EXIT_CODES)
def wallet() -> None:
    """The address you are paid at. Alone: show."""


@wallet.command(name="show")
@shop_options
def show_wallet(shop: Shop) -> None:
    """Show the address."""
    shop.show(shop.ask("GET", WALLET, "baseAddress"), _wallet_words)


@wallet.command(name="set")
@click.argument("address")
@shop_options
def set_wallet(shop: Shop, address: str) -> None:
    """Store the address: 0x and 40 hexadecimal digits."""
    shop.show(shop.ask("PUT", WALLET, "baseAddress", {"baseAddress": address}), _wallet_words)


@wallet.command(name="rm")
@yes_option
@shop_options
def rm_wallet(shop: Shop, yes: bool) -> None:
    """Remove the address."""
    sure("Remove the address? Nobody can pay for your templates without it.", yes)
    shop.show(shop.ask("DELETE", WALLET, "baseAddress"), _wallet_words)


def _key(from_env: bool) -> str:
    """The key as it was given, but for its line's end. Raises UsageError for none."""
    if from_env:
        key = os.environ.get(KEY, "")
    elif sys.stdin.isatty():
        key = click.prompt("Claude key", hide_input=True, err=True)
    else:
        key = sys.stdin.buffer.read().decode(errors="replace")
    key = key.strip("\r\n")
    if not key:
        raise click.UsageError(f"{KEY if from_env else 'Standard input'} holds no key.")
    return key


def _claude_words(said: Mapping[str, Any]) -> None:
    pairs(
        [
            ("Claude key", "stored, sealed" if said["hasApiKey"] else "none"),
            ("switched", "on" if said["isEnabled"] else "off"),
        ]
    )


def _wallet_words(said: Mapping[str, Any]) -> None:
    pairs([("payout address", said["baseAddress"] or "none")])
