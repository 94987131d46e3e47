"""The `x402jobs` command: one module a noun.

What these modules import at their top is light, so that help is quick; what serves or pays is
imported by the command that needs it.
"""

import errno
import gc
import os
from typing import Any

import click

from x402jobs.cli import (
    accounts,
    call,
    demo,
    doctor,
    integrations,
    keys,
    ledger,
    migrate,
    profile,
    serve,
    task,
    template,
    tile,
    usage,
)
from x402jobs.cli.terminal import complain
from x402jobs.domain.errors import X402JobsError
from x402jobs.settings import SettingsError
from x402jobs.version import VERSION

INTERRUPTED = 130
"""What shells report for a command that Ctrl-C has ended."""


class Command(click.Group):
    """Turns what a command cannot go on from into a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):  # the second from a question that was left
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read our output has left; click ends quietly
            complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        except (X402JobsError, SettingsError) as error:
            complain(str(error))
        ctx.exit(1)


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, package_name="x402jobs")
@click.pass_context
def main(context: click.Context) -> None:
    """Sell Claude prompts by the call: x402 payments in, streamed answers out."""
    # A fifth of the time that a command needs to import what it needs was a search for rubbish.
    gc.set_threshold(200_000, 50, 50)
    if os.environ.get("NO_COLOR"):
        context.color = False


for command in (
    demo.demo,
    serve.serve,
    call.call,
    accounts.user,
    accounts.token,
    accounts.balance,
    keys.keys,
    ledger.ledger,
    migrate.migrate,
    doctor.doctor,
    template.template,
    usage.usage,
    tile.tile,
    task.task,
    integrations.integrations,
    profile.profile,
):
    main.add_command(command)
