"""The page docs/settings.md, as `python -m x402jobs.settings.page` writes it."""

from dataclasses import Field, fields
from typing import Any

from x402jobs.settings import GROUPS, POISON, Settings

HEAD = """\
# Settings

Everything is set by environment variables, read once at start. An empty value means the default.
Every fault is told at once, by the variable's name and never by its value, and nothing starts until
all are mended. A *secret* is in no log, no error and no output of ours; keep it in files of one
user's, or in your platform's store of secrets, and out of images and command lines.

This page is written from `x402jobs/settings/__init__.py`, as `.env.example` is. `x402jobs doctor`
looks a running deployment over with the same environment (docs/operations.md).
"""

TITLES = {
    "service": "The service",
    "store": "The store",
    "keys": "Keys",
    "money": "Money",
    "Claude": "Claude",
    "server": "The server",
    "limits": "Limits",
    "operations": "Operations",
}

TAIL = f"""\
## Not settings

`WEB_CONCURRENCY` is how many workers gunicorn starts over a Supabase project; over the embedded
store there is one whatever it says. `DATABASE_URL` is read by `x402jobs migrate` and `x402jobs
doctor` alone; `X402JOBS_URL`, `X402JOBS_TOKEN` and `X402JOBS_AS` by the commands for creators
(docs/cli.md).

Refused at start, since the anthropic package would obey them and send keys or prompts astray:
{", ".join(f"`{name}`" for name in POISON)}.
The environment's proxies (`HTTPS_PROXY` and its like) are not asked by anything here.
"""


def settings_page() -> str:
    """The text of docs/settings.md."""
    assert tuple(TITLES) == GROUPS
    parts = [HEAD]
    for group in GROUPS:
        ours = [each for each in fields(Settings) if each.metadata["group"] == group]
        parts.append("\n".join([f"## {TITLES[group]}", *map(_told, ours)]) + "\n")
    return "\n".join([*parts, TAIL])


def _told(setting: Field[Any]) -> str:
    about = setting.metadata
    default = f"`{about['default']}`" if about["default"] else "empty"
    secret = " **Secret.**" if about["secret"] else ""
    kind = (about["read"].__doc__ or "").partition("\n")[0]
    says = f"{about['says'][0].upper()}{about['says'][1:]}."
    return f"\n`{about['variable']}` ({kind}; default {default})<br>\n{says}{secret}"


if __name__ == "__main__":
    print(settings_page(), end="")
